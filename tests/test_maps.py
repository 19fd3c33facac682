"""Maps cut by image: every row once, images together, few bits, and as few forward passes as images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captum_shared.study.maps import cut_by_image, pack


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 20))
def test_every_row_is_in_one_group_and_images_stay_together(images: list[int], most: int) -> None:
    groups = cut_by_image(np.array(images, dtype=int), most)
    assert sorted(row for group in groups for row in group) == list(range(len(images)))
    assert all(len(group) <= most for group in groups)
    for image in set(images):
        inside = [group for group in groups if image in {images[row] for row in group}]
        assert len(inside) == -(-images.count(image) // most)
    for group in groups:
        assert [images[row] for row in group] == sorted(images[row] for row in group)


@pytest.mark.parametrize(("bits", "error"), [(8, 0.5 / 127), (16, 2**-11), (32, 0)])
def test_packed_maps_are_within_half_a_step(bits: int, error: float) -> None:
    maps = np.random.default_rng(0).normal(size=(5, 7, 6)).astype(np.float32) * (
        10.0 ** np.arange(-12, 13, 6)[:, None, None]
    ).astype(np.float32)
    maps[2] = 0
    values, scale = pack(maps, bits)
    assert values.dtype.itemsize * 8 == bits
    back = (values * scale).astype(np.float32)
    largest = np.abs(maps).max(axis=(1, 2), keepdims=True)
    assert (np.abs(back - maps) <= error * largest * 1.0001).all()
    assert not back[2].any()
