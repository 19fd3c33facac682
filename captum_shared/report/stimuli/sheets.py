"""A sheet for each pair: its originals with the parts outlined, and all pictures made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from captum_shared.report.stimuli.tables import PairSet
from captum_shared.stimuli.plan import EXPECTED
from captum_shared.visualization import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE, TEXT, GAP, MARGIN = 1.25, 0.3, 0.08, 0.08  # inches
COLOUR = "#c2410c"


def pair_sheet(pair: PairSet, predicted: Mapping[str, float]) -> Figure:
    """The originals on the left; on the right a row for each kind: the picture, then its controls."""
    kinds = list(EXPECTED)
    columns = 1 + max(sum(one.kind == kind for one in pair.stimuli.values()) for kind in kinds)
    width = 2 * MARGIN + columns * SIDE + columns * GAP
    height = 2 * MARGIN + len(kinds) * (SIDE + TEXT)
    figure = canvas.new_figure(width, height)

    def cell(row: int, column: int, picture: np.ndarray, title: str) -> Axes:
        left = MARGIN + column * (SIDE + GAP) + (GAP if column else 0)
        top = MARGIN + row * (SIDE + TEXT) + TEXT
        axes = figure.add_axes((left / width, 1 - (top + SIDE) / height, SIDE / width, SIDE / height))
        canvas.show(axes, picture / 255.0)
        middle = (left + SIDE / 2) / width
        figure.text(middle, 1 - (top - 0.03) / height, title, ha="center", va="bottom", fontsize=6.5, **canvas.PLAIN)
        return axes

    for row, kind in enumerate(("image", "reference")):
        file, one = next(each for each in pair.stimuli.items() if each[1].kind == kind)
        axes = cell(row, 0, one.picture, f"{kind}\npredicted {predicted[file]:.2f}")
        part = pair.parts.image if kind == "image" else pair.parts.reference
        axes.contour(part.numpy(), [0.5], colors=COLOUR, linewidths=1.2)
    for row, kind in enumerate(kinds):
        column = 1
        for file, one in pair.stimuli.items():
            if one.kind == kind:
                name = f"control {one.control}" if one.control else kind
                cell(row, column, one.picture, f"{name}\npredicted {predicted[file]:.2f}")
                column += 1
    return figure
