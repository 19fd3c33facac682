"""Pages of reports, from templates: nothing from the network, and the template engine escapes everything."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

SCRIPTS = ("tables.js", "viewer.js", "report.js")
NUMBER = Markup(' class="number"')


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption and its text alternative."""

    png: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class LinkedPicture:
    """A picture that opens another, larger one: paths relative to the page, and its text alternative."""

    source: str
    target: str
    alt: str
    caption: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Section:
    """A part of a page: the name of its template and the values that fill it.

    `interactive` sections need the script.
    """

    template: str
    values: Mapping[str, object] = field(default_factory=dict)
    interactive: bool = False


def page(title: str, paragraphs: Sequence[str], sections: Sequence[Section]) -> str:
    """A whole page: a title, paragraphs of plain text, and sections made by the functions below."""
    return _templates().get_template("page.html").render(
        title=title,
        paragraphs=paragraphs,
        sections=sections,
        style=Markup(asset("style.css")),
        script=Markup(script()) if any(section.interactive for section in sections) else "",
    )  # fmt: skip


def gallery(heading: str, pictures: Sequence[Picture], wide: bool = False) -> Section:
    """Pictures in a grid, or one per row, inside the page."""
    kind = "pairs wide" if wide else "pairs"
    return Section("gallery.html", {"heading": heading, "pictures": pictures, "kind": kind})


def linked_gallery(heading: str, pictures: Sequence[LinkedPicture]) -> Section:
    """Pictures in a grid, from files, each opening another; the page needs a dialog."""
    return Section("population.html", {"heading": heading, "pictures": pictures}, interactive=True)


def table(heading: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Section:
    """A table; numbers are right-aligned, with three digits."""
    numeric = [all(isinstance(row[i], float | int) for row in rows) for i in range(len(header))]
    kinds = [NUMBER if number else "" for number in numeric]
    return Section("table.html", {"heading": heading, "header": header, "rows": rows, "kinds": kinds})


def settings_table(settings: Mapping[str, object], heading: str = "Settings") -> Section:
    """What was chosen and noted, as text."""
    return table(heading, ("setting", "value"), [(key, str(value)) for key, value in settings.items()])


def text(paragraphs: Sequence[str], heading: str = "") -> Section:
    """Paragraphs of plain text below a heading, if there is one."""
    return Section("paragraphs.html", {"heading": heading, "paragraphs": paragraphs})


def numbers(values: Sequence[tuple[str, object]]) -> Section:
    """The figures to see first: names and values, with two digits."""
    return Section("numbers.html", {"numbers": values})


def script() -> str:
    """The script of every page that has one: its files, one after the other."""
    return "".join(asset(name) for name in SCRIPTS)


def asset(name: str) -> str:
    """A file that lies beside the templates."""
    return files("captum_shared.report").joinpath("templates").joinpath(name).read_text(encoding="utf-8")


def data_url(content: bytes, kind: str = "image/png") -> str:
    """A file's content as an address that a page can show."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@cache
def _templates() -> Environment:
    engine = Environment(
        loader=PackageLoader("captum_shared.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    engine.filters["two_digits"] = lambda value: f"{value:.2f}" if isinstance(value, float) else str(value)
    engine.filters["three_digits"] = lambda value: f"{value:.3f}" if isinstance(value, float) else str(value)
    engine.filters["as_data"] = lambda picture: data_url(picture.png)
    return engine
