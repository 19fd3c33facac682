"""``captum-shared stimuli``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from captum_shared.cli.recording import add_data
from captum_shared.cli.shared import add_command, add_common, add_number
from captum_shared.study.experiment import FILLS, ExperimentSettings

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Choices

    from captum_shared.cli.shared import Commands

EXAMPLES = (
    r"""
    captum-shared stimuli --report report --recording my_recording/ --neurons 0,3,7-9 --out stimuli
        pictures that test the maps of five neurons in an experiment; open stimuli/index.html, the protocol
    """,
    r"""
    captum-shared stimuli --report report --recording my_recording/ --weights squeezenet.pth \
        --neurons 7 --pairs 1,2 --area 0.2 --match-luminance --match-contrast --out stimuli
        two pairs of a neuron, larger parts, equal luminance and contrast; weights that are a file on this machine
    """,
    """
    captum-shared stimuli --responses measured.csv --out stimuli
        after the experiment: which of the predictions hold; open stimuli/results/index.html
    """,
)


def add(commands: Commands) -> None:
    """Add the command to those that there are."""
    command = add_command(
        commands, "stimuli", "make pictures that test a report's maps in an experiment, and score the responses", _run,
        EXAMPLES,
    )  # fmt: skip
    what = command.add_argument_group("either or").add_mutually_exclusive_group(required=True)
    what.add_argument("--report", metavar="DIR", help="folder of a report of recording, from which pictures are made")
    what.add_argument(
        "--responses", metavar="CSV",
        help="responses to the pictures in --out: the columns file, neuron, trial and response, or file, neuron and "
        "one for each repeat",
    )  # fmt: skip
    data = command.add_argument_group("the report's recording and network")
    data.add_argument(
        "--recording", metavar="PATH", help="the recording that the report is about; needed with --report"
    )
    data.add_argument("--model", metavar="NAME", help="its network (default: as the report says)")
    data.add_argument(
        "--weights", metavar="PATH", help="its weights; needed if they are a file (default: as the report says)"
    )
    data.add_argument(
        "--image-size", type=int, metavar="N", help="side of the network's input (default: as the report says)"
    )
    for name in ("mean", "std"):
        data.add_argument(f"--{name}", type=float, nargs=3, metavar=("R", "G", "B"), help=f"{name} of the channels")
    add_data(data)
    _add_choices(command.add_argument_group("choices"))
    add_common(command, out="stimuli")


def _add_choices(choices: Choices) -> None:
    """Which pictures, and how many repeats."""
    choice = partial(add_number, choices, ExperimentSettings)
    choices.add_argument(
        "--neurons", metavar="NAMES", help="neurons of the report, by name or number, such as 0,3,7-9 (default: all)"
    )
    choices.add_argument("--pairs", metavar="N,N", help="their pairs, from 1, such as 1,3-5 (default: all)")
    choices.add_argument(
        "--map",
        dest="kind",
        choices=("pixel", "layer"),
        help="the report's maps that mark the parts (default: its first)",
    )
    choice("--area", float, "the part's share of what the network sees of a picture")
    choices.add_argument(
        "--fill", default=ExperimentSettings.fill, choices=FILLS,
        help=f"what takes the place of a removed part (default: {ExperimentSettings.fill})",
    )  # fmt: skip
    choice("--controls", int, "controls for each kind of picture: parts of the same shape at random places")
    choices.add_argument(
        "--size", type=int, metavar="N",
        help="make square pictures of N x N pixels (default: the stimuli's size if all have the same)",
    )  # fmt: skip
    choices.add_argument("--match-luminance", action="store_true", help="equal mean luminance of a neuron's pictures")
    choices.add_argument(
        "--match-contrast", action="store_true",
        help="equal contrast of a neuron's photographs, and of its parts on a uniform ground",
    )  # fmt: skip
    choice("--alpha", float, "level of all tests of a neuron together")
    choice("--power", float, "how likely each test must be to find its predicted difference")
    choice("--max-repeats", int, "how often the laboratory can show each picture, at most")
    choices.add_argument(
        "--fano", type=float, metavar="F", help="trial variance over mean response, for a recording without repeats"
    )


def _run(select: list[tuple[str, list[str]]] | None = None, **options: object) -> str:
    from captum_shared.report.stimuli import run_stimuli

    return run_stimuli(select=dict(select or ()) or None, **options)  # type: ignore[arg-type]
