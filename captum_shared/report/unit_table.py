"""A table of units that is searched, filtered and sorted in the browser; a row opens its unit's sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from captum_shared.report.html import Section, data_url
from captum_shared.report.viewer import data_script, plain


@dataclass(frozen=True)
class Unit:
    """A row and its sheet.

    Attributes
    ----------
    layer : str
    unit : int
    values : sequence of float
        In the order of the columns.
    classes : sequence of (str, float)
        Those that drive it, with their shares, the strongest first.
    images : sequence of str
        Names, the strongest first.
    thumbnail : bytes
        A JPEG.
    sheet : str
        Path of a picture of its Neuron Feature and strongest crops, relative to the page.
    facts : sequence of (str, float)
        What the sheet says in numbers.
    """

    layer: str
    unit: int
    values: Sequence[float]
    classes: Sequence[tuple[str, float]]
    images: Sequence[str]
    thumbnail: bytes
    sheet: str
    facts: Sequence[tuple[str, float]] = ()


def unit_table(columns: Sequence[str], units: Sequence[Unit]) -> Section:
    """A section: a search over layers, units and classes, filters, and a table whose columns sort."""
    data = {"columns": list(columns), "units": [_row(unit) for unit in units]}
    return Section("units.html", {"script": Markup(data_script("units", 0, data))}, interactive=True)


def _row(unit: Unit) -> list[object]:
    return [
        unit.layer, unit.unit, [plain(value) for value in unit.values],
        [[name, plain(share)] for name, share in unit.classes], list(unit.images),
        data_url(unit.thumbnail, "image/jpeg"), unit.sheet, [[name, plain(value)] for name, value in unit.facts],
    ]  # fmt: skip
