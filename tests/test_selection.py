"""Drivers, candidates, pairs, centers and d' against loops written by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import captum_shared as cs
from captum_shared.selection import (
    d_prime,
    find_drivers,
    find_pairs,
    make_rule,
    rule_center,
    rule_names,
    strongest_drivers,
)


def neuron(seed: int, n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recorded responses, one of them missing, predictions, and membership."""
    rng = np.random.default_rng(seed)
    recorded, member = rng.normal(size=n), rng.random(n) < 0.3
    predicted = recorded + rng.normal(size=n)
    recorded[3] = np.nan
    return recorded, predicted, member


def drives_by_hand(recorded: np.ndarray, predicted: np.ndarray, threshold: float) -> list[int]:
    """The recorded neuron's drivers, strongest first."""
    z = [(v - np.nanmean(v)) / np.nanstd(v) for v in (recorded, predicted)]
    drives = [i for i in range(len(recorded)) if all(scores[i] >= threshold for scores in z)]
    return sorted(drives, key=lambda i: (-recorded[i], i))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_recorded_and_predicted_responses_reach_the_threshold(seed: int, threshold: float) -> None:
    """The command `recording`. Until 6eba5b3 a candidate's prediction did not have to reach it."""
    recorded, predicted, member = neuron(seed)
    drivers = find_drivers(recorded, member, predicted=predicted, threshold=threshold, top=4)
    by_hand = drives_by_hand(recorded, predicted, threshold)
    assert drivers.everywhere.tolist() == by_hand
    assert drivers.outside.tolist() == [i for i in by_hand if not member[i]][:4]
    assert drivers.candidates.tolist() == sorted(i for i in by_hand if member[i])
    assert strongest_drivers(recorded, predicted=predicted, threshold=threshold).tolist() == by_hand


@pytest.mark.parametrize("top", [1, 5, 12])
@pytest.mark.parametrize("seed", range(3))
def test_without_a_threshold_half_of_the_category_and_the_strongest_others_drive(seed: int, top: int) -> None:
    """The command `category`. Until 6eba5b3 the level inside the category was its median, whatever is explained."""
    _, response, member = neuron(seed)
    response = response + member  # as of a readout of labels
    drivers = find_drivers(response, member, top=top)
    others = sorted((i for i in range(80) if not member[i]), key=lambda i: (-response[i], i))
    assert drivers.outside.tolist() == others[:top]
    level = min(np.median(response[member]), response[others[top - 1]])
    assert drivers.candidates.tolist() == [i for i in range(80) if member[i] and response[i] >= level]
    assert set(drivers.everywhere) == {i for i in range(80) if response[i] >= level}
    assert 2 * len(drivers.candidates) >= member.sum()


def test_the_whole_category_but_what_has_no_response() -> None:
    recorded, predicted, member = neuron(0)
    member[3] = True
    drivers = find_drivers(recorded, member, predicted=predicted, threshold=1.0, references="category")
    assert drivers.candidates.tolist() == [i for i in range(80) if member[i] and i != 3]


@given(st.integers(0, 1000), st.one_of(st.none(), st.floats(-1, 3)), st.one_of(st.none(), st.integers(1, 90)))
def test_what_a_driver_is_does_not_depend_on_where_it_is(seed: int, threshold: float | None, top: int | None) -> None:
    """One level: no image outside the set of drivers responds more than one in it, in the category or out of it."""
    rng = np.random.default_rng(seed)
    response = rng.integers(0, 9, 40).astype(float)
    member = rng.random(40) < rng.uniform(0.2, 0.8)
    member[:2] = True, False
    drivers = find_drivers(response, member, threshold=threshold, top=top)
    rest = np.setdiff1d(np.arange(40), drivers.everywhere)
    if len(rest) and len(drivers.everywhere):
        assert response[rest].max() < response[drivers.everywhere].min()
    assert set(drivers.candidates) == {i for i in drivers.everywhere if member[i]}
    outside = [i for i in drivers.everywhere if not member[i]]
    assert drivers.outside.tolist() == outside[:top]
    assert all((-response[i], i) < (-response[j], j) for i, j in pairwise(outside))


