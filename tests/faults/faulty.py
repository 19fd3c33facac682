"""A small world to break: images, labels, a recording and a network; and how a command is seen to fail in it."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_shared import cli

SIZE, N_IMAGES, N_NEURONS = 12, 24, 3
KINDS = ("disc", "stripe", "plain")
NAMES = [f"{k:02d}.png" for k in range(N_IMAGES)]
NETWORK = """
import torch

def make():
    open("network_was_made", "a").close()
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 8, 3), torch.nn.ReLU())

def deep():
    return torch.nn.Sequential(*make(), *(torch.nn.MaxPool2d(2) for _ in range(4)))

def wide():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 7, 3), torch.nn.ReLU())

def broken():
    raise KeyError("no such recipe")

number = 7

def no_network():
    return 7
"""

MODEL: dict[str, Any] = {
    "--model": "fault_network:make", "--weights": "weights.pth", "--image-size": str(SIZE), "--device": "cpu",
}  # fmt: skip
IMAGES: dict[str, Any] = {"--images": "images", "--labels": "labels.csv"}
COMMANDS: dict[str, dict[str, Any]] = {
    "demo": {"--out": "out"},
    "category": {
        **IMAGES, **MODEL, "--preferred": "disc", "--layer": "1", "--steps": "2", "--top": "1", "--out": "out",
    },
    "selectivity": {
        **IMAGES, **MODEL, "--layers": "1", "--top": "4", "--crops": "1", "--sheets": "0", "--rare": "1",
        "--out": "out",
    },
    "recording": {
        **MODEL, "--recording": "recording", "--layer": "1", "--pool": "avg", "--steps": "2", "--drivers": "1",
        "--folds": "2", "--min-r": "-1", "--min-reliability": "-1", "--out": "out",
    },
}  # fmt: skip


def make_world(folder: Path) -> None:
    """Everything that the commands take, and files that are none of their business."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    responses = rng.normal(10, 1, (N_NEURONS, N_IMAGES, 2))
    for k, name in enumerate(NAMES):
        pixels = rng.integers(90, 140, (SIZE, SIZE, 3)).astype(np.uint8)
        pixels[4:8, 4:8] = ((220, 30, 30), (30, 30, 200), (120, 120, 120))[k % 3]
        Image.fromarray(pixels).save(folder / "images" / name)
        responses[:, k] += np.eye(3)[k % 3][:, None] * 4
    rows = "".join(f"{name},{KINDS[k % 3]}\n" for k, name in enumerate(NAMES))
    (folder / "labels.csv").write_text("file,category\n" + rows)
    (folder / "recording").mkdir()
    shutil.copytree(folder / "images", folder / "recording" / "stimuli")
    (folder / "recording" / "stimuli.csv").write_text("file,category\n" + rows)
    np.save(folder / "recording" / "responses.npy", responses)
    (folder / "fault_network.py").write_text(NETWORK)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 8, 3), torch.nn.ReLU())
    torch.save(network.state_dict(), folder / "weights.pth")
    (folder / "images" / "notes.txt").write_text("a bystander")
    (folder / ".mine.txt.123.tmp").write_text("another, with a name that looks temporary")


def words_of(command: str, changes: Mapping[str, Any]) -> list[str]:
    """The command's words; a change to None leaves a flag out, a list gives it several values."""
    options = {**COMMANDS[command], **changes}
    words = [command]
    for flag, value in options.items():
        if value is not None:
            words += [flag, *(value if isinstance(value, list) else [str(value)])]
    return words


@dataclass(frozen=True)
class Fault:
    """Something that is wrong, and what must come of it.

    Attributes
    ----------
    name : str
    text : str
        A pattern for the one line on standard error.
    command : str, default "category"
    flags : mapping
        Changes of the command's arguments.
    change : callable, optional
        Breaks something in the world, the working directory.
    status : int, default 2
    early : bool
        Whether it must be found before the network is made.
    """

    name: str
    text: str
    command: str = "category"
    flags: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[[], Any] | None = None
    status: int = 2
    early: bool = True

    def __str__(self) -> str:
        return f"{self.command}, {self.name}"


def check(fault: Fault, capsys: Any) -> None:
    """Break the world, run the command, and look at everything that is promised."""
    if fault.change:
        fault.change()
    before = snapshot(Path())
    capsys.readouterr()
    status = run(words_of(fault.command, fault.flags))
    error = capsys.readouterr().err
    lines = [line for line in re.split(r"[\n\r]", error) if line.startswith("captum-shared: ")]
    said = [line for line in lines if "error" in line.split(":")[1] or fault.status in (0, 130)]
    assert status == fault.status, error
    assert len(said) == 1, error
    assert re.search(fault.text, said[0]), said[0]
    assert "Traceback" not in error
    assert_untouched(before)
    assert not (fault.early and fault.status and Path("network_was_made").exists()), "found only after the network"


def everything() -> dict[str, bytes | None]:
    """All files and folders, but for what Python and the network leave."""
    return {
        path.as_posix(): path.read_bytes() if path.is_file() else None for path in sorted(Path().rglob("*"))
        if path.parts[0] not in ("__pycache__", "network_was_made")
    }  # fmt: skip


def run(words: list[str]) -> int:
    """The exit status."""
    try:
        return cli.main(words)
    except SystemExit as ended:
        return int(ended.code or 0)


def snapshot(folder: Path) -> dict[str, bytes]:
    """The content of every file, but for the report and what Python and the network itself leave."""
    return {
        path.as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parts[0] not in ("out", "__pycache__", "network_was_made")
    }  # fmt: skip


def assert_untouched(before: dict[str, bytes]) -> None:
    """Nothing but the report has changed, and no temporary file or empty folder is left in it."""
    assert snapshot(Path()) == before
    out = Path("out")
    if out.is_dir():
        assert [path.name for path in out.rglob(".*.tmp")] == []
        assert [path for path in out.rglob("*") if path.is_dir() and not any(path.iterdir())] == []


def assert_alike(one: Path, other: Path) -> None:
    """Two tables agree up to rounding: an image that is encoded alone has latents that differ in the last bits."""
    rows, expected = (list(csv.reader(path.open(newline=""))) for path in (one, other))
    assert [len(row) for row in rows] == [len(row) for row in expected]
    for found, value in zip(chain(*rows), chain(*expected), strict=True):
        try:
            assert float(found) == pytest.approx(float(value), rel=1e-4)
        except ValueError:
            assert found == value


def write(path: str, content: str | bytes | Callable[[bytes], bytes]) -> Callable[[], Any]:
    """A change of a file's content."""

    def change() -> None:
        target = Path(path)
        data = content(target.read_bytes()) if callable(content) else content
        target.write_bytes(data.encode() if isinstance(data, str) else data)

    return change


def table(faults: list[Fault]) -> Any:
    """The faults as parameters of a test."""
    assert len({str(fault) for fault in faults}) == len(faults), "two faults of one name"
    return pytest.mark.parametrize("fault", faults, ids=str)
