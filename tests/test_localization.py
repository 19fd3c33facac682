from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from captum_shared.metrics import pointing_game, relevance_mass_accuracy, relevance_rank_accuracy

Metric = Callable[..., torch.Tensor]
METRICS: list[Metric] = [relevance_mass_accuracy, relevance_rank_accuracy, pointing_game]

HEAT = torch.tensor([[4.0, 1.0, 0.0], [3.0, 2.0, 0.0]])
LEFT = torch.tensor([[True, False, False], [True, False, False]])


# --- slow re-implementations ---


def slow_mass(heat: np.ndarray, mask: np.ndarray) -> float:
    total = sum(heat.flat)
    if total == 0:
        return mask.sum() / mask.size
    return sum(h for h, m in zip(heat.flat, mask.flat, strict=True) if m) / total


def slow_rank(heat: np.ndarray, mask: np.ndarray) -> float:
    """Hits among the top k, averaged over every order in which a stable sort could meet the pixels."""
    k = int(mask.sum())
    pixels = list(zip(heat.flat, mask.flat, strict=True))
    orders = [sorted(order, key=lambda pixel: -pixel[0]) for order in permutations(pixels)]
    return sum(hit for order in orders for _, hit in order[:k]) / k / len(orders)


def slow_pointing(heat: np.ndarray, mask: np.ndarray, tolerance: float = 0) -> float:
    inside = np.argwhere(mask)
    peaks = np.argwhere(heat == heat.max())
    near = [min(np.hypot(*(peak - pixel)) for pixel in inside) <= tolerance for peak in peaks]
    return sum(near) / len(near)


SLOW = dict(zip(METRICS, [slow_mass, slow_rank, slow_pointing], strict=True))


LEVELS = st.integers(0, 3)


