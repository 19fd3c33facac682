"""encode_images and load_encoder: sources, cache, resumption, unreadable files, weights."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from captum_shared import LatentEncoder, encode_images, load_encoder
from captum_shared.images import decode_rgb
from captum_shared.networks.registry import load_network
from captum_shared.networks.weights import read_state

PASSES = 6  # of an identity, one image each: two for each of three probes


@pytest.fixture
def encoder(net: nn.Module) -> LatentEncoder:
    return LatentEncoder(net.float(), "relu2")


@pytest.fixture
def folder(tmp_path: Path) -> list[Path]:
    """Seven PNG files, in colour and grey."""
    paths = []
    for k in range(7):
        pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(pixels) if k % 2 else Image.fromarray(pixels).convert("L")
        paths.append(tmp_path / f"{k}.png")
        image.save(paths[-1])
    return paths


def as_tensor(paths: list[Path]) -> Tensor:
    arrays = [np.asarray(Image.open(p).convert("RGB")) for p in paths]
    return torch.tensor(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


class Counting(nn.Module):
    """An encoder that counts the images it has seen."""

    def __init__(self, encoder: nn.Module, stop_after: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.seen: list[int] = []
        self.stop_after = stop_after

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if self.stop_after is not None and sum(self.seen) > self.stop_after:
            raise KeyboardInterrupt
        return self.encoder(x)


class Pictures(Dataset[Any]):
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return Image.open(self.paths[index]).convert("RGB"), index


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_all_sources_give_the_same_latents(batch_size: int, encoder: LatentEncoder, folder: list[Path]) -> None:
    images = as_tensor(folder)
    with torch.no_grad():
        expected = encoder(images)
    for source in (folder, [str(p) for p in folder], images, TensorDataset(images), Pictures(folder)):
        found = encode_images(encoder, source, batch_size=batch_size)
        assert torch.allclose(found, expected, atol=1e-6)
        assert not found.requires_grad


def test_transform_is_applied_to_each_image(encoder: LatentEncoder, folder: list[Path]) -> None:
    halved = encode_images(encoder, as_tensor(folder), transform=lambda image: image / 2)
    assert torch.allclose(halved, encode_images(encoder, as_tensor(folder) / 2))


def test_workers(encoder: LatentEncoder, folder: list[Path]) -> None:
    assert torch.equal(
        encode_images(encoder, folder, num_workers=2, batch_size=2),
        encode_images(encoder, folder, batch_size=2),
    )


def test_modes_are_restored_and_evaluation_is_used(encoder: LatentEncoder, folder: list[Path]) -> None:
    expected = encode_images(encoder.eval(), folder)
    encoder.train()
    encoder.model.eval()
    before = [m.training for m in encoder.modules()]
    assert torch.equal(encode_images(encoder, folder), expected)
    assert [m.training for m in encoder.modules()] == before


def test_autocast(encoder: LatentEncoder, folder: list[Path]) -> None:
    exact, rough = encode_images(encoder, folder), encode_images(encoder, folder, autocast=torch.bfloat16)
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert torch.allclose(exact, rough, atol=0.05)


def test_device_argument(encoder: LatentEncoder, folder: list[Path]) -> None:
    assert encode_images(encoder, folder, device="cpu").device.type == "cpu"


def test_progress_bar(encoder: LatentEncoder, folder: list[Path], capsys: Any) -> None:
    encode_images(encoder, folder)
    assert capsys.readouterr().err == ""
    encode_images(encoder, folder, progress=True)
    assert "7/7" in capsys.readouterr().err


@pytest.mark.parametrize("damaged", [False, True])
def test_an_image_whose_latents_are_kept_is_not_decoded_again(
    damaged: bool, encoder: LatentEncoder, folder: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless what is kept turns out to be damaged."""
    first = encode_images(encoder, folder, cache=tmp_path / "cache", batch_size=2)
    decoded: list[bytes] = []
    monkeypatch.setattr(
        "captum_shared.encoder.images.decode_rgb", lambda data: decoded.append(data) or decode_rgb(data)
    )
    if damaged:
        with sqlite3.connect(tmp_path / "cache" / "latents.sqlite") as database:
            database.execute("UPDATE kept SET checksum = 'x' WHERE rowid = 3")
        with pytest.warns(UserWarning, match="damaged"):
            again = encode_images(encoder, folder, cache=tmp_path / "cache", batch_size=2)
    else:
        again = encode_images(encoder, folder, cache=tmp_path / "cache", batch_size=2)
    assert decoded == ([folder[2].read_bytes()] if damaged else [])
    assert torch.allclose(again, first, atol=1e-6)


