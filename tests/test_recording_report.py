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

from captum_shared import LatentEncoder, Recording, cli, explain_recording
from captum_shared.networks.preprocessing import preprocessing
from captum_shared.report.wording import explanation
from captum_shared.selection import rule_names
from captum_shared.similarity.rules import transposed
from captum_shared.study.maps import load_maps
from captum_shared.study.settings import RecordingSettings

CROSSED = ("dot", "moments")  # each image's constant is made from the other image
COLUMNS = ["neuron", "status", "reason", "reliability", "layer", "cv_r", "cv_r_corrected", "preferred_category",
           "d_prime", "generalization_r", "n_drivers"]  # fmt: skip


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest) -> None:
    """Only tests that look at the pictures have them drawn."""
    if "pictures" not in request.keywords:
        request.getfixturevalue("undrawn")


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
        maps = load_maps(out / "maps" / f"neuron_{row['neuron']}.npz", "pixel")
        assert maps.shape == (len(own), 2, SIZE, SIZE)
        assert np.abs(maps).max() > 0
        assert (out / "figures" / f"neuron_{row['neuron']}.png").stat().st_size > 10_000
    assert sorted(p.name for p in out.iterdir()) == ["data", "figures", "images", "index.html", "layers.csv",
                                                     "manifest.json", "maps", "neurons.csv", "pairs.csv", "summary.json", "thumbnails"]  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    corrected = [float(row["cv_r_corrected"]) for row in neurons]
    assert summary["median_cv_r_corrected"] == pytest.approx(np.median(corrected), abs=1e-5)
    assert summary["median_cv_r"] < summary["median_cv_r_corrected"]
    assert (summary["rule"], summary["similarity"], summary["references_averaged"]) == ("product", "dot", 1)
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
        maps = load_maps(Path(f"one/maps/neuron_{pair['neuron']}.npz"), "pixel")[rank]
        for found, wanted in zip(maps, expected, strict=True):
            heat = wanted[0].sum(0).numpy()
            assert np.abs(found - heat).max() < 2e-3 * np.abs(heat).max()


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
        maps, own = (load_maps(Path(out, "maps", f"neuron_{neuron}.npz"), "pixel") for out in ("cpu", "away"))
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
    assert "--threshold: 1.0 -> 0.5" in error
    assert "--rule: product -> centered" in error
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
    with pytest.warns(UserWarning, match=f"{maps[0].name} is damaged or was changed; it will be remade"):
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


