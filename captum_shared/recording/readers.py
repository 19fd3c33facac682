"""What is in the files of a recording: a folder, a table; other formats have modules of their own."""

from __future__ import annotations

import inspect
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from captum_shared.labels import FOLDERS, check_fields, folder_labels, normal, places_of, read_label_file, repeated
from captum_shared.recording.arrays import SUFFIXES
from captum_shared.recording.found import Found, Selection, by_stimulus
from captum_shared.recording.mapping import read_mapped
from captum_shared.recording.netcdf import read_netcdf
from captum_shared.recording.nwb import read_nwb
from captum_shared.recording.tvsd import is_tvsd, read_tvsd
from captum_shared.tables import Table, at_lines, named_rows, read_table

EXPECTED = "a folder, or a .csv, .nc, .nwb, .mat, .h5, .hdf5 or .npz file"


class ReaderOptions(TypedDict, total=False):
    """What readers take by name; each takes some of it."""

    window: Sequence[float]
    select: Selection
    category_column: str
    variable: str
    stimulus_set: str | Path
    stimulus_column: str
    intervals: str
    traces: str
    mapping: str | Path | Mapping[str, object]
    areas: str


def reader_options(options: Mapping[str, Any]) -> tuple[ReaderOptions, dict[str, Any]]:
    """The options of readers that are given, not None; and all that are not of readers."""
    given = {name: options[name] for name in ReaderOptions.__annotations__ if options.get(name) is not None}
    others = {name: value for name, value in options.items() if name not in ReaderOptions.__annotations__}
    return cast(ReaderOptions, given), others