def test_tensors_are_welcome() -> None:
    _, response, member = neuron(2)
    expected = find_drivers(response, member, top=3)
    found = find_drivers(torch.from_numpy(response), torch.from_numpy(member), top=3)
    for name in ("outside", "candidates", "everywhere"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist()


@pytest.mark.parametrize("n_references", [1, 3, 500])
def test_pairs_are_the_most_similar_candidates(n_references: int) -> None:
    _, response, member = neuron(1)
    drivers = find_drivers(response, member, top=4)
    torch.manual_seed(0)
    z, w = torch.randn(80, 6), torch.randn(6)
    pairs = find_pairs(z, drivers, w, n_references=n_references)
    assert pairs.images.tolist() == drivers.outside.tolist()
    for i, references, similarity in zip(pairs.images, pairs.references, pairs.similarity, strict=True):
        by_hand = {int(j): float(sum(w[k] * z[i, k] * z[j, k] for k in range(6))) for j in drivers.candidates}
        best = sorted(by_hand, key=lambda j: -by_hand[j])[:n_references]
        assert references.tolist() == best
        assert similarity == pytest.approx([by_hand[j] for j in best], abs=1e-5)


def test_no_driver_outside_no_pair() -> None:
    drivers = find_drivers(np.array([2.0, 3.0, 0.0, 0.0]), np.array([True, True, False, False]), threshold=0.5)
    pairs = find_pairs(torch.rand(4, 3), drivers, torch.ones(3))
    assert (pairs.images.shape, pairs.references.shape, pairs.similarity.shape) == ((0,), (0, 1), (0, 1))


def mean_by_hand(latents: torch.Tensor, places: Any) -> list[float]:
    return [sum(float(latents[i, k]) for i in places) / len(places) for k in range(latents.shape[1])]


@pytest.mark.parametrize("rule", rule_names())
def test_center_of_every_rule(rule: str) -> None:
    """The gallery's mean; the mean of the strongest drivers, in or out of the category; none."""
    recorded, predicted, member = neuron(0, n=300)
    torch.manual_seed(0)
    z = torch.randn(300, 4, dtype=torch.float64)
    drivers = find_drivers(recorded, member, predicted=predicted, threshold=0.5, top=3)
    by_hand = drives_by_hand(recorded, predicted, 0.5)
    assert len(by_hand) > 20
    assert {bool(member[i]) for i in by_hand[:20]} == {True, False}
    gallery, strongest = range(300), by_hand[:20]
    places = {"centered": gallery, "contrast": strongest, "matched": strongest}.get(rule)
    center = rule_center(rule, z, drivers)
    if places is None:
        assert center is None
    else:
        assert center is not None
        assert center.tolist() == pytest.approx(mean_by_hand(z, places))
        assert torch.equal(rule_center(rule, z, drivers.everywhere), center)
    shared = cs.shared_weights(z[:2], z[2:4], torch.ones(4).double(), make_rule(rule, z), center)
    assert shared.shape == (2, 4)


def test_a_rule_of_ones_own_has_no_center() -> None:
    def smaller(z: Any, z_ref: Any, weight: Any, center: Any) -> Any:
        return weight * torch.minimum(z, z_ref)

    assert make_rule(smaller, torch.rand(3, 2)) is smaller
    assert rule_center(smaller, torch.rand(3, 2), np.array([0])) is None


def test_d_prime_by_hand_with_missing_responses() -> None:
    rng = np.random.default_rng(0)
    responses, member = rng.normal(size=(30, 3)), rng.random(30) < 0.4
    responses[[0, 7, 9], [0, 0, 1]] = np.nan
    for k, found in enumerate(d_prime(responses, member)):
        sides = [[responses[i, k] for i in range(30) if member[i] == side and responses[i, k] == responses[i, k]]
                 for side in (True, False)]  # fmt: skip
        mean = [sum(side) / len(side) for side in sides]
        variance = [sum((r - m) ** 2 for r in side) / (len(side) - 1) for side, m in zip(sides, mean, strict=True)]
        assert found == pytest.approx((mean[0] - mean[1]) / (sum(variance) / 2) ** 0.5)


def test_d_prime_that_cannot_be_known() -> None:
    member = np.array([True, True, False, False])
    responses = np.array([[1.0, 2, np.nan], [1, 3, 1], [1, np.nan, 4], [1, 5, 2]])
    assert np.isnan(d_prime(responses, member)).all()


def test_selectivity_has_the_same_d_prime() -> None:
    _, response, member = neuron(4)
    labels = ["dog" if m else "cat" for m in member]
    found = cs.selectivity.category_d_prime(response[:, None], labels, "dog")
    assert found.tolist() == d_prime(response[:, None], member).tolist()


MEMBER = np.array([True, False, False])
MISTAKES = {
    "responses of two neurons": (lambda: find_drivers(np.ones((3, 2)), MEMBER), r"`responses` must be \(3,\), of one"),
    "responses of other images": (lambda: find_drivers(np.ones(4), MEMBER), r"must be \(3,\).*got shape \(4,\)"),
    "predictions of other images": (lambda: find_drivers(np.ones(3), MEMBER, predicted=np.ones(2)), "`predicted` must"),
    "membership as numbers": (lambda: find_drivers(np.ones(3), [1, 0, 0]), "`member` must be .* boolean, got .* int64"),
    "nothing inside": (lambda: find_drivers(np.ones(3), ~MEMBER & False), "inside the category .* got 0 and 3"),
    "no response outside": (lambda: find_drivers(np.array([1, np.nan, np.nan]), MEMBER), "got 1 and 0"),
    "top": (lambda: find_drivers(np.ones(3), MEMBER, top=0), "`top` must be a positive integer or None, got 0"),
    "threshold": (lambda: find_drivers(np.ones(3), MEMBER, threshold=float("nan")), "`threshold` must be finite, got nan"),
    "references": (lambda: find_drivers(np.ones(3), MEMBER, references="all"), "`references` must be one of"),
    "no candidates": (
        lambda: find_pairs(torch.ones(3, 2), find_drivers(np.array([0, 1, 9]), MEMBER, threshold=1), torch.ones(2)),
        "at least one candidate for the reference, got none",
    ),
    "no drivers": (lambda: rule_center("contrast", torch.ones(3, 2), np.array([])), "'contrast' is the mean .* got none"),
    "rule": (lambda: make_rule("magic", torch.ones(3, 2)), "`rule` must be one of .*'moments'.*, got 'magic'"),
    "d' of other images": (lambda: d_prime(np.ones((4, 1)), MEMBER), r"`responses` must be \(n, K\) with n = 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name: str) -> None:
    call, text = MISTAKES[name]
    with pytest.raises(ValueError, match=text):
        call()
