"""Many panels as one picture: one axes per panel would take longer to draw than the rest of the figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from captum_shared.visualization import display_heat, to_image
from captum_shared.visualization.canvas import heat_colours, show, show_heat
from captum_shared.visualization.image import soft_grey

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 0.04  # between panels, of a panel's side


def draw_pairs(ax: Axes, pairs: Sequence[tuple[Tensor, Tensor]], kinds: Sequence[np.ndarray]) -> None:
    """A column for each pair: driver, its heat over it, the reference's heat, reference; one scale in a pair.

    `pairs` holds images (3, H, W) in [0, 1], `kinds` their signed maps (P, 2, H, W), of pixels, of the layer or both:
    the driver's in this order, then the reference's in the reverse.
    """
    pictures = [[to_image(image) for image in pair] for pair in pairs]
    columns = [(p[0], *[soft_grey(p[0])] * len(kinds), *[soft_grey(p[1])] * len(kinds), p[1]) for p in pictures]
    none = np.zeros(kinds[0].shape[2:], np.float32)
    scaled = [[scaled_heat(maps[pair]) for maps in kinds] for pair in range(len(pairs))]
    heats = [(none, *(heat[0] for heat in each), *(heat[1] for heat in reversed(each)), none) for each in scaled]
    _draw(ax, columns, heats)


def draw_heat(ax: Axes, pair: tuple[Tensor, Tensor], maps: np.ndarray) -> None:
    """The heat of one pair, side by side; `maps` is (2, H, W)."""
    columns = [(soft_grey(to_image(image)),) for image in pair]
    _draw(ax, columns, [(heat,) for heat in scaled_heat(maps)])


def scaled_heat(maps: np.ndarray) -> list[np.ndarray]:
    """The heat of a pair's signed maps (2, H, W), at most 1 in the two together."""
    heats = [display_heat(signed) for signed in maps]
    top = max(float(heat.max()) for heat in heats) or 1.0
    return [heat / top for heat in heats]


def tiled(rows: Sequence[Sequence[np.ndarray]], background: float) -> np.ndarray:
    """Panels (H, W) or (H, W, 3) of one size on a square grid with gaps, each in the middle of its square."""
    height, width = rows[0][0].shape[:2]
    side = max(height, width)
    pitch = side + max(1, round(GAP * side))
    shape = ((len(rows) - 1) * pitch + side, (len(rows[0]) - 1) * pitch + side, *rows[0][0].shape[2:])
    picture = np.full(shape, background, np.float32)
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            top, left = i * pitch + (side - height) // 2, j * pitch + (side - width) // 2
            picture[top : top + height, left : left + width] = panel
    return picture


def _draw(ax: Axes, columns: Sequence[Sequence[np.ndarray]], heats: Sequence[Sequence[np.ndarray]]) -> None:
    """Columns of pictures, grey or not, and of the heat over them, from 0 to 1."""
    coloured = [[np.broadcast_to(p if p.ndim == 3 else p[..., None], (*p.shape[:2], 3)) for p in c] for c in columns]
    show(ax, tiled(list(zip(*coloured, strict=True)), 1.0))
    show_heat(ax, tiled(list(zip(*heats, strict=True)), 0.0), 1.0, heat_colours())
