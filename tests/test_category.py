"""The command `category`: on images made here, and on real photographs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from other_device import traffic
from PIL import Image

from captum_shared import LayerParallelBackprop, ParallelBackprop, cli, load_encoder
from captum_shared.labels import read_labels
from captum_shared.networks.preprocessing import preprocessing
from captum_shared.report.pictures import black_and_white, pictures_of
from captum_shared.selection import rule_names
from captum_shared.study.category import explain_pairs, open_category, pair_maps, standardized
from captum_shared.study.network import transform_image
from captum_shared.study.settings import CategorySettings

NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 12, 5, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(12, 16, 3), torch.nn.ReLU())
"""


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight "discs", red discs on noise; eight "squares", blue; and an odd one, a square with a red disc."""
    monkeypatch.chdir(tmp_path)
    Path("tiny_network.py").write_text(NETWORK)
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    rows = []
    for k in range(17):
        kind = "disc" if k < 8 else "square"
        pixels = rng.integers(90, 140, (40, 40, 3))
        cx, cy = rng.integers(12, 28, 2)
        if kind == "square":
            pixels[abs(x - cx) + 0 * y < 6] = (30, 30, 200)
        if kind == "disc" or k == 16:
            pixels[(x - cx) ** 2 + (y - cy) ** 2 < 50] = (220, 30, 30)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k:02d}.png")
        rows.append(f"{k:02d}.png,{kind}")
    (folder / "labels.csv").write_text("file,category\n" + "\n".join(rows) + "\n")
    return folder


def command(folder: Path, out: str = "out", **changes: str) -> list[str]:
    options = {
        "--images": str(folder), "--labels": str(folder / "labels.csv"), "--preferred": "disc", "--layer": "3",
        "--model": "tiny_network:make", "--weights": "none.pth", "--image-size": "32", "--steps": "4", "--top": "2",
        "--out": out, **changes,
    }  # fmt: skip
    torch.manual_seed(0)
    from tiny_network import make  # type: ignore[import-not-found]

    torch.save(make().state_dict(), "none.pth")
    return ["category", *(word for pair in options.items() for word in pair)]


@pytest.fixture
def run(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(photographs.parent))

    def words(out: str = "out", **changes: str) -> list[str]:
        return command(photographs, out, **{f"--{k.replace('_', '-')}": v for k, v in changes.items()})

    def go(out: str = "out", **changes: str) -> int:
        return cli.main(words(out, **changes))

    go.words = words  # type: ignore[attr-defined]
    return go


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_of_the_command(run: Any, capsys: Any) -> None:
    assert run() == 0
    out = Path("out")
    assert sorted(p.name for p in out.iterdir()) == [
        ".cache",
        "index.html",
        "manifest.json",
        "pair_01.png",
        "pair_02.png",
        "pairs.csv",
        "summary.json",
    ]
    pairs = read(out / "pairs.csv")
    assert list(pairs[0]) == ["image", "reference", "similarity", "response"]
    assert pairs[0]["image"] == "16.png"  # the odd one, with a disc
    assert all(pair["reference"] < "08.png" for pair in pairs)
    responses = [float(pair["response"]) for pair in pairs]
    assert responses == sorted(responses, reverse=True)
    summary = json.loads((out / "summary.json").read_text())
    assert 0.5 < summary["cv_auc"] <= 1
    assert summary["standardized"] is True
    assert "standardized over all images" in (out / "index.html").read_text()
    assert "2/2" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_another_device_finds_the_same(run: Any, device: str) -> None:
    with traffic() as seen:
        assert run("cpu", device="cpu") == 0
        assert seen.to_device == []
        assert run("away", device=device) == 0
    assert device != "other" or {shape[1:] for shape in seen.to_device} >= {(3, 32, 32)}  # images went there
    expected, found = (read(Path(out, "pairs.csv")) for out in ("cpu", "away"))
    for name in ("image", "reference"):
        assert [row[name] for row in found] == [row[name] for row in expected]
    for name in ("similarity", "response"):
        assert [float(row[name]) for row in found] == pytest.approx([float(row[name]) for row in expected], abs=1e-4)


def test_same_seed_same_files_and_latents_from_the_cache(run: Any) -> None:
    assert run("a") == run("b") == run("a") == 0
    for name in ("pairs.csv", "pair_01.png", "index.html", "summary.json"):
        assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_a_smaller_report_replaces_a_larger_one_when_told_to(run: Any, capsys: Any) -> None:
    """`--top 1` after `--top 2` left the old second pair beside the new report."""
    assert run() == 0
    Path("out/notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir() if path.is_file()}
    assert run(top="1") == 2
    assert "--top: 2 -> 1" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("out").iterdir() if path.is_file()} == before
    assert cli.main([*run.words(top="1"), "--overwrite"]) == 0
    assert {path.name for path in Path("out").iterdir()} == set(before) - {"pair_02.png"} | {".cache"}
    assert Path("out/notes.txt").read_text() == "mine"


def test_a_folder_of_the_users_is_refused(run: Any, capsys: Any) -> None:
    Path("out").mkdir()
    Path("out/index.html").write_text("mine")
    assert run() == 2
    assert "--out must be an empty folder or hold a report of this program" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == ["index.html"]
    assert Path("out/index.html").read_text() == "mine"


@pytest.mark.usefixtures("undrawn")
def test_a_finished_report_is_given_back_and_a_changed_image_is_noticed(
    run: Any, photographs: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run() == 0
    with monkeypatch.context() as patch:
        patch.setattr("captum_shared.report.category.explain_pairs", None)
        assert run() == 0
    (photographs / "03.png").write_bytes((photographs / "04.png").read_bytes())
    assert run() == 2
    assert "images.files.03.png: " in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_options_are_said(run: Any) -> None:
    assert run(references="category", similarity="cosine", pool="2") == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["references"], summary["similarity"], summary["pool"], summary["n_candidates"]) == (
        "category",
        "cosine",
        2,
        8,
    )


@pytest.mark.parametrize("rule", rule_names())
@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("ignore:the third moments of")
def test_every_rule_engine_and_kind_of_map(rule: str, run: Any) -> None:
    assert run(rule=rule, references_averaged="2", engine="Saliency", maps="layer,pixel") == 0
    summary = json.loads(Path("out/summary.json").read_text())
    said = {"rule": rule, "references_averaged": 2, "engine": "Saliency", "maps": ["layer", "pixel"]}
    assert summary.items() >= said.items()
    assert {p.name for p in Path("out").glob("pair_01*")} == {"pair_01.png", "pair_01_pixel.png"}
    page = Path("out/index.html").read_text()
    assert "mean over the 2 most similar references" in page
    assert "Maps of pixels are made by gradients" in page
    assert "Maps of the layer" in page


def test_maps_are_those_of_the_attribution_methods(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three rules, each with the center that is right for it, and the mean of two references."""
    monkeypatch.syspath_prepend(str(photographs.parent))
    command(photographs)
    encoder, transform = load_encoder("tiny_network:make", "3", weights="none.pth", image_size=32)
    for rule in ("product", "centered", "contrast"):
        settings = CategorySettings(rule=rule, references_averaged=2, top=2, n_steps=3, maps=("pixel", "layer"))
        study = open_category(
            photographs, photographs / "labels.csv", "disc", (encoder, transform), settings, progress=False
        )
        findings = explain_pairs(study)
        z, order = study.latents, np.argsort(-findings.responses, kind="stable")
        level = min(np.median(findings.responses[:8]), findings.responses[findings.pairs.images[1]])
        drivers = [int(i) for i in order if findings.responses[i] >= level][:20]
        center = {"product": None, "centered": z.mean(0), "contrast": z[drivers].mean(0)}[rule]
        z_ref = (z[findings.pairs.references[:, 0]] + z[findings.pairs.references[:, 1]]) / 2
        methods = {"pixel": ParallelBackprop(encoder, rule=rule, center=center),
                   "layer": LayerParallelBackprop(encoder, rule=rule, center=center)}  # fmt: skip
        for rank, maps in enumerate(pair_maps(study, findings)):
            places = findings.pairs.images[rank], findings.pairs.references[rank, 0]
            pair = tuple(transform_image(transform, study.paths[i])[None] for i in places)
            for kind, method in methods.items():
                steps = {"n_steps": 3} if kind == "pixel" else {}
                wanted = method.attribute(pair, readout=findings.weight, reference_latents=z_ref[rank], **steps)
                for found, expected in zip(maps[kind], wanted, strict=True):
                    assert torch.allclose(found, expected[0], atol=2e-4 * float(expected.abs().max()))


