"""Networks of timm, transformers and open_clip by name: the real libraries, with random weights, nothing downloaded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum.attr as ca
import cloudpickle
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from captum_shared import LatentEncoder, ParallelBackprop, cli, load_encoder
from captum_shared.encoder.layers import candidate_layers
from captum_shared.identity import identify
from captum_shared.networks.registry import check_model, load_network
from captum_shared.store import Identity

pytestmark = pytest.mark.slow  # imports transformers, timm and open_clip, and makes a dozen networks: 30 seconds in all

SMALL = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
PATCHES = {**SMALL, "image_size": 32, "patch_size": 8}
STAGES = {"depths": [1, 1, 1, 1], "image_size": 64}
SWIN = {**STAGES, "embed_dim": 12, "num_heads": [1, 1, 1, 1], "window_size": 2, "patch_size": 4}
HF: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", PATCHES),
    "dinov2": ("Dinov2", PATCHES),
    "dinov2_with_registers": ("Dinov2WithRegisters", {**PATCHES, "num_register_tokens": 4}),
    "convnext": ("ConvNext", {**STAGES, "hidden_sizes": [8, 8, 16, 16]}),
    "swin": ("Swin", SWIN),
    "clip": ("CLIP", {"vision_config": PATCHES, "text_config": {**SMALL, "num_hidden_layers": 1}}),
}
OPEN_CLIP = {"image_size": 32, "width": 16, "head_width": 8, "patch_size": 8, "layers": 4}

# name, layer, side of the image, tokens before the grid or the layout of a map
NETWORKS = [
    ("timm:test_vit", "blocks.2", 160, 1),
    ("timm:test_vit", "blocks.2", 96, 1),
    ("timm:vit_small_patch14_reg4_dinov2", "blocks.1", 56, 5),
    ("timm:swin_tiny_patch4_window7_224", "layers.1", 64, "channels_last"),
    ("timm:convnext_atto", "stages.1", 64, "channels_first"),
    ("timm:test_resnet", "layer2", 64, "channels_first"),
    ("hf:vit", "layers.1", 32, 1),
    ("hf:vit", "layers.1", 64, 1),
    ("hf:dinov2", "encoder.layer.1", 32, 1),
    ("hf:dinov2_with_registers", "encoder.layer.1", 64, 5),
    ("hf:convnext", "encoder.stages.1", 64, "channels_first"),
    ("hf:swin", "encoder.layers.1.downsample", 64, 0),
    ("hf:clip", "encoder.layers.1", 32, 1),
    ("hf:clip", "encoder.layers.1", 64, 1),
    ("open_clip:tiny-vit", "transformer.resblocks.1", 32, 1),
    ("open_clip:tiny-rn", "layer2", 64, "channels_first"),
]
OF_EACH_SOURCE = ["timm:test_vit", "hf:vit", "hf:clip", "open_clip:tiny-vit"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of small networks, as transformers writes them, and small networks that open_clip knows by name."""
    transformers, open_clip = pytest.importorskip("transformers"), pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("networks")
    for name, (kind, options) in HF.items():
        torch.manual_seed(0)
        getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**options)).save_pretrained(
            folder / name
        )
    for name, layers in (("tiny-vit", 4), ("tiny-rn", [1, 1, 1, 1])):
        config = {"embed_dim": 16, "vision_cfg": {**OPEN_CLIP, "layers": layers},
                  "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}}  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder / f"{name}.json")
    return folder


@pytest.fixture
def named(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The name of a network where the folders are: here, in the working directory."""
    monkeypatch.chdir(place)
    return lambda name: f"hf:./{name[3:]}" if name.startswith("hf:") else name


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))


def by_hook(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = model.get_submodule(layer).register_forward_hook(lambda *args: seen.append(args[2]))
    model(x)
    hook.remove()
    return seen[0]


def map_of(output: Tensor, kind: object) -> Tensor:
    """Channels first, from tokens of which so many are no positions, or a map."""
    if isinstance(kind, int):
        grid = output[:, kind:]
        side = round(grid.shape[1] ** 0.5)
        return grid.mT.reshape(len(grid), -1, side, side)
    return output.movedim(-1, 1) if kind == "channels_last" else output


@pytest.mark.parametrize(("name", "layer", "size", "kind"), NETWORKS)
def test_latents_are_those_of_a_hook_and_maps_are_jacobians(
    name: str, layer: str, size: int, kind: object, named: Callable[[str], str]
) -> None:
    encoder, transform = load_encoder(named(name), layer, weights=None, image_size=size, seed=1)
    model, x = encoder.model, torch.rand(2, 3, size, size)
    assert transform(torch.rand(3, size + 7, size + 30)).shape == (3, size, size)
    with torch.no_grad():
        expected = by_hook(model, layer, x)
        for _ in range(2):  # the first pass of an encoder goes to the network's end
            assert torch.equal(encoder.layer_output(x), expected)
        grid = map_of(expected, kind)
        assert torch.equal(encoder.feature_map(x), grid)
        pools = {"avg": grid.mean((2, 3)), "max": grid.amax((2, 3)), "flatten": grid.flatten(1), 2: adaptive_avg_pool2d(grid, 2).flatten(1)}  # fmt: skip
        if isinstance(kind, int) and kind:
            pools["cls"] = expected[:, 0]
        for pool, latents in pools.items():
            assert torch.equal(LatentEncoder(model, layer, pool)(x), latents), pool
    model.double()
    x, reference = torch.rand(2, 1, 3, size, size, dtype=torch.float64)
    w = torch.randn(grid.shape[1], dtype=torch.float64)
    maps = ParallelBackprop(encoder, engine=ca.Saliency).attribute((x, reference), readout=w)
    leaves = [image.clone().requires_grad_() for image in (x, reference)]
    z = [map_of(by_hook(model, layer, leaf), kind).mean((2, 3)) for leaf in leaves]
    c = (w * z[0] * z[1]).detach()
    for found, leaf, latents in zip(maps, leaves, z, strict=True):
        by_hand = torch.autograd.grad((latents * c).sum(), leaf)[0]
        assert by_hand.any()
        assert torch.allclose(found, by_hand, rtol=1e-6, atol=1e-9 * float(by_hand.abs().max()))


def test_blocks_that_are_tried(named: Callable[[str], str]) -> None:
    """Of Swin, whose stages return tuples in transformers, the layers between stages and the last norm."""
    blocks = {
        "hf:vit": ["embeddings", *(f"layers.{i}" for i in range(4))],
        "hf:clip": ["embeddings", *(f"encoder.layers.{i}" for i in range(4))],
        "hf:convnext": ["embeddings", *(f"encoder.stages.{i}" for i in range(4))],
        "hf:swin": ["embeddings.norm", *(f"encoder.layers.{i}.downsample" for i in range(3)), "layernorm"],
        "open_clip:tiny-vit": [f"transformer.resblocks.{i}" for i in range(4)],
        "timm:swin_tiny_patch4_window7_224": [
            "patch_embed",
            "layers.0",
            "layers.1",
            "layers.2.downsample",
            *(f"layers.2.blocks.{i}" for i in range(6)),
            "layers.3",
        ],
    }
    for name, expected in blocks.items():
        model, _ = load_network(named(name), "none", image_size=64)
        assert candidate_layers(model, torch.rand(1, 3, 64, 64)) == expected, name


def test_a_layer_that_returns_a_tuple_is_refused(named: Callable[[str], str]) -> None:
    encoder, _ = load_encoder(named("hf:swin"), "encoder.layers.1", weights=None)
    with pytest.raises(
        TypeError, match=r"layer 'encoder.layers.1' returned a tuple; expected a tensor. Choose a layer inside"
    ):
        encoder(torch.rand(1, 3, 64, 64))
    encoder, _ = load_encoder(named("hf:dinov2"), "encoder", weights=None)
    with pytest.raises(TypeError, match="layer 'encoder' returned a BaseModelOutput; expected a tensor"):
        encoder(torch.rand(1, 3, 32, 32))


# Images


def by_hand(
    image: Image.Image, shorter: int | None, size: int, resample: Any, mean: Any, std: Any, crop: Any = round
) -> np.ndarray:
    """Shorter side to `shorter`, then the centre; without `shorter`, squeezed to a square."""
    width, height = image.size
    if shorter is None:
        image = image.resize((size, size), resample)
    else:
        scale = shorter / min(width, height)
        image = image.resize((int(width * scale), int(height * scale)), resample)
        left, top = (crop((side - size) / 2) for side in image.size)
        image = image.crop((left, top, left + size, top + size))
    return ((np.asarray(image) / 255 - mean) / std).transpose(2, 0, 1)


HALF, BICUBIC, BILINEAR = (0.5, 0.5, 0.5), Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGES = [
    ("timm:test_vit", None, (168, 160, BICUBIC, HALF, HALF)),  # crop_pct 0.95
    ("timm:test_vit", 96, (101, 96, BICUBIC, HALF, HALF)),
    ("timm:convnext_atto", None, (256, 224, BICUBIC, *IMAGENET)),  # crop_pct 0.875
    ("hf:vit", None, (None, 32, BILINEAR, HALF, HALF)),
    ("hf:vit", 64, (None, 64, BILINEAR, HALF, HALF)),
    ("hf:clip", 64, (64, 64, BICUBIC, *CLIP, int)),
    ("hf:convnext", 64, (73, 64, BICUBIC, HALF, HALF)),  # crop_pct 0.875
    ("open_clip:tiny-vit", None, (32, 32, BICUBIC, *CLIP)),
    ("open_clip:ViT-B-16-SigLIP", 64, (None, 64, BICUBIC, HALF, HALF)),
]


@pytest.mark.parametrize(("name", "size", "expected"), IMAGES)
def test_images_are_prepared_as_by_hand(
    name: str, size: int | None, expected: tuple[Any, ...], named: Callable[[str], str], photograph: Image.Image
) -> None:
    """Two roundings to whole numbers of pixels apart at most."""
    _, transform = load_network(named(name), None, image_size=size)
    hand = by_hand(photograph, *expected)
    found = transform(photograph).numpy()
    assert found.shape == hand.shape
    assert np.abs(found - hand).max() < 2.01 / 255 / min(expected[4])
    assert np.abs(found - hand).mean() < 0.5 / 255 / min(expected[4])
    of_tensor = transform(torch.from_numpy(np.array(photograph)).movedim(-1, 0) / 255).numpy()
    assert np.abs(of_tensor - found).mean() < 1.5 / 255 / min(expected[4])


def test_images_are_prepared_as_by_the_library(
    named: Callable[[str], str], place: Path, photograph: Image.Image
) -> None:
    import open_clip
    import timm
    import transformers

    model, transform = load_network("timm:test_resnet", None)
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    assert torch.equal(transform(photograph), theirs(photograph))
    _, _, theirs = open_clip.create_model_and_transforms("tiny-vit")
    assert torch.equal(load_network("open_clip:tiny-vit", None)[1](photograph), theirs(photograph))
    processor = transformers.BitImageProcessor(size={"shortest_edge": 40}, crop_size=32, image_mean=IMAGENET[0])
    processor.save_pretrained(place / "dinov2")
    found = load_network(named("hf:dinov2"), "DEFAULT")[1](photograph)
    assert torch.equal(found, processor(photograph, return_tensors="pt")["pixel_values"][0])
    larger = load_network(named("hf:dinov2"), "DEFAULT", image_size=64, mean=HALF)[1](photograph)
    options = {"size": {"shortest_edge": 80}, "crop_size": 64, "image_mean": HALF}
    assert torch.equal(larger, processor(photograph, return_tensors="pt", **options)["pixel_values"][0])


@pytest.mark.parametrize("name", OF_EACH_SOURCE)
def test_mean_and_std_may_be_given(name: str, named: Callable[[str], str]) -> None:
    _, transform = load_network(named(name), None, mean=(0.0, 0.0, 0.5), std=(1.0, 1.0, 0.25))
    assert torch.allclose(
        transform(Image.new("RGB", (200, 200), "white"))[:, 0, 0], torch.tensor([1.0, 1.0, 2.0]), atol=1e-6
    )
    with pytest.raises(ValueError, match="`std` positive"):
        load_network(named(name), None, std=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="`image_size` must be a positive integer, got 0"):
        load_network(named(name), None, image_size=0)


# Weights


def same(model: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return bool(theirs) and all(torch.equal(value, theirs[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("name", OF_EACH_SOURCE)
def test_weights_that_the_library_saves_load_back(
    name: str, ending: str, named: Callable[[str], str], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    model, _ = load_network(named(name), None, seed=1)
    path = tmp_path / f"w.{ending}"
    save_file(model.state_dict(), path) if ending == "safetensors" else torch.save(model.state_dict(), path)
    again, _ = load_network(named(name), path)
    assert same(again, model)
    assert not same(load_network(named(name), None, seed=2)[0], model)
    assert same(load_network(named(name), "none", seed=1)[0], model)
    torch.save({"elsewhere.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="the weights in .*other.pth do not fit "):
        load_network(named(name), tmp_path / "other.pth")


def test_the_whole_of_two_towers_may_be_in_the_file(named: Callable[[str], str], tmp_path: Path) -> None:
    import open_clip
    import transformers

    whole = open_clip.create_model("tiny-vit")
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "open_clip.pt")
    assert same(load_network("open_clip:tiny-vit", tmp_path / "open_clip.pt")[0], whole.visual)
    clip = transformers.CLIPModel.from_pretrained("clip")
    for weights in ("clip/model.safetensors", "clip", "DEFAULT"):
        assert same(load_network("hf:./clip", weights)[0], clip.vision_model), weights


def test_embeddings_of_positions_are_resized_with_the_images(named: Callable[[str], str], tmp_path: Path) -> None:
    for name, key in (("timm:test_vit", "pos_embed"), ("open_clip:tiny-vit", "positional_embedding")):
        model, _ = load_network(name, None)
        torch.save(model.state_dict(), tmp_path / "w.pth")
        larger, _ = load_network(name, tmp_path / "w.pth", image_size=64)
        assert larger.get_parameter(key).shape[-2] == 1 + (64 // (16 if "timm" in name else 8)) ** 2
        assert not torch.equal(larger.get_parameter(key).mean(), torch.tensor(0.0))


@pytest.mark.filterwarnings("ignore:no preprocessor_config.json")
def test_a_folder_of_transformers(named: Callable[[str], str], place: Path, tmp_path: Path) -> None:
    import transformers

    vit = transformers.ViTModel.from_pretrained("vit")
    for name, weights in (("hf:./vit", "DEFAULT"), ("hf:vit", "vit"), ("hf:google/vit-base-patch16-224", "vit")):
        check_model(name, weights)
        assert same(load_network(name, weights)[0], vit), name
    head = transformers.ViTForImageClassification(transformers.ViTConfig(**PATCHES))
    head.save_pretrained(tmp_path)
    model, _ = load_network(f"hf:{tmp_path}")
    assert model.pooler is None  # it is in no file of a classifier, and would be random
    assert same(model, head.vit)
    assert torch.equal(model.eval()(x := torch.rand(1, 3, 32, 32))[0], head.vit.eval()(x)[0])
    half = transformers.ViTModel.from_pretrained("vit").half()
    half.save_pretrained(tmp_path / "half")
    assert {p.dtype for p in load_network(f"hf:{tmp_path}/half")[0].parameters()} == {torch.float32}


def test_defaults_of_an_image_processor_are_announced(named: Callable[[str], str]) -> None:
    with pytest.warns(
        UserWarning,
        match="no preprocessor_config.json beside the weights of './vit': images are prepared as ViTImageProcessor does",
    ):
        load_network("hf:./vit", "DEFAULT")


def test_a_file_of_another_size_is_refused_in_one_line(
    named: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import transformers

    other = transformers.ViTModel(transformers.ViTConfig(**{**PATCHES, "hidden_size": 32}))
    torch.save(other.state_dict(), tmp_path / "other.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "nothing.pth")
    for name, kind in (
        ("hf:./vit", "ViTModel"),
        ("timm:test_vit", "VisionTransformer"),
        ("open_clip:tiny-vit", "VisionTransformer"),
    ):
        for file in ("other", "nothing"):
            assert cli.main(["layers", "--model", name, "--weights", str(tmp_path / f"{file}.pth")]) == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert f"{file}.pth do not fit {kind}" in said


def test_layers_of_each_source(named: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = {
        "timm:swin_tiny_patch4_window7_224": "* layers.1 SwinTransformerStage 28 x 28 x 192 map avg, max, grid",
        "hf:./dinov2_with_registers": "* encoder.layer.3 Dinov2WithRegistersLayer 21 x 16 tokens avg, max, cls, grid",
        "hf:./swin": "* encoder.layers.2.downsample SwinPatchMerging 4 x 96 tokens avg, max, grid",
        "open_clip:tiny-rn": "* layer3.0 Bottleneck 256 x 4 x 4 map avg, max, grid",
    }
    for name, line in lines.items():
        size = ["--image-size", "64"] if name == "open_clip:tiny-rn" else []
        assert cli.main(["layers", "--model", name, *size]) == 0
        assert line in [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()], name
    assert cli.main(["layers", "--model", "hf:./swin", "--all"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"   encoder.layers.0  +SwinStage  +returns a tuple, not a tensor\n", out)
    assert re.search(r"   encoder  +SwinEncoder  +returns a SwinEncoderOutput, not a tensor\n", out)
    assert re.search(
        r"   encoder.layers.0.blocks.0.attention.q_proj +Linear  .*its first dimension is not that of the images\n", out
    )


@pytest.mark.parametrize("weights", ["DEFAULT", "none"])
def test_code_of_a_folder_is_not_run(weights: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}})
    )
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_network(f"hf:{tmp_path}", weights)
    assert not (tmp_path / "executed").exists()


def test_mistakes(named: Callable[[str], str], tmp_path: Path) -> None:
    mistakes: list[tuple[str, object, type[Exception], str]] = [
        ("timm:test_vits", None, ValueError, r"unknown model 'test_vits'; expected a name in timm.list_models\(\) such as \['test_vit'"),
        ("timm:test_vit.no_tag", None, ValueError, r"pretrained=True\) such as \['test_vit.r160_in1k'\]"),
        ("timm:resnet50", "a1_in1k", FileNotFoundError, r"no weights at a1_in1k: .*'DEFAULT' or 'none' \(timm's tags: \['resnet50.a1_in1k'"),
        ("hf:dinov", None, ValueError, r"unknown model 'dinov'; expected an id on the Hugging Face Hub \(owner/name\).* such as \['dinov2'"),
        ("hf:swinv2", "DEFAULT", ValueError, "'swinv2' is a type of network, without weights; expected weights 'none' or a path"),
        ("hf:bert", None, ValueError, "'bert' is a BertConfig; expected a network of images alone"),
        (f"hf:{tmp_path}", None, FileNotFoundError, "no config.json in .*: expected a folder such as save_pretrained writes"),
        ("hf:owner/name", "nowhere", FileNotFoundError, "no weights at nowhere: expected the path of a state dict or of a folder with config.json"),
        ("open_clip:ViT-B-33", None, ValueError, r"expected a name in open_clip.list_models\(\) such as \['ViT-B-32'"),
        ("open_clip:ViT-B-32", "laion", FileNotFoundError, r"no weights at laion: .*one of open_clip's \['openai', 'laion400m_e31'"),
        ("open_clip:tiny-vit", "DEFAULT", ValueError, "open_clip has no weights for 'tiny-vit'"),
    ]  # fmt: skip
    for name, weights, error, text in mistakes:
        for refuse in (check_model, load_network):
            with pytest.raises(error, match=text):
                refuse(name, weights)


def test_an_identity_knows_weights_and_size(named: Callable[[str], str], photograph: Image.Image) -> None:
    for name in OF_EACH_SOURCE:

        def identity(layer_seed: int, size: int, name: str = name) -> Identity:
            model, transform = load_network(named(name), None, image_size=size, seed=layer_seed)
            encoder = LatentEncoder(model, candidate_layers(model, torch.rand(1, 3, size, size))[1])
            return identify(encoder, transform, photograph)

        assert identity(0, 64).matches(identity(0, 64)), name
        assert not identity(0, 64).matches(identity(1, 64)), name
        assert not identity(0, 64).matches(identity(0, 96)), name


def test_an_encoder_and_its_transform_reach_another_process(named: Callable[[str], str]) -> None:
    """As bytes."""
    for name in OF_EACH_SOURCE:
        model, transform = load_network(named(name), None, image_size=64)
        encoder = LatentEncoder(model, candidate_layers(model, torch.rand(1, 3, 64, 64))[1])
        there, its = cloudpickle.loads(cloudpickle.dumps((encoder, transform)))
        x = transform(image := torch.rand(3, 90, 70))[None]
        assert torch.equal(its(image)[None], x), name
        assert torch.equal(there(x), encoder(x)), name


# Commands


def answers(photographs: Path) -> dict[str, Any]:
    lines = (photographs / "stimuli.csv").read_text().splitlines()[1:31]
    (photographs / "labels.csv").write_text("\n".join(["file,category", *lines]))
    return {"images": str(photographs / "stimuli"), "labels": str(photographs / "labels.csv")}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("timm:test_vit", "blocks.1"),
        ("hf:vit", "layers.1"),
        ("hf:swin", "encoder.layers.0.downsample"),
        ("open_clip:tiny-vit", "transformer.resblocks.1"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of small samples, about which other tests are
def test_commands_run_on_a_network_of_each_source(
    name: str,
    layer: str,
    named: Callable[[str], str],
    recording: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: Path,
) -> None:
    monkeypatch.chdir(place)  # the fixture `recording` has left it
    network = ["--model", named(name), "--weights", "none", "--image-size", "64"]
    labelled = [word for flag, value in answers(recording).items() for word in (f"--{flag}", value)]
    commands: dict[str, list[str]] = {
        "category": [*labelled, "--preferred", "disc", "--layer", layer, "--steps", "1", "--top", "1"],
        "selectivity": [*labelled, "--layers", layer, "--top", "5", "--crops", "2", "--sheets", "0"],
        "recording": [
            "--recording",
            str(recording),
            "--layer",
            "auto",
            "--steps",
            "1",
            "--drivers",
            "1",
            "--folds",
            "2",
            "--neurons",
            "0,1",
        ],
    }
    for command, flags in commands.items():
        out = tmp_path / "out" / command
        assert cli.main([command, *network, *flags, "--out", str(out)]) == 0, capsys.readouterr().err
        assert (out / "index.html").is_file()
        assert f"open {out}/index.html" in capsys.readouterr().out
    assert (
        np.genfromtxt(
            tmp_path / "out" / "selectivity" / "units.csv", delimiter=",", names=True, dtype=None, encoding=None
        ).size
        > 10
    )
    summary = json.loads((tmp_path / "out" / "category" / "summary.json").read_text())
    assert (summary["model"], summary["weights"], summary["layer"]) == (named(name), "none", layer)
    assert (
        cli.main(["recording", *network, *commands["recording"], "--out", str(tmp_path / "out" / "recording")]) == 0
    )  # resumed
