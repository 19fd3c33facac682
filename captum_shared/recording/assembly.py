"""Brain-Score's assemblies: neuroid x presentation x time_bin in netCDF, and a stimulus set in a CSV beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captum_shared.recording.found import Found, by_stimulus, one_each, places_of, text_of
from captum_shared.recording.properties import Selection, chosen
from captum_shared.tables import Table, read_table

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

DIMENSIONS = ("neuroid", "presentation", "time_bin")
IDS = ("stimulus_id", "image_id")
FILES = ("filename", "image_file_name", "file")
CATEGORIES = ("category_name", "category", "object_name")
SUBJECTS = ("subject", "animal")


def read_assembly(
    dataset: Dataset,
    responses: DataArray,
    path: Path,
    *,
    window: Sequence[float] | None = None,
    select: Selection | None = None,
    category_column: str | None = None,
    stimulus_set: str | Path | None = None,
) -> Found:
    """Responses, files, categories and neuron ids of an assembly.

    Parameters
    ----------
    dataset : xarray.Dataset
        With the coordinates stimulus_id or image_id (presentation), neuroid_id (neuroid), time_bin_start and
        time_bin_end (time_bin).
    responses : xarray.DataArray
        The variable with the responses.
    path : Path
        Where they come from.
    window : (start, stop), optional
        In milliseconds: the mean of the time bins inside it. Default: the only bin.
    select : mapping, optional
        Values of the neuroids' coordinates, such as {"region": "IT"}. Default: all neuroids.
    category_column : str, optional
        A coordinate along presentation, or a column of the stimulus set. Default: category_name, category or
        object_name, the first that exists.
    stimulus_set : path, optional
        CSV with the columns stimulus_id or image_id, and filename. Default: ``stimulus_NAME.csv`` beside the file, NAME
        being the attribute stimulus_set_identifier.

    Raises
    ------
    ValueError
        If coordinates or stimuli are missing, there are several time bins and no window, or nothing is selected.
    """
    ids = along(dataset, IDS, "presentation")
    if ids is None:
        raise ValueError(f"{path} must have a coordinate stimulus_id or image_id along presentation; got "
                         f"{_names_along(dataset, 'presentation')}")  # fmt: skip
    places = places_of(ids)
    attributes = {**responses.attrs, **dataset.attrs}  # brainio writes them on the file, xarray's arrays on themselves
    usual = f"stimulus_{str(attributes.get('stimulus_set_identifier', 'NAME')).replace('.', '_')}.csv"
    listed, folder = _stimulus_set(path.parent / usual, stimulus_set)
    properties = properties_of(dataset)
    keep = np.flatnonzero(chosen(properties, select, dataset.sizes["neuroid"], path))
    values = _one_bin(responses.isel(neuroid=keep), dataset, window, path)
    return Found(
        by_stimulus(values, places), _files(dataset, listed or usual, places, path),
        _categories(dataset, listed, places, category_column, path), _neuron_ids(properties, keep), folder,
    )  # fmt: skip


def along(dataset: Dataset, names: Sequence[str], dimension: str) -> list[str] | None:
    """The first of the coordinates that runs along a dimension alone, as text."""
    for name in names:
        if name in dataset.variables and dataset[name].dims == (dimension,):
            return [text_of(value) for value in dataset[name].to_numpy()]
    return None


def properties_of(dataset: Dataset) -> dict[str, list[str]]:
    """All coordinates of the neuroids, as text, by name."""
    return {name: along(dataset, [name], "neuroid") or [] for name in _names_along(dataset, "neuroid")}


def _names_along(dataset: Dataset, dimension: str) -> list[str]:
    return sorted(str(name) for name, values in dataset.variables.items() if values.dims == (dimension,))


def _one_bin(responses: DataArray, dataset: Dataset, window: Sequence[float] | None, path: Path) -> np.ndarray:
    """Responses (neuroids, presentations) in a window."""
    if "time_bin" not in responses.dims:
        if window is not None:
            raise ValueError(f"`window` needs time bins, but {path} has the dimensions {responses.dims}")
        return np.asarray(responses.transpose("neuroid", "presentation").to_numpy(), dtype=float)
    values = responses.transpose("neuroid", "presentation", "time_bin")
    edges = [along(dataset, [name], "time_bin") for name in ("time_bin_start", "time_bin_end")]
    if window is None and values.sizes["time_bin"] == 1:
        return np.asarray(values.to_numpy()[:, :, 0], dtype=float)
    if edges[0] is None or edges[1] is None:
        raise ValueError(f"{path} must have the coordinates time_bin_start and time_bin_end, to choose among "
                         f"{values.sizes['time_bin']} time bins")  # fmt: skip
    bins = [(float(start), float(stop)) for start, stop in zip(edges[0], edges[1], strict=True)]
    if window is None:
        raise ValueError(f"{path} has {len(bins)} time bins; `window` must say which to average, in ms: {_said(bins)}")
    start, stop = window
    if not start < stop:
        raise ValueError(f"`window` must be (start, stop) with start < stop, got {window}")
    inside = [index for index, (first, last) in enumerate(bins) if start <= first and last <= stop]
    if not inside:
        raise ValueError(f"no time bin of {path} lies in {start:g} to {stop:g} ms; there are {_said(bins)}")
    averaged: np.ndarray = np.asarray(values.isel(time_bin=inside).to_numpy(), dtype=float).mean(axis=2)
    return averaged


def _said(bins: Sequence[tuple[float, float]]) -> str:
    shown = [f"{start:g} to {stop:g}" for start, stop in bins]
    return ", ".join(shown) if len(shown) <= 6 else f"{', '.join(shown[:3])} ... {shown[-1]}"


def _stimulus_set(usual: Path, given: str | Path | None) -> tuple[Table | None, Path | None]:
    """The stimulus set's rows, and the folder that Brain-Score unpacks its images into, if they exist."""
    listed = usual if given is None else Path(given)
    if not listed.is_file():
        if given is not None:
            raise FileNotFoundError(f"no stimulus set at {listed}")
        return None, None
    table = read_table(listed, [])
    if not set(IDS) & set(table.header):
        raise ValueError(f"{listed} must have a column {' or '.join(IDS)}, got {table.header}")
    folder = listed.with_suffix("")
    return table, folder if folder.is_dir() else None


