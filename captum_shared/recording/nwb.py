"""Recordings in NWB files: spikes of units, counted in a window after the start of each trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pynwb import NWBFile

WINDOW = (0.05, 0.25)
"""Seconds after the trial's start; ours, for latencies of visual cortex. Say what fits your recording."""


def read_nwb(
    path: Path,
    window: Sequence[float] = WINDOW,
    stimulus_column: str = "stimulus",
    category_column: str = "category",
) -> tuple[np.ndarray, list[str], list[str] | None, list[str]]:
    """Spike counts, files, categories and unit ids of an NWB file.

    Parameters
    ----------
    path : Path
    window : (start, stop), default (0.05, 0.25)
        Seconds after the trial's start, start included, stop excluded.
    stimulus_column, category_column : str
        Columns of the trials table: the image's file name, and its category, if there is one.

    Raises
    ------
    ImportError
        If pynwb is not installed.
    ValueError
        If there are no units or trials, columns are missing, the window is empty, or one image has two categories.
    """
    try:
        from pynwb import NWBHDF5IO
    except ImportError as error:
        raise ImportError("reading NWB needs pynwb: pip install 'captum-shared[nwb]'") from error
    start, stop = window
    if not start < stop:
        raise ValueError(f"`window` must be (start, stop) with start < stop, got {window}")
    try:
        with NWBHDF5IO(str(path), "r") as file:
            return _read(file.read(), path, (start, stop), stimulus_column, category_column)
    except OSError as error:
        raise ValueError(f"{path} is not a readable NWB file: {error}") from error


def _read(
    content: NWBFile, path: Path, window: tuple[float, float], stimulus_column: str, category_column: str
) -> tuple[np.ndarray, list[str], list[str] | None, list[str]]:
    trials, units = content.trials, content.units
    if trials is None or units is None or len(trials) == 0 or len(units) == 0:
        raise ValueError(f"{path} must have a table of trials and one of units, got an empty one or none")
    if stimulus_column not in trials.colnames:
        raise ValueError(f"the trials of {path} must have a column {stimulus_column!r}, got {list(trials.colnames)}")
    names = [str(name) for name in trials[stimulus_column][:]]
    files = list(dict.fromkeys(names))
    trials_of = {name: [t for t, other in enumerate(names) if other == name] for name in files}
    starts = np.asarray(trials["start_time"][:], dtype=float)
    counts = np.stack([_counts(np.asarray(units["spike_times"][u]), starts, window) for u in range(len(units))])
    responses = np.full((len(units), len(files), max(map(len, trials_of.values()))), np.nan)
    for stimulus, name in enumerate(files):
        responses[:, stimulus, : len(trials_of[name])] = counts[:, trials_of[name]]
    categories = None
    if category_column in trials.colnames:
        categories = _categories([str(kind) for kind in trials[category_column][:]], trials_of, path)
    return responses, files, categories, [str(unit) for unit in units.id[:]]


def _counts(spikes: np.ndarray, starts: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Spikes (n,) in the window after each start (trials,)."""
    ordered = np.sort(spikes)
    first, last = (np.searchsorted(ordered, starts + edge, side="left") for edge in window)
    return (last - first).astype(float)


def _categories(kinds: list[str], trials_of: dict[str, list[int]], path: Path) -> list[str]:
    mixed = [name for name, trials in trials_of.items() if len({kinds[t] for t in trials}) > 1]
    if mixed:
        raise ValueError(f"{path} must give each image one category, got several for {', '.join(mixed[:10])}")
    return [kinds[trials[0]] for trials in trials_of.values()]
