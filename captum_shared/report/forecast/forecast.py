"""`Forecast`: what would be run, how long it would take, and what it would write; tools to measure it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from captum_shared.folders import ReportFolder, report_folder

T = TypeVar("T")
FINISHED = "finished"
STATES = {
    "new": "a new report",
    "unfinished": "where an interrupted run is resumed, so that it takes less",
    "replaced": "where the report of another configuration is replaced",
}


@dataclass(frozen=True)
class Forecast:
    """What would be run: a task in words, for a folder in a state that `foresee` gives."""

    task: str
    out: str | Path
    state: str
    device: str = "cpu"
    stages: list[tuple[str, float]] = field(default_factory=list)  # with seconds
    n_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(seconds for _, seconds in self.stages)

    def __str__(self) -> str:
        if self.state == FINISHED:
            return f"nothing would be run: {self.out} holds this report, whole"
        width = max((len(name) for name, _ in self.stages), default=0)
        lines = [f"would {self.task}", *(f"  {name:{width}}  {duration(seconds)}" for name, seconds in self.stages)]
        if self.stages:
            total = f"about {duration(self.seconds)} on {self.device}, and {size(self.n_bytes)} in {self.out}"
            lines.append(f"{total}, {STATES[self.state]}: an estimate from a small part of the work")
        return "\n".join([*lines, *self.notes, "nothing was written"])


def duration(seconds: float) -> str:
    """A time in words, with two digits at most.

    >>> [duration(seconds) for seconds in (0.2, 14.7, 83, 3700, 200_000)]
    ['less than 1 s', '15 s', '1 min 23 s', '1 h 2 min', '56 h']
    """
    if seconds < 1:
        return "less than 1 s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds) / 60
    if minutes < 60:
        return f"{minutes:.0f} min" if minutes >= 10 else f"{int(minutes)} min {round(seconds) % 60} s"
    hours, rest = divmod(round(minutes), 60)
    return f"{minutes / 60:.0f} h" if hours >= 10 else f"{hours} h {rest} min"


def size(n_bytes: float) -> str:
    """A number of bytes in words.

    >>> [size(n) for n in (900, 2_400_000, 31_000_000_000)]
    ['less than 1 MB', '2 MB', '31 GB']
    """
    if n_bytes < 1e6:
        return "less than 1 MB"
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes < 1e10 else f"{n_bytes / 1e9:.0f} GB"


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """How many seconds some work takes, and what it returns."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


@contextmanager
def scratch() -> Iterator[ReportFolder]:
    """A report's folder for a part of the work, gone at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="captum-shared-") as place,
        report_folder(Path(place) / "report", {"command": "dry run"}) as folder,
    ):
        yield folder


def bytes_of(folder: ReportFolder, pattern: str) -> int:
    """Of the files in a folder whose names fit."""
    return sum(path.stat().st_size for path in folder.path.glob(pattern))