def test_three_lines_of_python_find_what_the_command_finds(run: Any, photographs: Path) -> None:
    import captum_shared as cs

    assert run() == 0
    encoder, transform = load_encoder("tiny_network:make", "3", weights="none.pth", image_size=32)
    paths, kinds = read_labels(photographs, photographs / "labels.csv")
    latents = standardized(encoder, cs.encode_images(encoder, paths, transform))
    disc = np.array([kind == "disc" for kind in kinds])
    fit = cs.fit_readout(latents, disc.astype(float))
    drivers = cs.find_drivers(fit.predictions[:, 0], disc, top=2)
    pairs = cs.find_pairs(latents, drivers, fit.readout.weight[0])
    found = [(paths[i].name, paths[j].name) for i, j in zip(pairs.images, pairs.references[:, 0], strict=True)]
    assert found == [(row["image"], row["reference"]) for row in read(Path("out/pairs.csv"))]


@pytest.mark.usefixtures("undrawn")
def test_a_corrupt_image_does_not_end_the_run(run: Any, photographs: Path, capsys: Any) -> None:
    (photographs / "03.png").write_bytes(b"broken")
    assert run() == 0
    assert json.loads(Path("out/summary.json").read_text())["unreadable"] == ["03.png"]
    assert "1 of 17 images cannot be read" in capsys.readouterr().err
    assert "Unreadable and left out: 03.png" in Path("out/index.html").read_text()


