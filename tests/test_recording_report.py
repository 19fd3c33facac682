"""`explain_recording` and the command `recording`: files, choices, faults, going on."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from other_device import traffic
from recordings import SIZE, explain, files_of

from captum_shared import RULES, LatentEncoder, Recording, cli, explain_recording
from captum_shared.encoder.registry import preprocessing
from captum_shared.report.recording.methods import explanation
from captum_shared.selection import rule_names
from captum_shared.study.settings import RecordingSettings

COLUMNS = ["neuron", "status", "reason", "reliability", "layer", "cv_r", "cv_r_corrected", "preferred_category",
           "d_prime", "generalization_r", "n_drivers"]  # fmt: skip


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of the time of a small run; only tests that look at them have them drawn."""
    if "pictures" not in request.keywords:
        monkeypatch.setattr("captum_shared.report.recording.writing._draw", lambda *_: (b"figure" * 99, b"small" * 199))
        monkeypatch.setattr("captum_shared.report.recording.figures.png_bytes", lambda *_, **__: b"population" * 99)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def command(recording: Path, out: Path | str = "report", **changes: str) -> list[str]:
    options = {
        "--recording": str(recording), "--model": "tiny_network:make", "--weights": "tiny.pth", "--layer": "auto",
        "--image-size": str(SIZE), "--steps": "2", "--drivers": "2", "--out": str(out),
        **{f"--{name.replace('_', '-')}": value for name, value in changes.items()},
    }  # fmt: skip
    return ["recording", *(word for pair in options.items() for word in pair)]


