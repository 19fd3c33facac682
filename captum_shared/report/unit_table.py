"""A table of units that is searched and sorted in the browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from captum_shared.report.html import Section, data_url

SHOWN = 2  # names of images in a row; the search knows all of them


@dataclass(frozen=True)
class Unit:
    """A row: values in the order of the columns, classes and names of images with the strongest first, a JPEG."""

    layer: str
    unit: int
    values: Sequence[float]
    classes: Sequence[str]
    images: Sequence[str]
    picture: bytes


def unit_table(heading: str, columns: Sequence[str], units: Sequence[Unit]) -> Section:
    """A section: a search box over layers, units, classes and images, and a table whose columns sort."""
    names = [("layer", False), ("unit", True), *((name, True) for name in columns)]
    names += [("classes by base rate", False), ("strongest images", False)]
    rows = [_row(unit) for unit in units]
    return Section("units.html", {"heading": heading, "columns": names, "units": rows}, interactive=True)


def _row(unit: Unit) -> dict[str, object]:
    name, classes = f"{unit.layer} unit {unit.unit}", ", ".join(unit.classes)
    return {
        "name": name, "layer": unit.layer, "number": unit.unit, "classes": classes,
        "images": ", ".join(unit.images[:SHOWN]), "source": data_url(unit.picture, "image/jpeg"),
        "text": f"{name} {classes} {' '.join(unit.images)}".lower(),
        "cells": [("" if math.isnan(value) else f"{value:.6f}", _shown(value)) for value in unit.values],
    }  # fmt: skip


def _shown(value: float) -> str:
    if math.isnan(value):
        return "none"
    return str(int(value)) if value == int(value) and abs(value) > 1 else f"{value:.3f}"
