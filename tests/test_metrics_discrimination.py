"""Scores of one part against another: by hand, on degenerate maps, against slow re-implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_shared.metrics import density_contrast, heat_density, leakage, p_vs_q_auroc, swap_accuracy

HEAT = torch.tensor([[4.0, 2.0, 1.0], [0.0, 3.0, 1.0]])
P = torch.tensor([[True, True, False], [False, False, False]])  # 4, 2: density 3
Q = torch.tensor([[False, False, True], [False, False, True]])  # 1, 1: density 1
BOTH = [density_contrast, leakage, p_vs_q_auroc]


def test_by_hand() -> None:
    assert heat_density(HEAT, P) == 3
    assert density_contrast(HEAT, P, Q) == pytest.approx(0.5)
    assert leakage(HEAT, P, Q) == pytest.approx(0.25)
    assert p_vs_q_auroc(HEAT, P, Q) == 1
    assert p_vs_q_auroc(HEAT, P, torch.tensor([[False, False, False], [False, True, False]])) == 0.5
    assert swap_accuracy(HEAT, HEAT, P, Q) == 0.5
    assert swap_accuracy(HEAT, 4 - HEAT, P, Q) == 1
    assert swap_accuracy(4 - HEAT, HEAT, P, Q) == 0


def test_size_does_not_matter() -> None:
    heat = torch.zeros(10, 10)
    small, large = torch.zeros(2, 10, 10, dtype=torch.bool)
    small[0, 0], large[5:] = True, True
    heat[small], heat[large] = 2.0, 1.0
    assert density_contrast(heat, small, large) == pytest.approx(1 / 3)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-300, 1e300])
def test_constant_maps_score_chance(value: float) -> None:
    heat = torch.full((2, 3), value, dtype=torch.float64)
    assert density_contrast(heat, P, Q) == 0
    assert leakage(heat, P, Q) == 0.5
    assert p_vs_q_auroc(heat, P, Q) == 0.5
    assert swap_accuracy(heat, heat, P, Q) == 0.5


def test_single_pixel() -> None:
    heat = torch.zeros(2, 3)
    heat[0, 0] = 5.0
    assert density_contrast(heat, P, Q) == 1
    assert p_vs_q_auroc(heat, P, Q) == 0.75  # one of two pixels wins, the other ties
    assert swap_accuracy(heat, torch.zeros(2, 3), P, Q) == 0.75  # a hit and a tie
    one = torch.ones(1, 1, dtype=torch.bool)
    assert density_contrast(torch.ones(1, 1), one, one) == 0


def test_batches_and_arrays() -> None:
    heat, p, q = (np.stack([np.asarray(v)] * 2) for v in (HEAT, P, Q))
    assert density_contrast(heat, p, q).tolist() == pytest.approx([0.5, 0.5])
    assert p_vs_q_auroc(heat, p, q).shape == (2,)
    assert swap_accuracy(heat, 4 - heat, p, q).tolist() == [1, 1]


@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(1, 4))
def test_auroc_is_the_double_loop(levels: list[int], n: int) -> None:
    heat = torch.tensor(levels).double().reshape(2, 3)
    p = (torch.arange(6) < n).reshape(2, 3)
    wins = [float(a > b) + 0.5 * float(a == b) for a in heat[p] for b in heat[~p]]
    assert p_vs_q_auroc(heat, p, ~p) == pytest.approx(np.mean(wins))
    assert p_vs_q_auroc(heat, ~p, p) == pytest.approx(1 - np.mean(wins))


@given(st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_maps_that_ignore_the_reference_are_at_chance(levels: list[int]) -> None:
    heat = torch.tensor(levels).double().reshape(2, 3)
    assert swap_accuracy(heat, heat, P, Q) == 0.5


@pytest.mark.parametrize("score", BOTH)
@pytest.mark.parametrize(
    ("heat", "p", "error", "text"),
    [
        (torch.tensor([[float("nan"), 1, 1], [1, 1, 1]]), P, ValueError, "`heat` must be finite, got NaN"),
        (torch.full((2, 3), float("inf")), P, ValueError, "`heat` must be finite"),
        (HEAT, torch.zeros(2, 3, dtype=torch.bool), ValueError, "at least one pixel per map, got none"),
        (HEAT, P.float(), TypeError, "`mask` must be boolean"),
        (HEAT, P[:, :2], ValueError, r"`mask` must have the shape of `heat`, \(2, 3\), got shape \(2, 2\)"),
        (HEAT[0], P[0], ValueError, r"`heat` must be \(H, W\) or \(N, H, W\)"),
    ],
)
def test_mistakes(score: Any, heat: Any, p: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        score(heat, p, Q)


@pytest.mark.parametrize("score", [density_contrast, leakage])
def test_negative_heat_is_refused(score: Any) -> None:
    with pytest.raises(ValueError, match=r"`heat` must be at least 0, got a minimum of -1"):
        score(-HEAT / 4, P, Q)
