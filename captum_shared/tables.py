"""`read_table`: a CSV file, strictly: what does not look like a table is refused with its line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_NAMED = 20


@dataclass(frozen=True)
class Table:
    """The rows of a CSV file."""

    path: Path
    header: list[str]
    rows: list[dict[str, str]]  # a field by its column's name
    lines: list[int]  # where each row stands in the file; the header is line 1

    def column(self, name: str) -> list[str]:
        """The fields of a column."""
        return [row[name] for row in self.rows]


def read_table(path: str | Path, required: Sequence[str]) -> Table:
    r"""Read a CSV file in UTF-8 that has the required columns, and the same number of fields in every row.

    Each row is one line. A quoted field may hold commas, but no line break, because a stray quote would swallow the
    rows up to the next one. Empty lines are ignored.

    Raises
    ------
    ValueError
        If it is not such a table; the message names the file and the line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "labels.csv")
    ...     _ = path.write_text("file,category\na.jpg,dog\n")
    ...     read_table(path, ["file", "category"]).rows
    [{'file': 'a.jpg', 'category': 'dog'}]
    """
    path = Path(path)
    found = [(line, fields) for line, fields in _lines(path) if fields]
    if not found:
        raise ValueError(f"{path} is empty; expected a table with the columns {' and '.join(required)}")
    (_, header), body = found[0], found[1:]
    _check_header(path, header, required)
    ragged = [(line, str(len(fields))) for line, fields in body if len(fields) != len(header)]
    if ragged:
        raise ValueError(f"{path} must have {len(header)} fields in every row, got {at_lines(ragged)}")
    if not body:
        raise ValueError(f"{path} has no rows below its header")
    rows = [dict(zip(header, fields, strict=True)) for _, fields in body]
    return Table(path, header, rows, [line for line, _ in body])


def at_lines(found: Sequence[tuple[int, str]]) -> str:
    """What is in which lines, as text: "a.jpg in line 2, b.jpg in line 7"; at most 20 of them."""
    return listed([f"{text} in line {line}" for line, text in found])


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The fields of each line, with its number."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    found: list[tuple[int, list[str]]] = []
    line = 0
    try:
        for fields in reader:
            if reader.line_num > line + 1:
                raise ValueError(
                    f"{path}, line {line + 1}: a quote opens here and closes only in line {reader.line_num}; "
                    "expected every field to end in its line"
                )
            line = reader.line_num
            found.append((line, fields))
    except csv.Error as error:
        raise ValueError(f"{path}, line {line + 1}: {_reason(error)}") from error
    return found


def _reason(error: csv.Error) -> str:
    text = str(error)
    if "field limit" in text:
        return f"a field of more than {csv.field_size_limit():,} characters"
    if "unexpected end of data" in text:
        return "a quote opens here and never closes"
    if "expected after" in text:
        return "something follows a closing quote; expected a comma or the line's end"
    return text


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is in UTF-16; expected UTF-8: save it as CSV UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} is not in UTF-8: byte 0x{content[error.start]:02x} in line {line}; save it as CSV UTF-8"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{path} is not a text file: a zero byte in line {line}")
    return text


def _check_header(path: Path, header: list[str], required: Sequence[str]) -> None:
    lacking = [name for name in required if name not in header]
    if lacking:
        other = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
        hint = f"; fields must be separated by commas, not by {other!r}" if other else ""
        raise ValueError(f"{path} must have the columns {' and '.join(required)}, got {header}{hint}")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ValueError(f"{path} must have each column once, got twice: {', '.join(twice)}")


def named_rows(rows: Sequence[int], names: Sequence[object], most: int = 10) -> str:
    """Rows, counted from 1 as in a table's body, with what stands there."""
    return listed([f"row {row + 1} ({names[row]})" for row in rows], most)


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Names as text, at most so many.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def number(value: float) -> float | str:
    """A number as a field: six digits, or empty for what is unknown."""
    return float(f"{float(value):.6g}") if math.isfinite(value) else ""


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns, for a terminal.

    >>> print(aligned([["pair", "area"], ["pair_01", "0.06"]]))
    pair     area
    pair_01  0.06
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def counted(n: int, noun: str) -> str:
    """A number of things in words.

    >>> counted(1, "pair"), counted(2, "pair")
    ('1 pair', '2 pairs')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
