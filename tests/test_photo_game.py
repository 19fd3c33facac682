"""The photograph game on a small scale: splits, composites, maps, scores, intervals, and what theory says of its rows."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.common.basis import basis_rotation
from benchmarks.common.intervals import category_interval, exact_interval
from benchmarks.common.results import HEADER
from benchmarks.photo_game import command, pixels, splits
from benchmarks.photo_game.composites import Composite, draw_both_swaps, draw_pair_grid
from benchmarks.photo_game.neurons import FOLDS, Knowledge, Photographs, driving, learn, make_folds
from benchmarks.photo_game.pixels import cell_sums
from benchmarks.photo_game.play import CONDITIONS, Condition, Frame, maps_of_tiles, play
from benchmarks.photo_game.rows import LAYER, grid_rows, rows
from benchmarks.photo_game.scoring import both_swaps_scores, heat_in_tiles, pair_grid_scores
from captum_shared import LatentEncoder, LayerParallelBackprop, display_heat, moment_rule

NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    """Maps (12, 3, 3) of five categories: each has two channels of its own, which are skewed."""
    random = np.random.default_rng(0)
    categories = np.array(NAMES * 20)
    maps = 0.3 * random.random((100, 12, 3, 3))
    for k, name in enumerate(categories):
        place = 2 * NAMES.index(name)
        maps[k, place : place + 2] += random.exponential(1.0, (2, 1, 1))
    played = np.ones(100, dtype=bool)
    paths = [Path(f"{k}.png") for k in range(100)]
    fold = make_folds(categories, played, random)
    return Photographs(paths, categories, torch.from_numpy(maps).half(), played, fold)


@pytest.fixture(scope="module")
def known(photographs: Photographs) -> list[Knowledge]:
    neurons = [driving(*own) for size in (1, 2) for own in combinations(NAMES, size)]
    return [learn(photographs, fold, neurons) for fold in range(FOLDS)]


@pytest.fixture(scope="module")
def both(photographs: Photographs, known: list[Knowledge]) -> list[Composite]:
    return draw_both_swaps(NAMES, 4, photographs, known, np.random.default_rng(0))


def test_splits_are_disjoint_and_the_held_out_ones_are_seen_last() -> None:
    tuning, validation, held_out = (splits.read_split(name) for name in splits.SPLITS)
    assert not tuning.played & validation.played | (tuning.played | validation.played) & held_out.played
    assert not set(tuning.categories) & set(held_out.categories) | set(validation.categories) & set(held_out.categories)
    assert tuning.seen == validation.seen == tuning.played | validation.played
    assert held_out.seen == tuning.seen | held_out.played
    assert len(held_out.seen) == 700
    assert json.loads(splits.FILE.read_text())["held_out"]["categories"] == list(held_out.categories)


def test_the_ledger_counts_looks_and_rows_that_are_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "LEDGER", tmp_path / "ledger.csv")
    for split, names in (("tuning", ["a", "b"]), ("tuning", ["b", "c"]), ("held_out", ["b"])):
        splits.enter(split, names, ("m", "l", 0, 5))
    assert splits.looks().splitlines()[2:] == [
        "| tuning | 2 | 3 |",
        "| validation | 0 | 0 |",
        "| held_out | 1 | 1 |",
    ]


def test_composites_keep_photographs_and_references_apart(
    photographs: Photographs, known: list[Knowledge], both: list[Composite]
) -> None:
    grid = draw_pair_grid(NAMES, 4, photographs, known, np.random.default_rng(0), others="e")
    assert {c.categories for c in grid} == set(combinations(NAMES, 2))
    for c in [*grid, *both]:
        assert (photographs.fold[c.tiles] == c.fold).all()
        assert (photographs.fold[c.references] != c.fold).all()
        assert sorted(c.cells) == [0, 1, 2, 3]
        assert tuple(photographs.categories[c.tiles][: len(c.categories)]) == c.categories
        for side in (0, 1):
            shown = photographs.categories[c.references[side]]
            assert set(shown[:, 0]) == {c.categories[side]}
            assert set(shown[:, 1:].ravel()) == set(c.categories[2:3])
    assert {str(name) for c in grid for name in photographs.categories[c.tiles[2:]]} == {"e"}


def grid_of(photographs: Photographs, pool: int) -> tuple[Photographs, list[Knowledge]]:
    """The photographs, and what is known of them, by latents of a grid of cells."""
    grid = replace(photographs, pool=pool, _pooled={})
    neurons = [driving(*own) for size in (1, 2) for own in combinations(NAMES, size)]
    return grid, [learn(grid, fold, neurons) for fold in range(FOLDS)]


@pytest.mark.parametrize("pool", [1, 2, 4])
@pytest.mark.parametrize("rule", ["product", "dot"])
def test_maps_and_heat_are_those_that_ship(photographs: Photographs, rule: str, pool: int) -> None:
    """The composite as one map through `LayerParallelBackprop` and `display_heat`."""
    photographs, known = grid_of(photographs, pool)
    (composite, *_) = draw_pair_grid(NAMES, 4, photographs, known, np.random.default_rng(0))
    knowledge, cells = known[composite.fold], composite.cells
    weight = knowledge.readouts[composite.neuron]
    tiles = photographs.maps[composite.tiles].float()
    order = np.argsort(cells)
    square = torch.cat([torch.cat(list(tiles[order[k : k + 2]]), dim=2) for k in (0, 2)], dim=1)[None]
    reference = photographs.maps[composite.references[0][:1, 0]].float()

    class Standardized(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z / knowledge.spread + knowledge.zero

    body = torch.nn.Sequential(torch.nn.Identity())
    encoder = LatentEncoder(body, "0", pool if pool > 1 else "avg", Standardized())
    frame = Frame(knowledge, photographs, knowledge.gallery, None)
    pairs = frame.pairs([composite], (0, 0), 1)
    row = next(row for row in rows() if row.rule == rule)
    constants = row.constants(pairs)
    weights = torch.cat([constants / knowledge.spread, row.offset(pairs, constants)], dim=1).float()
    maps = maps_of_tiles(tiles[None], weights[None], pool, torch.from_numpy(cells)[None])
    coarse = LayerParallelBackprop(encoder, rule=rule, center=pairs.mean.float() if rule == "dot" else None)
    expected, _ = coarse.attribute((square, reference), readout=weight)
    heat = heat_in_tiles(maps, torch.from_numpy(cells)[None])[0, 0]
    drawn = display_heat(expected[0]).reshape(2, 3, 2, 3).transpose(0, 2, 1, 3).reshape(4, 9)[cells]
    assert np.allclose(heat / heat.sum(), drawn / drawn.sum(), atol=1e-5)
    assert torch.allclose(encoder(square)[0].double(), pairs.z[0], atol=1e-5)


def test_moments_of_all_latents_of_a_grid_are_those_of_the_rule_without_cells(photographs: Photographs) -> None:
    """Fewer images than latents: the benchmark computes in their span, the rule does not."""
    photographs, known = grid_of(photographs, 4)
    own = draw_both_swaps(NAMES, 4, photographs, known, np.random.default_rng(0))[::FOLDS][:2]
    pairs = Frame(known[0], photographs, known[0].gallery, None).pairs(own, (0, 0), 2)
    assert pairs.gallery.shape == (75, 192)
    with pytest.warns(UserWarning, match="mostly noise"):
        rule = moment_rule(pairs.gallery, 0.5)
    row = next(row for row in grid_rows() if row.rule == "moments of all latents, contrast 0.5")
    assert torch.allclose(row.constants(pairs), rule(pairs.z, pairs.z_ref, pairs.weight))
    assert torch.allclose(row.of_reference(pairs), rule.transposed(pairs.z_ref, pairs.z, pairs.weight))


def test_photographs_of_references_lie_where_the_composite_has_their_categories() -> None:
    for cells in permutations(range(4)):
        tiles, references = np.arange(4), np.array([[[10, 12]], [[11, 12]]])
        composite = Composite(tuple("pqdn"), 0, tiles, np.array(cells), references)
        for side in (0, 1):
            for exchanged in (False, True):
                (laid_out,) = composite.references_laid_out(side, 1, exchanged=exchanged)
                square = np.kron(laid_out, np.ones((2, 1) if laid_out.shape == (1, 2) else (1, 2)))
                places = (10 + side, 12) if not exchanged else (12, 10 + side)
                assert (square.ravel()[cells[side]], square.ravel()[cells[2]]) == places


def test_what_theory_says(photographs: Photographs, known: list[Knowledge], both: list[Composite]) -> None:
    table = rows()
    place = {row.name: k for k, row in enumerate(table)}
    native = play(both, photographs, known, table, CONDITIONS[0])
    turned = play(both, photographs, known, table, Condition("turned", any_rotation=True))

    def value(scores: dict[str, Any], method: str, rule: str, metric: str, image: str = "query") -> float:
        return float(scores[image][metric][place[method, rule]].mean())

    for image in ("query", "reference"):
        assert value(native, "GradCAM", "", "swap_accuracy", image) == 0.5
        assert value(native, "similarity without weights", "", "readout_swap_accuracy", image) == 0.5
        for method in ("GradCAM", "similarity without weights", "integrated Jacobians"):
            assert value(native, method, "", "both_swaps_accuracy", image) < 0.02  # where no heat is, they tie
        for contrast in (0, 0.5, 1):
            own = place[LAYER, f"moments, contrast {contrast:g}"]
            for metric, values in native[image].items():
                assert values[own].mean() == pytest.approx(turned[image][metric][own].mean(), abs=0.01)
    # A constant that knows the reference alone cannot show on the reference what changes with the image.
    for rule in ("matched", "moments, contrast 0.5, one constant"):
        assert value(native, LAYER, rule, "swap_accuracy", "reference") == 0.5
    assert value(native, LAYER, "oracle", "both_swaps_accuracy") > 0.9
    assert value(native, LAYER, "moments, contrast 0.5", "both_swaps_accuracy") > 0.8
    assert value(turned, LAYER, "product", "both_swaps_accuracy") < value(
        native, LAYER, "product", "both_swaps_accuracy"
    )


def test_a_rotation_turns_every_rule_and_back(
    photographs: Photographs, known: list[Knowledge], both: list[Composite]
) -> None:
    """Latents, readout and gallery turn; the oracle's and the moments' constants turn back to what they were."""
    knowledge = known[0]
    own = [c for c in both if c.fold == 0][:3]
    turn = basis_rotation(12, 90.0).double()
    plain, turned = (Frame(knowledge, photographs, knowledge.gallery, t).pairs(own, (0, 1), 2) for t in (None, turn))
    assert torch.allclose((turned.z * turned.weight).sum(1), (plain.z * plain.weight).sum(1))
    for row in rows():
        if "moments" in row.rule or row.rule == "oracle" or row.method in ("COCOA", "GradCAM"):
            assert torch.allclose(row.constants(turned) @ turn, row.constants(plain), atol=1e-6), row.name


def test_sums_over_cells_by_hand() -> None:
    maps = torch.zeros(1, 3, 4, 4)
    maps[0, :, 0, 0], maps[0, 1, 0, 1], maps[0, 2, 3, 0] = 1.0, -1.0, -5.0
    assert cell_sums(maps).tolist() == [[2, 0, -5, 0]]  # noise cancels before the positive part
    scores = pair_grid_scores(np.array([[2.0, -1.0, -5.0, 0.0], [-3.0, -2.0, 0.0, 0.0]])[:, None, None, :, None])
    assert float(scores["swap_accuracy"][0, 0]) == 1  # signed sums are compared
    assert float(scores["share_of_driving_cells"][0, 0]) == (1 + 0.5) / 2


@pytest.mark.parametrize(
    ("places", "expected"),
    [  # tiles of A's heat with references of P, of Q, and of B's heat
        ("PQD", (1, 1, 1)),
        ("PPD", (0.5, 1, 0)),
        ("PQP", (1, 0.5, 0)),
        ("QPD", (0, 0.75, 0)),
        ("NNN", (0.5, 0.5, 0.0625)),
    ],
)
def test_both_swaps_by_hand(places: str, expected: tuple[float, float, float]) -> None:
    heat = np.zeros((3, 1, 1, 4, 9))
    for question, tile in enumerate(places):
        heat[question, 0, 0, "PQDN".index(tile)] = 1
    scores = both_swaps_scores(heat)
    assert tuple(float(values[0, 0]) for values in scores.values()) == expected


def test_pair_grid_by_hand() -> None:
    heat = np.zeros((2, 1, 1, 4, 2))
    heat[0, 0, 0] = [[3, 0], [1, 0], [0, 0], [0, 4]]
    scores = {name: float(values[0, 0]) for name, values in pair_grid_scores(heat).items()}
    assert scores["swap_accuracy"] == (1 + 0.5) / 2
    assert scores["share_of_driving_cells"] == (0.75 + 0.5) / 2
    assert scores["p_vs_q_auroc"] == (0.625 + 0.5) / 2
    assert scores["relevance_mass_accuracy"] == (3 / 8 + 0.25) / 2
    assert scores["pointing_game"] == (0 + 0.25) / 2


def test_intervals() -> None:
    """Of all right an exact one; of pairs wider than as if they were independent, and it holds the mean."""
    least, most = exact_interval(12, 12)
    assert least == pytest.approx(0.735, abs=1e-3)
    assert most == 1.0
    pairs = [pair for pair in combinations("abcdef", 2) for _ in range(10)]
    effect = dict(zip("abcdef", (0.1, 0.4, 0.5, 0.5, 0.6, 0.9), strict=True))
    values = np.array([[effect[p] + effect[q] for p, q in pairs], [1.0] * len(pairs)])
    low, high = category_interval(values, pairs)
    assert low[0] < values[0].mean() < high[0]
    assert high[0] - low[0] > 3 * 2 * 1.96 * values[0].std() / len(pairs) ** 0.5
    assert (low[1], high[1]) == exact_interval(15, 15)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Categories that differ in colour."""
    folder = tmp_path_factory.mktemp("photographs")
    lines = ["file,category"]
    colors = {"red": (1, 0, 0), "blue": (0, 0, 1), "green": (0, 1, 0), "yellow": (1, 1, 0), "grey": (0, 0, 0)}
    for k in range(40):
        name, color = list(colors.items())[k % 5]
        pixels = np.random.default_rng(k).integers(90, 150, (64, 64, 3))
        pixels[16:48, 16:48][:, :, np.array(color, dtype=bool)] = 255
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k}.png")
        lines.append(f"{k}.png,{name}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def words(folder: Path, out: Path, *categories: str) -> list[str]:
    return ["--model", "squeezenet1_1", "--weights", str(out / "w.pth"), "--layer", "features.3", "--images", str(folder),
            "--labels", str(folder / "labels.csv"), "--image-size", "64", "--quick", "--composites", "1",
            "--out", str(out / "out"), "--categories", *categories]  # fmt: skip


@pytest.mark.slow  # plays the game three times
def test_the_command(folder: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import squeezenet1_1

    monkeypatch.setattr(splits, "LEDGER", tmp_path / "ledger.csv")
    monkeypatch.setattr(pixels, "STEPS", 2)
    torch.manual_seed(0)
    torch.save(squeezenet1_1().state_dict(), tmp_path / "w.pth")
    arguments = words(folder, tmp_path, "red,blue,green,yellow", "red,grey")
    assert command.main([*arguments, "--pixels", "1"]) == 0
    assert "## both swaps: the composite as the reference" in capsys.readouterr().out
    with (tmp_path / "out" / "photo_game.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == HEADER
    assert {(r["game"], r["condition"]) for r in table} == {
        (game, condition) for game in ("pair_grid", "both_swaps") for condition in ("native", "random rotation")
    }
    fine = [r for r in table if r["method"] == "ParallelBackprop(IntegratedGradients)"]
    assert {(r["game"], r["image"]) for r in fine} == {
        (game, image) for game in ("pair_grid", "both_swaps") for image in ("query", "reference")
    }
    assert all(float(r["ci_low"]) <= float(r["value"]) + 1e-6 <= float(r["ci_high"]) + 2e-6 for r in table)
    assert (tmp_path / "out" / "both_swaps.png").stat().st_size > 1000
    assert not (tmp_path / "ledger.csv").exists()  # these categories are no split
    with joblib.parallel_config(backend="threading", n_jobs=2):
        again = [*arguments[: arguments.index("--out")], "--out", str(tmp_path / "again"), *arguments[-3:]]
        assert command.main([*again, "--pixels", "1"]) == 0
    name = "photo_game.csv"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_the_command_with_latents_of_a_grid(folder: Path, tmp_path: Path, capsys: Any) -> None:
    from torchvision.models import squeezenet1_1

    torch.save(squeezenet1_1().state_dict(), tmp_path / "w.pth")
    arguments = words(folder, tmp_path, "red,blue,green,yellow")
    assert command.main([*arguments, "--pool", "3"]) == 2
    assert "`pool` must be 1 or even, so that no cell lies in two photographs; got 3" in capsys.readouterr().err
    assert command.main([*arguments, "--pool", "2"]) == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert "features.3 2x2" in table
    assert "moments of all latents, contrast 0.5" in table
    assert "| difference | moments, contrast 0.5, minus moments of all latents, contrast 0.5 |" in table


@pytest.mark.parametrize(
    ("categories", "text"),
    [
        ("red", "`categories` must be lists of two or more names such as dog,bird; got 'red'"),
        ("red,pink", "category 'pink' has 0 images; expected at least 4, one a fold. There are: blue (8), green (8)"),
    ],
)
def test_the_command_refuses_categories(folder: Path, tmp_path: Path, capsys: Any, categories: str, text: str) -> None:
    from torchvision.models import squeezenet1_1

    torch.save(squeezenet1_1().state_dict(), tmp_path / "w.pth")
    assert command.main(words(folder, tmp_path, categories)) == 2
    assert text in capsys.readouterr().err
