"""Recordings in netCDF, as xarray writes them: neuroid, stimulus, repeat; or Brain-Score's neuroid, presentation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captum_shared.recording.assembly import DIMENSIONS as OF_ASSEMBLIES
from captum_shared.recording.assembly import along, properties_of, read_assembly
from captum_shared.recording.found import Found
from captum_shared.recording.properties import Selection, chosen

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

DIMENSIONS = ("neuroid", "stimulus", "repeat")


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
    window, select, category_column, stimulus_set
        As in `read_assembly`; without the dimension presentation there is neither a `window` nor a `stimulus_set`.

    Raises
    ------
    ImportError
        If xarray is not installed.
    ValueError
        If there is no such variable, it has other dimensions, or nothing says which images they are.
    """
    with _opened(path) as dataset:
        responses = _responses(dataset, variable, path)
        if "presentation" in responses.dims:
            return read_assembly(
                dataset, responses, path, window=window, select=select, category_column=category_column,
                stimulus_set=stimulus_set,
            )  # fmt: skip
        for name, value in (("window", window), ("stimulus_set", stimulus_set)):
            if value is not None:
                raise ValueError(
                    f"`{name}` is for assemblies with the dimension presentation; {path} has {responses.dims}"
                )
        return _read_stimuli(dataset, responses, path, select, category_column)


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


def _read_stimuli(
    dataset: Dataset, responses: DataArray, path: Path, select: Selection | None, category_column: str | None
) -> Found:
    """Of a file with a dimension stimulus, and perhaps one of repeats."""
    files = along(dataset, ("file", "stimulus_path", "stimulus_id", "stimulus"), "stimulus")
    if files is None:
        raise ValueError(f"{path} must have a coordinate file (stimulus), the names of the images; "
                         f"got {sorted(map(str, dataset.variables))}")  # fmt: skip
    kinds = ("category", "category_name", "object_name") if category_column is None else (category_column,)
    categories = along(dataset, kinds, "stimulus")
    if category_column is not None and categories is None:
        raise ValueError(f"{path} has no coordinate {category_column!r} along stimulus")
    keep = np.flatnonzero(chosen(properties_of(dataset), select, dataset.sizes["neuroid"], path))
    order = [name for name in DIMENSIONS if name in responses.dims]
    names = along(dataset, ("neuroid", "neuroid_id"), "neuroid")
    array = responses.transpose(*order).isel(neuroid=keep).to_numpy()
    return Found(array, files, categories, None if names is None else [names[k] for k in keep])


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
    known = OF_ASSEMBLIES if "presentation" in dataset[name].dims else DIMENSIONS
    if set(dataset[name].dims) - set(known) or name not in fitting:
        raise ValueError(f"{name!r} in {path} must have the dimensions {known}, got {dataset[name].dims}")
    return dataset[name]
