"""The benchmarks on a small scale: their files, what theory says about their rows, and that a run goes on."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.common import methods
from benchmarks.common.results import (
    HEADER,
    Result,
    ResultStore,
    axis_table,
    markdown_table,
    summarize,
    write_long,
)
from benchmarks.common.scores import mean_scores, pair_scores, swap_scores, to_heat
from benchmarks.synthetic_game import PairCondition, neurons
from benchmarks.synthetic_game import command as shared_parts
from benchmarks.synthetic_game.correspondence import correspondence_rows, correspondence_scores
from benchmarks.synthetic_game.neurons import Setting, make_neuron, settings


@pytest.fixture(autouse=True, scope="module")
def _small_and_on_one_thread() -> Any:
    """These networks take well under a millisecond; on a busy machine two threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neurons, "GALLERY", 60)
        yield
    torch.set_num_threads(threads)


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FEW = {"ParallelBackprop(IntegratedGradients) product", "LayerParallelBackprop product", "LayerParallelBackprop matched",
       "IntegratedGradients", "GradCAM", "edge map", "shuffled readout product", "similarity without weights"}  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shared_parts")
    patch = pytest.MonkeyPatch()
    patch.setattr(shared_parts, "methods_of", lambda setting: [row for row in all_methods() if row.name in FEW])
    patch.setattr(shared_parts, "settings", lambda pool: settings()[:1])
    shared_parts.run(out, quick=True, n_neurons=1, n_cases=1, progress=False)
    patch.undo()
    return out


def all_methods() -> list[methods.Method]:
    return methods.pixel_methods() + methods.layer_methods() + methods.readout_methods() + methods.null_methods()


def test_shared_parts(synthetic: Path) -> None:
    table = read(synthetic / "shared_parts.csv")
    assert tuple(table[0]) == HEADER
    value = {(r["method"], r["rule"], r["metric"]): float(r["value"]) for r in table if r["image"] == "query"}
    for rule in ("product", "matched"):
        assert value["LayerParallelBackprop", rule, "swap_accuracy"] == 1
    assert value["ParallelBackprop(IntegratedGradients)", "product", "p_vs_q_auroc"] > 0.95
    for method in ("IntegratedGradients", "GradCAM", "edge map"):  # the map cannot know the reference
        assert value[method, "", "swap_accuracy"] == 0.5
        assert value[method, "", "p_vs_q_auroc"] == pytest.approx(0.5)
        assert value[method, "", "both_swaps_accuracy"] == 0
    assert value["shuffled readout", "product", "swap_accuracy"] == 0.5
    for method in ("similarity without weights", "edge map"):  # the map cannot know the neuron
        assert value[method, "", "readout_swap_accuracy"] == 0.5
        assert value[method, "", "p_vs_d_auroc"] == pytest.approx(0.5)
    assert value["similarity without weights", "", "swap_accuracy"] == 1
    assert value["GradCAM", "", "readout_swap_accuracy"] == 1
    for method in ("ParallelBackprop(IntegratedGradients)", "LayerParallelBackprop"):
        assert value[method, "product", "both_swaps_accuracy"] == 1
    assert all(float(r["ci_low"]) <= float(r["value"]) + 1e-6 <= float(r["ci_high"]) + 2e-6 for r in table)
    assert "| GradCAM |" in (synthetic / "table.md").read_text()
    assert {r["outcome"] for r in read(synthetic / "admission.csv")} >= {"tried", "admitted"}
    assert (synthetic / "planted_swap_accuracy.png").stat().st_size > 1000


