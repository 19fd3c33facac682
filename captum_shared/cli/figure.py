"""``captum-shared figure``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from captum_shared.cli.shared import add_command, add_value
from captum_shared.tables import counted

if TYPE_CHECKING:
    from captum_shared.cli.shared import Commands

COLUMNS = {"single": "one column", "double": "two columns"}

EXAMPLES = (
    """
    captum-shared figure --report dogs --neuron dog --pairs 1,3 --out figure.pdf
        two pairs of a report, as PDF in the width of two columns
    """,
    """
    captum-shared figure --report report --neuron 7 --width single --out figure.svg
        the first pair of a recorded neuron, in the width of one column
    """,
)


def add(commands: Commands) -> None:
    """Add the command to those that there are."""
    command = add_command(commands, "figure", "draw pairs of a report for a paper, as PDF, SVG or PNG", _run, EXAMPLES)
    command.add_argument("--report", required=True, metavar="DIR", help="folder of a report of category or recording")
    command.add_argument("--neuron", required=True, metavar="NAME", help="the neuron, by its name in the report")
    add_value(command, "--pairs", "1", "its pairs, from 1", "N,N")
    add_value(command, "--width", "double", "one column, 3.5 inches, or two, 7.2 inches", None, choices=tuple(COLUMNS))
    command.add_argument(
        "--map", dest="kind", metavar="NAME", help="which map, by its name in the report (default: the first there)"
    )
    add_value(command, "--out", "figure.pdf", "the file", "FILE")


def _run(**options: Any) -> str:
    from captum_shared.report.published import run_figure

    path = run_figure(**options)
    pairs = counted(options["pairs"].count(",") + 1, "pair")
    return f"{pairs} of {options['neuron']}, for {COLUMNS[options['width']]}; open {path}"
