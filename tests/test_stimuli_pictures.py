"""The pictures: where the network looks, which parts are taken, what is made of them, equal luminance and contrast."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from captum_shared.networks.preprocessing import preprocessing
from captum_shared.stimuli import luminance_and_contrast, match_pictures
from captum_shared.stimuli.frames import Window, same_size, seen_window
from captum_shared.stimuli.matching import TOLERANCE
from captum_shared.stimuli.pictures import find_parts, pair_stimuli

TO_TENSOR = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]


def photograph(seed: int, h: int = 40, w: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3)).astype(np.uint8))
    return np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    ("transform", "size", "window"),
    [
        (v2.Compose(TO_TENSOR), (30, 50), (0, 0, 50, 30)),
        (v2.Compose([v2.Resize(256), v2.CenterCrop(224), *TO_TENSOR]), (112, 112), (7, 7, 105, 105)),
        (preprocessing(64), (128, 192), (32, 0, 160, 128)),
        (v2.Compose([v2.Resize((48, 48)), *TO_TENSOR]), (90, 120), (0, 0, 120, 90)),
        (preprocessing(300), (60, 60), (0, 0, 60, 60)),
    ],
)
def test_the_window_that_a_network_sees(
    transform: v2.Transform, size: tuple[int, int], window: tuple[int, int, int, int]
) -> None:
    assert seen_window(transform, size) == window


@pytest.mark.parametrize(
    "transform",
    [v2.RandomHorizontalFlip(1.0), v2.Pad(20), v2.Lambda(lambda image: image.rotate(90))],
    ids=["mirror", "pad", "turn"],
)
def test_other_transforms_are_refused(transform: v2.Transform) -> None:
    with pytest.raises(ValueError, match="must scale and cut pictures, and not turn, mirror or pad"):
        seen_window(v2.Compose([transform, *TO_TENSOR]), (40, 40))


def test_pictures_of_one_size_stay_as_they_are() -> None:
    pictures = [Image.fromarray(photograph(seed, 40, 60)) for seed in range(2)]
    assert same_size(pictures, None, preprocessing(32)) == pictures


def test_squares_show_the_network_the_same() -> None:
    """A network that cuts gets the middle, one that squeezes the whole picture."""
    wide, tall = Image.fromarray(photograph(0, 60, 120)), Image.fromarray(photograph(1, 100, 70))
    cut, squeezed = preprocessing(32), v2.Compose([v2.Resize((32, 32)), *TO_TENSOR])
    for transform in (cut, squeezed):
        made = same_size([wide, tall], None, transform)
        assert {picture.size for picture in made} == {(60, 60)}
        for before, after in zip((wide, tall), made, strict=True):
            assert (transform(before) - transform(after)).abs().mean() < 0.1 * transform(before).std()
    fine = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8))
    with pytest.raises(ValueError, match="a square of 16 x 16 pixels shows the network something else"):
        same_size([fine], 16, preprocessing(128))


def test_parts_are_hottest_and_controls_elsewhere() -> None:
    maps = np.full((2, 10, 10), -1.0)
    maps[0, 2:5, 2:5] = 5.0
    maps[1, 6:9, 5:8] = 5.0
    window = Window(10, 5, 50, 45)
    parts = find_parts(maps, window, (60, 60), area=0.05, controls=3)
    every = (parts.image, parts.reference, *parts.image_controls, *parts.reference_controls)
    assert {int(mask.sum()) for mask in every} == {round(0.05 * 40 * 40)}
    outside = torch.ones(60, 60, dtype=torch.bool)
    outside[5:45, 10:50] = False
    assert not any((mask & outside).any() for mask in every)
    rows, columns = parts.image.nonzero(as_tuple=True)
    assert (rows.double().mean() - 5) / 4 == pytest.approx(3.5 - 0.5 / 4 + 0.0, abs=0.3)
    assert (columns.double().mean() - 10) / 4 == pytest.approx(3.5, abs=0.3)
    for part, controls in ((parts.image, parts.image_controls), (parts.reference, parts.reference_controls)):
        stack = torch.stack([part, *controls]).long().sum(0)
        assert stack.max() == 1  # there is room for all of them
    again = find_parts(maps, window, (60, 60), area=0.05, controls=3)
    assert all(torch.equal(a, b) for a, b in zip(parts.image_controls, again.image_controls, strict=True))
    with pytest.raises(ValueError, match="no heat"):
        find_parts(-np.ones((2, 10, 10)), window, (60, 60))


def test_what_is_made_of_a_pair() -> None:
    x, y = photograph(0), photograph(1)
    maps = np.zeros((2, 8, 8))
    maps[0, 1:3, 1:3] = maps[1, 4:6, 4:6] = 1.0
    parts = find_parts(maps, Window(0, 0, 40, 40), (40, 40), area=0.06, controls=2)
    made = {one.name: one for one in pair_stimuli(x, y, parts, "mean")}
    kinds = [f"{kind}{end}" for kind in ("removed", "alone", "transplant") for end in ("", "_control_1", "_control_2")]
    assert list(made) == ["image", "reference", *kinds]
    assert np.array_equal(made["image"].picture, x)
    assert np.array_equal(made["reference"].picture, y)
    inside, there = parts.image.numpy(), parts.reference.numpy()
    mean = np.rint(x.reshape(-1, 3).mean(0))
    assert np.array_equal(made["removed"].picture[~inside], x[~inside])
    assert (made["removed"].picture[inside] == mean).all()
    assert np.array_equal(made["alone"].picture[inside], x[inside])
    assert (made["alone"].picture[~inside] == mean).all()
    control = parts.image_controls[1].numpy()
    assert np.array_equal(made["alone_control_2"].picture[control], x[control])
    pasted = made["transplant"].picture
    moved = (pasted != made["removed"].picture).any(-1)
    assert 0.9 * there.sum() <= moved.sum() <= there.sum()
    assert sorted(map(tuple, pasted[moved])) == sorted(set(map(tuple, y[there])) & set(map(tuple, pasted[moved])))
    assert {one.area for name, one in made.items() if name not in ("image", "reference")} == {96 / 1600}


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_luminance_and_contrast_are_equal(seed: int, luminance: bool, contrast: bool) -> None:
    rng = np.random.default_rng(seed)
    pictures = [
        photograph(seed + k) // int(rng.integers(1, 4)) + np.uint8(rng.integers(0, 80)) * (k % 2) for k in range(4)
    ]
    groups = [0, 0, 1, 1]
    made = match_pictures(pictures, groups, luminance=luminance, contrast=contrast)
    before, after = ([luminance_and_contrast(one) for one in some] for some in (pictures, made))
    wanted = [np.mean([mean for mean, _ in before])] * 4 if luminance else [mean for mean, _ in before]
    assert [mean for mean, _ in after] == pytest.approx(wanted, abs=1.1 / 1600)
    if contrast:
        assert all(abs(after[i][1] - after[i + 1][1]) <= 2 * TOLERANCE for i in (0, 2))
        assert all(after[i][1] <= np.mean([before[i][1], before[i + 1][1]]) + TOLERANCE for i in (0, 2))
    if not luminance and not contrast:
        assert all(np.array_equal(a, b) for a, b in zip(pictures, made, strict=True))


def test_luminance_by_hand_and_what_cannot_be_matched() -> None:
    picture = np.array([[[10, 20, 30], [200, 100, 0]]], np.uint8)
    first, second = 0.299 * 10 + 0.587 * 20 + 0.114 * 30, 0.299 * 200 + 0.587 * 100
    assert luminance_and_contrast(picture) == pytest.approx(((first + second) / 2, (second - first) / 2))
    plain = np.full((4, 4, 3), 100, np.uint8)
    bright = match_pictures([plain, plain + np.uint8(51)], [0, 0])
    assert [luminance_and_contrast(one)[0] for one in bright] == pytest.approx([125.5, 125.5])
    with pytest.raises(ValueError, match="a picture of one colour cannot be matched, got it in picture 1"):
        match_pictures([photograph(0), plain], [0, 0], contrast=True)
