"""Pairs as rows of a figure for a paper: image, its heat, the reference's heat, reference, and one scale each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

from captum_shared.visualization import canvas
from captum_shared.visualization.image import soft_grey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = ("driver", "shared", "shared", "reference")
GAP, EDGE, LINE, BAR, ROOM = 0.06, 0.04, 0.15, 0.07, 0.4  # inches
TEXT = {"fontsize": 7, **canvas.PLAIN}


@dataclass(frozen=True)
class PairRow:
    """A pair: two images (H, W, 3) as bytes, their heat (h, w) relative to an even spread, a label for each."""

    images: tuple[np.ndarray, np.ndarray]
    heats: tuple[np.ndarray, np.ndarray]
    labels: tuple[str, str]


def pairs_figure(rows: Sequence[PairRow], width: float, titles: Sequence[str] = TITLES) -> Figure:
    """A row for each pair in this width in inches, four panels each; heat in one scale for both images of a pair."""
    side = (width - 2 * EDGE - 3 * GAP - GAP - BAR - ROOM) / 4
    pitch = side + LINE + GAP
    height = LINE + 2 * EDGE + len(rows) * pitch
    figure = canvas.new_figure(width, height)
    colours = canvas.heat_colours()

    def box(left: float, top: float, w: float, h: float) -> tuple[float, float, float, float]:
        return left / width, 1 - (top + h) / height, w / width, h / height

    lefts = [EDGE + i * (side + GAP) for i in range(4)]
    for left, title in zip(lefts, titles, strict=True):
        figure.text((left + side / 2) / width, 1 - EDGE / height, _fitted(title, side), ha="center", va="top", **TEXT)
    for number, row in enumerate(rows):
        top = EDGE + LINE + number * pitch
        peak = max(float(heat.max()) for heat in row.heats) or 1.0
        for i, left in enumerate(lefts):
            picture = row.images[i // 2] / 255.0
            axes = figure.add_axes(box(left, top, side, side))
            canvas.show(axes, picture if i in (0, 3) else soft_grey(picture))
            if i in (1, 2):
                canvas.show_heat(axes, _enlarged(row.heats[i - 1], picture.shape[:2]), peak, colours)
        for left, label in zip((lefts[0], lefts[2]), row.labels, strict=True):
            line = _fitted(label, 2 * side + GAP)
            figure.text(
                (left + side + GAP / 2) / width, 1 - (top + side + 0.02) / height, line, ha="center", va="top", **TEXT
            )
        bar = figure.add_axes(box(lefts[3] + side + GAP, top, BAR, side))
        canvas.show_scale(bar, peak, colours, "\u00d7 even spread" if side > 1 else "\u00d7 even", 6)
    return figure


def _enlarged(heat: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(heat, dtype=np.float32))[None, None]
    larger = interpolate(tensor, size, mode="bicubic", align_corners=False)
    return larger[0, 0].clamp(min=0).numpy()


def _fitted(text: str, inches: float) -> str:
    """As much of a line as fits in 7 points, where a letter is about 0.055 inches wide."""
    return canvas.short(text, max(6, int(inches / 0.055)))
