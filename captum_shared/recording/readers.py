"""From files to a `Recording`: a folder, a table; netCDF and NWB have modules of their own."""

from __future__ import annotations

import csv
import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from captum_shared.recording.recording import Recording, named_rows

MISSING = ("raise", "drop")


@dataclass(frozen=True)
class Table:
    """What a reader finds: responses as in `Recording`, and the names of the stimuli."""

    responses: np.ndarray
    files: Sequence[str]
    categories: Sequence[str] | None = None
    neuron_ids: Sequence[str] | None = None


def load_recording(
    path: Path, stimuli: str | Path | None, labels: str | Path | None, missing: str, options: dict[str, Any]
) -> Recording:
    """See `Recording.load`."""
    if missing not in MISSING:
        raise ValueError(f"`missing` must be one of {MISSING}, got {missing!r}")
    if not path.exists():
        raise FileNotFoundError(f"no recording at {path}: expected a folder, or a .csv, .nc or .nwb file")
    table = _read(path, options)
    if labels is not None:
        table = replace(table, categories=_categories_of(table.files, Path(labels)))
    folder = Path(stimuli) if stimuli is not None else (path if path.is_dir() else path.parent) / "stimuli"
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of stimuli at {folder}")
    paths = [folder / name for name in table.files]
    recording = _recording(path, table, paths)
    absent = [row for row, image in enumerate(paths) if not image.is_file()]
    if not absent:
        return recording
    message = f"{len(absent)} of {len(paths)} listed stimuli are not in {folder}: {named_rows(absent, table.files, 50)}"
    if missing == "raise" or len(absent) == len(paths):
        raise FileNotFoundError(f"{message}. To go on without them, pass missing='drop' (--missing drop)")
    warnings.warn(f"{message}. They are left out.", stacklevel=3)
    return recording.select(np.setdiff1d(np.arange(len(paths)), absent))


def read_array(path: Path) -> np.ndarray:
    """A .npy file, without executing code."""
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is not a readable .npy array: {error}") from error


def read_rows(path: Path, required: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of a CSV file that has the required columns and as many fields in every row."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        header = list(reader.fieldnames or [])
        lacking = [name for name in required if name not in header]
        if lacking:
            raise ValueError(f"{path} must have the columns {', '.join(required)}, got {header}")
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise ValueError(f"{path} must have each column once, got twice: {', '.join(twice)}")
        rows = list(reader)
    ragged = [row for row, fields in enumerate(rows) if None in fields or None in fields.values()]
    if ragged:
        raise ValueError(f"{path} must have {len(header)} fields in every row, got others in "
                         f"{named_rows(ragged, [fields.get(header[0]) for fields in rows])}")  # fmt: skip
    if not rows:
        raise ValueError(f"{path} has no rows below its header")
    return header, rows


def _read(path: Path, options: dict[str, Any]) -> Table:
    if path.is_dir():
        _refuse(options, "a folder")
        return _read_folder(path)
    if path.suffix == ".csv":
        _refuse(options, "a table")
        return read_table(path)
    if path.suffix == ".nc":
        from captum_shared.recording.netcdf import read_netcdf

        _refuse(options, "a netCDF file", read_netcdf)
        return Table(*read_netcdf(path, **options))
    if path.suffix == ".nwb":
        from captum_shared.recording.nwb import read_nwb

        _refuse(options, "an NWB file", read_nwb)
        return Table(*read_nwb(path, **options))
    raise ValueError(f"cannot tell what {path} is; expected a folder, or a .csv, .nc or .nwb file")


def _read_folder(folder: Path) -> Table:
    listed = folder / "stimuli.csv"
    if not listed.is_file():
        raise FileNotFoundError(f"no stimuli.csv in {folder}; expected a table with the columns file and category")
    header, rows = read_rows(listed, ["file"])
    files = [row["file"] for row in rows]
    unnamed = [row for row, name in enumerate(files) if not name]
    if unnamed:
        raise ValueError(f"{listed} must name a file in every row, got none in {named_rows(unnamed, files)}")
    categories = [row["category"] for row in rows] if "category" in header else None
    if (folder / "responses.npy").is_file():
        return Table(read_array(folder / "responses.npy"), files, categories)
    if (folder / "responses.csv").is_file():
        table = read_table(folder / "responses.csv")
        return _in_order_of(table, files, categories, folder)
    raise FileNotFoundError(f"no responses.npy or responses.csv in {folder}")


def read_table(path: Path) -> Table:
    """A CSV of responses: a row per presentation, a column per neuron; rows of one file are its repeats."""
    header, rows = read_rows(path, ["file"])
    neurons = [name for name in header if name not in ("file", "category")]
    if not neurons:
        raise ValueError(f"{path} must have a column per neuron beside file and category, got {header}")
    values = np.array([[_number(row[name], path, number, name) for name in neurons] for number, row in enumerate(rows)])
    files = list(dict.fromkeys(row["file"] for row in rows))
    places: dict[str, list[int]] = {name: [] for name in files}
    for number, row in enumerate(rows):
        places[row["file"]].append(number)
    responses = np.full((len(neurons), len(files), max(map(len, places.values()))), np.nan)
    for stimulus, name in enumerate(files):
        responses[:, stimulus, : len(places[name])] = values[places[name]].T
    categories = _one_category_each(path, rows, files) if "category" in header else None
    return Table(responses, files, categories, neurons)


def _number(text: str, path: Path, row: int, column: str) -> float:
    if not text.strip():
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{path}: row {row + 1}, column {column!r}: expected a number, got {text!r}") from None


def _one_category_each(path: Path, rows: list[dict[str, str]], files: list[str]) -> list[str]:
    found: dict[str, str] = {}
    for number, row in enumerate(rows):
        if found.setdefault(row["file"], row["category"]) != row["category"]:
            raise ValueError(f"{path}: row {number + 1} ({row['file']}) says category {row['category']!r}, an earlier "
                             f"row says {found[row['file']]!r}")  # fmt: skip
    return [found[name] for name in files]


def _in_order_of(table: Table, files: list[str], categories: Sequence[str] | None, folder: Path) -> Table:
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
    return Table(responses, files, categories or table.categories, table.neuron_ids)


def _categories_of(files: Sequence[str], labels: Path) -> list[str]:
    if not labels.is_file():
        raise FileNotFoundError(f"no label file at {labels}")
    found = {row["file"]: row["category"] for row in read_rows(labels, ["file", "category"])[1]}
    lacking = [row for row, name in enumerate(files) if name not in found]
    if lacking:
        raise ValueError(f"{labels} must give a category for every stimulus, got none for {named_rows(lacking, files)}")
    return [found[name] for name in files]


def _recording(path: Path, table: Table, paths: list[Path]) -> Recording:
    try:
        return Recording(table.responses, paths, table.categories, table.neuron_ids)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error


def _refuse(options: dict[str, Any], noun: str, reader: Callable[..., Any] | None = None) -> None:
    """Refuse options that the reader does not take; without one, all."""
    known = [] if reader is None else [name for name in inspect.signature(reader).parameters if name != "path"]
    for name in sorted(set(options) - set(known)):
        takes = f"; it takes {', '.join(known)}" if known else ""
        raise TypeError(f"{noun} takes no option {name!r}{takes}")
