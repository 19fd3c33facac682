"""Calcium traces in NWB files: the mean of each cell's trace in a window after each start."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pynwb import NWBFile
    from pynwb.ophys import RoiResponseSeries


def series_of(content: NWBFile, name: str | None, path: Path) -> RoiResponseSeries:
    """The RoiResponseSeries of that name, or the only one; with one in dF/F, those of raw fluorescence do not count.

    Raises
    ------
    ValueError
        If there is none, or there are several and none is named.

    Warns
    -----
    UserWarning
        If it holds raw fluorescence.
    """
    from pynwb.ophys import RoiResponseSeries

    every = [item for item in content.objects.values() if isinstance(item, RoiResponseSeries)]
    if not every:
        raise ValueError(f"{path} must have a table of units or calcium traces (RoiResponseSeries), got an empty one "
                         "or none")  # fmt: skip
    relative = [item for item in every if not _is_raw(item)]
    found = [item for item in every if item.name == name] if name is not None else relative or every
    if len(found) != 1:
        known = ", ".join(sorted(f"{item.name} in {item.parent.name}" for item in every))
        raise ValueError(f"`traces` must name one RoiResponseSeries of {path}: {known}; got {name or 'none'}")
    if _is_raw(found[0]):
        warnings.warn(f"the traces {found[0].name} of {path} are raw fluorescence, not dF/F", stacklevel=2)
    return found[0]


def ids_of_cells(series: RoiResponseSeries) -> list[str]:
    """The ids of the cells in their table of regions."""
    ids = series.rois.table.id[:]
    return [str(ids[row]) for row in series.rois.data[:]]


def mean_traces(series: RoiResponseSeries, starts: np.ndarray, window: tuple[float, float], path: Path) -> np.ndarray:
    """Means in the window after each start, (cells, presentations); NaN where no sample lies in it.

    Raises
    ------
    ValueError
        If no sample lies in any window.
    """
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


def _is_raw(series: RoiResponseSeries) -> bool:
    from pynwb.ophys import Fluorescence

    return isinstance(series.parent, Fluorescence)