def read_recording(
    path: Path, stimuli: str | Path | None, labels: str | Path | None, options: ReaderOptions
) -> tuple[Found, Path]:
    """What is in a recording's files, and the folder of its stimuli; see `Recording.load`."""
    if not path.exists():
        raise FileNotFoundError(f"no recording at {path}: expected {EXPECTED}")
    noun, reader = _reader_of(path, options)
    _refuse(options, noun, reader)
    found = reader(path, **options)
    if labels is not None:
        names = folder_labels(found.files) if labels == FOLDERS else _categories_of(found.files, Path(labels))
        found = replace(found, categories=names)
    given = Path(stimuli) if stimuli is not None else found.folder
    folder = given or (path if path.is_dir() else path.parent) / "stimuli"
    if folder.is_file() and zipfile.is_zipfile(folder):
        folder = _unpacked(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of stimuli at {folder}")
    return found, folder


def _unpacked(archive: Path) -> Path:
    """The folder of a zip file's content: named like it, beside it; made once, and then left as it is."""
    target = archive.with_suffix("")
    if target.is_dir():
        return target
    try:
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{target.name}.") as work:
            with zipfile.ZipFile(archive) as file:
                file.extractall(Path(work, target.name))  # names that lead outside are kept inside
            Path(work, target.name).replace(target)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise ValueError(f"{archive} cannot be unpacked into {target}: {error}") from error
    return target


def _read_array(path: Path) -> np.ndarray:
    """Read a .npy file of real numbers, without executing code or trusting a header that claims too much."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError) as error:
        raise ValueError(f"{path} is not a readable .npy array: {error}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path} is an archive of arrays; expected one array in .npy")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold real numbers, got an array of {array.dtype}")
    return np.array(array)


def _reader_of(path: Path, options: ReaderOptions) -> tuple[str, Callable[..., Found]]:
    """What a recording is, in words, and the function that reads it."""
    if path.is_dir():
        return "a folder", _read_folder
    if path.suffix == ".csv":
        return "a table", _read_responses
    if path.suffix == ".nc":
        return "a netCDF file", read_netcdf
    if path.suffix == ".nwb":
        return "an NWB file", read_nwb
    if path.suffix not in SUFFIXES:
        raise ValueError(f"cannot tell what {path} is; expected {EXPECTED}")
    asked = "areas" in options or "stimulus_set" in options
    if "mapping" not in options and path.suffix == ".mat" and (asked or is_tvsd(path)):
        return "a file of TVSD", read_tvsd
    return "a file of arrays", read_mapped


def _read_folder(folder: Path) -> Found:
    listed = folder / "stimuli.csv"
    if not listed.is_file():
        raise FileNotFoundError(f"no stimuli.csv in {folder}; expected a table with the columns file and category")
    files, categories = _stimuli_of(listed)
    if (folder / "responses.npy").is_file():
        return Found(_read_array(folder / "responses.npy"), files, categories)
    if (folder / "responses.csv").is_file():
        table = _read_responses(folder / "responses.csv")
        return _in_order_of(table, files, categories, folder)
    raise FileNotFoundError(f"no responses.npy or responses.csv in {folder}")


def _stimuli_of(listed: Path) -> tuple[list[str], list[str] | None]:
    """Files and categories of stimuli.csv, in which each stimulus is listed once."""
    table = read_table(listed, ["file"])
    if "category" in table.header:
        table = read_label_file(listed)
        return table.column("file"), table.column("category")
    check_fields(table, "file")
    files = [normal(name) for name in table.column("file")]
    twice = [(table.lines[where[1]], name) for name, where in repeated(files).items()]
    if twice:
        raise ValueError(f"{listed}: stimuli must be listed once, got again: {at_lines(twice)}")
    return files, None


def _read_responses(path: Path) -> Found:
    """Read a CSV of responses: a row per presentation, a column per neuron; rows with the same file are its repeats."""
    table = read_table(path, ["file"])
    neurons = _neurons_of(table)
    values = np.array([
        [_number(row[name], path, line, name) for name in neurons]
        for line, row in zip(table.lines, table.rows, strict=True)
    ])  # fmt: skip
    check_fields(table, "file")
    places = places_of(normal(name) for name in table.column("file"))
    categories = _one_category_each(table, places) if "category" in table.header else None
    return Found(by_stimulus(values.T, places), list(places), categories, neurons)


def _neurons_of(table: Table) -> list[str]:
    """The columns that are neurons; not an index that pandas wrote beside them."""
    neurons = [name for name in table.header if name not in ("file", "category")]
    index = [name for name in neurons if not name.strip() or name.startswith("Unnamed: ")]
    if index:
        raise ValueError(
            f"{table.path}: column {table.header.index(index[0]) + 1} has no name, as of an index written by pandas; "
            "name it if it is a neuron, or leave it out (to_csv(..., index=False))"
        )
    if not neurons:
        raise ValueError(f"{table.path} must have a column per neuron beside file and category, got {table.header}")
    return neurons


def _number(text: str, path: Path, line: int, column: str) -> float:
    if not text.strip():
        return float("nan")
    try:
        if "_" in text:  # Python reads 1_5 as 15
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f"{path}, line {line}, column {column!r}: expected a number, got {text!r}") from None


def _one_category_each(table: Table, places: dict[str, list[int]]) -> list[str]:
    check_fields(table, "category")
    categories = table.column("category")
    for name, where in places.items():
        other = [i for i in where if categories[i] != categories[where[0]]]
        if other:
            raise ValueError(
                f"{table.path}, line {table.lines[other[0]]}: {name} has category {categories[other[0]]!r}, "
                f"but {categories[where[0]]!r} in line {table.lines[where[0]]}"
            )
    return [categories[where[0]] for where in places.values()]


def _in_order_of(table: Found, files: list[str], categories: Sequence[str] | None, folder: Path) -> Found:
    """Responses in the order of stimuli.csv."""
    place = {name: index for index, name in enumerate(table.files)}
    lacking = [row for row, name in enumerate(files) if name not in place]
    extra = [row for row, name in enumerate(table.files) if name not in set(files)]
    if lacking or extra:
        raise ValueError(
            f"stimuli.csv and responses.csv in {folder} must list the same files; "
            f"only in stimuli.csv: {named_rows(lacking, files) or 'none'}; "
            f"only in responses.csv: {named_rows(extra, table.files) or 'none'}"
        )
    responses = table.responses[:, [place[name] for name in files]]
    return Found(responses, files, categories or table.categories, table.neuron_ids)


def _categories_of(files: Sequence[str], labels: Path) -> list[str]:
    table = read_label_file(labels)
    found = dict(zip(table.column("file"), table.column("category"), strict=True))
    lacking = [row for row, name in enumerate(files) if normal(name) not in found]
    if lacking:
        raise ValueError(f"{labels} must give a category for every stimulus, got none for {named_rows(lacking, files)}")
    return [found[normal(name)] for name in files]


def _refuse(options: ReaderOptions, noun: str, reader: Callable[..., Found]) -> None:
    """Refuse options that the reader does not take."""
    _, *known = inspect.signature(reader).parameters
    for name in sorted(set(options) - set(known)):
        takes = f"; it takes {', '.join(f'`{one}`' for one in known)}" if known else ""
        raise TypeError(f"{noun} takes no option `{name}`{takes}")
