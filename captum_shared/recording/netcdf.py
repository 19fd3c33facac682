"""Recordings in netCDF: Brain-Score's assemblies, neuroid x presentation x time_bin; or neuroid x stimulus x repeat."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captum_shared.labels import places_of, repeated
from captum_shared.recording.found import Found, Selection, by_stimulus, chosen, one_each, text_of
from captum_shared.tables import read_table

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

OF_ASSEMBLIES = ("neuroid", "presentation", "time_bin")
OF_STIMULI = ("neuroid", "stimulus", "repeat")
IDS = ("stimulus_id", "image_id")
FILES = ("filename", "image_file_name", "file")
CATEGORIES = ("category_name", "category", "object_name")
SUBJECTS = ("subject", "animal")


def read_netcdf(
    path: Path,
    *,
    variable: str | None = None,
    window: Sequence[float] | None = None,
    select: Selection | None = None,
    category_column: str | None = None,
    stimulus_set: str | Path | None = None,
) -> Found:
    """Responses, files, categories and neuron ids of a netCDF file.

    Parameters
    ----------
    path : Path
    variable : str, optional
        Name of the responses. Default: the only variable with the dimensions neuroid and stimulus or presentation.
    window : (start, stop), optional
        In milliseconds: the mean of the time bins inside it. Default: the only bin. For assemblies alone.
    select : mapping, optional
        Values of the neuroids' coordinates, such as {"region": "IT"}. Default: all neuroids.
    category_column : str, optional
        A coordinate along stimulus or presentation, or a column of the stimulus set. Default: category_name, category
        or object_name, whichever there is.
    stimulus_set : path, optional
        CSV with the columns stimulus_id or image_id, and filename. Default: ``stimulus_NAME.csv`` beside the file, NAME
        being the attribute stimulus_set_identifier. For assemblies alone.
    """
    with _opened(path) as dataset:
        responses = _responses(dataset, variable, path)
        properties = {name: _along(dataset, [name], "neuroid") or [] for name in _names_along(dataset, "neuroid")}
        keep = chosen(properties, select, dataset.sizes["neuroid"], path)
        kept = responses.isel(neuroid=keep)
        if "presentation" in responses.dims:
            places = _presentations(dataset, path)
            listed = _stimulus_set(dataset, responses, path) if stimulus_set is None else Path(stimulus_set)
            rows = _rows(listed, places, path) if listed.is_file() or stimulus_set is not None else None
            folder = listed.with_suffix("")  # into which Brain-Score unpacks the images
            return Found(
                by_stimulus(_one_bin(kept, dataset, window, path), places),
                _files(dataset, rows, listed, places, path),
                _categories(dataset, rows, category_column, places, path),
                _neuron_ids(properties, keep),
                folder if rows and folder.is_dir() else None,
            )
        for name, value in (("window", window), ("stimulus_set", stimulus_set)):
            if value is not None:
                raise ValueError(
                    f"`{name}` is for assemblies with the dimension presentation; {path} has {responses.dims}"
                )
        array = kept.transpose(*(name for name in OF_STIMULI if name in responses.dims)).to_numpy()
        names = properties.get("neuroid") or properties.get("neuroid_id")
        files, categories = _stimuli(dataset, category_column, path)
        return Found(array, files, categories, names and [names[k] for k in keep])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Dataset]:
    """The dataset in a file; only what is asked for is read."""
    try:
        import xarray
    except ImportError as error:
        raise ImportError("reading netCDF needs xarray: pip install 'captum-shared[netcdf]'") from error
    try:
        dataset = xarray.open_dataset(path, decode_times=False)
    except (ValueError, OSError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} is not a readable netCDF file: {' '.join(str(error).split())}") from error
    with dataset:
        try:
            yield dataset
        except FileNotFoundError:
            raise
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path} is not a readable netCDF file: {error}") from error


def _responses(dataset: Dataset, variable: str | None, path: Path) -> DataArray:
    fitting = [
        name for name, values in dataset.data_vars.items()
        if "neuroid" in values.dims and ("stimulus" in values.dims or "presentation" in values.dims)
    ]  # fmt: skip
    name = variable or (fitting[0] if len(fitting) == 1 else None)
    if name not in dataset.data_vars:
        raise ValueError(f"{path} must have one variable with the dimensions neuroid and stimulus, or neuroid and "
                         "presentation, or `variable` must name it; got "
                         f"{sorted(map(str, dataset.data_vars))}")  # fmt: skip
    known = OF_ASSEMBLIES if "presentation" in dataset[name].dims else OF_STIMULI
    if set(dataset[name].dims) - set(known) or name not in fitting:
        raise ValueError(f"{name!r} in {path} must have the dimensions {known}, got {dataset[name].dims}")
    return dataset[name]


def _along(dataset: Dataset, names: Sequence[str], dimension: str) -> list[str] | None:
    """The first of the coordinates that runs along a dimension alone, as text."""
    for name in names:
        if name in dataset.variables and dataset[name].dims == (dimension,):
            return [text_of(value) for value in dataset[name].to_numpy()]
    return None


def _names_along(dataset: Dataset, dimension: str) -> list[str]:
    return sorted(str(name) for name, values in dataset.variables.items() if values.dims == (dimension,))


def _stimuli(dataset: Dataset, category_column: str | None, path: Path) -> tuple[list[str], list[str] | None]:
    """Files and categories of the stimuli, in a file without presentations."""
    files = _along(dataset, ("file", "stimulus_path", "stimulus_id", "stimulus"), "stimulus")
    if files is None:
        raise ValueError(f"{path} must have a coordinate file (stimulus), the names of the images; "
                         f"got {sorted(map(str, dataset.variables))}")  # fmt: skip
    kinds = ("category", "category_name", "object_name") if category_column is None else (category_column,)
    categories = _along(dataset, kinds, "stimulus")
    if category_column is not None and categories is None:
        raise ValueError(f"{path} has no coordinate {category_column!r} along stimulus")
    return files, categories


def _presentations(dataset: Dataset, path: Path) -> dict[str, list[int]]:
    """The presentations of each stimulus."""
    ids = _along(dataset, IDS, "presentation")
    if ids is None:
        raise ValueError(f"{path} must have a coordinate stimulus_id or image_id along presentation; got "
                         f"{_names_along(dataset, 'presentation')}")  # fmt: skip
    return places_of(ids)


def _one_bin(responses: DataArray, dataset: Dataset, window: Sequence[float] | None, path: Path) -> np.ndarray:
    """Responses (neuroids, presentations) in a window."""
    if "time_bin" not in responses.dims:
        if window is not None:
            raise ValueError(f"`window` needs time bins, but {path} has the dimensions {responses.dims}")
        return np.asarray(responses.transpose("neuroid", "presentation").to_numpy(), dtype=float)
    values = responses.transpose("neuroid", "presentation", "time_bin")
    edges = [_along(dataset, [name], "time_bin") for name in ("time_bin_start", "time_bin_end")]
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


def _stimulus_set(dataset: Dataset, responses: DataArray, path: Path) -> Path:
    """Where the stimulus set usually is."""
    attributes = {**responses.attrs, **dataset.attrs}  # brainio writes them on the file, xarray's arrays on themselves
    name = str(attributes.get("stimulus_set_identifier", "NAME")).replace(".", "_")
    return path.with_name(f"stimulus_{name}.csv")


def _rows(listed: Path, places: dict[str, list[int]], path: Path) -> list[dict[str, str]]:
    """The stimulus set's row of each stimulus."""
    if not listed.is_file():
        raise FileNotFoundError(f"no stimulus set at {listed}")
    table = read_table(listed, [])
    column = next((name for name in IDS if name in table.header), None)
    if column is None:
        raise ValueError(f"{listed} must have a column {' or '.join(IDS)}, got {table.header}")
    twice = repeated(table.column(column))
    if twice:
        raise ValueError(
            f"{listed} must list each {column} once, got {max(twice, key=lambda name: len(twice[name]))!r} again"
        )
    rows = dict(zip(table.column(column), table.rows, strict=True))
    lacking = [name for name in places if name not in rows]
    if lacking:
        raise ValueError(f"{listed} must list every stimulus of {path}, got no row for {len(lacking)} of "
                         f"{len(places)}: {', '.join(lacking[:5])}")  # fmt: skip
    return [rows[name] for name in places]


