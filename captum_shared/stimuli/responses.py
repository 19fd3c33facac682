"""Responses that come back from the laboratory: read from CSV, checked against the files that were sent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from captum_shared.tables import Table, at_lines, listed, read_table


def read_responses(path: str | Path, files: Mapping[str, Sequence[str]]) -> dict[str, dict[str, np.ndarray]]:
    r"""Read the responses to a set of stimuli.

    Either a row for each trial, with the columns `file`, `neuron`, `trial` and `response`; or a row for each file and
    neuron, with the columns `file`, `neuron` and one for each repeat, where an empty field is a missing repeat. The
    column `neuron` may be missing if there is only one.

    Parameters
    ----------
    path : path
        A CSV file.
    files : mapping of str to sequence of str
        The files of each neuron. Of every neuron in the table all files must be there, with two trials at least.

    Returns
    -------
    dict of dict of arrays
        By neuron and file. Responses of a neuron to the files of another are left out.

    Raises
    ------
    FileNotFoundError, ValueError
        If the table is missing, incomplete, or of other files or neurons; the message names lines.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "responses.csv")
    ...     _ = path.write_text("file,1,2\na.png,4,6\nb.png,3,3\n")
    ...     read_responses(path, {"unit 7": ["a.png", "b.png"]})
    {'unit 7': {'a.png': array([4., 6.]), 'b.png': array([3., 3.])}}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table of responses at {path}")
    table = read_table(path, ["file"])
    if "neuron" not in table.header:
        if len(files) > 1:
            raise ValueError(
                f"{path} must have a column neuron, for the stimuli are of {len(files)} neurons, got {table.header}"
            )
        for row in table.rows:
            row["neuron"] = next(iter(files))
    _check_names(table, files)
    columns = ["response"] if "response" in table.header else _repeats(table)
    found = _collected(table, columns)
    kept = {}
    for name in [name for name in files if name in found]:
        kept[name] = {file: np.array(found[name][file]) for file in files[name] if file in found[name]}
        _check_complete(path, name, files[name], kept[name])
    return kept


def _check_names(table: Table, files: Mapping[str, Sequence[str]]) -> None:
    known = {file for names in files.values() for file in names}
    for row in table.rows:
        row["file"] = row["file"].replace("\\", "/").rsplit("/", 1)[-1]
    for column, names in (("file", known), ("neuron", set(files))):
        fields = zip(table.lines, table.column(column), strict=True)
        wrong = [(line, repr(field)) for line, field in fields if field not in names]
        if wrong:
            raise ValueError(f"{table.path} must hold responses to the stimuli in stimuli.csv, got the {column} "
                             f"{at_lines(wrong[:3])}, which is not in it")  # fmt: skip


def _repeats(table: Table) -> list[str]:
    """The columns of repeats."""
    columns = [name for name in table.header if name not in ("file", "neuron", "trial")]
    if not columns or "trial" in table.header:
        raise ValueError(f"{table.path} must have a column response, or one for each repeat, got {table.header}")
    return columns


def _collected(table: Table, columns: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """All responses by neuron and file."""
    found: dict[str, dict[str, list[float]]] = {}
    seen: set[tuple[str, ...]] = set()
    for line, row in zip(table.lines, table.rows, strict=True):
        key = (row["neuron"], row["file"], row.get("trial", str(line) if columns == ["response"] else ""))
        if key in seen:
            raise ValueError(f"{table.path}: line {line} has neuron {key[0]}, file {key[1]} again"
                             + (f", with the same trial {key[2]}" if "trial" in row else ""))  # fmt: skip
        seen.add(key)
        values = [_number(table.path, line, row[name]) for name in columns if row[name].strip()]
        found.setdefault(row["neuron"], {}).setdefault(row["file"], []).extend(values)
    return found


def _number(path: Path, line: int, field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}: responses must be numbers, got {field!r} in line {line}")
    return value


def _check_complete(path: Path, name: str, files: Sequence[str], trials: Mapping[str, np.ndarray]) -> None:
    missing = [file for file in files if file not in trials]
    few = [file for file in files if file in trials and len(trials[file]) < 2]
    for wrong, what in ((missing, "lacks"), (few, "has fewer than two trials of")):
        if wrong:
            raise ValueError(f"{path} {what} {len(wrong)} of the {len(files)} files of neuron {name}: {listed(wrong)}")
