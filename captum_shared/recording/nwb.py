"""Recordings in NWB files: spikes of units or traces of cells, in a window after the start of each presentation."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captum_shared.labels import places_of
from captum_shared.recording.found import Found, Selection, by_stimulus, chosen, one_each, text_of

if TYPE_CHECKING:
    from pynwb import NWBFile
    from pynwb.core import DynamicTable
    from pynwb.epoch import TimeIntervals
    from pynwb.ophys import RoiResponseSeries

WINDOW = (0.05, 0.25)
"""Seconds after the start of a presentation; ours, for latencies of visual cortex. Say what fits your recording."""


def read_nwb(
    path: Path,
    *,
    window: Sequence[float] = WINDOW,
    stimulus_column: str = "stimulus",
    category_column: str = "category",
    intervals: str | None = None,
    traces: str | None = None,
    select: Selection | None = None,
) -> Found:
    """Spike counts of units, or means of calcium traces; files, categories and ids.

    Parameters
    ----------
    path : Path
    window : (start, stop), default (0.05, 0.25)
        Seconds after the start of a presentation, start included, stop excluded.
    stimulus_column, category_column : str
        Columns of the table of presentations: the image's file name, and its category, if there is one.
    intervals : str, optional
        The table of presentations: trials, or the name of any other table of intervals. Default: trials, or the only
        table there is.
    traces : str, optional
        Name of a RoiResponseSeries: responses are its means in the window. Default: spike counts of the units, or, if
        there are none, the only such series there is.
    select : mapping, optional
        Values of columns of the units, or of the cells: {"location": "V4"}. Default: all.
    """
    start, stop = window
    if not start < stop:
        raise ValueError(f"`window` must be (start, stop) with start < stop, got {window}")
    with _opened(path) as content:
        table = _presentations(content, intervals, path)
        if stimulus_column not in table.colnames:
            raise ValueError(f"the {table.name} of {path} must have a column {stimulus_column!r}, got "
                             f"{list(table.colnames)}")  # fmt: skip
        places = places_of(str(name) for name in table[stimulus_column][:])
        starts = np.asarray(table["start_time"][:], dtype=float)
        values, ids = _responses(content, starts, (start, stop), traces, select, path)
        kinds = None
        if category_column in table.colnames:
            kinds = one_each([str(kind) for kind in table[category_column][:]], places, path)
        return Found(by_stimulus(values, places), list(places), kinds, ids)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[NWBFile]:
    """What is in a file; of damaged ones, pynwb raises whatever comes on opening, and h5py some of it later."""
    try:
        from pynwb import NWBHDF5IO
    except ImportError as error:
        raise ImportError("reading NWB needs pynwb: pip install 'captum-shared[nwb]'") from error
    with contextlib.ExitStack() as stack:
        try:
            content = stack.enter_context(NWBHDF5IO(str(path), "r")).read()
        except Exception as error:
            raise ValueError(f"{path} is not a readable NWB file: {error}") from error
        try:
            yield content
        except (OSError, RuntimeError, KeyError, UnicodeError) as error:
            raise ValueError(f"{path} is not a readable NWB file: {error}") from error


def _presentations(content: NWBFile, name: str | None, path: Path) -> TimeIntervals:
    """The table of presentations."""
    tables = {str(key): table for key, table in (content.intervals or {}).items()}
    if content.trials is not None:
        tables["trials"] = content.trials
    if name is None:
        name = "trials" if "trials" in tables else next(iter(tables), None) if len(tables) == 1 else None
    if name not in tables or len(tables[name]) == 0:
        known = ", ".join(f"{key} ({len(table)} rows)" for key, table in sorted(tables.items())) or "none"
        raise ValueError(f"{path} must have a table of trials, or `intervals` must name another table of intervals "
                         f"that is not empty; there are {known}")  # fmt: skip
    return tables[name]


def _responses(
    content: NWBFile,
    starts: np.ndarray,
    window: tuple[float, float],
    traces: str | None,
    select: Selection | None,
    path: Path,
) -> tuple[np.ndarray, list[str]]:
    """Responses (neurons, presentations), and the neurons' names."""
    units = content.units
    if traces is None and units is not None and len(units) > 0:
        keep = _kept(units, np.arange(len(units)), select, path)
        counts = [_counts(np.asarray(units["spike_times"][u], dtype=float), starts, window) for u in keep]
        return np.stack(counts), [str(units.id[u]) for u in keep]
    series = _series_of(content, traces, path)
    rows, ids = np.asarray(series.rois.data[:], dtype=int), series.rois.table.id[:]
    keep = _kept(series.rois.table, rows, select, path)
    return _mean_traces(series, starts, window, path)[keep], [str(ids[rows[k]]) for k in keep]


