"""Recordings in netCDF, as xarray Datasets like those of Brain-Score: dimensions neuroid, stimulus, repeat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

DIMENSIONS = ("neuroid", "stimulus", "repeat")


def read_netcdf(
    path: Path, variable: str | None = None
) -> tuple[np.ndarray, list[str], list[str] | None, list[str] | None]:
    """Responses, files, categories and neuron ids of a netCDF file.

    Parameters
    ----------
    path : Path
    variable : str, optional
        Name of the responses. Default: the only variable with the dimensions neuroid and stimulus.

    Raises
    ------
    ImportError
        If xarray is not installed.
    ValueError
        If there is no such variable, it has other dimensions, or no coordinate `file` says which images they are.
    """
    try:
        import xarray
    except ImportError as error:
        raise ImportError("reading netCDF needs xarray: pip install 'captum-shared[netcdf]'") from error
    try:
        dataset = xarray.load_dataset(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is not a readable netCDF file: {error}") from error
    responses = _responses(dataset, variable, path)
    order = [name for name in DIMENSIONS if name in responses.dims]
    array = responses.transpose(*order).to_numpy()
    files = _along(dataset, ("file", "stimulus_path", "stimulus_id", "stimulus"), "stimulus")
    if files is None:
        raise ValueError(f"{path} must have a coordinate file (stimulus), the names of the images; "
                         f"got {sorted(map(str, dataset.variables))}")  # fmt: skip
    categories = _along(dataset, ("category", "category_name", "object_name"), "stimulus")
    return array, files, categories, _along(dataset, ("neuroid", "neuroid_id"), "neuroid")


def _responses(dataset: Dataset, variable: str | None, path: Path) -> DataArray:
    fitting = [name for name, values in dataset.data_vars.items() if set(DIMENSIONS[:2]) <= set(values.dims)]
    name = variable or (fitting[0] if len(fitting) == 1 else None)
    if name not in dataset.data_vars:
        raise ValueError(f"{path} must have one variable with the dimensions neuroid and stimulus, or `variable` must "
                         f"name it; got {sorted(map(str, dataset.data_vars))}")  # fmt: skip
    extra = set(dataset[name].dims) - set(DIMENSIONS)
    if extra or name not in fitting:
        raise ValueError(f"{name!r} in {path} must have the dimensions {DIMENSIONS}, got {dataset[name].dims}")
    return dataset[name]


def _along(dataset: Dataset, names: tuple[str, ...], dimension: str) -> list[str] | None:
    for name in names:
        if name in dataset.variables and dataset[name].dims == (dimension,):
            return [str(value) for value in dataset[name].to_numpy()]
    return None
