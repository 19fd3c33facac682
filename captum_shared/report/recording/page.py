"""``index.html``: a sortable table of neurons, pictures beside it, and how everything was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from captum_shared.report.html import LinkedPicture, linked_gallery, numbers, page, table, text
from captum_shared.report.viewer import ColumnView, NeuronView, index_script, neuron_entry, viewer_section

LEAD = (
    "Heat marks what a stimulus outside the preferred category and its reference within it share for the neuron. "
    "Where there is no heat, nothing is said: the neuron may still respond to it. A map explains the model of the "
    "neuron: look at its correlations first."
)


COLUMNS = (
    ColumnView("preferred_category", "preferred", "choice"),
    ColumnView("d_prime", "d\u2032"),
    ColumnView("cv_r", "r"),
    ColumnView("cv_r_corrected", "r / ceiling"),
    ColumnView("reliability", "reliability"),
    ColumnView("generalization_r", "generalization r"),
    ColumnView("n_drivers", "drivers"),
    ColumnView("layer", "layer", "choice"),
    ColumnView("status", "status", "choice"),
    ColumnView("reason", "reason", "text"),
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
    entries = [neuron_entry(_view(row, picture)) for row, picture in zip(neurons, thumbnails, strict=True)]
    sections = [
        numbers(figures),
        text(notes),
        linked_gallery("Population", population),
        viewer_section([index_script([], COLUMNS, entries)]),
        text(methods, "Methods"),
        table("Settings and versions", ("setting", "value"), settings),
    ]
    return page(title, [LEAD], sections)


def _view(row: dict[str, Any], picture: LinkedPicture | None) -> NeuronView:
    values = {column.key: None if row[column.key] == "" else row[column.key] for column in COLUMNS}
    if picture is None:
        return NeuronView(str(row["neuron"]), values)
    return NeuronView(
        str(row["neuron"]), values, figure=picture.target, thumbnail=(picture.source, *(picture.size or (293, 144)))
    )