def test_cache_computes_each_image_once(encoder: LatentEncoder, folder: list[Path], tmp_path: Path) -> None:
    counting = Counting(encoder)
    first = encode_images(counting, folder, cache=tmp_path / "cache", batch_size=2)
    assert sum(counting.seen) == 7 + PASSES
    again = encode_images(counting, [*folder[::-1], folder[0]], cache=tmp_path / "cache")
    assert sum(counting.seen) == 7 + 2 * PASSES
    assert torch.equal(again[:7], first.flip(0))


def test_interrupted_run_goes_on_where_it_stopped(encoder: LatentEncoder, folder: list[Path], tmp_path: Path) -> None:
    expected = encode_images(encoder, folder, batch_size=2)
    stopped = Counting(encoder, stop_after=PASSES + 4)
    with pytest.raises(KeyboardInterrupt):
        encode_images(stopped, folder, cache=tmp_path / "cache", batch_size=2)
    resumed = Counting(encoder)
    assert torch.equal(encode_images(resumed, folder, cache=tmp_path / "cache", batch_size=2), expected)
    assert sum(resumed.seen) == PASSES + 3


def test_unreadable_images_are_all_named(encoder: LatentEncoder, folder: list[Path]) -> None:
    folder[1].write_bytes(b"not an image")
    folder[4].write_bytes(folder[4].read_bytes()[:40])
    folder[5].unlink()
    with pytest.warns(
        UserWarning, match=r"3 of 7 images cannot be read(?s:.*)1\.png(?s:.*)4\.png(?s:.*)5\.png(?s:.*)NaN"
    ):
        latents = encode_images(encoder, folder, batch_size=2)
    assert latents.isnan().any(1).tolist() == [False, True, False, False, True, True, False]
    with pytest.raises(ValueError, match=r"3 of 7 images cannot be read(?s:.*)5\.png"):
        encode_images(encoder, folder, unreadable="raise")


def test_a_batch_without_a_readable_image(encoder: LatentEncoder, folder: list[Path]) -> None:
    folder[0].write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 7"):
        assert encode_images(encoder, folder, batch_size=1).isnan().any(1).sum() == 1


def test_mistakes(encoder: LatentEncoder, folder: list[Path], tmp_path: Path) -> None:
    Image.new("RGB", (9, 8)).save(tmp_path / "wide.png")
    nowhere = [tmp_path / "nowhere.png"]
    cases: list[tuple[type[Exception], str, Any]] = [
        (ValueError, "`images` is empty", lambda: encode_images(encoder, [])),
        (ValueError, "`images` is empty", lambda: encode_images(encoder, torch.zeros(0, 3, 8, 8))),
        (TypeError, "got the single path", lambda: encode_images(encoder, "a.png")),
        (TypeError, "must be a sequence of paths, a Dataset or a tensor, got int", lambda: encode_images(encoder, 3)),
        (TypeError, "`images` must be floating point, got torch.uint8; scale uint8 images", lambda: encode_images(encoder, torch.zeros(2, 3, 8, 8).byte())),
        (TypeError, "got an array; use torch.from_numpy", lambda: encode_images(encoder, np.zeros((2, 3, 8, 8)))),
        (ValueError, "`batch_size` must be a positive integer, got 0", lambda: encode_images(encoder, folder, batch_size=0)),
        (ValueError, "`unreadable` must be one of .'warn', 'raise'., got 'skip'", lambda: encode_images(encoder, folder, unreadable="skip")),
        (ValueError, "`autocast` must be torch.float16, .* got torch.float32", lambda: encode_images(encoder, folder, autocast=torch.float32)),
        (ValueError, r"must have one size, got \[\(3, 8, 8\), \(3, 8, 9\)\]; pass a `transform`", lambda: encode_images(encoder, [folder[0], tmp_path / "wide.png"])),
        (ValueError, r"1 of 1 images cannot be read.*\n.*nowhere.png: FileNotFoundError", lambda: encode_images(encoder, nowhere)),
        (ValueError, r"must return latents \(N, D\) = \(7, D\), got shape \(7, 3, 8, 8\)", lambda: encode_images(nn.Identity(), folder)),
    ]  # fmt: skip
    for error, text, mistake in cases:
        with pytest.raises(error, match=text):
            mistake()


# load_encoder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "squeeze.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    return path


