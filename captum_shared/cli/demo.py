"""``captum-shared demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from captum_shared.cli.shared import add_command, add_common, add_value, where
from captum_shared.tables import counted

if TYPE_CHECKING:
    from captum_shared.cli.shared import Commands

EXAMPLES = (
    """
    captum-shared demo --out demo
        synthetic creatures and objects, no download; open demo/index.html
    """,
    """
    captum-shared demo --preferred vehicle --top 3 --out vehicles
        another category's neuron, and fewer pairs
    """,
)


def add(commands: Commands) -> None:
    """Add the command to those that there are."""
    command = add_command(
        commands, "demo", "explain a creature neuron on synthetic images with known truth", _run, EXAMPLES
    )
    add_value(command, "--preferred", "creature", "the neuron's category", "NAME")
    add_value(command, "--top", 6, "how many pairs to explain")
    command.add_argument(
        "--standardize", action="store_true",
        help="standardize the latents (default: no, since the demo network's are zero where a part is absent)",
    )  # fmt: skip
    add_common(command, out="demo")


def _run(**options: Any) -> str:
    from captum_shared.report import run_demo
    from captum_shared.report.arguments import check_common

    check_common(**options)
    summary = run_demo(**options)
    said = counted(summary["pairs"], "pair")
    if summary["pairs"]:
        said += f"; share of heat on what both images share {summary['mean_share']['ParallelBackprop']:.2f}, "
        said += f"which is {summary['mean_area']:.2f} of the image"
    return f"{said}; {where(options)}"
