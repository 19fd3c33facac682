"""The games pixel by pixel: the same constants, taken down to the composite's pixels by integrated gradients.

Pixel attributions of a ReLU network are mostly noise that cancels. So a map is scored by its signed sums over the
cells, and the positive part is taken last. The composite is one image here, at half its size,
for the network runs many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from benchmarks.photo_game.composites import Composite, compose
from benchmarks.photo_game.neurons import Knowledge, Photographs
from benchmarks.photo_game.play import Condition, constants_of
from benchmarks.photo_game.rows import LAYER, Row
from benchmarks.photo_game.scoring import Scores, scores_of
from captum_shared.attribution import ParallelBackprop
from captum_shared.encoder import LatentEncoder
from captum_shared.identity import ImageTransform

METHOD = "ParallelBackprop(IntegratedGradients)"
SHRINK, STEPS = 2, 8
RULES = ("product", "dot", "matched", "moments, contrast 0", "moments, contrast 0.5", "oracle")


def pixel_rows(table: Sequence[Row]) -> list[Row]:
    """The rows that are played pixel by pixel."""
    chosen = [row for row in table if row.method == LAYER and row.rule in RULES]
    return [replace(row, method=METHOD) for row in chosen]


def play_pixels(
    composites: Sequence[Composite], photographs: Photographs, known: Sequence[Knowledge], rows: Sequence[Row],
    network: tuple[LatentEncoder, ImageTransform], seed: int = 0,
) -> dict[str, Scores]:  # fmt: skip
    """Scores (rows, composites) by image, as `play` gives them for coarse maps in the native condition."""
    encoder, transform = network
    method = ParallelBackprop(encoder, rule=lambda z, z_ref, weight, center: weight)
    device = next(encoder.parameters()).device
    sums = []
    for composite in composites:
        knowledge = known[composite.fold]
        constants = constants_of([composite], photographs, knowledge, rows, Condition(), seed)[..., 0, :]
        image = avg_pool2d(compose(composite, photographs.paths, transform).to(device), SHRINK)
        weights = (constants[..., :-1] / knowledge.spread).flatten(0, -2).to(device)
        # Maps of K constants share their forward passes; the second image of the pair is not needed, so it is small.
        maps, _ = method.attribute_neurons((image, image[..., :64, :64]), weights, n_steps=STEPS)
        sums.append(cell_sums(maps[0].cpu())[:, composite.cells].reshape(*constants.shape[:-1], 4))
    heat = np.stack(sums, axis=3)[..., None]  # (images, questions, rows, B, 4, 1)
    return scores_of(heat)


def cell_sums(maps: Tensor) -> np.ndarray:
    """Sums of maps (K, C, H, W) over their four cells, upper left first: (K, 4)."""
    rows = maps.double().sum(1).tensor_split(2, dim=1)
    cells = [part.sum((1, 2)) for row in rows for part in row.tensor_split(2, dim=2)]
    return torch.stack(cells, dim=1).numpy()
