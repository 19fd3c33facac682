"""Deletion and insertion curves of a linear score, where they are known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from captum_shared.metrics import curve_area, deletion_curve, insertion_curve

IMAGE = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])


def total(images: torch.Tensor) -> torch.Tensor:
    return images.sum(dim=(1, 2, 3))


def test_by_hand() -> None:
    assert deletion_curve(IMAGE[0], IMAGE, total, steps=4).tolist() == [10, 6, 3, 1, 0]
    assert insertion_curve(IMAGE[0], IMAGE, total, steps=4).tolist() == [0, 4, 7, 9, 10]
    assert deletion_curve(-IMAGE[0], IMAGE, total, steps=2).tolist() == [10, 7, 0]
    assert deletion_curve(IMAGE[0], IMAGE, total, baseline=1.0, steps=4).tolist() == [10, 7, 5, 4, 4]
    assert insertion_curve(IMAGE[0].numpy(), IMAGE, total, baseline=torch.ones(1, 2, 2), steps=1).tolist() == [4, 10]


def test_sum_of_both_is_whole_and_baseline() -> None:
    heat, image = torch.rand(5, 6), torch.rand(3, 5, 6)
    both = deletion_curve(heat, image, total) + insertion_curve(heat, image, total)
    assert torch.allclose(both, total(image[None]).expand(21), atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_map_goes_in_reading_order(value: float) -> None:
    assert deletion_curve(torch.full((2, 2), value), IMAGE, total, steps=4).tolist() == [10, 9, 7, 4, 0]


def test_single_pixel() -> None:
    image = torch.full((1, 1, 1), 3.0)
    assert deletion_curve(torch.ones(1, 1), image, total, steps=1).tolist() == [3, 0]
    heat = torch.zeros(2, 2)
    heat[1, 1] = 1
    assert insertion_curve(heat, IMAGE, total, steps=4)[1] == 4


def test_the_best_order_has_the_least_area() -> None:
    image = torch.rand(1, 4, 4)
    best = curve_area(deletion_curve(image[0], image, total, steps=16))
    others = [curve_area(deletion_curve(torch.rand(4, 4), image, total, steps=16)) for _ in range(10)]
    assert all(best <= other for other in others)


def test_area_by_hand() -> None:
    assert curve_area(torch.tensor([10.0, 6.0, 3.0, 1.0, 0.0])) == pytest.approx((8 + 4.5 + 2 + 0.5) / 4)
    assert curve_area(torch.ones(3, 5)).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("heat", "image", "score", "steps", "text"),
    [
        (torch.full((2, 2), float("nan")), IMAGE, total, 4, "`heat` must be finite, got NaN"),
        (torch.ones(2, 3), IMAGE, total, 4, r"`heat` must be \(H, W\) = \(2, 2\), as the image, got shape \(2, 3\)"),
        (
            torch.ones(2, 2),
            IMAGE[0],
            total,
            4,
            r"`image` must be floating point \(C, H, W\), got torch.float32 of shape \(2, 2\)",
        ),
        (torch.ones(2, 2), IMAGE, total, 0, "`steps` must be a positive integer, got 0"),
        (torch.ones(2, 2), IMAGE, lambda x: x, 4, r"`score` must return \(5,\) scores, got shape \(5, 1, 2, 2\)"),
    ],
)
def test_mistakes(heat: Any, image: Any, score: Any, steps: int, text: str) -> None:
    for curve in (deletion_curve, insertion_curve):
        with pytest.raises(ValueError, match=text):
            curve(heat, image, score, steps=steps)


def test_more_mistakes() -> None:
    with pytest.raises(ValueError, match=r"`curve` must have at least two points, got shape \(1,\)"):
        curve_area(torch.ones(1))
    with pytest.raises(TypeError, match="`heat` must be a torch.Tensor or np.ndarray, got list"):
        deletion_curve([1.0], IMAGE, total)
    assert deletion_curve(np.ones((2, 2)), IMAGE, total).isfinite().all()
