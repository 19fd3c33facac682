"""How time and memory grow with images, neurons, steps, the gallery's size and the images' size.

``python -m benchmarks.growth [--quick] --out DIR`` writes ``growth.csv`` and ``growth.png``. Every point is a process
of its own: the median time of three runs after a first one, by which the peak memory of the process grew. Time should
lie on a straight line along each axis; how far it is off is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import captum.attr as ca
import numpy as np
import torch
import torchvision
from torch import Tensor
from tqdm import tqdm

from benchmarks.speed.memory import in_a_fresh_process, peak_so_far
from benchmarks.speed.timing import seconds_of
from captum_shared import LatentEncoder, ParallelBackprop, ReferenceMatcher
from captum_shared.files import output_folder, write_csv, write_figure

MODEL, LAYER, SIZE = "resnet18", "layer2", 112
Run = Callable[[], object]


@dataclass(frozen=True)
class Point:
    """One measurement: a value along an axis, seconds, and MB."""

    axis: str
    value: int
    seconds: float
    mb: int


def _maps(n_images: int = 1, size: int = SIZE) -> Run:
    pair, pb = _pair(n_images, size), ParallelBackprop(_encoder(), engine=ca.Saliency)
    return lambda: pb.attribute(pair, readout=torch.ones(128))


def _neurons(k: int) -> Run:
    pair, pb = _pair(), ParallelBackprop(_encoder(), engine=ca.Saliency)
    return lambda: pb.attribute_neurons(pair, torch.ones(k, 128))


def _steps(n: int) -> Run:
    pair, pb = _pair(), ParallelBackprop(_encoder())
    return lambda: pb.attribute(pair, readout=torch.ones(128), n_steps=n)


def _gallery(n: int) -> Run:
    gallery, query, weight = torch.randn(n, 512), torch.randn(50, 512), torch.randn(8, 512)
    return lambda: ReferenceMatcher(gallery).match(query, weight)


def _pair(n: int = 1, size: int = SIZE) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 3, size, size), torch.randn(n, 3, size, size)


def _encoder() -> LatentEncoder:
    return LatentEncoder(torchvision.models.get_model(MODEL, weights=None).eval(), LAYER)


AXES: dict[str, tuple[Callable[[int], Run], tuple[int, ...]]] = {
    "pairs of images": (_maps, (1, 4, 8, 12, 16)),
    "neurons": (_neurons, (1, 8, 16, 24, 32)),
    "steps": (_steps, (10, 30, 50, 70, 90)),
    "images in the gallery": (_gallery, (10_000, 20_000, 40_000, 60_000, 80_000)),
    "pixels of an image": (lambda pixels: _maps(4, round(pixels**0.5)), (64**2, 128**2, 192**2, 224**2, 256**2)),
}


def run(out: str | Path, *, quick: bool = False, progress: bool = True) -> list[Point]:
    """Measure all points, and write the files; `quick` takes three points of each axis."""
    folder = output_folder(out)
    jobs = [(axis, value) for axis, (_, values) in AXES.items() for value in (values[::2] if quick else values)]
    points = [_point(*job) for job in tqdm(jobs, "points", disable=not progress)]
    write_csv(
        folder / "growth.csv", ("axis", "value", "seconds", "mb"), [(p.axis, p.value, p.seconds, p.mb) for p in points]
    )
    _draw(folder / "growth.png", points)
    return points


def _point(axis: str, value: int) -> Point:
    printed = in_a_fresh_process(f"from benchmarks.speed.growth import measure; measure({axis!r}, {value})")
    return Point(axis, value, **json.loads(printed.splitlines()[-1]))


def measure(axis: str, value: int) -> None:
    """Print seconds and MB of one point."""
    torch.manual_seed(0)
    work = AXES[axis][0](value)
    before = peak_so_far("cpu")
    work()
    mb = peak_so_far("cpu") - before
    print(json.dumps({"seconds": statistics.median(seconds_of(work) for _ in range(3)), "mb": mb}))


def straightness(points: Sequence[Point], of: str = "seconds") -> float:
    """The largest distance from the line of least squares, relative to the largest value."""
    x, y = np.array([p.value for p in points]), np.array([getattr(p, of) for p in points])
    return float(np.abs(np.polyval(np.polyfit(x, y, 1), x) - y).max() / y.max())


def _draw(path: Path, points: Sequence[Point]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.3 * len(AXES), 4.4), layout="constrained")
    axes = figure.subplots(2, len(AXES), squeeze=False)
    for column, name in enumerate(AXES):
        own = [p for p in points if p.axis == name]
        for row, (of, label) in enumerate((("seconds", "seconds"), ("mb", "peak memory, MB"))):
            ax = axes[row, column]
            ax.plot([p.value for p in own], [getattr(p, of) for p in own], "o-", color=("tab:red", "0.35")[row], ms=4)
            ax.set_ylim(0, 1.1 * max(getattr(p, of) for p in own))
            ax.set_xlim(left=0)
            ax.set_xlabel(name if row else "", fontsize=9)
            ax.set_ylabel("" if column else label, fontsize=9)
            ax.tick_params(labelsize=7)
            ax.spines[["top", "right"]].set_visible(False)
    write_figure(path, figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="three points of each axis")
    options = parser.parse_args(arguments)
    points = run(options.out, quick=options.quick)
    for axis in AXES:
        own = [p for p in points if p.axis == axis]
        print(f"{axis}: {own[0].seconds:.3g} to {own[-1].seconds:.3g} s, off a line by {straightness(own):.1%}; "
              f"{own[0].mb} to {own[-1].mb} MB")  # fmt: skip
    return 0
