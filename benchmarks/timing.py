"""Ratios of time: a path beside its floor, in turns, in one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.benchmark import Timer


@dataclass(frozen=True)
class Row:
    """One line of ``speed.json``: the time of a path over that of its floor.

    Attributes
    ----------
    name, model, layer : str
    ratio, low, high : float
        Median over the rounds, and the quarters of them below and above it.
    seconds, floor : float
        Medians of both.
    """

    name: str
    model: str
    layer: str
    ratio: float
    low: float
    high: float
    seconds: float
    floor: float


def compare(name: str, model: str, layer: str, path: Callable[[], Any], floor: Callable[[], Any], rounds: int) -> Row:
    """Both once to warm up, then in turns; who goes first alternates, so that a drift of the machine favours none."""
    timers = [Timer("run()", globals={"run": run}) for run in (path, floor)]
    for timer in timers:
        timer.timeit(1)
    pairs = [_one_round(timers, turned=bool(i % 2)) for i in range(rounds)]
    low, ratio, high = _quartiles([path / floor for path, floor in pairs])
    seconds, floors = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Row(name, model, layer, ratio, low, high, seconds, floors)


def _one_round(timers: list[Timer], turned: bool) -> tuple[float, float]:
    order = (1, 0) if turned else (0, 1)
    seconds = {which: timers[which].timeit(1).median for which in order}
    return seconds[0], seconds[1]


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