class Faded:
    """A transform whose ``repr`` says nothing of what it does."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, image: Any) -> torch.Tensor:
        return preprocessing(SIZE)(image) * self.factor


def test_a_report_of_another_transform_or_forward_pass_is_not_given_back(
    recording: Path, tiny: torch.nn.Module
) -> None:
    """Failed before: transforms and networks were known by their ``repr``, without addresses."""
    data = Recording.load(recording)
    options: dict[str, Any] = {"out": "out", "n_steps": 2, "drivers": 2, "n_splits": 5, "progress": False}
    encoder = LatentEncoder(tiny, "3")
    explain_recording(data, encoder, lambda image: Faded(1.0)(image), **options)
    explain_recording(data, encoder, Faded(1.0), **options)  # does the same
    for other in (Faded(0.9), lambda image: Faded(1.1)(image)):
        with pytest.raises(ValueError, match=r"another configuration.*configuration\.image_transform_does\.probe"):
            explain_recording(data, encoder, other, **options)
    tiny[1].forward = torch.nn.functional.gelu
    with pytest.raises(ValueError, match=r"another configuration.*configuration\.network_does\.probe"):
        explain_recording(data, encoder, Faded(1.0), **options)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, Any]] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        values = dict(attributes)
        if tag == "img":
            self.images.append(values)
        if tag == "a":
            self.links.append(values["href"])


def test_page_is_whole_offline_and_escaped(recording: Path, tiny: torch.nn.Module) -> None:
    data = Recording.load(recording)
    evil = [f"<b>{k}</b>" for k in range(data.n_neurons)]
    named = Recording(data.responses, data.stimuli, data.categories, evil)
    explain(recording, tiny, Path("out"), named)
    page = Path("out/index.html").read_text()
    assert "<b>0</b>" not in page
    index = json.loads(Path("out/data/index.js").read_text().split('.push(["index",0,')[1].split("]);\n")[0])
    assert [entry["name"] for entry in index["neurons"]] == evil
    assert not re.search(r"https?://(?!www.w3.org/2000/svg)", page)  # the name of a format, not an address
    links = Links()
    links.feed(page)
    assert len(links.images) == sum(link != "#" for link in links.links) == 4
    assert all(image["alt"] for image in links.images)
    explained = [entry for entry in index["neurons"] if entry["values"]["status"] == "explained"]
    assert explained
    pictures = [path for entry in explained for path in (entry["figure"], entry["thumbnail"][0])]
    for target in [*links.links, *(image["src"] for image in links.images), *pictures]:
        assert target == "#" or (Path("out") / target).stat().st_size > 500
    for word in (
        "Spearman-Brown",
        "integrated gradients (2 steps",
        "Seed 0",
        f"torch {torch.__version__.split('+')[0]}",
    ):
        assert word in page


def test_the_network_is_left_as_it_was(recording: Path, tiny: torch.nn.Sequential) -> None:
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


def explained_by_hand(
    recording: Path, network: torch.nn.Module, **choices: Any
) -> tuple[LatentEncoder, torch.Tensor, torch.Tensor, list[dict[str, Any]]]:
    """Write a report into "out" for which drivers are known by hand, since every stimulus reaches the threshold.

    Gives the encoder, the latents, the readouts, and for each neuron its image, its references and their tensors.
    """
    from captum_shared import encode_images, fit_readout
    from captum_shared.study.category import standardized
    from captum_shared.study.network import transform_image

    data, transform, encoder = Recording.load(recording), preprocessing(SIZE), LatentEncoder(network, "3")
    options = {"threshold": -99.0, "drivers": 1, "pca": None, "n_steps": 2, "n_splits": 5, "progress": False, **choices}
    explain_recording(data, encoder, transform, out="out", **options)
    z = standardized(encoder, encode_images(encoder, list(data.stimuli), transform)).double()
    weights = fit_readout(z, data.mean_responses.T).readout.weight
    names, kinds = list(data.stimulus_names), np.array(data.categories)
    neurons = []
    for row in read(Path("out/pairs.csv")):
        k, image = int(row["neuron"]), names.index(row["image"])
        inside = np.flatnonzero(kinds == kinds[names.index(row["reference"])])
        likeness = {int(j): float((weights[k] * z[image] * z[j]).sum()) for j in inside}
        references = sorted(likeness, key=lambda j: -likeness[j])
        assert names[references[0]] == row["reference"]
        strongest = sorted(range(data.n_stimuli), key=lambda i: -data.mean_responses[k, i])
        images = tuple(transform_image(transform, data.stimuli[i])[None] for i in (image, references[0]))
        neurons.append({"k": k, "image": image, "references": references, "strongest": strongest, "images": images})
    assert neurons
    return encoder, z, weights, neurons


def agree_with(neuron: int, expected: Any, kind: str = "pixel") -> None:
    """Maps of a neuron's first pair, and those of an attribution method."""
    maps = load_maps(Path(f"out/maps/neuron_{neuron}.npz"), kind)
    for found, wanted in zip(maps[0], expected, strict=True):
        assert np.abs(found - wanted[0].sum(0).numpy()).max() < 2e-3 * wanted.sum(1).abs().max()


@pytest.mark.parametrize("rule", rule_names())
@pytest.mark.parametrize("averaged", [1, 3])
@pytest.mark.filterwarnings("ignore:the third moments of")
def test_maps_of_every_rule_compare_with_its_center(
    rule: str, averaged: int, recording: Path, tiny: torch.nn.Module
) -> None:
    from captum_shared import ParallelBackprop, moment_rule, shared_weights

    encoder, z, weights, neurons = explained_by_hand(recording, tiny, rule=rule, references_averaged=averaged)
    method = ParallelBackprop(encoder)
    formula: Any = moment_rule(z) if rule == "moments" else rule
    for neuron in neurons:
        center = {"product": None, "dot": None, "moments": None, "centered": z.mean(0)}.get(
            rule, sum(z[i] for i in neuron["strongest"][:20]) / 20
        )
        w, z_x = weights[neuron["k"]], z[[neuron["image"]]]
        z_ref = (sum(z[j] for j in neuron["references"][:averaged]) / averaged)[None]
        c = shared_weights(z_x, z_ref, w, formula, center).float()
        c_ref = shared_weights(z_ref, z_x, w, transposed(formula), center).float() if rule in CROSSED else c
        expected = method.attribute(neuron["images"], additional_forward_args=(c, c_ref), n_steps=2)
        agree_with(neuron["k"], expected)


@pytest.mark.parametrize("engine", ["Saliency", "InputXGradient"])
def test_maps_of_another_engine(engine: str, recording: Path, tiny: torch.nn.Module) -> None:
    import captum.attr

    from captum_shared import ParallelBackprop

    encoder, _, weights, neurons = explained_by_hand(recording, tiny, engine=engine)
    method = ParallelBackprop(encoder, engine=getattr(captum.attr, engine))
    for n in neurons:
        agree_with(n["k"], method.attribute(n["images"], readout=weights[n["k"]].float()))


