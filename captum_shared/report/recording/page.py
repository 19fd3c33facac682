"""``index.html``: the viewer of neurons and pairs, the population, and how everything was made."""

from __future__ import annotations

from collections.abc import Sequence

from captum_shared.report.html import LinkedPicture, Section, linked_gallery, numbers, page, table, text

LEAD = (
    "Heat marks what a stimulus outside the preferred category and its reference within it share for the neuron. "
    "Where there is no heat, nothing is said: the neuron may still respond to it. A map explains the model of the "
    "neuron: look at its correlations first."
)


def report_page(
    title: str,
    figures: Sequence[tuple[str, object]],
    notes: Sequence[str],
    population: Sequence[LinkedPicture],
    viewer: Section,
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
    viewer : Section
        Of the neurons and their pairs.
    methods : sequence of str
        Paragraphs.
    settings : sequence of (name, value)
    """
    sections = [
        numbers(figures),
        text(notes),
        viewer,
        linked_gallery("Population", population),
        text(methods, "Methods"),
        table("Settings and versions", ("setting", "value"), settings),
    ]
    return page(title, [LEAD], sections)
