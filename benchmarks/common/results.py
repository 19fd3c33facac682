"""Results: kept one by one, so that a run can be resumed; then a long table, a Markdown table and plots."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.common.intervals import unit_interval
from captum_shared.files import sha256, write_csv, write_text
from captum_shared.store import Identity, Store

Content = dict[str, Any]
"""What JSON can hold."""
HEADER = ("game", "condition", "method", "rule", "image", "metric", "value", "ci_low", "ci_high")


@dataclass(frozen=True)
class Result:
    """One line of the long table: a mean over neurons with its 95 % interval."""

    game: str
    condition: str
    method: str
    rule: str
    image: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    neurons: int = 0
    """How many the mean is over; not in the long table, whose columns are fixed."""

    @property
    def row(self) -> str:
        return f"{self.method} {self.rule}".strip()


class ResultStore:
    """Results in the package's `Store`, each under the settings of the run and its own key."""

    def __init__(self, folder: Path, settings: Content) -> None:
        self._store, self._settings = Store(folder), settings

    def get(self, key: Content) -> Content | None:
        """What was kept under this key; None if there is nothing, or if it is damaged, which a warning says."""
        kept = self._store.read("result", self._identity(key))
        return None if kept is None else cast(Content, kept[1])

    def put(self, key: Content, content: Content) -> None:
        """Keep what JSON can hold."""
        self._store.write("result", self._identity(key), {}, content)

    def _identity(self, key: Content) -> Identity:
        return Identity(sha256(json.dumps([self._settings, key], sort_keys=True).encode()))


def finish(program: str, out: str | Path, work: Callable[[], object]) -> int:
    """Do the work of a command, and print its ``table.md`` or, in one line, what went wrong; the exit status."""
    try:
        work()
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        print(f"benchmarks.{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print((Path(out) / "table.md").read_text())
    return 0


def summarize(
    game: str, condition: str, row: tuple[str, str], neurons: Sequence[dict[str, dict[str, float]]]
) -> list[Result]:
    """The results of one row: its scores per neuron (image -> metric -> value), averaged."""
    figures = []
    for image, metrics in neurons[0].items():
        for metric in metrics:
            values = [own[image][metric] for own in neurons if np.isfinite(own[image][metric])]
            if values:
                low, high = unit_interval(values)
                figures.append(Result(game, condition, *row, image, metric, float(np.mean(values)), low, high,
                                      len(values)))  # fmt: skip
    return figures


def write_long(path: Path, figures: Iterable[Result]) -> None:
    """The long table as CSV."""
    lines = [[getattr(figure, column) for column in HEADER] for figure in figures]
    rows = [[f"{v:.6f}" if isinstance(v, float) else v for v in line] for line in lines]
    write_csv(path, HEADER, rows)


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [" | ".join(str(cell) for cell in row) for row in (header, *rows)]
    lines = [f"| {line} |" for line in lines]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def markdown_table(figures: Sequence[Result], condition: str, metrics: Sequence[str], image: str = "query") -> str:
    """A row for each method, a column for each metric; cells are mean [low, high]."""
    chosen = {(f.method, f.rule, f.metric): f for f in figures if f.condition == condition and f.image == image}
    rows = dict.fromkeys((method, rule) for method, rule, _ in chosen)
    lines = [(*row, *(_cell(chosen.get((*row, metric))) for metric in metrics)) for row in rows]
    return markdown(["method", "rule", *(m.replace("_", " ") for m in metrics)], lines)


def axis_table(
    figures: Sequence[Result], rows: Sequence[tuple[str, str]], metric: str, image: str = "query", unit: str = "neurons"
) -> str:
    """One metric: a row for each condition with its number of neurons (or other units), a column for each method."""
    chosen = {(f.condition, f.method, f.rule): f for f in figures if f.metric == metric and f.image == image}
    conditions = {f.condition: f.neurons for f in chosen.values()}
    lines = [(name, n, *(_cell(chosen.get((name, *row))) for row in rows)) for name, n in conditions.items()]
    return markdown(["condition", unit, *(" ".join(row).strip() for row in rows)], lines)


def write_table(path: Path, sections: Sequence[tuple[str, str]]) -> None:
    """Write sections (heading, text) to a Markdown file."""
    write_text(path, "\n\n".join(f"## {heading}\n\n{body}" for heading, body in sections) + "\n")


def _cell(figure: Result | None) -> str:
    return "" if figure is None else f"{figure.value:.2f} [{figure.ci_low:.2f}, {figure.ci_high:.2f}]"


def plot_bars(path: Path, figures: Sequence[Result], condition: str, metric: str, *, chance: float = 0.5) -> None:
    """One point with its interval for each method, in the order of the table; nothing if there is none."""
    from matplotlib.figure import Figure

    from captum_shared.files import write_figure

    chosen = [f for f in figures if (f.condition, f.metric, f.image) == (condition, metric, "query")]
    if not chosen:
        return
    canvas = Figure(figsize=(7, 1.2 + 0.24 * len(chosen)), layout="constrained")
    axes = canvas.subplots()
    for place, f in enumerate(chosen):
        color = "tab:red" if "ParallelBackprop" in f.method else "0.35"
        axes.plot([f.ci_low, f.ci_high], [place, place], color=color, lw=2)
        axes.plot(f.value, place, "o", color=color, ms=5)
    axes.axvline(chance, color="0.7", lw=1, ls="--", zorder=0)
    axes.set_yticks(range(len(chosen)), [f.row for f in chosen], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"{metric.replace('_', ' ')}\n95 % intervals; dashed: chance", fontsize=9)
    axes.set_title(condition, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    write_figure(path, canvas)


def plot_axis(
    path: Path, figures: Sequence[Result], conditions: dict[float, str], rows: Sequence[tuple[str, str]],
    metric: str, label: str, *, chance: float = 0.5,
) -> None:  # fmt: skip
    """A metric along an axis, one line for each method; nothing if there are fewer than two conditions to join."""
    from matplotlib.figure import Figure

    from captum_shared.files import write_figure

    chosen = {(f.condition, f.method, f.rule): f for f in figures if f.metric == metric and f.image == "query"}
    if len({f.condition for f in chosen.values()} & set(conditions.values())) < 2:
        return
    canvas = Figure(figsize=(8, 3.6), layout="constrained")
    axes = canvas.subplots()
    spread = 0.006 * (max(conditions) - min(conditions))  # so that equal values do not hide each other
    for place, row in enumerate(rows):
        found = [(x, chosen.get((condition, *row))) for x, condition in sorted(conditions.items())]
        points = [(x, figure) for x, figure in found if figure is not None]
        if points:
            xs = [x + spread * (place - len(rows) / 2) for x, _ in points]
            (line,) = axes.plot(xs, [f.value for _, f in points], "o-", ms=4, label=" ".join(row).strip())
            lows, highs = [f.ci_low for _, f in points], [f.ci_high for _, f in points]
            axes.vlines(xs, lows, highs, color=line.get_color(), alpha=0.6, lw=1.2)
    axes.axhline(chance, color="0.7", lw=1, ls="--", zorder=0)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(label)
    axes.set_ylabel(metric.replace("_", " "))
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    write_figure(path, canvas)
