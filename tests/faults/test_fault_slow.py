"""Slow faults of the system: processes that are killed, share a folder, or have too little memory or disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import processes
import pytest

from faults.faulty import assert_untouched, snapshot, words_of

pytestmark = pytest.mark.slow  # every test starts processes
COMMANDS = ("category", "selectivity", "recording")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def start(words: Sequence[str], before: str = "", printed: str = os.devnull) -> ForkServerProcess:
    """The command in a process of its own; `before` is what it does first."""
    code = f"import sys\n{before}\nfrom captum_shared.cli import main\nsys.exit(main({list(words)!r}))"
    return processes.start(code, printed=printed)


def run(words: Sequence[str], before: str = "") -> tuple[int, list[str]]:
    """The exit status of the command in a process of its own, and the lines that are no progress."""
    with tempfile.NamedTemporaryFile() as printed:
        status = processes.end(start(words, before, printed.name))
        return status, lines_of(printed.read())


def lines_of(printed: bytes) -> list[str]:
    lines = printed.decode().replace("\r", "\n").splitlines()
    return [line for line in lines if line.startswith("captum-shared: ")]


def results(folder: str = "out") -> dict[str, bytes]:
    """What a report says: its tables and its summary."""
    names = ("pairs.csv", "units.csv", "neurons.csv", "summary.json")
    return {name: (Path(folder) / name).read_bytes() for name in names if (Path(folder) / name).exists()}


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_moments(command: str, world: Path) -> None:
    """After five kills the same command ends as if there had been none."""
    before = snapshot(Path())
    assert run(words_of(command, {"--out": "whole"}))[0] == 0
    shutil.rmtree("whole")
    began = time.monotonic()
    assert run(words_of(command, {"--out": "whole"}))[0] == 0  # again, since the first has loaded what is loaded late
    seconds = time.monotonic() - began
    shutil.move("whole", world.parent / "whole")
    ends = []
    for moment in sorted(np.random.default_rng(0).uniform(0, 1, 5)):  # early ones first: what a process did is kept
        process = start(words_of(command, {}))
        time.sleep(seconds * moment)
        process.kill()
        ends.append(processes.end(process))
    assert ends[0] == -signal.SIGKILL
    assert run(words_of(command, {})) == (0, [])
    assert results() == results(str(world.parent / "whole"))
    assert_untouched(before)


@pytest.mark.parametrize("command", COMMANDS)
def test_two_processes_on_one_folder(command: str, world: Path) -> None:
    before = snapshot(Path())
    both = [start(words_of(command, {})) for _ in range(2)]
    assert [processes.end(process) for process in both] == [0, 0]
    assert_untouched(before)
    found = results()
    shutil.rmtree("out")
    assert run(words_of(command, {}))[0] == 0
    assert results() == found


MEMORY = """
import resource, torch, captum_shared.report
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="finds the memory in use as Linux tells it")
@pytest.mark.parametrize("command", COMMANDS)
def test_too_little_memory(command: str, world: Path) -> None:
    before = snapshot(Path())
    status, lines = run(words_of(command, {"--image-size": 3000}), MEMORY)
    assert status == 1
    assert len(lines) == 1
    assert "error: out of memory" in lines[0]
    assert_untouched(before)


@pytest.mark.parametrize("kilobytes", [16, 32, 64])  # the smallest report takes between 64 and 256
def test_a_tiny_file_system(kilobytes: int, world: Path) -> None:
    Path("out").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", "out"], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    try:
        for command in COMMANDS:
            status, lines = run(words_of(command, {"--out": f"out/{command}"}))
            assert status == 1, lines
            assert len(lines) == 1
            assert "no space left" in lines[0] or "disk is full" in lines[0]
            assert [path.name for path in Path("out").rglob(".*.tmp")] == []
            shutil.rmtree(f"out/{command}", ignore_errors=True)
    finally:
        subprocess.run(["umount", "out"], check=True)


def test_a_pipe_that_closes(world: Path) -> None:
    """As in ``captum-shared selectivity ... | head -c 0``."""
    words = [sys.executable, "-m", "captum_shared", *words_of("selectivity", {})]
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, error = process.communicate(timeout=300)
    assert (process.returncode, lines_of(error)) == (0, [])
    assert Path("out/index.html").is_file()


def test_ulimit_f(world: Path) -> None:
    before = snapshot(Path())
    words = " ".join(words_of("recording", {}))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 2; exec {sys.executable} -B -m captum_shared {words}"],
        env=ENVIRONMENT,
        capture_output=True,
    )
    lines = lines_of(done.stderr)
    assert done.returncode == 1
    assert len(lines) == 1
    assert "error: no space left" in lines[0]
    assert_untouched(before)
