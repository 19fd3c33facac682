"""Pictures of populations of units: distributions of indices, grids of features, a sheet per unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from captum_shared.visualization.canvas import PLAIN, new_figure, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, EMPTY = "#3b6ea5", "#d98032", "#8a8a8a", 0.93
COLUMNS, BINS = 6, 24


def distribution_figure(
    values: Mapping[str, Mapping[str, np.ndarray]], chance: Mapping[str, Mapping[str, float]] | None = None
) -> Figure:
    """Histograms of indices over units: a row per layer, a column per index, one scale per column.

    `values` has arrays (U,) by layer and index; NaN is left out. A line marks the mean, a dashed one what `chance` has.
    """
    layers, names = list(values), list(next(iter(values.values())))
    figure = new_figure(0.65 + 1.9 * len(names), 0.55 + 1.35 * len(layers))
    grid = figure.subplots(len(layers), len(names), squeeze=False)
    width, height = figure.get_size_inches()
    figure.subplots_adjust(0.75 / width, 0.35 / height, 0.985, 1 - 0.35 / height, wspace=0.28, hspace=0.35)
    for column, name in enumerate(names):
        known = [values[layer][name][~np.isnan(values[layer][name])] for layer in layers]
        edges = _edges(np.concatenate(known), BINS)
        for row, (layer, shown) in enumerate(zip(layers, known, strict=True)):
            ax = grid[row][column]
            _histogram(ax, shown, edges, (chance or {}).get(layer, {}).get(name))
            if row == 0:
                ax.set_title(name, fontsize=9, **PLAIN)
            if column == 0:
                ax.set_ylabel(f"{short(layer, 20)}\nunits (%)", fontsize=8, **PLAIN)
    return figure


def feature_grid(pictures: Sequence[np.ndarray], titles: Sequence[str], heading: str) -> Figure:
    """Pictures (h, w, 3) side by side, each with a title of one or two lines; NaN is light grey."""
    rows = max(1, math.ceil(len(pictures) / COLUMNS))
    pitch = 1.48 + 0.12 * max((title.count("\n") for title in titles), default=0)
    width, height = 8.4, 0.4 + rows * pitch
    figure = new_figure(width, height)
    figure.text(0.12 / width, 1 - 0.12 / height, heading, va="top", fontsize=11, **PLAIN)
    for i, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        column, row = i % COLUMNS, i // COLUMNS
        left, bottom = 0.12 + column * 1.38, height - 0.4 - (row + 1) * pitch + 0.04
        ax = figure.add_axes((left / width, bottom / height, 1.26 / width, 1.26 / height))
        _picture(ax, picture)
        ax.set_title(title, fontsize=7.5, pad=3, **PLAIN)
    return figure


def unit_sheet(
    heading: str,
    feature: np.ndarray,
    crops: Sequence[np.ndarray],
    facts: Mapping[str, str],
    shares: Mapping[str, tuple[float, float]],
) -> Figure:
    """One unit: its feature (h, w, 3), its strongest crops (up to 24), its indices, and the classes that drive it.

    `facts` are indices and their values; `shares` are each class's f_c, plain and divided by base rates.
    """
    width, height = 11.0, 4.3
    figure = new_figure(width, height)
    figure.text(0.15 / width, 1 - 0.13 / height, heading, va="top", fontsize=11, **PLAIN)
    _picture(figure.add_axes((0.15 / width, 1.75 / height, 2.1 / width, 2.1 / height)), feature)
    figure.text(0.15 / width, 1.6 / height, "\n".join(facts), va="top", fontsize=7.5, linespacing=1.35, **PLAIN)
    figure.text(
        2.25 / width, 1.6 / height, "\n".join(facts.values()), va="top", ha="right", fontsize=7.5, linespacing=1.35,
        **PLAIN,
    )  # fmt: skip
    for i, crop in enumerate(crops[: 4 * COLUMNS]):
        left, bottom = 2.5 + i % COLUMNS * 0.93, height - 0.45 - (i // COLUMNS + 1) * 0.93
        _picture(figure.add_axes((left / width, bottom / height, 0.88 / width, 0.88 / height)), crop)
    _bars(figure.add_axes((9.3 / width, 0.45 / height, 1.55 / width, 3.3 / height)), shares)
    return figure


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Edges of bins from 0 to 1, or as far as values go; one bin around each value if there are few, evenly spaced."""
    if values.size == 0:
        return np.linspace(0, 1, bins + 1)
    different = np.unique(values.round(9))
    step = np.diff(different).min(initial=1.0)
    if different[-1] - different[0] < bins * step:  # few values, evenly spaced: a bin around each
        return np.arange(different[0] - step / 2, different[-1] + step, step)
    low = max(min(values.min(), 0.0), np.quantile(values, 0.01))  # a few values far below zero would hide the rest
    return np.linspace(low, max(values.max(), 1.0), bins + 1)


def _histogram(ax: Axes, values: np.ndarray, edges: np.ndarray, chance: float | None) -> None:
    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    ax.bar(edges[:-1], 100 * counts / max(values.size, 1), np.diff(edges), align="edge", color=BLUE, linewidth=0)
    if values.size:
        ax.axvline(float(values.mean()), color=ORANGE, linewidth=1.4)
        digits = 3 if values.min() > 0.5 > values.std() * 5 else 2
        note = ax.text(0.5, 0.99, f"mean {values.mean():.{digits}f}", ha="center", va="top", fontsize=7.5, **PLAIN)
        note.set_transform(ax.transAxes)
        note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
    if chance is not None:
        ax.axvline(chance, color=GREY, linewidth=1.2, linestyle=(0, (3, 2)))
    _bare(ax)
    ax.margins(y=0.3)


def _bars(ax: Axes, shares: Mapping[str, tuple[float, float]]) -> None:
    names = sorted((name for name in shares if max(shares[name]) > 0), key=lambda name: -max(shares[name]))[:8]
    where = np.arange(len(names))
    ax.barh(where - 0.2, [shares[name][0] for name in names], 0.38, color=BLUE, label="share of weight")
    ax.barh(where + 0.2, [shares[name][1] for name in names], 0.38, color=ORANGE, label="by base rate")
    ax.set_ylim(max(len(names), 5) - 0.4, -0.6)  # the first above, and no bar thicker than of five
    ax.legend(fontsize=6.5, frameon=False, loc="lower right", bbox_to_anchor=(1.05, 1.0), borderpad=0)
    _bare(ax)
    ax.set_yticks(where, [short(name) for name in names], fontsize=7, **PLAIN)


def _bare(ax: Axes) -> None:
    ax.grid(False)
    ax.set_facecolor("white")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=7, length=2, colors="0.25")


def _picture(ax: Axes, picture: np.ndarray) -> None:
    ax.set_axis_off()
    ax.imshow(
        np.where(np.isnan(picture), EMPTY, picture).clip(0, 1), origin="upper", aspect="equal", interpolation="nearest"
    )
