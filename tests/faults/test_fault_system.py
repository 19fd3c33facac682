"""Faults of the system: no space, no memory, no network, nobody who reads, and networks that fail."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from faults.faulty import Fault, assert_untouched, check, run, snapshot, table, words_of

RAISED = {
    "MemoryError": ("MemoryError()", 1, "error: out of memory"),
    "allocator": ("RuntimeError(\"DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes\")", 1, "error: out of memory .*a smaller --batch-size"),
    "CUDA": ("torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')", 1, "error: out of memory .*CUDA"),
    "KeyError": ("KeyError('lost')", 1, "unexpected error: KeyError: 'lost'; run again with --traceback"),
    "assertion": ("AssertionError('never')", 1, "unexpected error: AssertionError: never"),
    "interrupt": ("KeyboardInterrupt()", 130, "interrupted; rerun the command to resume"),
}  # fmt: skip


def failing_network(error: str) -> Callable[[], Any]:
    """A network that raises when it is called, in the module ``failing``."""

    def change() -> None:
        sys.modules.pop("failing", None)
        Path("failing.py").write_text(
            "import torch\n\nclass Fails(torch.nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n        self.conv = torch.nn.Conv2d(3, 6, 3)\n"
            f"    def forward(self, x):\n        raise {error}\n\n"
            "def make():\n    return torch.nn.Sequential(Fails(), torch.nn.ReLU())\n"
        )
        import torch
        from failing import make  # type: ignore[import-not-found]

        torch.save(make().state_dict(), "failing.pth")
        sys.modules.pop("failing", None)

    return change


def network_of_nan() -> None:
    """A network that gives NaN for some of the images, in the module ``failing``."""
    failing_network("KeyError")()
    text = Path("failing.py").read_text()
    Path("failing.py").write_text(
        text.replace(
            "raise KeyError",
            "y = self.conv(x); return y * torch.where(x.sum((1, 2, 3)) > 0, torch.nan, 1)[:, None, None, None]",
        )
    )


FAILING = {"--model": "failing:make", "--weights": "failing.pth"}
FAULTS = [
    *(Fault(f"a network with {name}", text, command, FAILING, failing_network(code), status, early=False)
      for command in ("category", "selectivity", "recording") for name, (code, status, text) in RAISED.items()),
    *(Fault("a network that gives NaN", text, command, FAILING, network_of_nan, early=False) for command, text in (
        ("category", "the encoder gives NaN or infinite latents for images/.*png"),
        ("recording", "the encoder gives NaN or infinite latents for recording/stimuli/.*png"),
        ("selectivity", "layer '1' gives NaN or infinite activations for image"))),
    *(Fault("images beyond all memory", "error: out of memory", command, {"--image-size": 2_000_000}, status=1, early=False)
      for command in ("category", "selectivity")),
    *(Fault("--out where nothing can be made", "--out must be a folder in which files can be made, got /proc/nowhere/out: No such file or directory in /proc", command, {"--out": "/proc/nowhere/out"})
      for command in ("category", "selectivity", "recording")),
    Fault("labels from a pipe", "no label file at pipe", flags={"--labels": "pipe"}, change=lambda: os.mkfifo("pipe")),
    Fault("an image that is a pipe", "1 of 24 listed images are not in images: 04.png in line 6",
          change=lambda: (Path("images/04.png").unlink(), os.mkfifo("images/04.png"))),
    Fault("an image that links to itself", "1 of 24 listed images are not in images: 04.png in line 6",
          change=lambda: (Path("images/04.png").unlink(), Path("images/04.png").symlink_to("04.png"))),
    Fault("an image that links to nothing", "1 of 24 listed images are not in images: 04.png in line 6",
          change=lambda: (Path("images/04.png").unlink(), Path("images/04.png").symlink_to("gone.png"))),
]  # fmt: skip


@table(FAULTS)
def test_system(fault: Fault, world: Path, capsys: Any) -> None:
    check(fault, capsys)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As ``ulimit -f`` does: a write beyond it fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 6_000])
@pytest.mark.parametrize("command", ["category", "selectivity", "recording"])
def test_a_full_disk(command: str, size: int, world: Path, capsys: Any) -> None:
    """One line; with more space the same command ends well."""
    before = snapshot(Path())
    with files_of_at_most(size):
        status = run(words_of(command, {}))
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert status == 1
    assert len(lines) == 1
    assert re.match(r"captum-shared: error: (no space left|the disk is full or failing) \(", lines[0])
    assert "out" in lines[0]
    assert_untouched(before)
    assert run(words_of(command, {})) == 0
    assert_untouched(before)


def offline(*_: Any, **__: Any) -> Any:
    raise URLError("[Errno -3] Temporary failure in name resolution")


OFFLINE = {"--model": "squeezenet1_1", "--layer": "features.3", "--weights": "DEFAULT", "--image-size": "64"}


def test_offline(world: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    check(
        Fault(
            "offline",
            "error: cannot download .*name resolution.*; pass --weights PATH",
            flags=OFFLINE,
            status=1,
            early=False,
        ),
        capsys,
    )


DOWNLOADS_NOTHING = {
    "--images": "nowhere",
    "--labels": "nowhere",
    "--preferred": "nobody",
    "--similarity": "cosin",
    "--device": "meta",
}


@pytest.mark.parametrize("flag", DOWNLOADS_NOTHING)
def test_nothing_is_downloaded_for_a_mistake(
    flag: str, world: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **_: asked.append(a))
    assert run(words_of("category", {**OFFLINE, flag: DOWNLOADS_NOTHING[flag]})) == 2
    assert asked == []


@pytest.mark.parametrize("command", ["selectivity", "recording"])
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_nobody_reads(closed: str, command: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is written, and the status is that of the work; at a terminal each line is written at once."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, closed, stream)
        assert run(words_of(command, {})) == 0
    assert Path("out/index.html").is_file()


def test_the_traceback_is_shown_on_demand(world: Path, capsys: Any) -> None:
    failing_network("KeyError('lost')")()
    assert run([*words_of("category", FAILING), "--traceback"]) == 1
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert 'failing.py", line' in said
    assert said.splitlines()[-1].startswith("captum-shared: unexpected error: KeyError: 'lost'")