@pytest.mark.pictures
def test_files_of_the_command(recording: Path, capsys: Any) -> None:
    assert cli.main(command(recording)) == 0
    printed = capsys.readouterr()
    assert "of 5 neurons explained" in printed.out
    assert "maps: 100%" in printed.err
    out = Path("report")
    neurons, pairs = read(out / "neurons.csv"), read(out / "pairs.csv")
    assert list(neurons[0]) == COLUMNS
    assert list(pairs[0]) == ["neuron", "image", "reference", "similarity", "response", "predicted"]
    explained = [row for row in neurons if row["status"] == "explained"]
    assert len(explained) >= 3
    kinds = {row["file"]: row["category"] for row in read(recording / "stimuli.csv")}
    preferred = {row["neuron"]: row["preferred_category"] for row in neurons}
    for pair in pairs:
        assert kinds[pair["image"]] != preferred[pair["neuron"]] == kinds[pair["reference"]]
    for row in explained:
        own = [pair for pair in pairs if pair["neuron"] == row["neuron"]]
        assert len(own) == int(row["n_drivers"]) <= 2
        maps = np.load(out / "maps" / f"neuron_{row['neuron']}.npy", mmap_mode="r")
        assert maps.shape == (len(own), 2, SIZE, SIZE)
        assert isinstance(maps, np.memmap)
        assert np.abs(maps).max() > 0
        assert (out / "figures" / f"neuron_{row['neuron']}.png").stat().st_size > 10_000
    assert sorted(p.name for p in out.iterdir()) == ["figures", "index.html", "layers.csv", "manifest.json", "maps",
                                                     "neurons.csv", "pairs.csv", "summary.json", "thumbnails"]  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    corrected = [float(row["cv_r_corrected"]) for row in neurons]
    assert summary["median_cv_r_corrected"] == pytest.approx(np.median(corrected), abs=1e-5)
    assert summary["median_cv_r"] < summary["median_cv_r_corrected"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["complete"] is True
    assert set(manifest["files"]) == set(files_of(out)) - {"manifest.json"}
    assert manifest["versions"]["torch"] == torch.__version__.split("+")[0] or "+" in manifest["versions"]["torch"]


def test_maps_are_those_of_parallel_backprop(recording: Path, tiny: torch.nn.Module) -> None:
    """Maps computed image by image, constants of several neurons together, equal pairs explained one by one."""
    from captum_shared import ParallelBackprop, encode_images, fit_readout
    from captum_shared.study.network import transform_image

    data, transform = Recording.load(recording), preprocessing(SIZE)
    encoder = LatentEncoder(tiny, "3")
    explain_recording(data, encoder, transform, out="one", n_steps=2, drivers=2, n_splits=5, pca=None, progress=False)
    from captum_shared.study.category import standardized

    z = standardized(encoder, encode_images(encoder, list(data.stimuli), transform))
    fit = fit_readout(z.double(), data.mean_responses.T)
    method = ParallelBackprop(encoder)
    places = {path.name: path for path in data.stimuli}
    pairs = read(Path("one/pairs.csv"))
    for pair in pairs[:4]:
        x, x_ref = (transform_image(transform, places[pair[side]])[None] for side in ("image", "reference"))
        weight = fit.readout.weight[int(pair["neuron"])].float()
        expected = method.attribute((x, x_ref), readout=weight, n_steps=2)
        rank = [p["image"] for p in pairs if p["neuron"] == pair["neuron"]].index(pair["image"])
        maps = np.load(f"one/maps/neuron_{pair['neuron']}.npy")[rank]
        for found, wanted in zip(maps, expected, strict=True):
            wanted = wanted[0].sum(0).numpy()
            assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_another_device_finds_the_same(recording: Path, device: str) -> None:
    with traffic() as seen:
        assert cli.main(command(recording, "cpu", device="cpu")) == 0
        assert seen.to_device == []
        assert cli.main(command(recording, "away", device=device)) == 0
    assert device != "other" or {shape[1:] for shape in seen.to_device} >= {(3, SIZE, SIZE)}  # images went there
    expected, found = (read(Path(out, "pairs.csv")) for out in ("cpu", "away"))
    for name in ("neuron", "image", "reference"):
        assert [row[name] for row in found] == [row[name] for row in expected]
    for neuron in {row["neuron"] for row in expected}:
        maps, own = (np.load(Path(out, "maps", f"neuron_{neuron}.npy")) for out in ("cpu", "away"))
        assert np.abs(maps).max() > 0
        assert np.abs(own - maps).max() < 2e-3 * np.abs(maps).max()


def test_drivers_are_above_the_threshold(recording: Path, tiny: torch.nn.Module) -> None:
    explain(recording, tiny, Path("out"), threshold=0.8, references="category")
    data = Recording.load(recording)
    names = list(data.stimulus_names)
    for pair in read(Path("out/pairs.csv")):
        responses = data.mean_responses[int(pair["neuron"])]
        z = (responses - responses.mean()) / responses.std()
        assert z[names.index(pair["image"])] >= 0.8
        assert float(pair["response"]) == pytest.approx(responses[names.index(pair["image"])], rel=1e-5)


def test_same_seed_same_files_other_seed_other_files(recording: Path, tiny: torch.nn.Module) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        explain(recording, tiny, Path(name), seed=seed)
    a, b, c = (files_of(Path(name)) for name in "abc")
    assert a == b
    assert a["neurons.csv"] != c["neurons.csv"]


def test_changed_configuration_is_refused_with_the_difference(recording: Path, capsys: Any) -> None:
    assert cli.main(command(recording)) == 0
    before = files_of(Path("report"))
    capsys.readouterr()
    assert cli.main(command(recording, threshold="0.5", rule="centered")) == 2
    error = capsys.readouterr().err
    assert "holds a report of another configuration" in error
    assert "configuration.settings.threshold: 1.0 -> 0.5" in error
    assert "configuration.settings.rule: product -> centered" in error
    responses = np.load(recording / "responses.npy")
    np.save(recording / "responses.npy", responses + 1)
    assert cli.main(command(recording)) == 2
    assert "recording.responses: " in capsys.readouterr().err
    np.save(recording / "responses.npy", responses)
    assert cli.main(command(recording)) == 0
    assert files_of(Path("report")) == before


def test_a_changed_or_lost_file_is_made_again(recording: Path, tiny: torch.nn.Module) -> None:
    explain(recording, tiny, Path("out"))
    before = files_of(Path("out"))
    maps = sorted(Path("out/maps").iterdir())
    maps[0].write_bytes(maps[0].read_bytes()[:100])
    maps[1].unlink()
    Path("out/.index.html.123.tmp").write_bytes(b"half")
    with pytest.warns(UserWarning, match=f"{maps[0].name} is damaged or was changed; it is made again"):
        explain(recording, tiny, Path("out"))
    assert files_of(Path("out")) == before


def test_other_files_in_the_folder_are_not_touched(recording: Path, tiny: torch.nn.Module) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("do not lose")
    with pytest.raises(ValueError, match=r"`out` must be an empty folder or hold a report of this program.*thesis.txt"):
        explain(recording, tiny, Path("mine"))
    assert files_of(Path("mine")) == {"thesis.txt": b"do not lose"}


def test_a_finished_report_is_not_computed_again(
    recording: Path, tiny: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = explain(recording, tiny, Path("out"))
    monkeypatch.setattr("captum_shared.report.recording.explain.encode_stimuli", None)
    assert explain(recording, tiny, Path("out")) == first


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, Any]] = []
        self.links: list[str] = []
        self.sorts: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        values = dict(attributes)
        if tag == "img":
            self.images.append(values)
        if tag == "a":
            self.links.append(values["href"])
        if "aria-sort" in values:
            self.sorts.append(values["aria-sort"])


