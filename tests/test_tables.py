"""`read_table` and `read_labels`: what is no table is refused, with its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captum_shared.labels import read_labels
from captum_shared.tables import read_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    return tmp_path


MISTAKES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"labels.csv is empty; expected a table with the columns file and category"),
    "only empty lines": (b"\n\n", "is empty"),
    "no rows": (b"file,category\n", "has no rows below its header"),
    "no category": (b"file,kind\na.png,x\n", r"must have the columns file and category, got \['file', 'kind'\]"),
    "semicolons": (b"file;category\na.png;x\n", "separated by commas, not by ';'"),
    "column twice": (b"file,category,category\na.png,x,y\n", "got twice: category"),
    "too few fields": (b"file,category\na.png,x\nb.png\n", "must have 2 fields in every row, got 1 in line 3"),
    "too many fields": (b"file,category\na.png,x,y\n", "got 3 in line 2"),
    "quote that swallows rows": (
        b'file,category,note\na.png,x,"6 inch\nb.png,y,\nc.png,x,8"\n',
        r"labels.csv, line 2: a quote opens here and closes only in line 4",
    ),
    "quote that never closes": (b'file,category\na.png,x\n"b.png,y\nc.png,x\n', "line 3: a quote opens here and never closes"),
    "text after a quote": (b'file,category\n"a.png"x,y\n', "line 2: something follows a closing quote"),
    "quote over rows and into another": (b'file,category\n"a.png,x\nb.png,"y\n', "line 2: something follows a closing"),
    "long field": (b"file,category\na.png," + b"x" * 131_073 + b"\n", "line 2: a field of more than 131,072 characters"),
    "latin-1": ("file,category\na.png,x\nb.png,caf\u00e9\n".encode("latin-1"), "not in UTF-8: byte 0xe9 in line 3"),
    "utf-16": ("file,category\na.png,x\n".encode("utf-16"), "is in UTF-16; expected UTF-8"),
    "zero byte": (b"file,category\na.png,x\0\n", "not a text file: a zero byte in line 2"),
    "no name": (b"file,category\na.png,x\n,y\n", "must have a file in every row, got none in line 3"),
    "blank category": (b"file,category\na.png, \n", "must have a category in every row, got none in line 2"),
    "space at the end": (b"file,category\na.png,dog\nb.png,dog \n", "must not begin or end with white space, got 'dog ' in line 3"),
    "listed twice": (b"file,category\na.png,x\nb.png,y\na.png,y\n", "got twice: a.png in lines 2 and 4"),
    "listed twice by another path": (b"file,category\na.png,x\n./a.png,x\n", "got twice: a.png in lines 2 and 3"),
    "by a detour": (b"file,category\na.png,x\nz/../a.png,x\n", "got twice: a.png in lines 2 and 3"),
    "missing": (b"file,category\na.png,x\ny.png,x\nz.png,x\n", "2 of 3 listed images are not in .*: y.png in line 3, z.png in line 4"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named_with_their_line(name: str, folder: Path) -> None:
    content, message = MISTAKES[name]
    (folder / "labels.csv").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_labels(folder, folder / "labels.csv")


def test_missing_files(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder of images at"):
        read_labels(folder / "nowhere", folder / "labels.csv")
    with pytest.raises(FileNotFoundError, match="no label file at"):
        read_labels(folder, folder / "labels.csv")


def test_what_spreadsheets_write(folder: Path) -> None:
    """A byte order mark, Windows line ends, empty lines, other columns, commas in quotes, pandas' index."""
    content = '\ufeff"",file,note,category\r\n0,./a.png,"x, ""y""",dog\r\n\r\n1,b.png,,cat\r\n'
    (folder / "l.csv").write_bytes(content.encode())
    assert read_labels(folder, folder / "l.csv") == ([folder / "a.png", folder / "b.png"], ["dog", "cat"])
    assert read_table(folder / "l.csv", ["note"]).lines == [2, 4]


def test_many_mistakes_are_not_all_named(folder: Path) -> None:
    (folder / "l.csv").write_text("file,category\n" + "".join(f"{i}.png,x\n" for i in range(30)))
    with pytest.raises(FileNotFoundError, match="19.png in line 21 and 10 more"):
        read_labels(folder, folder / "l.csv")


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8)


@given(st.lists(st.lists(TEXT, min_size=3, max_size=3), min_size=1, max_size=5))
def test_whatever_the_csv_module_writes_in_lines_is_read(rows: list[list[str]]) -> None:
    import tempfile

    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["a", "b", "c"], *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        path.write_bytes(buffer.getvalue().encode())
        table = read_table(path, ["a"])
    assert [list(row.values()) for row in table.rows] == rows
    assert table.lines == list(range(2, len(rows) + 2))


@given(st.lists(TEXT, min_size=2, max_size=6), st.integers(0, 5))
def test_no_stray_quote_loses_a_row(fields: list[str], place: int) -> None:
    """With a quote put anywhere, the table is refused or has all its rows."""
    import tempfile

    lines = [f"{i}.png,{field.replace(',', '').replace(chr(34), '')}" for i, field in enumerate(fields)]
    text = "file,category\n" + "\n".join(lines) + "\n"
    at = text.index("\n") + 1 + place % (len(text) - text.index("\n") - 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        path.write_text(text[:at] + '"' + text[at:], encoding="utf-8", newline="")
        try:
            found = len(read_table(path, ["file"]).rows)
        except ValueError:
            return
    assert found == len(lines)