@st.composite
def maps_and_masks(
    draw: st.DrawFn, levels: st.SearchStrategy[int] = LEVELS, side: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Heat of few levels, so that ties are common, and a mask that is not empty."""
    shape = draw(st.tuples(st.integers(1, 2 if side < 5 else side), st.integers(1, side)))
    heat = draw(hnp.arrays(np.float64, shape, elements=levels.map(float)))
    mask = draw(hnp.arrays(bool, shape).filter(np.any))
    return heat, mask


# --- by hand ---


def test_mass_by_hand() -> None:
    assert relevance_mass_accuracy(HEAT, LEFT) == pytest.approx(7 / 10)
    assert relevance_mass_accuracy(HEAT, ~LEFT) == pytest.approx(3 / 10)


def test_rank_by_hand() -> None:
    assert relevance_rank_accuracy(HEAT, LEFT) == 1.0
    middle = torch.tensor([[False, True, False], [True, True, False]])
    assert relevance_rank_accuracy(HEAT, middle) == pytest.approx(2 / 3)  # 4, 3, 2 are the top three
    # The top two, 4 and 3, are both outside the right column.
    assert relevance_rank_accuracy(HEAT, torch.tensor([[False, False, True], [False, False, True]])) == 0.0


def test_rank_shares_ties_out() -> None:
    heat = torch.tensor([[5.0, 1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, False, False]])
    assert relevance_rank_accuracy(heat, mask) == pytest.approx((1 + 1 / 3) / 2)


def test_rank_takes_signed_maps() -> None:
    assert relevance_rank_accuracy(torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([[True, False, True]])) == 0.5


def test_pointing_by_hand() -> None:
    assert pointing_game(HEAT, LEFT) == 1.0
    assert pointing_game(HEAT, ~LEFT) == 0.0
    two_peaks = torch.tensor([[1.0, 0.0, 1.0]])
    assert pointing_game(two_peaks, torch.tensor([[True, True, False]])) == 0.5


def test_pointing_tolerance_is_euclidean_and_inclusive() -> None:
    heat, mask = torch.zeros(7, 7), torch.zeros(7, 7, dtype=torch.bool)
    heat[2, 1], mask[5, 5] = 1.0, True  # 3 down, 4 right: a distance of 5
    assert pointing_game(heat, mask, tolerance=4.99) == 0.0
    assert pointing_game(heat, mask, tolerance=5) == 1.0
    assert pointing_game(heat, mask, tolerance=1000) == 1.0


# --- degenerate maps ---


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("level", [0.0, 1.0, 1e-300, 1e308])
def test_a_map_that_prefers_no_pixel_scores_the_area_of_the_mask(metric: Metric, level: float) -> None:
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1, :3] = True
    assert metric(torch.full((4, 5), level, dtype=torch.float64), mask) == pytest.approx(3 / 20)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("level", [0.0, 2.0])
def test_single_pixel(metric: Metric, level: float) -> None:
    assert metric(torch.tensor([[level]]), torch.tensor([[True]])) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_full_mask(metric: Metric) -> None:
    assert metric(HEAT, torch.ones_like(LEFT)) == 1.0


# --- properties ---


@pytest.mark.parametrize("metric", METRICS)
@given(data=maps_and_masks(side=3))
@settings(max_examples=60)
def test_equals_the_slow_version_and_stays_in_range(metric: Metric, data: tuple[np.ndarray, np.ndarray]) -> None:
    heat, mask = data
    score = float(metric(heat, mask))
    assert score == pytest.approx(SLOW[metric](heat, mask))
    assert 0 <= score <= 1


@given(data=maps_and_masks(), tolerance=st.floats(0, 8))
@settings(max_examples=60)
def test_pointing_tolerance_equals_the_slow_version(data: tuple[np.ndarray, np.ndarray], tolerance: float) -> None:
    heat, mask = data
    assert float(pointing_game(heat, mask, tolerance)) == pytest.approx(slow_pointing(heat, mask, tolerance))


@pytest.mark.parametrize("metric", METRICS)
@given(data=maps_and_masks(), exponent=st.integers(-60, 60))
@settings(max_examples=40)
def test_scale_does_not_matter(metric: Metric, data: tuple[np.ndarray, np.ndarray], exponent: int) -> None:
    heat, mask = data
    assert metric(heat * 2.0**exponent, mask) == metric(heat, mask)


@pytest.mark.parametrize("metric", [relevance_mass_accuracy, pointing_game])
@given(data=maps_and_masks())
@settings(max_examples=40)
def test_a_mask_and_its_complement_sum_to_one(metric: Metric, data: tuple[np.ndarray, np.ndarray]) -> None:
    heat, mask = data
    if not mask.all():
        assert float(metric(heat, mask) + metric(heat, ~mask)) == pytest.approx(1)


@pytest.mark.parametrize("metric", METRICS)
@given(data=maps_and_masks(), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_the_order_of_pixels_does_not_matter(metric: Metric, data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    heat, mask = data
    order = np.random.default_rng(seed).permutation(heat.size)
    shuffled = metric(heat.reshape(-1)[order][None], mask.reshape(-1)[order][None])
    assert float(shuffled) == pytest.approx(float(metric(heat, mask)))


@given(data=maps_and_masks(levels=st.floats(0, 1e6)))
@settings(max_examples=40)
def test_mass_grows_with_the_mask(data: tuple[np.ndarray, np.ndarray]) -> None:
    heat, mask = data
    grown = mask.copy()
    grown[0, 0] = True
    assert relevance_mass_accuracy(heat, grown) >= relevance_mass_accuracy(heat, mask) - 1e-12


# --- forms ---


@pytest.mark.parametrize("metric", METRICS)
def test_a_batch_scores_each_map_by_itself(metric: Metric) -> None:
    generator = torch.Generator().manual_seed(0)
    heat = torch.randint(0, 4, (6, 5, 7), generator=generator).float()
    mask = torch.rand(6, 5, 7, generator=generator) > 0.5
    scores = metric(heat, mask)
    assert scores.shape == (6,)
    assert scores.dtype == torch.float64
    assert torch.equal(scores, torch.stack([metric(h, m) for h, m in zip(heat, mask, strict=True)]))


@pytest.mark.parametrize("metric", METRICS)
def test_one_map_gives_a_scalar_tensor(metric: Metric) -> None:
    assert metric(HEAT, LEFT).shape == ()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8])
def test_dtypes(metric: Metric, dtype: torch.dtype) -> None:
    assert metric(HEAT.to(dtype), LEFT) == metric(HEAT, LEFT)


@pytest.mark.parametrize("metric", METRICS)
def test_arrays_of_any_layout_mixed_with_tensors_and_gradients(metric: Metric) -> None:
    turned = np.asfortranarray(HEAT.numpy())[:, ::-1]
    assert metric(turned, LEFT.numpy()[:, ::-1]) == metric(HEAT, LEFT)
    score = metric(HEAT.clone().requires_grad_(), LEFT.numpy())
    assert score == metric(HEAT, LEFT)
    assert not score.requires_grad


@pytest.mark.parametrize("metric", METRICS)
def test_inputs_are_left_as_they_are(metric: Metric) -> None:
    heat, mask = HEAT.clone(), LEFT.clone()
    metric(heat, mask)
    assert torch.equal(heat, HEAT)
    assert torch.equal(mask, LEFT)


# --- errors ---


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("heat", "mask", "error", "text"),
    [
        (
            torch.ones(3),
            torch.ones(3) > 0,
            ValueError,
            r"`heat` must be \(H, W\) or \(N, H, W\).*shape \(3,\)",
        ),
        (torch.ones(0, 3), torch.ones(0, 3) > 0, ValueError, r"not empty, got shape \(0, 3\)"),
        (torch.ones(1, 3, 2, 3), LEFT, ValueError, r"got shape \(1, 3, 2, 3\)"),
        (HEAT, LEFT[:1], ValueError, r"shape of `heat`, \(2, 3\), got shape \(1, 3\)"),
        (HEAT, LEFT[None], ValueError, r"shape of `heat`, \(2, 3\), got shape \(1, 2, 3\)"),
        (HEAT, LEFT.float(), TypeError, r"`mask` must be boolean, got torch.float32"),
        (HEAT, torch.zeros_like(LEFT), ValueError, r"at least one pixel per map, got none in map 0"),
        (HEAT * torch.nan, LEFT, ValueError, r"`heat` must be finite, got NaN"),
        (HEAT / 0, LEFT, ValueError, r"`heat` must be finite"),
        (HEAT.to(torch.complex64), LEFT, TypeError, r"real numbers, got torch.complex64"),
        (LEFT, LEFT, TypeError, r"real numbers, got torch.bool"),
        ([[1.0]], LEFT, TypeError, r"`heat` must be a torch.Tensor or np.ndarray, got list"),
        (HEAT, None, TypeError, r"`mask` must be a torch.Tensor or np.ndarray, got NoneType"),
    ],
)
def test_errors(metric: Metric, heat: np.ndarray, mask: np.ndarray, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        metric(heat, mask)


def test_one_empty_mask_in_a_batch_is_named() -> None:
    mask = torch.stack([LEFT, LEFT & False])
    with pytest.raises(ValueError, match="none in map 1"):
        relevance_mass_accuracy(torch.stack([HEAT, HEAT]), mask)


def test_mass_refuses_signed_maps_and_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"at least 0, got a minimum of -4: take the positive part.*display_heat"):
        relevance_mass_accuracy(-HEAT, LEFT)


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_bad_tolerance(tolerance: float) -> None:
    with pytest.raises(ValueError, match="`tolerance` must be (at least 0, in pixels|finite), got"):
        pointing_game(HEAT, LEFT, tolerance)
