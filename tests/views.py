"""Neurons to look at whose maps and correspondences are known: what the driver has, the reference has mirrored."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from captum_shared.folders import ReportFolder
from captum_shared.report.html import Section, data_url
from captum_shared.report.viewer import (
    SHARE,
    ColumnView,
    ImageView,
    MapView,
    NeuronView,
    PairView,
    ReferenceView,
    index_script,
    neuron_entry,
    neuron_script,
    viewer_section,
)

COLUMNS = (
    ColumnView("preferred", "preferred", "choice"),
    ColumnView("d_prime", "d\u2032"),
    ColumnView("cv_r", "r"),
    ColumnView("layer", "layer", "choice"),
)
CATEGORIES = ("dog", "bear", "chair", "plane")
CELLS = 6


def images(count: int, side: int = 48, folder: Path | None = None) -> list[ImageView]:
    """Images of noise on a grey of their own, inside the page or as files in a folder."""
    rng, views = np.random.default_rng(0), []
    for i in range(count):
        buffer, grey = io.BytesIO(), 90 + i % 100
        pixels = rng.normal(grey, 0 if folder is None else 12, (side, side, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG")
        source = data_url(buffer.getvalue(), "image/jpeg")
        if folder is not None:
            (folder / "images").mkdir(exist_ok=True)
            source = f"images/{i:04d}.jpg"
            (folder / source).write_bytes(buffer.getvalue())
        views.append(ImageView(source, f"image_{i:03d}.png", CATEGORIES[i % len(CATEGORIES)], side, side))
    return views


def mirrored(rng: np.random.Generator, cells: int = CELLS) -> np.ndarray:
    """(h, w, h, w): each place of the driver goes with its mirror image, left to right, in the reference."""
    weight = rng.uniform(0.2, 1, (cells, cells))
    part = np.zeros((cells,) * 4)
    for row in range(cells):
        for column in range(cells):
            part[row, column, row, cells - 1 - column] = weight[row, column]
    return part


def reference(rng: np.random.Generator, image: int, rank: int, pixels: int = 0, cells: int = CELLS) -> ReferenceView:
    part = mirrored(rng, cells)
    maps = {"layer": MapView(part.sum((2, 3)), part.sum((0, 1)), SHARE)}
    if rank == 0:
        if pixels:
            maps["pixels"] = MapView(rng.normal(0.2, 1, (pixels, pixels)), rng.normal(0.2, 1, (pixels, pixels)))
        maps["control"] = MapView(np.ones((cells, cells)), np.ones((cells, cells)), SHARE, 4.0 * cells**2)
    warnings = ["Hub: the reference of most pairs."] if rank == 0 and image == 1 else []
    if rank == 1:
        warnings.append("The second reference's own warning.")
    others = {
        "dot": MapView(part.sum((2, 3)), part.sum((0, 1)), SHARE),
        "matched": corner(cells),
        "moments": corner(cells),
    }
    return ReferenceView(image, 2.0 - 0.1 * rank, maps, part, 1.5, warnings, others)


def corner(cells: int) -> MapView:
    """Heat in the corner at the upper left of the driver, and at the lower right of the reference."""
    heat = np.zeros((cells, cells))
    heat[0, 0] = 1
    return MapView(heat, heat[::-1, ::-1])


def neurons(
    count: int, pairs: int, references: int, n_images: int, seed: int = 0, pixels: int = 0, cells: int = CELLS
) -> Iterator[NeuronView]:
    rng = np.random.default_rng(seed)
    for k in range(count):
        views = [
            PairView(
                int(rng.integers(n_images)),
                float(rng.normal(2, 1)),
                [reference(rng, (k + p + r + 1) % n_images, r, pixels, cells) for r in range(references)],
            )
            for p in range(pairs)
        ]
        values = {
            "preferred": CATEGORIES[k % 4],
            "d_prime": float(rng.gamma(2, 0.5)),
            "cv_r": float(rng.uniform(0, 0.9)),
            "layer": f"features.{k % 3}",
        }
        yield NeuronView(f"unit {k}", values, views, ["Low r."] if values["cv_r"] < 0.2 else [])


def write_viewer(folder: ReportFolder, shown: Sequence[ImageView], neurons: Iterable[NeuronView]) -> Section:
    """Write the data of a report by the rule "product" beside its page, neuron by neuron, as `recording` does."""
    entries = []
    for number, neuron in enumerate(neurons):
        folder.write_text(f"data/neuron_{number}.js", neuron_script(number, neuron))
        entries.append(neuron_entry(neuron))
    folder.write_text("data/index.js", index_script(shown, COLUMNS, entries))
    return viewer_section()
