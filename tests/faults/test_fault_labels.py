"""Faults of label files: no row is lost without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faults.faulty import N_IMAGES, NAMES, Fault, check, table, write

ROWS = "".join(f"{name},{('disc', 'stripe', 'plain')[k % 3]}\n" for k, name in enumerate(NAMES))
WHOLE = "file,category\n" + ROWS


def line(number: int, text: str) -> str:
    """The label file with another text in a line."""
    lines = WHOLE.splitlines()
    lines[number - 1] = text
    return "\n".join(lines) + "\n"


NOTED = "".join(
    f"{row},{note}\n" for row, note in zip(ROWS.splitlines(), ['"6 inch', *[""] * 10, '8"', *[""] * 12], strict=True)
)

CONTENTS: dict[str, tuple[str | bytes, str]] = {
    "an empty file": ("", "is empty; expected a table with the columns file and category"),
    "a header alone": ("file,category\n", "has no rows below its header"),
    "no header": (ROWS, r"must have the columns file and category, got \['00.png', 'disc'\]"),
    "another column's name": ("file,label\n" + ROWS, r"must have the columns file and category, got \['file', 'label'\]"),
    "capitals": ("File,Category\n" + ROWS, r"got \['File', 'Category'\]"),
    "semicolons": (WHOLE.replace(",", ";"), "fields must be separated by commas, not by ';'"),
    "tabs": (WHOLE.replace(",", "\t"), "fields must be separated by commas, not by"),
    "a column twice": ("file,category,category\n" + ROWS.replace("\n", ",x\n"), "each column once, got twice: category"),
    "a field too few": (line(5, "03.png"), "must have 2 fields in every row, got 1 in line 5"),
    "a field too many": (line(5, "03.png,disc,x"), "must have 2 fields in every row, got 3 in line 5"),
    "a comma in a name": (line(5, "03,5.png,disc"), "must have 2 fields in every row, got 3 in line 5"),
    "a quote that never closes": (line(5, '"03.png,disc'), "line 5: a quote opens here and never closes"),
    "a quote around rows": ("file,category,note\n" + NOTED, "line 2: a quote opens here and closes only in line 13"),
    "a quote that closes elsewhere": (line(5, '"03.png,disc').replace("12.png,", '12.png,"'), "line 5: something follows a closing quote"),
    "text after a quote": (line(5, '"03".png,disc'), "line 5: something follows a closing quote"),
    "a field beyond all bounds": (line(5, "03.png," + "x" * 131_073), "line 5: a field of more than 131,072 characters"),
    "Latin-1": (line(5, "caf\u00e9.png,disc").encode("latin-1"), "is not in UTF-8: byte 0xe9 in line 5; save it as CSV UTF-8"),
    "UTF-16": (WHOLE.encode("utf-16"), "is in UTF-16; expected UTF-8: save it as CSV UTF-8"),
    "a zero byte": (line(5, "03.png,di\0sc"), "is not a text file: a zero byte in line 5"),
    "an image": (b"\x89PNG\r\n\x1a\n\x00\x00", "is not in UTF-8: byte 0x89 in line 1"),
    "no name": (line(5, ",disc"), "must have a file in every row, got none in line 5"),
    "no category": (line(5, "03.png,"), "must have a category in every row, got none in line 5"),
    "a blank category": (line(5, "03.png,  "), "must have a category in every row, got none in line 5"),
    "a space after a category": (line(5, "03.png,disc "), "a category must not begin or end with white space, got 'disc ' in line 5"),
    "a space before a name": (line(5, " 03.png,disc"), "a file must not begin or end with white space, got ' 03.png' in line 5"),
    "an image twice": (line(5, "00.png,disc"), "images must be listed once, got twice: 00.png in lines 2 and 5"),
    "an image twice, by another path": (line(5, "./00.png,disc"), "got twice: 00.png in lines 2 and 5"),
    "an image twice, by a detour": (line(5, "x/../00.png,disc"), "got twice: 00.png in lines 2 and 5"),
}  # fmt: skip

FAULTS = [
    *(Fault(name, text, change=write("labels.csv", content)) for name, (content, text) in CONTENTS.items()),
    *(Fault(name, CONTENTS[name][1], "selectivity", change=write("labels.csv", CONTENTS[name][0]))
      for name in ("a quote around rows", "an image twice, by another path", "Latin-1", "a field beyond all bounds")),
    *(Fault(f"{name}, of stimuli", CONTENTS[name][1], "recording", change=write("recording/stimuli.csv", CONTENTS[name][0]))
      for name in ("a quote around rows", "an image twice, by another path", "Latin-1", "a field beyond all bounds", "no name", "semicolons")
      if name != "semicolons"),
    Fault("labels of a recording", "labels.csv, line 2: a quote opens here", "recording", {"--labels": "labels.csv"},
          write("labels.csv", "file,category,note\n" + NOTED)),
    Fault("labels of some stimuli", r"must give a category for every stimulus, got none for row 24 \(23.png\)", "recording",
          {"--labels": "labels.csv"}, write("labels.csv", WHOLE.replace("23.png", "99.png"))),
    Fault("missing images", "2 of 24 listed images are not in images: 98.png in line 3, 99.png in line 4",
          change=write("labels.csv", WHOLE.replace("01.png", "98.png").replace("02.png", "99.png"))),
    Fault("a folder as an image", "1 of 24 listed images are not in images: sub in line 5", change=lambda: (Path("images/sub").mkdir(), write("labels.csv", line(5, "sub,disc"))())),
    Fault("too few of the category", "--preferred must have at least 5 images, .* got 4 of 'disc'", change=write("labels.csv", "file,category\n" + "".join(
        f"{name},{'disc' if k < 4 else 'plain'}\n" for k, name in enumerate(NAMES)))),
    Fault("too few others", "got 20 of 'disc' and 4 others", change=write("labels.csv", "file,category\n" + "".join(
        f"{name},{'disc' if k >= 4 else 'plain'}\n" for k, name in enumerate(NAMES)))),
]  # fmt: skip


@table(FAULTS)
def test_labels(fault: Fault, world: Path, capsys: Any) -> None:
    check(fault, capsys)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + WHOLE,
        WHOLE.replace("\n", "\r\n"),
        WHOLE.replace("\n", "\n\n"),
        WHOLE.rstrip(),
        '"file","category"\n' + "".join('"{}","{}"\n'.format(*row.split(",")) for row in ROWS.splitlines()),
        ",file,category\n" + "".join(f"{k},{row}\n" for k, row in enumerate(ROWS.splitlines())),
    ],
    ids=["byte order mark", "Windows", "empty lines", "no last line end", "quotes", "pandas' index"],
)
def test_what_is_no_fault(content: str, world: Path) -> None:
    from captum_shared.labels import read_labels

    Path("labels.csv").write_bytes(content.encode())
    paths, categories = read_labels("images", "labels.csv")
    assert [path.name for path in paths] == NAMES
    assert len(categories) == N_IMAGES
