"""How the command line behaves: errors in one line, suggestions for misspelt words, pipes that may be closed."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NoReturn, TextIO
from urllib.error import URLError

PROGRAM = "captum-shared"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_MEMORY = re.compile(r"out of memory|can.t allocate memory|not enough memory|cannot allocate memory", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line.

    Attributes
    ----------
    commands : dict of str to Parser
        The parsers of its commands.
    """

    commands: Mapping[str, Parser] = {}

    def flags(self) -> dict[str, str]:
        """The flag for each option, by the option's name in Python."""
        actions = vars(self)["_actions"]  # argparse has no public list
        return {action.dest: action.option_strings[-1] for action in actions if action.option_strings}

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{PROGRAM}: error: {_line(message)}; see {self.prog} --help\n")


def check_spelling(parser: Parser, words: Sequence[str]) -> None:
    """Exit with a suggestion if a command or a flag is unknown: argparse would complain about other flags first."""
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None or words[0].startswith("--print"):  # whose value is no command
        return
    command = parser.commands.get(name) or parser.error(f"unknown command {name!r}; {_nearest(name, parser.commands)}")
    known = [*re.findall(r"--[\w-]+", command.format_usage()), "--help"]
    for word in words[words.index(name) + 1 :]:
        flag = word.split("=")[0]
        if re.match(r"--\w", flag) and not any(other.startswith(flag) for other in known):
            command.error(f"{name} has no flag {flag}; {_nearest(flag, known)}")


def describe(error: BaseException) -> tuple[int, str]:
    """The exit status and the line for an error: 2 if the user can correct it, 1 for the machine or the program."""
    text = _line(str(error))
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted; rerun the command to resume"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(text)):
        return 1, f"error: out of memory{text and f' ({text})'}; try a smaller --batch-size or --image-size"
    if type(error).__name__ == "TerminatedWorkerError":
        return 1, "error: a worker process was killed, perhaps for lack of memory; try fewer --jobs"
    if _is_full(error, text):
        return 1, f"error: no space left ({text}); free some, then rerun the command to resume"
    if "disk I/O error" in text:  # SQLite's words for a disk that is full in another way, or failing
        return 1, f"error: the disk is full or failing ({text}); once that is solved, rerun the command to resume"
    if isinstance(error, URLError):
        return 1, f"error: cannot download ({text}); pass --weights PATH, a state dict on this machine"
    if isinstance(error, (ValueError, TypeError, OSError, ImportError)):
        return 2, f"error: {text or type(error).__name__}"
    return 1, f"unexpected error: {type(error).__name__}: {text}; run again with --traceback to see where"


def complain(error: BaseException, with_traceback: bool, flags: Mapping[str, str]) -> int:
    """Print what went wrong on standard error; returns the exit status."""
    status, line = describe(error)
    if with_traceback:
        traceback.print_exception(error)
    print(f"{PROGRAM}: {name_flags(line, flags)}", file=sys.stderr)
    return status


def name_flags(text: str, flags: Mapping[str, str]) -> str:
    """A message with flags where it names options as in Python, such as --steps for `n_steps`."""
    return re.sub(r"`(\w+)`", lambda name: flags.get(name[1], name[0]), text)


@contextlib.contextmanager
def warnings_in_one_line(flags: Mapping[str, str]) -> Iterator[None]:
    """Print each warning as one line, except Pillow's about large images, which are refused anyway."""

    def show(message: Warning | str, *_: object) -> None:
        print(f"{PROGRAM}: warning: {name_flags(_line(str(message)), flags)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        warnings.filterwarnings("ignore", message="Image size .* could be decompression bomb")
        yield


@contextlib.contextmanager
def closing_pipes() -> Iterator[None]:
    """Let the reader of the output close the pipe: the work continues, and later output is lost."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Patient(stream) for stream in streams)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError):  # closed
                stream.flush()
        sys.stdout, sys.stderr = streams


class _Patient:
    """A stream to which writing never fails for want of a reader."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            return self._lose(len(text))

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._lose(0)

    def _lose(self, count: int) -> int:
        """Discard all further output, including what Python writes when it exits."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)
        return count


def _is_full(error: BaseException, text: str) -> bool:
    return (isinstance(error, OSError) and error.errno in NO_SPACE) or "disk is full" in text or "os error 28" in text


def _nearest(word: str, known: Iterable[str]) -> str:
    names = sorted(set(known))
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def _line(text: str) -> str:
    """Several lines as one."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    ends = ["" if line[-1] in ".:;," else "." if after[0].isupper() else ";" for line, after in pairwise(lines)]
    return " ".join(line + end for line, end in zip(lines, [*ends, ""], strict=False))
