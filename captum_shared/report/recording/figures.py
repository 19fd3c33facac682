"""Figures of one neuron and of the population, built without pyplot, like all figures of the package."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from captum_shared.readout import noise_ceiling
from captum_shared.report.recording.mosaic import GAP, draw_heat, draw_pairs
from captum_shared.visualization.canvas import new_figure, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PREFERRED, OTHER, INK = "#c2410c", "#8a94a3", "#27303d"
PITCH, TOP, LABELS = 1.62, 2.55, 0.9  # inches: from panel to panel, of the plots, of what is written below them


@dataclass(frozen=True)
class NeuronPicture:
    """All that the figure of a neuron shows, of n stimuli and P pairs."""

    heading: str
    tuning: Sequence[tuple[str, float, float]]  # category, mean, standard error; without, all responses are ranked
    preferred: str  # what the stimuli of `member` are called: a category, or drivers
    recorded: np.ndarray
    predicted: np.ndarray
    member: np.ndarray
    images: Sequence[tuple[Tensor, Tensor]] = ()  # drivers and references (3, H, W) in [0, 1]
    titles: Sequence[tuple[str, str]] = ()
    maps: Sequence[np.ndarray] = ()  # (P, 2, H, W) of each kind: pixels, layer


def neuron_figure(picture: NeuronPicture) -> Figure:
    """Tuning and prediction above; below, a column per pair: driver, its heat, the reference's heat, reference."""
    n = max(len(picture.images), 5)
    width, height = n * PITCH + 0.75, TOP + LABELS + (2 + 2 * len(picture.maps)) * PITCH + 0.26
    figure = new_figure(width, height)
    figure.text(0.12 / width, 1 - 0.14 / height, picture.heading, va="top", **_text(11))
    draw = _tuning if picture.tuning else _ranked
    draw(figure.add_axes(_box(figure, 0.65, height - TOP, width * 0.5 - 0.95, TOP - 0.95)), picture)
    _prediction(figure.add_axes(_box(figure, width * 0.5 + 0.6, height - TOP, width * 0.5 - 0.9, TOP - 0.95)), picture)
    _pairs(figure, 0.6, height - TOP - LABELS, picture)
    return figure


def thumbnail(images: tuple[Tensor, Tensor], maps: np.ndarray) -> Figure:
    """The heat of one pair, small: driver, then reference."""
    figure = new_figure(2.44, 1.2)
    draw_heat(figure.add_axes((0, 0, 1, 1)), images, maps)
    return figure


def generalization_figure(raw: np.ndarray, corrected: np.ndarray) -> Figure:
    """Figure 3a of the paper: how well out-of-category responses are predicted from within the category."""
    figure = new_figure(4.8, 3.4)
    ax = figure.add_axes((0.13, 0.16, 0.83, 0.66))
    shown = [values[np.isfinite(values)] for values in (raw, corrected)]
    edges = np.linspace(*_limits(np.concatenate([*shown, [0.0]])), 22).tolist()
    for values, colour, label in zip(shown, (OTHER, PREFERRED), ("raw", "ceiling-corrected"), strict=True):
        if len(values):
            median = f"{label}, median {np.median(values):.2f}"
            ax.hist(values, edges, color=colour, alpha=0.65, label=median)
            ax.axvline(np.median(values), color=colour, linewidth=1.5)
    ax.axvline(0, color=INK, linewidth=0.8, linestyle=":")
    _dress(ax, "correlation with recorded out-of-category responses", "neurons", "Fitted within the category only")
    _whole_numbers(ax)
    _legend(ax)
    return figure


def drivers_figure(means: Sequence[float], responses: Sequence[Sequence[float]]) -> Figure:
    """Figure 3b of the paper: each neuron's drivers against its mean response."""
    figure = new_figure(4.8, 3.4)
    ax = figure.add_axes((0.15, 0.16, 0.81, 0.66))
    x = np.repeat(np.asarray(means, dtype=float), [len(values) for values in responses])
    y = np.array([value for values in responses for value in values], dtype=float)
    ax.scatter(x, y, s=14, color=PREFERRED, alpha=0.6, linewidths=0, label="driver")
    low, high = _limits(np.concatenate([x, y, [0.0]]))
    ax.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle=":", label="equal")
    _dress(ax, "neuron's mean response", "response to driver", "Drivers against the mean response")
    _legend(ax)
    return figure


def reliability_figure(reliability: np.ndarray, cv_r: np.ndarray, explained: np.ndarray) -> Figure:
    """Prediction against reliability, with the noise ceiling."""
    figure = new_figure(4.8, 3.4)
    ax = figure.add_axes((0.15, 0.16, 0.81, 0.66))
    for part, colour, label in ((explained, PREFERRED, "explained"), (~explained, OTHER, "not explained")):
        if part.any():
            ax.scatter(reliability[part], cv_r[part], s=18, color=colour, alpha=0.8, linewidths=0, label=label)
    line = np.linspace(0.001, 1, 200)
    ax.plot(line, noise_ceiling(line), color=INK, linewidth=1, label="noise ceiling")
    ax.set_xlim(0, 1.02)
    ax.set_ylim(min(0.0, float(np.nanmin(cv_r, initial=0.0)) - 0.05), 1.05)
    _dress(ax, "reliability (split half, Spearman-Brown)", "cross-validated r", "Prediction against reliability")
    _legend(ax)
    return figure


