"""Interventions: areas, fills and images by hand, maps that say nothing, and mistakes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_shared.interventions import (
    accentuate,
    hottest_area,
    keep,
    moved_area,
    necessity,
    neutral,
    random_area,
    remove,
    transplant,
)

HEAT = torch.tensor([[9.0, 1.0, 5.0], [2.0, 7.0, 0.0]])
IMAGE = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]], [[0.0, 0.0, 6.0], [0.0, 0.0, 0.0]]])  # means 4 and 1


def at(*places: tuple[int, int], size: tuple[int, int] = (2, 3)) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    for place in places:
        mask[place] = True
    return mask


# The hottest area


@pytest.mark.parametrize(
    ("area", "places"),
    [(0.01, [(0, 0)]), (1 / 6, [(0, 0)]), (0.5, [(0, 0), (1, 1), (0, 2)]),
     (5 / 6, [(0, 0), (1, 1), (0, 2), (1, 0), (0, 1)])],
)  # fmt: skip
def test_hottest_pixels(area: float, places: list[tuple[int, int]]) -> None:
    assert torch.equal(hottest_area(HEAT, area), at(*places))
    assert torch.equal(hottest_area(HEAT.numpy() - 20, area), at(*places))  # only the order matters
    assert hottest_area(HEAT, 1.0).all()


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 1), st.integers(1, 4), st.integers(0, 99))
def test_number_of_pixels_is_exact(h: int, w: int, area: float, levels: int, seed: int) -> None:
    heat = torch.from_numpy(np.random.default_rng(seed).integers(0, levels, (2, h, w)))
    mask = hottest_area(heat, area)
    n = max(1, round(area * h * w))
    assert mask.flatten(1).sum(1).tolist() == [n, n]
    for values, inside in zip(heat, mask, strict=True):
        assert inside.all() or values[inside].min() >= values[~inside].max()
    assert int(random_area((h, w), area, seed=seed).sum()) == n
    assert int(moved_area(mask[0], seed=seed).sum()) == n


def test_maps_that_say_nothing_choose_at_random_but_always_the_same() -> None:
    for heat in (torch.zeros(20, 30), torch.full((20, 30), 0.1), torch.full((20, 30), -3.0)):
        assert torch.equal(hottest_area(heat, 0.2), random_area((20, 30), 0.2, seed=0))
        assert torch.equal(hottest_area(heat, 0.2, seed=4), random_area((20, 30), 0.2, seed=4))
    coarse = torch.full((3, 4), 0.1, dtype=torch.float64)  # resizing must not give its rounding a say
    assert torch.equal(hottest_area(coarse, 0.2, size=(20, 30)), random_area((20, 30), 0.2, seed=0))
    assert not torch.equal(random_area((20, 30), 0.2, seed=0), random_area((20, 30), 0.2, seed=1))


def test_ties_below_the_hottest_pixels_are_broken_in_the_same_way() -> None:
    heat = torch.zeros(20, 30)
    heat[3, 4] = 1
    mask = hottest_area(heat, 0.2)
    assert mask[3, 4]
    assert int((mask & random_area((20, 30), 0.2, seed=0)).sum()) >= 119


def test_coarse_map_is_resized_first() -> None:
    mask = hottest_area(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), area=0.25, size=(8, 8))
    assert mask[:3, :3].all()
    assert not mask[4:].any()
    assert not mask[:, 5:].any()
    assert int(mask.sum()) == 16


def test_maps_of_a_batch_are_independent() -> None:
    both = torch.stack([HEAT, HEAT.flip(0) * 1e-30])
    assert torch.equal(hottest_area(both, 0.5), torch.stack([hottest_area(each, 0.5) for each in both]))
    assert torch.equal(hottest_area(torch.tensor([[1e308, -1e308]], dtype=torch.float64), 0.5), at((0, 0), size=(1, 2)))


def test_places_of_random_areas_are_spread_over_the_image() -> None:
    counts = sum(random_area((10, 10), 0.2, seed=seed).double() for seed in range(200))
    assert counts.min() > 200 * 0.2 * 0.4  # each pixel's share is 0.2: 40, with a standard deviation of 6
    assert counts.max() < 200 * 0.2 * 1.6


def test_moved_area_keeps_its_shape() -> None:
    mask = at((0, 0), (0, 1), (1, 0), size=(6, 7))
    flips = [mask, mask.flip(0), mask.flip(1), mask.flip(0, 1)]
    places = [torch.roll(each, (down, right), (0, 1)) for each in flips for down in range(6) for right in range(7)]
    seen = set()
    for seed in range(60):
        moved = moved_area(mask, seed=seed)
        found = [k for k, place in enumerate(places) if torch.equal(place, moved)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 30  # of 168


# Fills


def test_remove_and_keep_by_the_mean() -> None:
    mask = at((0, 0), (1, 2))
    expected = torch.tensor([[[4.0, 2.0, 3.0], [4.0, 5.0, 4.0]], [[1.0, 0.0, 6.0], [0.0, 0.0, 1.0]]])
    assert torch.equal(remove(IMAGE, mask, "mean"), expected)
    kept = torch.tensor([[[1.0, 4.0, 4.0], [4.0, 4.0, 9.0]], [[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]])
    assert torch.equal(keep(IMAGE, mask, "mean"), kept)


def test_blur_is_the_sum_over_a_gaussian() -> None:
    """A bright pixel far from the border: sigma is a twentieth of 40 pixels, 2."""
    image = torch.zeros(1, 40, 40, dtype=torch.float64)
    image[0, 20, 20] = 1
    offsets = torch.arange(-8, 9, dtype=torch.float64)
    kernel = torch.exp(-(offsets**2) / 8)
    kernel = kernel / kernel.sum()
    mask = at((20, 20), (20, 23), (25, 16), size=(40, 40))
    made = remove(image, mask, "blur")
    for row, column in ((20, 20), (20, 23), (25, 16)):
        assert made[0, row, column] == pytest.approx(float(kernel[row - 12] * kernel[column - 12]), rel=1e-6)
    assert made[0, 0, 0] == 0
    assert int((made != image).sum()) == 3


def test_inpainting_continues_the_surroundings() -> None:
    pytest.importorskip("cv2")
    image = torch.randn(3, 1, 24).expand(3, 24, 24).clone()  # constant along each column
    image[:, :, 12:] = image[:, :, 12:13]
    hole = at(*((row, column) for row in range(5, 9) for column in range(16, 20)), size=(24, 24))
    damaged = torch.where(hole, 100.0, image)
    assert torch.allclose(remove(damaged, hole, "inpaint"), image, atol=1e-4)  # in the constant half: restored
    noise = torch.randn(3, 24, 24)
    made = remove(noise, hole, "inpaint")
    assert noise.min() <= made.min()
    assert made.max() <= noise.max()


@pytest.mark.parametrize("fill", ["blur", "mean", "inpaint"])
def test_ends_of_every_fill(fill: str) -> None:
    """Nothing to fill, everything to fill, and a uniform image, which no fill changes."""
    image = torch.randn(3, 16, 20)
    nothing, everything = torch.zeros(16, 20, dtype=torch.bool), torch.ones(16, 20, dtype=torch.bool)
    assert torch.equal(remove(image, nothing, fill), image)
    assert torch.equal(keep(image, everything, fill), image)
    assert torch.equal(remove(image, everything, fill), keep(image, nothing, fill))
    if fill == "inpaint":  # nothing is left to continue
        assert torch.equal(remove(image, everything, fill), neutral(image))
    uniform = torch.full((3, 16, 20), -1.3)
    mask = random_area((16, 20), 0.2, seed=0)
    assert torch.allclose(remove(uniform, mask, fill), uniform, atol=1e-5)
    made = remove(image, mask, fill)
    assert torch.equal(made[:, ~mask], image[:, ~mask])
    assert not torch.isclose(made[:, mask], image[:, mask]).any(1).all()


def test_fill_by_an_image_and_by_a_function() -> None:
    mask = at((0, 0))
    assert remove(IMAGE, mask, torch.full_like(IMAGE, 7))[:, 0, 0].tolist() == [7, 7]
    assert remove(IMAGE, mask, torch.tensor([[[7.0]], [[8.0]]]))[:, 0, 0].tolist() == [7, 8]
    assert remove(IMAGE, mask, lambda image, inside: image + inside * 2)[:, 0, 0].tolist() == [3, 2]


def test_batches_are_made_image_by_image() -> None:
    images = torch.stack([IMAGE, -2 * IMAGE])
    masks = torch.stack([at((0, 0)), at((1, 1), (0, 2))])
    for function in (remove, keep):
        alone = torch.stack([function(x, mask) for x, mask in zip(images, masks, strict=True)])
        assert torch.equal(function(images, masks), alone)
    moved = torch.stack([transplant(x, m, -x, m.flip(1)) for x, m in zip(images, masks, strict=True)])
    assert torch.equal(transplant(images, masks, -images, masks.flip(2)), moved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fill", ["blur", "mean", "inpaint"])
def test_dtype_device_and_graph(dtype: torch.dtype, fill: str) -> None:
    image = torch.rand(3, 8, 8, dtype=dtype).requires_grad_()
    made = keep(image, random_area((8, 8), 0.3, seed=0), fill)
    assert (made.dtype, made.device, made.requires_grad) == (dtype, image.device, False)


@pytest.mark.parametrize("fill", ["blur", "mean", "inpaint"])
def test_another_device_gives_the_same(device: str, fill: str) -> None:
    image, other = torch.rand(2, 3, 16, 20)
    mask, room = random_area((16, 20), 0.2, seed=0), random_area((16, 20), 0.2, seed=1)
    there, weight = image.to(device), torch.rand(3, 16, 20)
    pairs = [
        (remove(there, mask, fill), remove(image, mask, fill)),
        (transplant(other.to(device), mask, there, room, fill=fill), transplant(other, mask, image, room, fill=fill)),
        (neutral(there), neutral(image)),
        (accentuate(there, lambda x: (x * weight.to(device)).sum((1, 2, 3)), mask=mask),
         accentuate(image, lambda x: (x * weight).sum((1, 2, 3)), mask=mask)),
    ]  # fmt: skip
    for made, expected in pairs:
        assert made.device.type == torch.device(device).type
        assert torch.allclose(made.cpu(), expected, atol=1e-5)
    assert torch.equal(hottest_area(there[0]), hottest_area(image[0]))
    own = necessity(lambda x: x.mean((1, 2, 3)), there, mask, fills=[fill])
    assert torch.allclose(own, necessity(lambda x: x.mean((1, 2, 3)), image, mask, fills=[fill]), atol=1e-5)


# Transplants


def test_transplant_in_place_and_into_a_neutral_image() -> None:
    mask = at((0, 2), (1, 0))
    assert torch.equal(transplant(IMAGE, mask, neutral(IMAGE)), keep(IMAGE, mask, "mean"))
    assert torch.equal(transplant(IMAGE, mask, -IMAGE), torch.where(mask, IMAGE, -IMAGE))


def test_transplant_moves_centre_onto_centre_and_cuts_at_the_frame() -> None:
    source = torch.arange(1.0, 21).view(1, 4, 5)
    target = torch.zeros(1, 4, 5)
    target[0, 3, 4] = 50
    part = at((0, 0), (0, 1), (0, 2), size=(4, 5))  # centre (0, 1)
    made = transplant(source, part, target, at((3, 4), size=(4, 5)), fill=torch.full((1, 4, 5), -1.0))
    expected = torch.zeros(1, 4, 5)
    expected[0, 3, 3:] = torch.tensor([1.0, 2.0])  # the third pixel leaves the frame
    assert torch.equal(made, expected)
    wide = at((2, 1), (2, 2), (2, 3), (1, 2), size=(4, 5))  # larger than the part: what is not covered is filled
    made = transplant(source, at((0, 0), size=(4, 5)), target, wide, fill=torch.full((1, 4, 5), -1.0))
    assert made[0, 2].tolist() == [0, -1, 1, -1, 0]
    assert made[0, 1].tolist() == [0, 0, -1, 0, 0]


# Accentuation


def test_ascent_of_a_linear_score_ends_on_the_ball() -> None:
    weight = torch.randn(2, 4, 4, dtype=torch.float64)
    image = torch.randn(2, 4, 4, dtype=torch.float64)
    made = accentuate(image, lambda x: (x * weight).sum((1, 2, 3)), strength=0.1, steps=3)
    radius = 0.1 * (image - image.mean((1, 2), keepdim=True)).norm()
    assert torch.allclose(made, image + radius * weight / weight.norm())


def test_ascent_changes_the_mask_alone() -> None:
    weight = torch.randn(2, 4, 4)
    image, mask = torch.randn(2, 4, 4), at((1, 1), (2, 3), size=(4, 4))
    made = accentuate(image, lambda x: (x * weight).sum((1, 2, 3)), mask=mask)
    radius = 0.05 * (image - image.mean((1, 2), keepdim=True)).norm()
    direction = weight * mask
    assert torch.allclose(made, image + radius * direction / direction.norm(), atol=1e-6)


def test_ascent_stops_inside_the_ball_at_the_maximum() -> None:
    image = torch.tensor([[[3.0, -3.0]]])
    best = image + 0.01
    made = accentuate(image, lambda x: -((x - best) ** 2).sum((1, 2, 3)), strength=0.5, steps=400)
    assert torch.allclose(made, best, atol=0.02)
    assert torch.equal(accentuate(image, lambda x: 0 * x.sum((1, 2, 3))), image)  # no gradient
    assert torch.equal(accentuate(image, lambda x: x.sum((1, 2, 3)), strength=0), image)
    uniform = torch.ones(1, 2, 2)
    assert torch.equal(accentuate(uniform, lambda x: x.sum((1, 2, 3))), uniform)  # a ball of radius 0


# Mistakes


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hottest_area(torch.tensor([[1.0, float("nan")]])), ValueError, "`heat` must be finite, got NaN"),
        (lambda: hottest_area(torch.tensor([[1.0, float("inf")]])), ValueError, "`heat` must be finite"),
        (lambda: hottest_area([[1.0]]), TypeError, "`heat` must be a torch.Tensor or np.ndarray, got list"),
        (lambda: hottest_area(torch.ones(2, 2, dtype=torch.bool)), TypeError, "must hold real numbers, got torch.bool"),
        (lambda: hottest_area(torch.ones(1, 2, 2, 2)), ValueError, r"must be \(H, W\) or \(N, H, W\), not empty, got shape"),
        (lambda: hottest_area(torch.ones(0, 2)), ValueError, "not empty, got shape"),
        (lambda: hottest_area(HEAT, 0), ValueError, "`area` is a share of the image, expected above 0 and at most 1, got 0"),
        (lambda: hottest_area(HEAT, 10), ValueError, "at most 1, got 10"),
        (lambda: hottest_area(HEAT, "5"), TypeError, "`area` must be a number, got '5'"),
        (lambda: hottest_area(HEAT, size=3), ValueError, r"`size` must be \(H, W\), got 3"),
        (lambda: hottest_area(HEAT, size=(3, 0)), ValueError, "`width` must be a positive integer, got 0"),
        (lambda: random_area((3, 3), seed=-1), ValueError, "`seed` must be an integer of at least 0, got -1"),
        (lambda: moved_area(HEAT, seed=0), TypeError, "`mask` must be boolean, got torch.float32"),
        (lambda: moved_area(at()[None], seed=0), ValueError, r"`mask` must be \(H, W\), got shape \(1, 2, 3\)"),
        (lambda: remove(IMAGE, [True]), TypeError, "`mask` must be a boolean tensor or array, got list"),
        (lambda: remove(IMAGE, at(size=(2, 2))), ValueError, r"`mask` must be \(N, H, W\) = \(1, 2, 3\), as the image, got shape \(2, 2\)"),
        (lambda: remove(IMAGE, at()[0]), ValueError, "not empty, got shape"),
        (lambda: remove(IMAGE.numpy(), at()), TypeError, "`image` must be a tensor, got ndarray; use torch.as_tensor"),
        (lambda: remove(IMAGE.byte(), at()), TypeError, "must be floating point, got torch.uint8"),
        (lambda: remove(IMAGE[0], at()), ValueError, "image must be .*got shape"),
        (lambda: remove(IMAGE / 0, at()), ValueError, "`image` must be finite"),
        (lambda: remove(IMAGE, at(), "noise"), ValueError, "`fill` must be one of .*'blur', 'mean', 'inpaint'.*, got 'noise'"),
        (lambda: remove(IMAGE, at(), 3), TypeError, "`fill` must be a tensor, got int"),
        (lambda: remove(IMAGE, at(), torch.zeros(5, 2, 3)), ValueError, r"`fill` must be \(C, H, W\) = \(2, 2, 3\), got shape \(5, 2, 3\)"),
        (lambda: remove(IMAGE, at(), IMAGE / 0), ValueError, "`fill` must be finite"),
        (lambda: transplant(IMAGE, at(), IMAGE), ValueError, "`source_mask` must have at least one pixel per image, got none"),
        (lambda: transplant(IMAGE, at((0, 0)), IMAGE, at()), ValueError, "`target_mask` must have at least one pixel"),
        (lambda: transplant(IMAGE, at((0, 0)), IMAGE[:1]), ValueError, r"`target` must be of the shape .*\(2, 2, 3\) on cpu, got shape \(1, 2, 3\)"),
        (lambda: accentuate(IMAGE[None], torch.sum), ValueError, r"`image` must be floating point \(C, H, W\)"),
        (lambda: accentuate(IMAGE, torch.sum), ValueError, r"`score` must return \(1,\) scores, got shape \(\)"),
        (lambda: accentuate(IMAGE, lambda x: x.sum((1, 2, 3)), strength=-1), ValueError, "`strength` must be at least 0, got -1"),
        (lambda: accentuate(IMAGE, lambda x: x.sum((1, 2, 3)), steps=0), ValueError, "`steps` must be a positive integer, got 0"),
        (lambda: accentuate(IMAGE, lambda x: x.sum((1, 2, 3)), mask=at(size=(2, 2))), ValueError, r"`mask` must be \(H, W\) = \(2, 3\)"),
        (lambda: accentuate(IMAGE, lambda x: x.sum((1, 2, 3)) / 0), ValueError, "`the gradient of the score` must be finite"),
    ],
)  # fmt: skip
def test_mistakes_are_refused(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_missing_opencv_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r'pip install "captum-shared\[inpaint\]"'):
        remove(IMAGE, at((0, 0)), "inpaint")
