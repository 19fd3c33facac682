"""The command line reference: what ``--help`` prints."""

from __future__ import annotations

import argparse
import os
import re
from unittest.mock import patch

from captum_shared.cli import build_parser

MARK = re.compile(r"^<!-- help:? ?(\w*) -->$", re.MULTILINE)


def helps() -> dict[str, str]:
    """The help of the program, under "", and of each command."""
    parser = build_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    with patch.dict(os.environ, COLUMNS="88", NO_COLOR="1"):
        return {"": parser.format_help()} | {name: command.format_help() for name, command in commands.items()}


def filled(markdown: str) -> str:
    """The page with each ``<!-- help: command -->`` replaced by what that command's --help says."""
    if not MARK.search(markdown):
        return markdown
    texts = helps()
    return MARK.sub(lambda match: f"```text\n{texts[match[1]].strip()}\n```", markdown)