def _files(
    dataset: Dataset, rows: list[dict[str, str]] | None, listed: Path, places: dict[str, list[int]], path: Path
) -> list[str]:
    """The file of each stimulus, from the stimulus set if there is one, or from a coordinate."""
    if rows is not None:
        column = next((name for name in FILES if name in rows[0]), None)
        if column is None:
            raise ValueError(f"{listed} must have a column {' or '.join(FILES)}, got {list(rows[0])}")
        return [row[column] for row in rows]
    shown = _along(dataset, FILES, "presentation")
    if shown is None:
        raise ValueError(f"nothing says in which files the stimuli of {path} are: `stimulus_set` must be its stimulus "
                         f"set, a CSV, which is found by itself if it is {listed.name} beside it")  # fmt: skip
    return [shown[numbers[0]] for numbers in places.values()]


def _categories(
    dataset: Dataset, rows: list[dict[str, str]] | None, column: str | None, places: dict[str, list[int]], path: Path
) -> list[str] | None:
    """The category of each stimulus, from a coordinate or from the stimulus set, if there is one."""
    columns = rows[0] if rows is not None else {}
    for name in CATEGORIES if column is None else (column,):
        shown = _along(dataset, [name], "presentation")
        if shown is not None:
            return one_each(shown, places, path)
        if rows is not None and name in columns:
            return [row[name] for row in rows]
    if column is not None:
        known = dict.fromkeys([*_names_along(dataset, "presentation"), *columns])
        raise ValueError(f"`category_column` must be a coordinate of the presentations of {path} or a column of its "
                         f"stimulus set, {', '.join(known)}; got {column!r}")  # fmt: skip
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
