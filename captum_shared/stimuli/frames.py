"""Where a network looks: the part of a picture that it sees, and pictures of one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from captum_shared.identity import ImageTransform
from captum_shared.selectivity.pixels import find_normalization

_BENT = 0.02  # of the picture's side: how far from a straight line a transform that scales and cuts may be


class Window(NamedTuple):
    """A part of a picture, in pixels: from `left` and `top` up to, and without, `right` and `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def place(self, mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """A mask of the window (h, w) as one of the whole picture, of this height and width."""
        whole = torch.zeros(size, dtype=mask.dtype)
        whole[self.top : self.bottom, self.left : self.right] = mask
        return whole


def seen_window(transform: ImageTransform, size: tuple[int, int]) -> Window:
    """The part of pictures of this height and width that a network sees, by what its transform makes of a ramp.

    >>> from captum_shared.networks.preprocessing import preprocessing
    >>> seen_window(preprocessing(64), (100, 150))
    Window(left=25, top=0, right=125, bottom=100)
    """
    h, w = size
    ramp = np.full((h, w, 3), 128, dtype=np.uint8)
    ramp[..., 0] = np.rint(np.linspace(0, 255, w))
    ramp[..., 1] = np.rint(np.linspace(0, 255, h))[:, None]
    mean, std = find_normalization(transform)
    seen = (transform(Image.fromarray(ramp)).double().cpu() * std + mean).numpy()
    left, right = _ends(seen[0], w)
    top, bottom = _ends(seen[1].T, h)
    return Window(left, top, right, bottom)


def _ends(values: np.ndarray, side: int) -> tuple[int, int]:
    """Where along a side of the picture the columns of an image begin and end; `values` are those of the ramp."""
    n = values.shape[1]
    middle = np.arange(n)[n // 5 : n - n // 5]  # where no border blurs
    place = values.mean(0) * (side - 1) + 0.5
    slope, start = np.polyfit(middle + 0.5, place[middle], 1)
    straight = np.abs(values[:, middle] * (side - 1) + 0.5 - (slope * (middle + 0.5) + start)).max()
    ends = (round(start), round(start + slope * n))
    if straight > max(_BENT * side, 1.5) or slope <= 0 or ends[0] < -1 or ends[1] > side + 1:
        raise ValueError(
            "places in the network's input cannot be found in the picture: the image transform must scale and cut "
            "pictures, and not turn, mirror or pad them"
        )
    return max(ends[0], 0), min(ends[1], side)


def common_side(sizes: Sequence[tuple[int, int]]) -> int | None:
    """The side of squares for pictures of these sizes: None if all have the same size, which is kept; else the least.

    >>> common_side([(40, 30), (40, 30)]), common_side([(40, 30), (50, 60)])
    (None, 30)
    """
    return None if len(set(sizes)) == 1 else min(min(size) for size in sizes)


def same_size(pictures: Sequence[Image.Image], side: int | None, transform: ImageTransform) -> list[Image.Image]:
    """Squares with this side, of which the network sees the same; without a side, see `common_side`."""
    side = side or common_side([picture.size for picture in pictures])
    if side is None:
        return list(pictures)
    return [_squared(picture, side, transform) for picture in pictures]


def _squared(picture: Image.Image, side: int, transform: ImageTransform) -> Image.Image:
    """The picture's middle or the whole of it as a square: that in which the network sees what it saw."""
    w, h = picture.size
    short = min(w, h)
    left, top = (w - short) // 2, (h - short) // 2
    before = transform(picture)
    tried = [picture.crop((left, top, left + short, top + short)), picture]
    squares = [one.resize((side, side), Image.Resampling.LANCZOS) for one in tried]
    alike = [float(torch.corrcoef(torch.stack([transform(one).flatten(), before.flatten()]))[0, 1]) for one in squares]
    best = int(np.nanargmax(alike)) if np.isfinite(alike).any() else 0
    if alike[best] < 0.9:
        raise ValueError(
            f"a square of {side} x {side} pixels shows the network something else than the picture of {w} x {h} does "
            f"(correlation {alike[best]:.2f}); choose a larger `size`"
        )
    return squares[best]