def test_page_is_whole_offline_and_escaped(recording: Path, tiny: torch.nn.Module) -> None:
    data = Recording.load(recording)
    evil = [f"<b>{k}</b>" for k in range(data.n_neurons)]
    named = Recording(data.responses, data.stimuli, data.categories, evil)
    explain(recording, tiny, Path("out"), named)
    page = Path("out/index.html").read_text()
    assert "<b>0</b>" not in page
    assert "&lt;b&gt;0&lt;/b&gt;" in page
    assert not re.search(r"https?://(?!www.w3.org/)", page)  # a namespace is an address of nothing
    links = Links()
    links.feed(page)
    shown = [image for image in links.images if image["src"] != "data:,"]
    assert len(shown) == len(links.links) >= 7
    assert all(image["alt"] for image in shown)
    for target in [*links.links, *(image["src"] for image in shown)]:
        assert (Path("out") / target).stat().st_size > 500
    assert len(links.sorts) == 11
    for word in (
        "Spearman-Brown",
        "integrated gradients (2 steps",
        "Seed 0",
        f"torch {torch.__version__.split('+')[0]}",
    ):
        assert word in page


def test_the_network_is_left_as_it_was(recording: Path, tiny: torch.nn.Module) -> None:
    tiny.train()
    tiny[1].eval()
    tiny[0].weight.requires_grad_(False)
    explain(recording, tiny, Path("out"))
    assert [module.training for module in tiny] == [True, False, True, True, True, True, True]
    assert [p.requires_grad for p in tiny.parameters()] == [False, *[True] * 5]
    assert not any(module._forward_hooks for module in tiny.modules())


def test_estimator_of_ones_own(recording: Path, tiny: torch.nn.Module) -> None:
    from sklearn.linear_model import Lasso, Ridge
    from sklearn.multioutput import MultiOutputRegressor

    good = explain(recording, tiny, Path("ridge"), estimator=Ridge(10.0))
    assert good["median_cv_r_corrected"] > 0.8
    assert "Ridge(alpha=10.0)" in Path("ridge/index.html").read_text()
    sparse = explain(recording, tiny, Path("lasso"), estimator=MultiOutputRegressor(Lasso(0.05)))
    assert sparse["median_cv_r_corrected"] > 0.8


def test_estimator_that_is_not_linear(recording: Path, tiny: torch.nn.Module) -> None:
    from sklearn.neighbors import KNeighborsRegressor

    with pytest.raises(ValueError, match="is not linear"):
        explain(recording, tiny, Path("out"), estimator=KNeighborsRegressor())


def test_preferred_given_layers_named_and_one_pool(recording: Path) -> None:
    assert cli.main(command(recording, "a", preferred="stripe", layer="1, 3", pool="2", min_d_prime="0.1")) == 0
    neurons = read(Path("a/neurons.csv"))
    assert {row["preferred_category"] for row in neurons} == {"stripe"}
    assert any(row["reason"].startswith("d' ") for row in neurons)
    assert {row["pool"] for row in read(Path("a/layers.csv"))} == {"2"}
    assert cli.main(command(recording, "b", layer="3", pool="avg")) == 0
    assert json.loads(Path("b/summary.json").read_text())["layers"] == {"3": 5}