def _row_of(table: Table, places: dict[str, list[int]], path: Path) -> dict[str, dict[str, str]]:
    """The row of each stimulus."""
    column = next(name for name in IDS if name in table.header)
    rows = {row[column]: row for row in table.rows}
    if len(rows) < len(table.rows):
        twice = sorted(places_of(table.column(column)).items(), key=lambda item: -len(item[1]))[0][0]
        raise ValueError(f"{table.path} must list each {column} once, got {twice!r} again")
    lacking = [name for name in places if name not in rows]
    if lacking:
        raise ValueError(f"{table.path} must list every stimulus of {path}, got no row for {len(lacking)} of "
                         f"{len(places)}: {', '.join(lacking[:5])}")  # fmt: skip
    return {name: rows[name] for name in places}


def _files(dataset: Dataset, listed: Table | str, places: dict[str, list[int]], path: Path) -> list[str]:
    """The file of each stimulus, from the stimulus set; without one, whose name is given, from a coordinate."""
    if not isinstance(listed, str):
        column = next((name for name in FILES if name in listed.header), None)
        if column is None:
            raise ValueError(f"{listed.path} must have a column {' or '.join(FILES)}, got {listed.header}")
        return [row[column] for row in _row_of(listed, places, path).values()]
    shown = along(dataset, FILES, "presentation")
    if shown is None:
        raise ValueError(f"nothing says in which files the stimuli of {path} are: `stimulus_set` must be its stimulus "
                         f"set, a CSV, which is found by itself if it is {listed} beside it")  # fmt: skip
    return [shown[numbers[0]] for numbers in places.values()]


def _categories(
    dataset: Dataset, table: Table | None, places: dict[str, list[int]], column: str | None, path: Path
) -> list[str] | None:
    for name in CATEGORIES if column is None else (column,):
        shown = along(dataset, [name], "presentation")
        if shown is not None:
            return one_each(shown, places, path)
        if table is not None and name in table.header:
            return [row[name] for row in _row_of(table, places, path).values()]
    if column is not None:
        known = _names_along(dataset, "presentation") + ([] if table is None else table.header)
        raise ValueError(f"`category_column` must be a coordinate of the presentations of {path} or a column of its "
                         f"stimulus set, {', '.join(dict.fromkeys(known))}; got {column!r}")  # fmt: skip
    return None


def _neuron_ids(properties: dict[str, list[str]], keep: np.ndarray) -> list[str] | None:
    """Names of the neuroids; with the subject in front where two subjects use the same ones."""
    ids = properties.get("neuroid_id") or properties.get("neuroid")
    if ids is None:
        return None
    subject = next((properties[name] for name in SUBJECTS if name in properties), None)
    if subject is not None and len(set(ids)) < len(ids):
        ids = [f"{animal} {name}" for animal, name in zip(subject, ids, strict=True)]
    return [ids[k] for k in keep]
