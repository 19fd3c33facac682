"""Necessity, sufficiency and specificity by hand, their contrast with controls, and mistakes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from captum_shared.interventions import (
    chance_level,
    contrast_effects,
    hottest_area,
    linear_scores,
    necessity,
    random_area,
    remove,
    specificity,
    sufficiency,
)
from captum_shared.metrics import bootstrap_interval

IMAGE = torch.tensor([[[8.0, 0.0], [2.0, 2.0]]])  # mean 3
MASKS = torch.tensor([[[True, False], [False, False]], [[False, True], [False, False]], [[True, True], [True, True]]])


def total(images: Tensor) -> Tensor:
    return images.sum((1, 2, 3))


def corners(images: Tensor) -> Tensor:
    return torch.stack([images[:, 0, 0, 0], 10 * images[:, 0, 0, 1]], dim=1)


def test_necessity_by_hand() -> None:
    assert necessity(total, IMAGE, MASKS, fills=["mean"]).tolist() == [5, -3, 0]
    assert necessity(corners, IMAGE, MASKS, fills=["mean"]).tolist() == [[5, 0], [0, -30], [5, -30]]
    zero, nine = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 9.0)
    assert necessity(total, IMAGE, MASKS[0], fills=[zero, nine]).item() == 3.5  # the mean of 8 and -1


def test_sufficiency_by_hand() -> None:
    assert sufficiency(total, IMAGE, MASKS, fills=["mean"]).tolist() == [5, -3, 0]
    zero = torch.zeros(1, 1, 1)
    assert sufficiency(corners, IMAGE, MASKS, fills=[zero]).tolist() == [[8, 0], [0, 0], [8, 0]]
    assert sufficiency(corners, IMAGE, MASKS[0], fills=[zero, "mean"]).tolist() == [6.5, 0]


def test_of_the_whole_image_both_are_the_same() -> None:
    image, everything = torch.rand(3, 12, 12), torch.ones(12, 12, dtype=torch.bool)
    both = [function(total, image, everything) for function in (necessity, sufficiency)]
    assert torch.allclose(both[0], both[1])
    nothing = ~everything
    assert [float(function(total, image, nothing)) for function in (necessity, sufficiency)] == [0, 0]


def test_specificity_by_hand() -> None:
    first, last = (lambda x: x[:, 0, 0, 0]), (lambda x: x[:, 0, 1, 1])
    assert specificity(first, last, IMAGE, MASKS, fills=["mean"]).tolist() == [5, 0, 6]
    assert specificity(total, total, IMAGE, MASKS).tolist() == [0, 0, 0]


def test_a_map_that_says_nothing_has_the_effect_of_chance() -> None:
    image = torch.rand(3, 16, 16)
    area = hottest_area(torch.zeros(16, 16), 0.2)
    chance = random_area((16, 16), 0.2, seed=0)
    assert torch.equal(necessity(total, image, area), necessity(total, image, chance))


def test_batches_do_not_matter() -> None:
    image = torch.rand(3, 16, 16, dtype=torch.float64)
    masks = torch.stack([random_area((16, 16), 0.2, seed=seed) for seed in range(5)])
    for function in (necessity, sufficiency):
        whole = function(corners, image, masks)
        assert torch.allclose(function(corners, image, masks, batch_size=2), whole)
        assert torch.allclose(function(corners, image, masks[3]), whole[3])
    slow = [
        total(image[None]) - (total(remove(image, m, "blur")[None]) + total(remove(image, m, "mean")[None])) / 2
        for m in masks
    ]
    assert torch.allclose(necessity(total, image, masks), torch.cat(slow))


def test_linear_scores_are_in_standard_deviations() -> None:
    latents = torch.randn(50, 4, dtype=torch.float64)
    weight, z_ref = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    score = linear_scores(lambda x: x.flatten(1), torch.stack([weight * z_ref, weight, 0 * weight]), latents)
    values = score(latents[:, :, None, None])
    expected = np.stack([latents.numpy() @ c for c in ((weight * z_ref).numpy(), weight.numpy())], axis=1)
    assert np.allclose(values[:, :2].numpy(), expected / expected.std(0))
    assert torch.equal(values[:, 2], torch.zeros(50, dtype=torch.float64))  # constant: not scaled


def test_contrast_averages_groups_first() -> None:
    found = contrast_effects([1.0, 3.0, 8.0], [0.0, 1.0, 2.0], ["a", "a", "b"])
    assert (found.mean, found.control, found.difference) == (5.0, 1.25, 3.75)  # means of (2, 8), (0.5, 2), (1.5, 6)
    assert (found.low, found.high) == bootstrap_interval([2.0, 8.0])
    assert (found.difference_low, found.difference_high) == bootstrap_interval([1.5, 6.0])
    assert (found.pairs, found.groups) == (3, 2)
    alone = contrast_effects([1.0], [0.5])
    assert (alone.low, alone.high, alone.difference) == (1.0, 1.0, 0.5)


def test_chance_level_by_hand() -> None:
    assert chance_level(0.5, [0.1, 0.5, 0.9]) == 0.75  # a tie counts against the effect
    assert chance_level(1.0, list(range(-19, 0))) == 0.05
    assert chance_level(-99.0, [0.0]) == 1.0


def test_chance_keeps_its_level() -> None:
    """Of effects that are themselves drawn by chance, a share p has a level of at most p."""
    draws = np.random.default_rng(0).normal(size=(2000, 10))
    levels = np.array([chance_level(row[0], row[1:]) for row in draws])
    for p in (0.1, 0.2, 0.5):
        assert abs((levels <= p + 1e-9).mean() - p) < 4 * np.sqrt(p * (1 - p) / 2000)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: necessity(total, IMAGE[None], MASKS), ValueError, r"`image` must be \(C, H, W\), got shape \(1, 1, 2, 2\)"),
        (lambda: necessity(total, IMAGE, MASKS[:, :1]), ValueError, r"`masks` must be \(A, H, W\) with H x W = \(2, 2\), as the image"),
        (lambda: necessity(total, IMAGE, MASKS.float()), TypeError, "`mask` must be boolean, got torch.float32"),
        (lambda: necessity(total, IMAGE, MASKS, fills="mean"), ValueError, "`fills` must be a sequence of at least one fill, got 'mean'"),
        (lambda: sufficiency(total, IMAGE, MASKS, fills=[]), ValueError, r"at least one fill, got \[\]"),
        (lambda: necessity(torch.sum, IMAGE, MASKS), ValueError, r"`score` must return \(1,\) or \(1, S\) scores, got shape \(\)"),
        (lambda: necessity(lambda x: total(x) / 0, IMAGE, MASKS), ValueError, "`score` must return finite scores"),
        (lambda: necessity(total, IMAGE, MASKS, batch_size=0), ValueError, "`batch_size` must be a positive integer, got 0"),
        (lambda: linear_scores(torch.flatten, torch.ones(2), torch.ones(3, 2)), ValueError, r"`constants` must be \(S, D\), got shape \(2,\)"),
        (lambda: linear_scores(torch.flatten, torch.ones(1, 2), torch.ones(3, 3)), ValueError, r"`latents` must be \(G, 2\), got shape \(3, 3\)"),
        (lambda: linear_scores(torch.flatten, torch.ones(1, 2), torch.ones(1, 2)), ValueError, "`latents` must be of at least 2 images"),
        (lambda: contrast_effects([], []), ValueError, r"must be \(P,\) of one length, P >= 1, got shapes \(0,\) and \(0,\)"),
        (lambda: contrast_effects([1.0], [1.0, 2.0]), ValueError, "of one length"),
        (lambda: contrast_effects([1.0], [1.0], ["a", "b"]), ValueError, r"`groups` must be \(1,\), one for each pair, got 2"),
        (lambda: contrast_effects([np.nan], [1.0]), ValueError, "finite"),
        (lambda: chance_level(1.0, []), ValueError, r"`controls` \(n,\) must be finite, n >= 1"),
        (lambda: chance_level(np.nan, [1.0]), ValueError, "must be finite"),
    ],
)  # fmt: skip
def test_mistakes_are_refused(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