@pytest.mark.parametrize("rule", RULES)
def test_maps_of_every_rule_compare_with_its_center(rule: str, recording: Path, tiny: torch.nn.Module) -> None:
    """With a threshold that every stimulus reaches, drivers are known by hand: all, strongest recorded response first."""
    from captum_shared import ParallelBackprop, encode_images, fit_readout
    from captum_shared.study.network import transform_image

    data, transform, encoder = Recording.load(recording), preprocessing(SIZE), LatentEncoder(tiny, "3")
    choices = {"rule": rule, "threshold": -99.0, "similarity": "cosine", "drivers": 1, "pca": None, "n_steps": 2}
    explain_recording(data, encoder, transform, out="out", n_splits=5, progress=False, **choices)
    from captum_shared.study.category import standardized

    z = standardized(encoder, encode_images(encoder, list(data.stimuli), transform)).double()
    weights = fit_readout(z, data.mean_responses.T).readout.weight
    places = {path.name: path for path in data.stimuli}
    pairs = read(Path("out/pairs.csv"))
    assert len(pairs) == data.n_neurons
    for pair in pairs:
        k = int(pair["neuron"])
        strongest = sorted(range(data.n_stimuli), key=lambda i: -data.mean_responses[k, i])[:20]
        centers = {"product": None, "centered": z.mean(0)}
        center = centers.get(rule, sum(z[i] for i in strongest) / 20)
        images = tuple(transform_image(transform, places[pair[side]])[None] for side in ("image", "reference"))
        expected = ParallelBackprop(encoder, rule=rule, center=center).attribute(images, readout=weights[k], n_steps=2)
        for found, wanted in zip(np.load(f"out/maps/neuron_{k}.npy")[0], expected, strict=True):
            assert np.abs(found - wanted[0].sum(0).numpy()).max() < 2e-3 * wanted.sum(1).abs().max()


MISTAKES = {
    "layer": ({"layer": "9"}, "unknown layer '9'; expected 'auto' or names"),
    "preferred": ({"preferred": "dog"}, "`preferred` must be a category with at least 5 images, got 'dog'"),
    "recording": ({"recording": "nowhere"}, "no recording at nowhere"),
    "drivers": ({"drivers": "0"}, "`drivers` must be a positive integer, got 0"),
    "rule": ({"rule": "magic"}, "`rule` must be one of"),
    "folds": ({"folds": "1"}, "`folds` must be an integer of at least 2, got 1"),
    "labels": ({"labels": "nowhere.csv"}, "no label file at nowhere.csv"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_on_standard_error(name: str, recording: Path, capsys: Any) -> None:
    change, text = dict(MISTAKES[name][0]), MISTAKES[name][1]
    assert cli.main(command(Path(change.pop("recording", recording)), **change)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("captum-shared: error")]
    assert len(lines) == 1
    assert text in lines[0]


def test_wrong_arguments(recording: Path, tiny: torch.nn.Module) -> None:
    with pytest.raises(TypeError, match="`recording` must be a Recording, got str"):
        explain(recording, tiny, Path("out"), "recording")
    with pytest.raises(TypeError, match="takes no option 'driver'"):
        explain(recording, tiny, Path("out"), driver=3)
    data = Recording.load(recording)
    with pytest.raises(ValueError, match="must have categories"):
        explain(recording, tiny, Path("out"), Recording(data.responses, data.stimuli))
    with pytest.raises(ValueError, match="got a LatentEncoder, which has its layer already"):
        explain(recording, LatentEncoder(tiny, "3"), Path("out"), layers=["1"])


@pytest.mark.parametrize("rule", rule_names())
@pytest.mark.parametrize("maps", [("pixel",), ("layer",), ("pixel", "layer")])
def test_methods_paragraph_says_every_rule_and_map_in_words(rule: str, maps: tuple[str, ...]) -> None:
    text = explanation(RecordingSettings(rule=rule, maps=maps))
    assert f"{rule}, are held constant" not in text
    assert ("integrated gradients (16 steps" in text, "Maps of the layer" in text) == ("pixel" in maps, "layer" in maps)