@pytest.mark.parametrize("maps", [("layer",), ("pixel", "layer")])
def test_maps_of_the_layer(maps: tuple[str, ...], recording: Path, tiny: torch.nn.Module) -> None:
    """As `LayerParallelBackprop` makes them; alone they need no backward pass through the network."""
    from captum_shared import LayerParallelBackprop

    passes: list[int] = []
    handle = tiny[0].register_full_backward_hook(lambda *_: passes.append(1))
    encoder, _, weights, neurons = explained_by_hand(recording, tiny, maps=maps)
    handle.remove()
    assert bool(passes) == ("pixel" in maps)
    method = LayerParallelBackprop(encoder)
    for neuron in neurons:
        expected = method.attribute(neuron["images"], readout=weights[neuron["k"]].float())
        agree_with(neuron["k"], expected, "layer")
        with np.load(f"out/maps/neuron_{neuron['k']}.npz") as file:
            assert set(file) == {f"{kind}{part}" for kind in maps for part in ("", "_scale")}


@pytest.mark.pictures
def test_figures_of_both_kinds_of_maps_have_two_rows_more(recording: Path, tiny: torch.nn.Module) -> None:
    from PIL import Image

    heights = []
    for maps in ("pixel", "layer", "pixel,layer"):
        explain(recording, tiny, Path(maps), maps=maps, neurons="0")
        heights.append(Image.open(Path(maps, "figures", "neuron_0.png")).height)
    assert heights[0] == heights[1] < heights[2]


def test_neurons_that_are_named(recording: Path) -> None:
    assert cli.main(command(recording, neurons="0,2-3")) == 0
    assert [row["neuron"] for row in read(Path("report/neurons.csv"))] == ["0", "2", "3"]


@pytest.mark.pictures
@pytest.mark.filterwarnings("ignore:the third moments of")
def test_choices_on_the_command_line(recording: Path) -> None:
    choices = {
        "rule": "moments",
        "references_averaged": "2",
        "engine": "Saliency",
        "maps": "layer,pixel",
        "neurons": "0",
    }
    assert cli.main(command(recording, **choices, format="svg,png")) == 0
    assert {path.name for path in Path("report/figures").glob("neuron_*")} == {"neuron_0.svg", "neuron_0.png"}
    with np.load("report/maps/neuron_0.npz") as maps:
        assert set(maps) == {"layer", "layer_scale", "pixel", "pixel_scale"}
    settings = json.loads(Path("report/manifest.json").read_text())["configuration"]["settings"]
    assert (
        settings.items() >= {**choices, "references_averaged": 2, "maps": ["layer", "pixel"], "neurons": ["0"]}.items()
    )


MISTAKES = {
    "layer": ({"layer": "9"}, "unknown layer '9'; expected 'auto' or names"),
    "preferred": ({"preferred": "dog"}, "--preferred must be a category with at least 5 images, got 'dog'"),
    "recording": ({"recording": "nowhere"}, "no recording at nowhere"),
    "drivers": ({"drivers": "0"}, "--drivers must be a positive integer, got 0"),
    "rule": ({"rule": "magic"}, "--rule must be one of"),
    "engine": ({"engine": "Magic"}, "--engine must be one of ('IntegratedGradients', 'Saliency'"),
    "maps": ({"maps": "pixel,voxel"}, "--maps must be one or more of ('pixel', 'layer'), got ('pixel', 'voxel')"),
    "neurons": ({"neurons": "0,77"}, "--neurons must be names of the recording's neurons (0, 1, 2, 3, 4), got ['77']"),
    "range": ({"neurons": "3-1"}, "such as 0,3,7-9, got '3-1'"),
    "averaged": ({"references_averaged": "0"}, "--references-averaged must be a positive integer, got 0"),
    "folds": ({"folds": "1"}, "--folds must be an integer of at least 2, got 1"),
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
    with pytest.raises(ValueError, match="got a LatentEncoder, which already has its layer"):
        explain(recording, LatentEncoder(tiny, "3"), Path("out"), layers=["1"])


@pytest.mark.parametrize("rule", rule_names())
@pytest.mark.parametrize("maps", [("pixel",), ("layer",), ("pixel", "layer")])
def test_methods_paragraph_says_every_rule_and_map_in_words(rule: str, maps: tuple[str, ...]) -> None:
    text = explanation(RecordingSettings(rule=rule, maps=maps))
    assert f"{rule}, are held constant" not in text
    assert ("(contrast 0.5, ridges of 0.3 and 3 mean eigenvalues" in text) == (rule == "moments")
    assert ("integrated gradients (16 steps" in text, "Maps of the layer" in text) == ("pixel" in maps, "layer" in maps)