def _kept(table: DynamicTable, rows: np.ndarray, select: Selection | None, path: Path) -> np.ndarray:
    """The places, among some rows of a table, of what is selected by its columns of text and numbers."""
    properties: dict[str, list[str]] = {}
    for name in table.colnames if select else ():
        values = [] if hasattr(table[name], "target") else list(table[name].data[:])  # with a target, it is an index
        if values and all(isinstance(value, (str, bytes, int, float, np.number, np.bool_)) for value in values):
            properties[name] = [text_of(values[row]) for row in rows]
    return chosen(properties, select, len(rows), path)


def _counts(spikes: np.ndarray, starts: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Spikes (n,) in the window after each start (presentations,)."""
    ordered = np.sort(spikes)
    first, last = (np.searchsorted(ordered, starts + edge, side="left") for edge in window)
    return (last - first).astype(float)


def _series_of(content: NWBFile, name: str | None, path: Path) -> RoiResponseSeries:
    """The RoiResponseSeries of that name, or the only one; with one in dF/F, those of raw fluorescence do not count."""
    from pynwb.ophys import Fluorescence, RoiResponseSeries

    every = [item for item in content.objects.values() if isinstance(item, RoiResponseSeries)]
    if not every:
        raise ValueError(f"{path} must have a table of units or calcium traces (RoiResponseSeries), got an empty one "
                         "or none")  # fmt: skip
    relative = [item for item in every if not isinstance(item.parent, Fluorescence)]
    found = [item for item in every if item.name == name] if name is not None else relative or every
    if len(found) != 1:
        known = ", ".join(sorted(f"{item.name} in {item.parent.name}" for item in every))
        raise ValueError(f"`traces` must name one RoiResponseSeries of {path}: {known}; got {name or 'none'}")
    if isinstance(found[0].parent, Fluorescence):
        warnings.warn(f"the traces {found[0].name} of {path} are raw fluorescence, not dF/F", stacklevel=2)
    return found[0]


def _mean_traces(series: RoiResponseSeries, starts: np.ndarray, window: tuple[float, float], path: Path) -> np.ndarray:
    """Means in the window after each start, (cells, presentations); NaN where no sample lies in it."""
    data = np.asarray(series.data[:], dtype=float).reshape(len(series.data), -1)  # (samples, cells)
    values = data * series.conversion + series.offset
    first, last = (np.searchsorted(_times(series), starts + edge, side="left") for edge in window)
    if not (first < last).any():
        raise ValueError(f"no sample of the traces {series.name} of {path} lies {window[0]:g} to {window[1]:g} s after "
                         "a presentation's start")  # fmt: skip
    means = np.full((values.shape[1], len(starts)), np.nan)
    for place, (start, stop) in enumerate(zip(first, last, strict=True)):
        if start < stop:
            means[:, place] = values[start:stop].mean(axis=0)
    return means


def _times(series: RoiResponseSeries) -> np.ndarray:
    """When each sample was taken, in seconds."""
    if series.timestamps is not None:
        return np.asarray(series.timestamps[:], dtype=float)
    return float(series.starting_time) + np.arange(len(series.data)) / float(series.rate)
