"""The benchmark of interventions: what its tables are made of, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.common.results import Content
from benchmarks.interventions.composites import cell_mask
from benchmarks.interventions.made import _on_part
from benchmarks.interventions.rows import DRAWS, MOVED, OWN, RANDOM, READOUT, areas_of_heats, methods_of
from benchmarks.interventions.tables import Table, rank_correlations, results_of, summary
from benchmarks.interventions.trials import Twin, make_judge, play
from captum_shared.interventions import hottest_area, necessity, sufficiency

HEATS = {OWN: torch.rand(20, 30), READOUT: torch.rand(20, 30)}


def key(row: tuple[str, str], *rest: object) -> tuple[object, ...]:
    return (*row, *rest)


def twin(name: str, columns: slice, seed: int) -> Twin:
    draw = torch.Generator().manual_seed(seed)
    raw = torch.randn(40, columns.stop - columns.start, generator=draw, dtype=torch.float64)
    mean, spread = raw.mean(0), raw.std(0, correction=0)
    weight = torch.randn(raw.shape[1], generator=draw, dtype=torch.float64)
    return Twin(name, columns, weight, (raw - mean) / spread, mean, spread)


def scanner(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)  # (n, 12)


def test_judge_is_similarity_to_both_and_response_in_standard_deviations() -> None:
    twins = [twin("a", slice(0, 8), 0), twin("b", slice(8, 12), 1)]
    images, own, rival = torch.rand(3, 3, 20, 30), torch.rand(1, 12), torch.rand(1, 12)
    values = make_judge(scanner, twins, own, rival)(images)
    assert values.shape == (3, 6)
    for k, t in enumerate(twins):
        z = (scanner(images)[:, t.columns].double() - t.mean) / t.spread
        refs = [((each[:, t.columns].double() - t.mean) / t.spread)[0] for each in (own, rival)]
        for column, c in enumerate((t.weight * refs[0], t.weight * refs[1], t.weight)):
            expected = z @ c / (t.latents @ c).std(correction=0)
            assert torch.allclose(values[:, 3 * k + column], expected)


def test_play_is_necessity_and_sufficiency_of_every_row() -> None:
    judge = make_judge(scanner, [twin("a", slice(0, 12), 0)], torch.rand(1, 12), torch.rand(1, 12))
    image = torch.rand(3, 20, 30)
    found = {
        (*e["row"], e["kind"], e["area"], e["fill"]): e["values"] for e in play(HEATS, image, judge, seed=5)["effects"]
    }
    area = hottest_area(HEATS[OWN], 0.1)
    assert found[key(OWN, "necessity", 0.1, "mean")] == pytest.approx(
        necessity(judge, image, area, fills=["mean"]).tolist()
    )
    assert found[key(OWN, "sufficiency", 0.1, "blur")] == pytest.approx(
        sufficiency(judge, image, area, fills=["blur"]).tolist()
    )
    random = areas_of_heats(HEATS, 0.2, 5)[RANDOM]
    assert len(random) == DRAWS
    assert found[key(RANDOM, "necessity", 0.2, "blur")] == pytest.approx(
        necessity(judge, image, random, fills=["blur"]).mean(0).tolist()
    )
    few = play(HEATS, image, judge, seed=5, most=False)["effects"]
    assert {(e["kind"], e["area"]) for e in few} == {("necessity", 0.1)}


def test_rows_are_of_equal_area_and_named_once() -> None:
    areas = areas_of_heats(HEATS, 0.1, seed=3)
    assert {int(mask.sum()) for masks in areas.values() for mask in masks} == {60}
    assert list(areas) == [OWN, READOUT, MOVED, RANDOM]
    names = [(m.method, m.rule) for m in methods_of()]
    assert len(set(names)) == len(names)
    assert {OWN, READOUT} <= set(names)


def trial(group: str, own: float, random: float, rival: float = 0.0) -> Content:
    """Two twins, three questions: the values differ between twins by 2, so that their mean is `own`."""
    effects = [
        {"row": list(row), "area": 0.1, "fill": fill, "kind": "necessity",
         "values": [value - 1, rival, 7.0, value + 1, rival, 9.0]}
        for row, value in ((OWN, own), (READOUT, own / 2), (RANDOM, random), (MOVED, random)) for fill in ("blur", "mean")
    ]  # fmt: skip
    return {"group": group, "categories": [group, "z"], "effects": effects}


def test_columns_of_the_table_by_hand() -> None:
    table = Table([trial("a", 4.0, 1.0, 0.5), trial("a", 6.0, 1.0), trial("b", 2.0, 2.0)], ["x", "y"], ["x", "y"])
    columns = table.columns(OWN)
    assert columns["necessity"].tolist() == [4, 6, 2]
    assert columns["necessity_minus_random"].tolist() == [3, 5, 0]
    assert columns["specificity"].tolist() == [3.5, 6, 2]
    assert columns["necessity_minus_readout"].tolist() == [2, 3, 1]
    assert columns["response_necessity"].tolist() == [8, 8, 8]
    assert columns["necessity_twin_x"].tolist() == [3, 5, 1]
    assert "sufficiency" not in columns  # was not played
    means = {(r.method, r.rule, r.metric): r.value for r in results_of(table, "c", "groups")}
    assert means[key(OWN, "necessity")] == 3.5  # of (4 + 6) / 2 and 2
    assert summary(np.array([4.0, 6.0, 2.0]), table.trials, "pairs")[::3] == (4.0, 3)


def test_a_row_that_only_some_trials_have() -> None:
    fewer = trial("b", 2.0, 2.0)
    fewer["effects"] = [e for e in fewer["effects"] if e["row"] != list(READOUT)]
    table = Table([trial("a", 4.0, 1.0), fewer], ["x", "y"], ["x", "y"])
    assert table.rows == [OWN, READOUT, RANDOM, MOVED]
    assert np.isnan(table.columns(READOUT)["necessity"]).tolist() == [False, True]
    (own,) = [r for r in results_of(table, "c", "pairs") if (r.method, r.rule, r.metric) == (*READOUT, "necessity")]
    assert (own.value, own.neurons) == (2.0, 1)


def test_rank_correlations_by_hand() -> None:
    truth = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    assert rank_correlations(truth, truth**3) == pytest.approx((1, 1, 1, 1))
    rho, tau, *_ = rank_correlations(truth, np.array([[1.0, 2.0, 4.0, 3.0]] * 2))
    assert (rho, tau) == pytest.approx((0.8, 2 / 3))  # one exchanged pair of six


def test_masks_and_truth() -> None:
    masks = torch.stack([cell_mask((4, 6), cell) for cell in range(4)])
    assert masks.sum((1, 2)).tolist() == [6, 6, 6, 6]
    assert masks.sum(0).eq(1).all()
    assert masks[1, 0, 5]
    assert masks[2, 3, 0]
    area = torch.zeros(1, 4, 6, dtype=torch.bool)
    area[0, 0, :4] = True  # three pixels of the first cell, one of the second
    assert _on_part(area, masks) == 0.75
    assert _on_part(~masks.any(0, keepdim=True), masks) == 0.25
