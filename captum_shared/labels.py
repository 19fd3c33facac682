"""`read_labels`: which images there are, and the category of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from captum_shared.tables import MOST_NAMED, Table, at_lines, read_table

FOLDERS = "folders"
"""Instead of a label file: categories are the names of folders."""
SEPARATOR = ";"
"""Between the categories of an image that is in several, as in ``dog;outdoors``."""


def read_labels(images: str | Path, labels: str | Path) -> tuple[list[Path], list[str]]:
    """Paths and categories of the images in a label file: CSV with the columns `file` and `category`.

    With "folders" instead, those of all images in the folders below `images`, see `folder_labels`.

    Parameters
    ----------
    images : path
        The folder to which the names in the column `file` are relative.
    labels : path, or "folders"

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder, the file or listed images are missing, the file is not such a table, a row is incomplete, or an
        image is listed twice; the message names the lines.
    """
    folder, path = Path(images), Path(labels)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of images at {folder}")
    if labels == FOLDERS:
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*/*")) if is_image(path)]
        if not names:
            raise FileNotFoundError(f"no images in the folders below {folder}, expected such as {folder}/dog/1.jpg")
        return [folder / name for name in names], folder_labels(names)
    table = read_label_file(path)
    paths = [folder / name for name in table.column("file")]
    missing = [(line, row["file"]) for line, row, one in zip(table.lines, table.rows, paths, strict=True)
               if not one.is_file()]  # fmt: skip
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} listed images are not in {folder}: {at_lines(missing)}"
        )
    return paths, table.column("category")


def split_labels(category: str) -> tuple[str, ...]:
    """The categories in a field of a label file, each once: those between semicolons.

    Examples
    --------
    >>> split_labels("dog; outdoors"), split_labels("")
    (('dog', 'outdoors'), ())
    """
    names = (name.strip() for name in category.split(SEPARATOR))
    return tuple(dict.fromkeys(name for name in names if name))


def members(categories: Sequence[str] | np.ndarray, name: str) -> np.ndarray:
    """Which images are in a category, (n,) bool: those with its name among theirs.

    Examples
    --------
    >>> members(["dog;outdoors", "hotdog", "dog"], "dog")
    array([ True, False,  True])
    """
    fields = [str(category) for category in np.asarray(categories).tolist()]
    inside = {field for field in set(fields) if name in split_labels(field)}  # each field is split once
    return np.array([field in inside for field in fields], dtype=bool)


def folder_labels(files: Sequence[str]) -> list[str]:
    """The categories of images by the folders that they are in: each folder's name is one.

    Raises
    ------
    ValueError
        If an image is in no folder.

    Examples
    --------
    >>> folder_labels(["dog/1.jpg", "animals/cat/2.jpg"])
    ['dog', 'animals;cat']
    """
    folders = [[part for part in Path(normal(name)).parent.parts if part not in ("..", os.sep)] for name in files]
    lacking = [name for name, own in zip(files, folders, strict=True) if not own]
    if lacking:
        raise ValueError(
            f"each image must be in a folder that names its category, such as dog/1.jpg, got {len(lacking)} that are "
            f"not: {', '.join(lacking[:MOST_NAMED])}"
        )
    return [SEPARATOR.join(own) for own in folders]


def is_image(path: Path) -> bool:
    """Whether a file's name ends like that of an image that Pillow can read, and it is not hidden."""
    return path.suffix.lower() in Image.registered_extensions() and not path.name.startswith(".") and path.is_file()


def read_label_file(path: Path) -> Table:
    """A label file with a name and a category in every row, each image once; names are as `normal` makes them."""
    if not path.is_file():
        raise FileNotFoundError(f"no label file at {path}")
    table = read_table(path, ["file", "category"])
    check_fields(table, "file", "category")
    for row in table.rows:
        row["file"] = normal(row["file"])
    twice = repeated(table.column("file"))
    if twice:
        lines = ", ".join(f"{name} in lines {' and '.join(str(table.lines[i]) for i in where)}"
                          for name, where in list(twice.items())[:MOST_NAMED])  # fmt: skip
        raise ValueError(f"{path}: images must be listed once, got twice: {lines}")
    return table


def check_fields(table: Table, *columns: str) -> None:
    """Refuse empty fields, and fields that begin or end with white space, which would become separate categories."""
    for column in columns:
        fields = list(zip(table.lines, table.column(column), strict=True))
        empty = [str(line) for line, field in fields if not field.strip()]
        if empty:
            raise ValueError(
                f"{table.path} must have a {column} in every row, got none in line {', '.join(empty[:MOST_NAMED])}"
            )
        spaced = [(line, repr(field)) for line, field in fields if field != field.strip()]
        if spaced:
            raise ValueError(f"{table.path}: a {column} must not begin or end with white space, got {at_lines(spaced)}")


def normal(name: str) -> str:
    """A file's name without detours: "./a.jpg" and "b/../a.jpg" are "a.jpg"."""
    return os.path.normpath(name)


def places_of(names: Iterable[str]) -> dict[str, list[int]]:
    """Where each name stands among them, in the order of first occurrence."""
    places: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        places.setdefault(name, []).append(index)
    return places


def repeated(names: Iterable[str]) -> dict[str, list[int]]:
    """The names that occur several times, and where."""
    return {name: places for name, places in places_of(names).items() if len(places) > 1}
