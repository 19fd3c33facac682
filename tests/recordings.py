"""Synthetic recordings for tests: images made here, a tiny network, neurons that read its latents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_shared import LatentEncoder, Recording, encode_images
from captum_shared.networks.preprocessing import preprocessing
from captum_shared.study.tables import RecordingSummary

SIZE = 24
KINDS = ("disc", "stripe", "plain")
NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(8, 12, 3), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(12, 4))
"""


def make_network(folder: Path) -> torch.nn.Module:
    """The tiny network, written as a module and a state dict into `folder`, which must be importable."""
    (folder / "tiny_network.py").write_text(NETWORK)
    sys.modules.pop("tiny_network", None)
    from tiny_network import make  # type: ignore[import-not-found]

    network = make().eval()
    torch.save(network.state_dict(), folder / "tiny.pth")
    return network


def draw(kind: str, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    pixels = rng.integers(80, 150, (SIZE, SIZE, 3))
    cx, cy = rng.integers(7, SIZE - 7, 2)
    if kind == "disc" or rng.random() < 0.15:
        pixels[(x - cx) ** 2 + (y - cy) ** 2 < rng.integers(12, 40)] = (220, rng.integers(0, 60), 30)
    if kind == "stripe":
        pixels[abs(x - cx) + 0 * y < rng.integers(2, 5)] = (30, 30, 200)
    return pixels.astype(np.uint8)


def make_recording(
    folder: Path,
    network: torch.nn.Module,
    n_stimuli: int = 90,
    n_neurons: int = 5,
    n_repeats: int = 4,
    noise: float = 0.5,
) -> Path:
    """A recording's folder. Neurons read standardized latents of layer "3"; noise has `noise` times the signal's SD."""
    rng = np.random.default_rng(0)
    stimuli = folder / "recording" / "stimuli"
    stimuli.mkdir(parents=True)
    kinds = [KINDS[i % 3] for i in range(n_stimuli)]
    names = [f"{i:03d}.png" for i in range(n_stimuli)]
    for name, kind in zip(names, kinds, strict=True):
        Image.fromarray(draw(kind, rng)).save(stimuli / name)
    z = (
        encode_images(LatentEncoder(network, "3"), [stimuli / name for name in names], preprocessing(SIZE))
        .double()
        .numpy()
    )
    z = (z - z.mean(0)) / z.std(0)
    weight = rng.normal(size=(n_neurons, z.shape[1]))
    weight[0] = z[np.array(kinds) == "disc"].mean(0)
    signal = z @ weight.T
    signal = (signal - signal.mean(0)) / signal.std(0)
    responses = 10 + signal.T[:, :, None] + noise * rng.normal(size=(n_neurons, n_stimuli, n_repeats))
    np.save(folder / "recording" / "responses.npy", responses)
    np.save(folder / "weight.npy", weight)
    rows = "".join(f"{name},{kind}\n" for name, kind in zip(names, kinds, strict=True))
    (folder / "recording" / "stimuli.csv").write_text("file,category\n" + rows)
    return folder / "recording"


def explain(
    folder: Path, network: torch.nn.Module, out: Path, recording: Any = None, **options: Any
) -> RecordingSummary:
    """`explain_recording` with the settings of these tests."""
    from captum_shared import explain_recording

    recording = Recording.load(folder) if recording is None else recording
    settings = {"n_steps": 2, "drivers": 2, "n_splits": 10, "pools": ("avg", 2), "progress": False, **options}
    return explain_recording(recording, network, preprocessing(SIZE), out=out, **settings)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def undraw(patch: pytest.MonkeyPatch) -> None:
    """Do not draw the pictures of reports, which take most of the time of a small run: files with other bytes."""
    patch.setattr("captum_shared.report.recording.writing._draw", lambda *_: (b"figure" * 99, b"small" * 199))
    for kind in ("generalization", "drivers", "reliability", "reuse"):
        patch.setattr(f"captum_shared.report.recording.figures.{kind}_figure", lambda *_: NoFigure)
    patch.setattr("captum_shared.report.recording.figures.png_bytes", lambda *_, **__: b"population" * 99)
    patch.setattr("captum_shared.report.category.pair_figure", lambda *_, **__: NoFigure)
    for module in ("folders", "report.category"):
        patch.setattr(f"captum_shared.{module}.figure_bytes", lambda *_, **__: b"figure" * 99)


class NoFigure:
    """In the place of a figure that is not drawn."""

    @staticmethod
    def get_size_inches() -> tuple[float, float]:
        return 4.8, 3.4
