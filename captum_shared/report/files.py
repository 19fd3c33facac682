"""Files of a report, each whole or not there at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an indented JSON object."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with a header line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def write_figure(path: Path, figure: Figure, dpi: int = 150) -> bytes:
    """Write a figure as PNG, without a date in it; returns the file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
    return buffer.getvalue()


def output_folder(out: str | Path) -> Path:
    """The folder `out`, made if need be.

    Raises
    ------
    ValueError
        If it is there and not a folder.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`out` must be a folder, got the file {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_labels(images: str | Path, labels: str | Path) -> tuple[list[Path], list[str]]:
    """Paths and categories of the images in a label file: CSV with the columns `file` and `category`.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file or a column is missing, a row is incomplete, no image is listed, or images are missing (all named).
    """
    folder, table = Path(images), Path(labels)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of images at {folder}")
    if not table.is_file():
        raise FileNotFoundError(f"no label file at {table}")
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        lacking = {"file", "category"} - set(reader.fieldnames or [])
        if lacking:
            raise ValueError(f"{table} must have the columns file and category, got {reader.fieldnames}")
        rows = [(reader.line_num, row["file"], row["category"]) for row in reader]
    incomplete = [str(line) for line, name, category in rows if not name or not category]
    if incomplete or not rows:
        raise ValueError(
            f"{table} must name a file and a category in every row, got none in lines {', '.join(incomplete)}"
        )
    _check_listed(folder, [name for _, name, _ in rows])
    return [folder / name for _, name, _ in rows], [category for _, _, category in rows]


def _check_listed(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} listed images are not in {folder}: {', '.join(missing)}"
        )
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"images must be listed once, got twice: {', '.join(twice)}")
