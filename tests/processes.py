"""Processes of their own, for tests that kill or starve one: each is forked from a server that has done the imports.

That leaves out of each process the 5 seconds in which Python imports torch and the rest, and a kill strikes the work.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess

IMPORTS = ("captum_shared.cli", "captum_shared.report", "matplotlib.figure", "sklearn.linear_model", "sklearn.pipeline")


def start(code: str, *arguments: str, printed: str = os.devnull) -> ForkServerProcess:
    """Like ``python -c CODE ARGUMENTS``, in the working directory; what it prints goes into the file `printed`."""
    process = _server().Process(target=_run, args=(code, arguments, printed))
    process.start()
    return process


def end(process: ForkServerProcess) -> int:
    """Its exit status, negative for the signal that killed it."""
    process.join(300)
    assert process.exitcode is not None, "the process did not end within 5 minutes"
    return process.exitcode


@cache
def _server() -> ForkServerContext:
    """The server, with its imports done."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(list(IMPORTS))
    first = server.Process(target=int)
    first.start()
    first.join()
    return server


def _run(code: str, arguments: tuple[str, ...], printed: str) -> None:
    file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})
