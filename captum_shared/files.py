"""Files, each written whole or not at all."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.tmp", re.DOTALL)
"""The name of a file while it is being written: a process that is killed leaves it behind."""


def write_bytes(path: str | os.PathLike[str], content: bytes, *, durable: bool = False) -> None:
    """Write a file under a temporary name beside it, then rename: readers see the old content or the new.

    Parameters
    ----------
    path : path
    content : bytes
    durable : bool, default False
        Whether the content must be on the disk before the old one goes, so that a power failure loses neither.

    Raises
    ------
    OSError
        If the file cannot be written; the message names it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise type(error)(error.errno, error.strerror or str(error), os.fspath(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], content: object, *, durable: bool = False) -> None:
    """Write an indented JSON document."""
    write_bytes(path, json_bytes(content), durable=durable)


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with a header line."""
    write_bytes(path, csv_bytes(header, rows))


def write_figure(path: str | os.PathLike[str], figure: Figure, dpi: int = 150) -> bytes:
    """Write a figure as PNG; returns the file's content."""
    content = figure_bytes(figure, dpi)
    write_bytes(path, content)
    return content


def json_bytes(content: object) -> bytes:
    """An indented JSON document."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A table with a header line, as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode()


def figure_bytes(figure: Figure, dpi: int = 150, kind: str = "png") -> bytes:
    """A figure as PNG, SVG or PDF, without a date in it: the same figure gives the same bytes.

    Text stays text, and the file holds the letters of its font that it uses.
    """
    from matplotlib import rc_context

    undated = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "captum_shared", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata={undated[kind]: None})
    return _with_font(buffer.getvalue()) if kind == "svg" else buffer.getvalue()


def _with_font(svg: bytes) -> bytes:
    """An SVG with its font inside: the letters that it uses, so that it looks the same where the font is missing."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    path = findfont(FontProperties())
    letters = html.unescape(re.sub(r"<[^>]*>", "", svg.decode()))
    code = base64.b64encode(_subset(path, "".join(sorted(set(letters))))).decode()
    face = f"@font-face {{font-family: '{get_font(path).family_name}'; src: url(data:font/woff;base64,{code})}}"
    return svg.replace(b"<defs>", f'<defs>\n  <style type="text/css">{face}</style>'.encode(), 1)


@lru_cache(maxsize=32)
def _subset(path: str, letters: str) -> bytes:
    """The font file with these letters only, as WOFF. Matplotlib brings fontTools, and embeds fonts in PDFs by it."""
    from fontTools import subset

    options = subset.Options(flavor="woff", hinting=False)
    options.drop_tables += ["FFTM"]  # of the program that made the font
    font = subset.load_font(path, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=letters)
    subsetter.subset(font)
    buffer = io.BytesIO()
    subset.save_font(font, buffer, options)
    return buffer.getvalue()


def sha256(*parts: bytes) -> str:
    """SHA-256 in hexadecimal: of one part, as ``sha256sum`` gives it; of several, with the length of each."""
    if len(parts) == 1:
        return hashlib.sha256(parts[0]).hexdigest()
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal; "missing" if there is no such file."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        return "missing"
    return digest.hexdigest()


def output_folder(out: str | os.PathLike[str]) -> Path:
    """The folder `out`, made if need be; a file of this name is refused."""
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`out` must be a folder, got the file {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
