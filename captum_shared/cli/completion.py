"""``captum-shared --print-completion SHELL``: a script by which a shell completes commands, flags and values."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

SHELLS = ("bash", "zsh", "tcsh")
FOLDERS, FILES = ("DIR",), ("PATH", "CSV", "FILE")
"""What values are called in the help: by it flags are known whose values are folders or files."""


class PrintCompletion(argparse.Action):
    """Print the script for all commands of the parser, and exit."""

    def __init__(self, option_strings: Sequence[str], dest: str, metavar: str, help: str) -> None:
        super().__init__(
            option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, choices=SHELLS, metavar=metavar, help=help
        )

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option: object = None
    ) -> None:
        """As argparse calls it."""
        try:
            import shtab
        except ImportError:
            parser.error('--print-completion needs shtab: pip install "captum-shared[completion]"')
        from captum_shared.report.arguments import known_choices

        _annotate(parser, known_choices(), shtab.DIRECTORY, shtab.FILE)
        print(shtab.complete(parser, shell=str(values)))
        parser.exit()


def _annotate(
    parser: argparse.ArgumentParser, choices: dict[str, tuple[str, ...]], folder: object, file: object
) -> None:
    """Note at each flag, where shtab looks for it, what its values are."""
    for action in vars(parser)["_actions"]:
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                _annotate(command, choices, folder, file)
        elif action.dest in choices:
            action.choices = choices[action.dest]
        elif action.metavar in (*FOLDERS, *FILES):
            action.complete = folder if action.metavar in FOLDERS else file