def test_the_bounds_hold_after_unreadable_images_are_left_out(run: Any, photographs: Path, capsys: Any) -> None:
    for k in range(4):
        (photographs / f"{k:02d}.png").write_bytes(b"broken")
    assert run() == 2
    assert "--preferred must have at least 5 images" in capsys.readouterr().err
    assert not Path("out/summary.json").exists()


MISTAKES = {
    "preferred": (
        {"preferred": "dog"},
        "--preferred must be a category of the label file, got 'dog'; expected one of ['disc', 'square']",
    ),
    "layer": ({"layer": "9"}, "unknown layer '9'"),
    "model": ({"model": "tiny_network:nothing"}, "has no callable 'nothing'"),
    "weights": ({"weights": "nowhere.pth"}, "no weights at nowhere.pth"),
    "images": ({"images": "nowhere"}, "no folder of images at nowhere"),
    "top": ({"top": "0"}, "--top must be a positive integer, got 0"),
    "similarity": ({"similarity": "l2"}, "--similarity must be one of ('dot', 'cosine'), got 'l2'"),
    "pool": ({"pool": "sum"}, "--pool must be one of"),
    "device": ({"device": "quantum"}, "quantum"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_on_standard_error(name: str, run: Any, capsys: Any) -> None:
    change, text = MISTAKES[name]
    assert run(**change) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("captum-shared: error")]
    assert len(lines) == 1
    assert text in lines[0]
    assert not Path("out/summary.json").exists()


def test_too_few_images(run: Any, photographs: Path, capsys: Any) -> None:
    lines = (photographs / "labels.csv").read_text().splitlines()
    (photographs / "labels.csv").write_text("\n".join(lines[:1] + lines[5:]) + "\n")
    assert run() == 2
    assert "must have at least 5 images" in capsys.readouterr().err


def test_pictures_are_as_the_network_sees_them() -> None:
    transform = preprocessing(24, mean=(0.1, 0.5, 0.3), std=(0.2, 1.0, 0.4))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    picture = pictures_of(transform(image), black_and_white(transform))
    assert torch.allclose(picture, torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255, atol=1e-5)


def test_standardized_latents_are_the_encoders(net: Any) -> None:
    from captum_shared import LatentEncoder

    encoder = LatentEncoder(net.float(), "relu2")
    images = torch.randn(20, 3, 8, 8)
    with torch.no_grad():
        z = standardized(encoder, encoder(images))
        assert torch.allclose(encoder(images), z, atol=1e-5)
    assert torch.allclose(z.mean(0), torch.zeros(6), atol=1e-5)
    assert torch.allclose(z.std(0, correction=0), torch.ones(6), atol=1e-4)


def test_help(capsys: Any) -> None:
    for words in (["--help"], ["demo", "--help"], ["category", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            cli.main(words)
        text = capsys.readouterr().out
        assert "examples:" in text
    for flag in ("--seed", "--device", "--batch-size", "--out"):
        assert flag in text
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert "captum-shared 0." in capsys.readouterr().out


def test_interruption(monkeypatch: pytest.MonkeyPatch, run: Any, capsys: Any) -> None:
    from captum_shared.study import category

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(category, "fit_readout", interrupt)
    assert run() == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.slow  # 700 photographs through SqueezeNet, 1 minute
def test_dog_neuron_on_real_photographs(data: Path, tmp_path: Path) -> None:
    images = data / "imagenet_sample"
    words = ["category", "--images", images, "--labels", images / "labels.csv", "--preferred", "dog", "--top", "5",
             "--model", "squeezenet1_0", "--weights", data / "squeezenet1_0_imagenet.pth", "--layer", "features.12",
             "--steps", "2", "--out", tmp_path / "dogs"]  # fmt: skip
    assert cli.main([str(word) for word in words]) == 0
    assert json.loads((tmp_path / "dogs" / "summary.json").read_text())["cv_auc"] >= 0.94
    assert {"537_dogsled.jpg", "852_tennis_ball.jpg"} <= {row["image"] for row in read(tmp_path / "dogs" / "pairs.csv")}


def test_the_viewer_shows_five_references_and_what_goes_with_what(photographs: Path) -> None:
    assert cli.main(command(photographs)) == 0
    page = Path("out/index.html").read_text()
    index, neuron = (json.loads(page.split(f'.push(["{kind}",0,')[1].split("]);\n")[0]) for kind in ("index", "neuron"))
    rows = list(csv.DictReader(Path("out/pairs.csv").read_text().splitlines()))
    assert index["neurons"][0]["name"] == "disc"
    shown = [
        (index["images"][image][1], index["images"][reference][1])
        for image, reference, *_ in index["neurons"][0]["pairs"]
    ]
    assert shown == [(row["image"], row["reference"]) for row in rows]
    assert all(source.startswith("data:image/jpeg;base64,") for source, *_ in index["images"])
    for row, references in zip(rows, neuron["pairs"], strict=True):
        assert 1 < len(references) <= 5
        assert references[0]["similarity"] == pytest.approx(float(row["similarity"]), rel=1e-3)
        assert [r["similarity"] for r in references] == sorted((r["similarity"] for r in references), reverse=True)
        assert [name for name, *_ in references[0]["maps"]] == ["layer", "pixels", "control: average partner"]
        for reference in references:  # too few images for the rule of moments
            assert [name for name, *_ in reference["others"]] == ["dot", "matched"]
        assert references[0]["correspondence"][0] == [8, 8, 8, 8]


def test_figures_in_every_format_have_text_as_text(run: Any) -> None:
    assert run(format="png,svg,pdf", top="1") == 0
    assert sorted(path.name for path in Path("out").glob("pair_*")) == ["pair_01.pdf", "pair_01.png", "pair_01.svg"]
    assert ">reference: " in Path("out/pair_01.svg").read_text()
    assert b"/FontFile2" in Path("out/pair_01.pdf").read_bytes()