def test_a_started_run_goes_on(synthetic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (synthetic / "shared_parts.csv").read_bytes()
    monkeypatch.setattr(shared_parts, "settings", lambda pool: settings()[:1])
    monkeypatch.setattr(shared_parts, "make_neuron", lambda *args: pytest.fail("computed again"))
    shared_parts.run(synthetic, quick=True, n_neurons=1, n_cases=1, progress=False)
    assert (synthetic / "shared_parts.csv").read_bytes() == before


@pytest.mark.slow  # Occlusion and NoiseTunnel run the network hundreds of times
def test_every_row_makes_finite_maps() -> None:
    neuron, cases, _ = make_neuron(Setting("base", "planted"), 0, 1, 0, "cpu")
    problem = cases[0].problems[0]
    for row in all_methods():
        for attribution in row.explain(neuron, problem):
            heat = to_heat(attribution, (96, 96), row.unsigned)
            assert heat.shape == (96, 96), row.name
            assert np.isfinite(heat).all(), row.name


def test_pytorch_grad_cam_row_when_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stub:
        def __init__(self, model: Any, target_layers: Any) -> None:
            self.model = model

        def __enter__(self) -> Stub:
            return self

        def __exit__(self, *args: Any) -> None:
            pass

        def __call__(self, input_tensor: torch.Tensor, targets: list[Any]) -> np.ndarray:
            score = float(targets[0](self.model(input_tensor)[0]))
            return np.full((1, *input_tensor.shape[-2:]), score, dtype=np.float32)

    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", SimpleNamespace(GradCAM=Stub))
    monkeypatch.setattr(methods, "find_spec", lambda name: object())
    (row,) = [row for row in methods.readout_methods() if row.method == "pytorch-grad-cam similarity"]
    neuron, cases, _ = make_neuron(Setting("base", "planted"), 0, 1, 0, "cpu")
    map_x, map_ref = row.explain(neuron, cases[0].problems[0])
    assert map_x.shape == (1, 1, 96, 96)
    assert torch.allclose(map_x, map_ref)  # the cosine similarity is symmetric
    assert 0 < float(map_x.mean()) <= 1


def test_pytorch_grad_cam_itself() -> None:
    pytest.importorskip("pytorch_grad_cam")
    (row,) = [row for row in methods.readout_methods() if row.method == "pytorch-grad-cam similarity"]
    neuron, cases, _ = make_neuron(Setting("base", "planted"), 0, 1, 0, "cpu")
    problem = cases[0].problems[0]
    heat = to_heat(row.explain(neuron, problem)[0], (96, 96))
    shared = cases[0].masks["p"] | cases[0].masks["d"]
    assert heat[shared].mean() > 5 * heat[cases[0].masks["n"]].mean()


@pytest.mark.parametrize("similarity", ["dot", "moments, contrast 0.5"])
def test_correspondence_lands_on_the_part(similarity: str) -> None:
    neuron, cases, _ = make_neuron(Setting("base", "planted"), 0, 2, 0, "cpu")
    scores = correspondence_scores(neuron, cases[0], correspondence_rows(neuron)["LayerCorrespondence", similarity])
    found, shuffled, chance = scores["query"].values()
    assert found > 0.6 > 4 * chance
    assert not shuffled > found / 2  # NaN where nothing leaves the part


def test_settings() -> None:
    names = [(setting.network, setting.name) for setting in settings()]
    assert len(set(names)) == len(names)
    for word in (
        "weight ratio",
        "part size",
        "positions",
        "scale",
        "occlusion",
        "clutter",
        "pooling",
        "rotation",
        "refitted",
    ):
        assert any(word in name for _, name in names), word


@pytest.mark.parametrize(
    "setting",
    [
        Setting("pooled", "planted", PairCondition(position="same"), cells=2),
        Setting("turned", "planted", degrees=45.0),
        Setting("refitted", "planted", ceiling=0.8),
        Setting("ratio", "planted", ratio=0.25),
        settings(2)[1],  # a rotated grid
    ],
)
def test_neurons_of_settings(setting: Setting) -> None:
    neuron, cases, counts = make_neuron(setting, 1, 1, 0, "cpu")
    assert counts.admitted == len(cases) == 1
    assert neuron.weight.shape == neuron.gallery.shape[1:] == ((8 * setting.cells**2),)
    z = neuron.encoder(cases[0].problems[0].x)
    assert z.shape[1] == len(neuron.weight)
    for own in (neuron, cases[0].other):
        assert float(z @ own.weight) > float((neuron.gallery @ own.weight).mean())


def test_moments_of_a_grid_cell_by_cell_and_of_all_latents() -> None:
    neuron, cases, _ = make_neuron(settings(2)[1], 1, 1, 0, "cpu")
    for by_cell, cells in ((True, 4), (False, 1)):
        assert neuron.moments(0.5, by_cell).cells == cells
    rows = shared_parts.methods_of(settings(2)[1])
    scores = {row.rule: shared_parts._scores(row, neuron, cases, 0)["query"]["both_swaps_accuracy"] for row in rows}
    assert set(methods.RULE_ROWS + methods.GRID_ROWS) == set(scores)
    assert scores["moments, contrast 0.5"] > scores["dot"]  # the channels are turned


def test_pair_scores_by_hand() -> None:
    masks = {role: np.zeros((4, 4), dtype=bool) for role in "pqdn"}
    for k, role in enumerate("pqdn"):
        masks[role][k] = True
    on_p, on_q, on_d = (masks[role].astype(np.float32) for role in "pqd")
    right = pair_scores((on_p, on_q), (on_d, on_d), masks)
    assert {right[name] for name in (*SWAPS, "four_part_accuracy", "p_vs_q_auroc", "p_vs_d_auroc")} == {1}
    leaking = pair_scores((on_d, on_d), (on_d, on_d), masks)
    assert (leaking["swap_accuracy"], leaking["four_part_accuracy"], leaking["leakage_d"]) == (0.5, 0, 1)
    empty = pair_scores((0 * on_p, 0 * on_p), (0 * on_p, 0 * on_p), masks)
    assert (empty["swap_accuracy"], empty["p_vs_q_auroc"], empty["four_part_accuracy"]) == (0.5, 0.5, 0.25)
    assert empty["relevance_mass_accuracy"] == 0.25


SWAPS = ("swap_accuracy", "readout_swap_accuracy", "both_swaps_accuracy")


@pytest.mark.parametrize(
    ("heats", "others", "expected"),
    [  # maps of the neuron against A and B, of the other neuron against A and B; a letter is where all the heat is
        ("pq", "dd", (1, 1, 1)),
        ("pp", "dd", (0.5, 0.875, 0)),  # a map of the readout alone; against B, Q and D tie for the neuron
        ("bb", "dd", (0.5, 1, 0.25)),  # on P and Q alike: right against D, a tie in each comparison of the references
        ("st", "st", (1, 0.5, 0.25)),  # similarity without weights: on P and D, on Q and D
        ("pq", "pq", (1, 0.5, 0)),  # the neuron is not known
        ("qp", "pq", (0, 0.25, 0)),  # all wrong; in the readout swap P and D tie against A, Q and D against B
        ("dd", "pq", (0.5, 0, 0)),
        ("nn", "nn", (0.5, 0.5, 0.0625)),  # neither says anything: ties everywhere
        ("--", "--", (0.5, 0.5, 0.0625)),
        ("pq", "pd", (1, 0.75, 0.5)),  # all right against B; against A the neuron is not known
    ],
)
def test_swaps_by_hand(heats: str, others: str, expected: tuple[float, float, float]) -> None:
    masks = {role: np.zeros((4, 4), dtype=bool) for role in "pqdn"}
    for k, role in enumerate("pqdn"):
        masks[role][k] = True
    places = {"b": "pq", "s": "pd", "t": "qd", "-": ""}

    def maps(letters: str) -> tuple[np.ndarray, np.ndarray]:
        first, second = (
            sum((masks[role] for role in places.get(letter, letter)), np.zeros((4, 4))) for letter in letters
        )
        return first, second

    scores = swap_scores(maps(heats), maps(others), masks)
    assert tuple(scores[name] for name in SWAPS) == expected
    if heats == others:
        assert scores["p_vs_d_auroc"] == 0.5


def test_summaries(tmp_path: Path) -> None:
    scores = [{"query": {"a": 0.0, "b": float("nan")}}, {"query": {"a": 1.0, "b": 0.25}}]
    figures = summarize("g", "c", ("m", "r"), scores)
    assert figures[0] == Result("g", "c", "m", "r", "query", "a", 0.5, 0.0, 1.0, neurons=2)
    assert figures[1].value == 0.25
    assert mean_scores(scores)["query"] == {"a": 0.5, "b": 0.25}
    assert "| m | r | 0.50 [0.00, 1.00] |" in markdown_table(figures, "c", ["a"])
    assert axis_table(figures, [("m", "r")], "a").splitlines()[-1] == "| c | 2 | 0.50 [0.00, 1.00] |"
    write_long(tmp_path / "long.csv", figures)
    assert read(tmp_path / "long.csv")[0]["ci_high"] == "1.000000"


def test_what_was_computed_is_kept_for_its_settings_and_checked(tmp_path: Path) -> None:
    store, other = (ResultStore(tmp_path, {"seed": seed}) for seed in (0, 1))
    store.put({"k": 1}, {"x": 1, "missing": float("nan")})
    kept = ResultStore(tmp_path, {"seed": 0}).get({"k": 1})
    assert kept is not None
    assert kept["x"] == 1
    assert np.isnan(kept["missing"])
    assert store.get({"k": 2}) is None
    assert other.get({"k": 1}) is None
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(UserWarning, match=f"{path.name} is damaged and will be remade"):
        assert store.get({"k": 1}) is None
