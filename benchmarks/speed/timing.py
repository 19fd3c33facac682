"""Ratios of time: a path beside its floor, in turns, in one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch.utils.benchmark.utils.timer import timer as clock


@dataclass(frozen=True)
class Timing:
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


def compare(
    name: str,
    model: str,
    layer: str,
    path: Callable[[], object],
    floor: Callable[[], object],
    rounds: int,
    *,
    seconds: float | None = None,
) -> Timing:
    """Both once to warm up, then in turns; who goes first alternates, so that a drift of the machine favours none.

    With `seconds`, no more rounds than fit into them, but three at least.
    """
    warm = seconds_of(path) + seconds_of(floor)
    if seconds is not None:
        rounds = min(rounds, max(3, int(seconds / warm)))
    pairs = [_one_round((path, floor), turned=bool(i % 2)) for i in range(rounds)]
    low, ratio, high = _quartiles([path / floor for path, floor in pairs])
    own, floors = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Timing(name, model, layer, ratio, low, high, own, floors)


def fastest(choices: Sequence[int], run: Callable[[int], object], repeats: int = 2) -> int:
    """The choice with which `run` takes the least time: once to warm up, then the best of some repeats."""
    for choice in choices:
        run(choice)
    times = [min(seconds_of(partial(run, choice)) for _ in range(repeats)) for choice in choices]
    return choices[times.index(min(times))]


def _one_round(runs: tuple[Callable[[], object], Callable[[], object]], turned: bool) -> tuple[float, float]:
    seconds = {which: seconds_of(runs[which]) for which in ((1, 0) if turned else (0, 1))}
    return seconds[0], seconds[1]


def seconds_of(run: Callable[[], object]) -> float:
    """One run by the clock of torch.utils.benchmark, which waits for the device; its `Timer` would run three times."""
    start = clock()
    run()
    return float(clock() - start)


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