def test_load_encoder_from_a_file(weights: Path) -> None:
    encoder, transform = load_encoder("squeezenet1_1", "features.5", "max", weights)
    assert not encoder.training
    state = torch.load(weights, weights_only=True)
    assert torch.equal(encoder.state_dict()["model.features.0.weight"], state["features.0.weight"])
    assert transform(Image.new("RGB", (300, 260))).shape == (3, 224, 224)
    _, small = load_encoder("squeezenet1_1", "features.5", weights=None, image_size=96, mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.equal(small(Image.new("RGB", (300, 260), "white")), torch.ones(3, 96, 96))


def test_torchvision_networks_have_their_channels_last_and_the_same_latents(weights: Path) -> None:
    encoder, _ = load_encoder("squeezenet1_1", "features.5", weights=weights)
    model = torchvision.models.squeezenet1_1(weights=None).eval()
    model.load_state_dict(read_state(weights))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = LatentEncoder(model, "features.5")
        ours, theirs = encoder.layer_output(images), expected.layer_output(images)
        assert isinstance(ours, Tensor)
        assert isinstance(theirs, Tensor)
        assert ours.is_contiguous(memory_format=torch.channels_last)
        assert theirs.is_contiguous()
        assert torch.allclose(encoder(images), expected(images), rtol=1e-5, atol=1e-6)


def test_networks_of_videos_can_be_loaded() -> None:
    """Their kernels have no layout with channels last: torch refuses to give them one."""
    assert load_network("r3d_18", weights=None)[0].stem[0].weight.is_contiguous()


def test_weights_in_wrappers_of_training_scripts(weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = torch.load(weights, weights_only=True)
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "wrapped.pth")
    save_file(state, tmp_path / "w.safetensors")
    for path in (tmp_path / "wrapped.pth", tmp_path / "w.safetensors"):
        model = torchvision.models.squeezenet1_1(weights=None)
        model.load_state_dict(read_state(path))
        assert torch.equal(model.features[0].weight, state["features.0.weight"])


def test_weights_are_loaded_without_executing_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="not a readable state dict"):
        load_encoder("squeezenet1_1", "features.5", weights=tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()


def test_own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_networks.py").write_text(
        "import torch\n\ndef tiny():\n    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())\n\nanswer = 42\n"
        "def wrong():\n    return 3\n"
    )
    path_before = list(sys.path)
    encoder, transform = load_encoder("my_networks:tiny", "1", weights=None, image_size=32)
    assert encoder(transform(Image.new("RGB", (50, 40)))[None]).shape == (1, 4)
    output = encoder.layer_output(torch.randn(2, 3, 9, 9))
    assert isinstance(output, Tensor)
    assert output.is_contiguous()  # its own code may count on that
    assert sys.path == path_before
    for name, text in [
        ("my_networks:answer", "has no callable 'answer'"),
        ("my_networks:nothing", "has no callable 'nothing'"),
        ("no_such_module:f", "cannot import 'no_such_module'"),
    ]:
        with pytest.raises(ValueError, match=text):
            load_encoder(name, "1", weights=None)
    with pytest.raises(TypeError, match="must return an nn.Module, got int"):
        load_encoder("my_networks:wrong", "1", weights=None)


def test_load_encoder_mistakes(weights: Path, tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(
        ValueError,
        match=r"unknown model 'resnet19'; expected a torchvision name, 'module:callable', 'timm:NAME', .* such as .*'resnet1",
    ):
        load_encoder("resnet19", "layer4")
    with pytest.raises(
        FileNotFoundError,
        match=r"no weights at nowhere.pth: expected the path of a state dict, 'none' or a name such as \['IMAGENET1K_V1', 'DEFAULT'\]",
    ):
        load_encoder("resnet18", "layer4", weights="nowhere.pth")
    with pytest.raises(ValueError, match="do not fit ResNet"):
        load_encoder("resnet18", "layer4", weights=weights)
    with pytest.raises(ValueError, match="holds a list, expected a state dict of tensors"):
        load_encoder("resnet18", "layer4", weights=tmp_path / "list.pth")


@pytest.mark.real
def test_real_weights_classify_real_photographs(data: Path) -> None:
    encoder, transform = load_encoder("squeezenet1_0", "classifier", "flatten", data / "squeezenet1_0_imagenet.pth")
    paths = sorted((data / "imagenet_sample").glob("*.jpg"))[:60]
    scores = encode_images(encoder, paths, transform)
    top5 = scores.topk(5, dim=1).indices
    hits = [int(p.name[:3]) in row.tolist() for p, row in zip(paths, top5, strict=True)]
    assert np.mean(hits) > 0.7
