"""The command ``captum-shared``: arguments only, a module for each command; `captum_shared.report` does the work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from captum_shared import __version__
from captum_shared.cli import category, demo, figure, layers, recording, selectivity, stimuli
from captum_shared.cli.completion import SHELLS, PrintCompletion
from captum_shared.cli.shared import add_traceback, examples_text, make_parser
from captum_shared.console import Parser, check_spelling, closing_pipes, complain, warnings_in_one_line

COMMANDS = (demo, category, selectivity, recording, layers, figure, stimuli)
"""Each with `EXAMPLES`, of which the first stands in the help of the program, and `add`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        The exit status: 0 only on success, 2 for an error that the user can correct, 1 if the machine or the program
        failed, 130 if interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    with closing_pipes():
        if not words:
            parser.print_help()
            return 0
        check_spelling(parser, words)
        options = vars(parser.parse_args(words))
        run: Callable[..., str] = options.pop("run")
        flags: dict[str, str] = options.pop("command").flags()
        with_traceback = options.pop("traceback", False)
        try:
            with warnings_in_one_line(flags):
                print(run(**options))
        except (Exception, KeyboardInterrupt) as error:
            return complain(error, with_traceback, flags)
    return 0


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = make_parser(
        prog="captum-shared",
        description="Show in two heat maps what an out-of-category image shares with a neuron's preferred category.",
        epilog=examples_text([command.EXAMPLES[0] for command in COMMANDS]),
    )
    parser.add_argument("--version", action="version", version=f"captum-shared {__version__}")
    parser.add_argument(
        "--print-completion", action=PrintCompletion, metavar="SHELL",
        help=f"print a script that completes words at the prompt of {', '.join(SHELLS)}, and exit",
    )  # fmt: skip
    add_traceback(parser)
    commands = parser.add_subparsers(metavar="command", required=True)
    parser.commands = commands.choices
    for command in COMMANDS:
        command.add(commands)
    return parser