def reuse_figure(counts: Sequence[tuple[str, int]], most: int = 20) -> Figure:
    """How often the most used references were chosen."""
    shown = list(counts)[:most]
    figure = new_figure(4.8, 3.4)
    ax = figure.add_axes((0.12, 0.34, 0.85, 0.54))
    ax.bar(range(len(shown)), [count for _, count in shown], color=OTHER)
    _name_bars(ax, [short(name) for name, _ in shown], 60)
    _dress(ax, "", "pairs", f"The {len(shown)} most used of {len(counts)} references")
    _whole_numbers(ax)
    return figure


def png_bytes(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as PNG, encoded fast rather than small."""
    buffer = io.BytesIO()
    fast = {"compress_level": 3}  # encodes in under half the time of 6, for 3 % more bytes
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs=fast)
    return buffer.getvalue()


def _tuning(ax: Axes, picture: NeuronPicture) -> None:
    names, means, errors = zip(*picture.tuning, strict=True)
    colours = [PREFERRED if name == picture.preferred else OTHER for name in names]
    ax.bar(range(len(names)), means, yerr=errors, color=colours, error_kw={"elinewidth": 0.8, "ecolor": INK})
    _name_bars(ax, [short(name, 14) for name in names], 35 if len(names) > 5 else 0)
    _dress(ax, "", "mean response", "Tuning by category (mean, s.e.m.)")


def _ranked(ax: Axes, picture: NeuronPicture) -> None:
    """Every response, the largest first, without categories."""
    order = np.argsort(-picture.recorded, kind="stable")
    for part, colour, label in ((~picture.member, OTHER, "other"), (picture.member, PREFERRED, picture.preferred)):
        places = np.flatnonzero(part[order])
        ax.scatter(places + 1, picture.recorded[order][places], s=7, color=colour, linewidths=0, label=label)
    _dress(ax, "rank of the stimulus", "response", "Every response")
    _legend(ax)


def _prediction(ax: Axes, picture: NeuronPicture) -> None:
    for part, colour, label in (
        (~picture.member, OTHER, "other"),
        (picture.member, PREFERRED, short(picture.preferred, 14)),
    ):
        ax.scatter(
            picture.predicted[part], picture.recorded[part], s=7, color=colour, alpha=0.6, linewidths=0, label=label
        )
    _dress(ax, "predicted (cross-validated)", "recorded", "Every stimulus")
    _legend(ax)


def _legend(ax: Axes) -> None:
    """In a row between title and axes, where it covers no data."""
    handles, _ = ax.get_legend_handles_labels()
    if not handles:
        return
    ax.set_title(ax.get_title(), pad=20, **_text(9.5))
    ax.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(handles), fontsize=8, frameon=False, borderpad=0.2,
        columnspacing=1.2, handletextpad=0.3, handlelength=1.2,
    )  # fmt: skip


def _whole_numbers(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _name_bars(ax: Axes, names: Sequence[str], rotation: float) -> None:
    ax.set_xticks(range(len(names)), names)
    for label in ax.get_xticklabels():
        label.set(rotation=rotation, ha="right" if rotation else "center", rotation_mode="anchor", parse_math=False)


def _pairs(figure: Figure, left: float, top: float, picture: NeuronPicture) -> None:
    """The pairs' panels below `top`, in inches, with labels for rows and images."""
    width, height = figure.get_size_inches()
    n, gap = len(picture.images), PITCH * GAP / (1 + GAP)
    sides = [f"shared\n({side})" for side in ("driver", "reference") for _ in picture.maps]
    rows = ("driver", *sides, "reference")
    box = (left, top - len(rows) * PITCH + gap, n * PITCH - gap, len(rows) * PITCH - gap)
    draw_pairs(figure.add_axes(_box(figure, *box)), picture.images, picture.maps)
    for row, label in enumerate(rows):
        y = (top - (row + 0.5) * PITCH) / height
        figure.text(0.3 / width, y, label, rotation=90, ha="center", va="center", **_text(8.5))
    for column, (driver, reference) in enumerate(picture.titles):
        x = (left + (column + 0.5) * PITCH - gap / 2) / width
        figure.text(x, (top + 0.05) / height, short(driver, 26), ha="center", va="bottom", **_text(7))
        figure.text(x, (box[1] - 0.05) / height, short(reference, 26), ha="center", va="top", **_text(7))


def _box(figure: Figure, left: float, bottom: float, width: float, height: float) -> tuple[float, float, float, float]:
    """Inches to fractions of the figure."""
    w, h = figure.get_size_inches()
    return left / w, bottom / h, width / w, height / h


def _dress(ax: Axes, x: str, y: str, title: str) -> None:
    ax.set_xlabel(x, **_text(8.5))
    ax.set_ylabel(y, **_text(8.5))
    ax.set_title(title, **_text(9.5))
    ax.tick_params(labelsize=8, colors=INK)
    ax.grid(False)
    for edge in ("top", "right"):
        ax.spines[edge].set_visible(False)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low or 1.0)
    return low - room, high + room


def _text(size: float) -> dict[str, Any]:
    return {"fontsize": size, "color": INK, "parse_math": False}
