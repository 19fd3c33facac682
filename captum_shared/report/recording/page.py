"""``index.html``: a sortable table of neurons, pictures beside it, and how everything was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from captum_shared.report.html import LinkedPicture, Section, linked_gallery, numbers, page, table, text

LEAD = (
    "Heat marks what a stimulus outside the preferred category and its reference within it share for the neuron. "
    "Where there is no heat, nothing is said: the neuron may still respond to it. A map explains the model of the "
    "neuron: look at its correlations first."
)


@dataclass(frozen=True)
class Column:
    """A column of the table of neurons: its heading and the key of its values."""

    name: str
    key: str
    numeric: bool = False


COLUMNS = (
    Column("neuron", "neuron"),
    Column("preferred", "preferred_category"),
    Column("d\u2032", "d_prime", True),
    Column("reliability", "reliability", True),
    Column("r", "cv_r", True),
    Column("r / ceiling", "cv_r_corrected", True),
    Column("generalization r", "generalization_r", True),
    Column("drivers", "n_drivers", True),
    Column("layer", "layer"),
    Column("status", "status"),
    Column("reason", "reason"),
)


def report_page(
    title: str,
    figures: Sequence[tuple[str, Any]],
    notes: Sequence[str],
    population: Sequence[LinkedPicture],
    neurons: Sequence[dict[str, Any]],
    thumbnails: Sequence[LinkedPicture | None],
    methods: Sequence[str],
    settings: Sequence[tuple[str, str]],
) -> str:
    """The whole page.

    Parameters
    ----------
    title : str
    figures : sequence of (name, value)
        The figures to see first.
    notes : sequence of str
        What a reader must know before believing anything, such as stimuli left out.
    population : sequence of LinkedPicture
    neurons : sequence of dict
        A row of ``neurons.csv`` each.
    thumbnails : sequence of LinkedPicture or None
        One per row.
    methods : sequence of str
        Paragraphs.
    settings : sequence of (name, value)
    """
    rows = list(zip(neurons, thumbnails, strict=True))
    sections = [
        numbers(figures),
        text(notes),
        linked_gallery("Population", population),
        Section("neurons.html", {"columns": COLUMNS, "rows": rows}, interactive=True),
        text(methods, "Methods"),
        table("Settings and versions", ("setting", "value"), settings),
    ]
    return page(title, [LEAD], sections)
