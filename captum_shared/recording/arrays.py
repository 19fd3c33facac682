"""Files that hold named arrays: .npz, HDF5, and MATLAB's .mat of either kind, in MATLAB's order of axes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captum_shared.recording.found import text_of

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".mat", ".h5", ".hdf5", ".npz")


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[ArrayFile]:
    """Open a file of arrays; no code in it is ever executed. What is damaged or of another kind is a ValueError."""
    if path.suffix == ".npz":
        yield _open_npz(path)
    elif path.suffix == ".mat" and not _is_hdf5(path):
        yield _open_matlab5(path)
    else:
        with open_hdf5(path) as file:
            yield Hdf5Arrays(file, path)


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file; what is damaged raises a ValueError that names it."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading HDF5 and .mat needs h5py: pip install 'captum-shared[hdf5]'") from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, UnicodeError, OverflowError) as error:  # what h5py raises of damaged files
        raise ValueError(f"{path} is not a readable HDF5 file: {error}") from error


class ArrayFile:
    """Arrays by name; as NumPy or SciPy have read them, unless a subclass says otherwise.

    `numbers` and `texts` raise ValueError if the array is missing or of another kind.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], path: Path) -> None:
        self._arrays, self._path = arrays, path

    def names(self) -> list[str]:
        """The names of all arrays; those in groups or structures have slashes."""
        return sorted(self._arrays)

    def numbers(self, name: str) -> np.ndarray:
        """An array of real numbers."""
        found = self._found(name)
        if found.dtype.kind not in "biuf":
            raise ValueError(f"{name!r} in {self._path} must hold real numbers, got an array of {found.dtype}")
        return self._values(found)

    def texts(self, name: str) -> list[str]:
        """A list of names: of strings, of MATLAB's cells, of the rows of a matrix of characters, or of numbers."""
        array = self._found(name)
        if array.dtype.kind == "O":
            return [_text_of_cell(cell, name, self._path) for cell in array.ravel()]
        if array.dtype.kind not in "biufSU":
            raise ValueError(f"{name!r} in {self._path} must hold names, got an array of {array.dtype}")
        return [text_of(value).rstrip() for value in array.ravel().tolist()]

    def _found(self, name: str) -> np.ndarray:
        item = self._arrays.get(name.strip("/"))
        if item is None or not hasattr(item, "shape"):  # HDF5's groups have none
            raise ValueError(f"{self._path} has no array {name!r}; there are {', '.join(self.names())}")
        return item

    def _values(self, found: np.ndarray) -> np.ndarray:
        return found


class Hdf5Arrays(ArrayFile):
    """Arrays of an open HDF5 file; if it is MATLAB's, with the axes as MATLAB has them."""

    _arrays: h5py.File

    def names(self) -> list[str]:
        """The names of all arrays, except those that MATLAB hides."""
        found: list[str] = []
        self._arrays.visititems(lambda name, item: found.append(name) if hasattr(item, "shape") else None)
        return sorted(name for name in found if not name.startswith("#"))

    def texts(self, name: str) -> list[str]:
        """As of any file of arrays."""
        dataset: h5py.Dataset = self._found(name)
        if "MATLAB_object_decode" in dataset.attrs:
            kind = text_of(dataset.attrs.get("MATLAB_class", "object"))
            raise ValueError(f"{name!r} in {self._path} is a {kind} array, which only MATLAB can read; save it as "
                             f"cellstr({name})")  # fmt: skip
        if dataset.dtype.kind == "O" and self._path.suffix == ".mat":
            return [self._text_of(cell, name) for cell in dataset[()].ravel()]
        if dataset.attrs.get("MATLAB_class") == b"char":
            return ["".join(map(chr, row)).rstrip() for row in np.atleast_2d(dataset[()]).T]
        return [text_of(value) for value in self._values(dataset).ravel().tolist()]

    def _values(self, found: h5py.Dataset) -> np.ndarray:
        array = np.asarray(found[()])
        return array.T if self._path.suffix == ".mat" else array

    def _text_of(self, cell: object, name: str) -> str:
        """The text that a cell refers to; an empty one holds its shape instead of letters."""
        letters = self._arrays[cell]
        if getattr(letters, "dtype", np.dtype("O")).kind not in "ui" or not hasattr(letters, "shape"):
            raise ValueError(f"{name!r} in {self._path} must hold one text in each cell")
        return "" if "MATLAB_empty" in letters.attrs else "".join(map(chr, np.asarray(letters[()]).ravel().tolist()))


def _is_hdf5(path: Path) -> bool:
    """Whether HDF5's signature is where it may be: at the start, or behind MATLAB's header of 512 bytes."""
    with path.open("rb") as file:
        head = file.read(520)
    return b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:])


def _text_of_cell(cell: object, name: str, path: Path) -> str:
    values = np.asarray(cell).ravel().tolist()
    if len(values) > 1 or (values and not isinstance(values[0], (str, bytes, int, float))):
        raise ValueError(f"{name!r} in {path} must hold one name in each cell, got {np.asarray(cell)!r}")
    return text_of(values[0]) if values else ""


def _open_npz(path: Path) -> ArrayFile:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return ArrayFile({name: archive[name] for name in archive.files}, path)
    except Exception as error:  # of a damaged archive, NumPy and zipfile raise whatever comes
        raise ValueError(f"{path} is not a readable .npz archive: {error}") from error


def _open_matlab5(path: Path) -> ArrayFile:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except Exception as error:  # of a damaged file, SciPy raises whatever comes
        raise ValueError(f"{path} is not a readable .mat file: {error}") from error
    arrays: dict[str, np.ndarray] = {}
    for name, value in content.items():
        if not name.startswith("__"):
            _collect(name, value, arrays)
    return ArrayFile(arrays, path)


def _collect(name: str, value: object, arrays: dict[str, np.ndarray]) -> None:
    """Put an array, or the fields of a structure, under their names."""
    array = np.asarray(value)
    if array.dtype.names and array.size == 1:
        for field in array.dtype.names:
            _collect(f"{name}/{field}", array.ravel()[0][field], arrays)
    else:
        arrays[name] = array
