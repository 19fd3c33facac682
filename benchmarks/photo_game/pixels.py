"""The pair grid's composites explained pixel by pixel: methods that run the whole network, and what knows nothing.

Pixel attributions of a ReLU network are mostly noise that cancels. So a map is scored by its signed sums over the cells
(unsigned maps by the sums of absolute values): the positive part is taken last.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import captum.attr as ca
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from benchmarks.common.methods import Method, Neuron, Problem, null_methods, pixel_methods, randomised, readout_methods
from benchmarks.common.photographs import load_photograph
from benchmarks.photo_game.composites import GridNeuron, Photographs, nearest_references
from captum_shared.attribution import ParallelBackprop
from captum_shared.encoder import LatentEncoder

SHRINK = 2
"""Composites and references are taken at half their size, for the network runs many times for each."""
STEPS = 8
ROWS = (
    "ParallelBackprop(IntegratedGradients) product",
    "ParallelBackprop(IntegratedGradients) matched",
    "ParallelBackprop(Saliency) product",
    "Saliency",
    "IntegratedGradients",
    "edge map",
    "randomised network product",
)
ORACLE = ("ParallelBackprop(IntegratedGradients)", "oracle")


def is_pixel_row(method: str, rule: str) -> bool:
    """Whether the method runs the whole network in this game; all others need the layer's map only."""
    return f"{method} {rule}".strip() in ROWS or (method, rule) == ORACLE


def about_pixels(n_composites: int) -> str:
    """The sentence above the table."""
    return (
        f"The first {n_composites} composites of each pair, at 1/{SHRINK} of their size, {STEPS} steps of integrated "
        "gradients. Signed sums over cells; of unsigned maps, sums of absolute values."
    )


def chosen_rows() -> list[Method]:
    """The rows of the synthetic game that are played pixel by pixel."""
    return [row for row in pixel_methods() + readout_methods() + null_methods() if row.name in ROWS]


def pixel_neuron(encoder: LatentEncoder, own: GridNeuron, seed: int) -> Neuron:
    """The neuron with the whole network in place of the feature maps."""
    whole = deepcopy(encoder)
    whole.transform = own.neuron.encoder.transform
    layer = whole.model.get_submodule(whole.layer)
    return replace(own.neuron, encoder=whole, layer=layer, random_encoder=randomised(whole, seed), n_steps=STEPS)


def cell_sums(
    encoder: LatentEncoder, own: GridNeuron, image: Tensor, x: Tensor, photographs: Photographs,
    transform: Callable[[Any], Tensor], seed: int,
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """For each row (method, rule): the sums over the four cells (2, 2), explained against either category.

    Parameters
    ----------
    image : Tensor (1, 3, H, W)
        The composite.
    x : Tensor (1, K, h, w)
        Its feature map, by which the references are chosen.
    """
    neuron = pixel_neuron(encoder, own, seed)
    small = avg_pool2d(image, SHRINK)
    problems = []
    for side in (0, 1):
        nearest = nearest_references(own, side, x, photographs)
        tiles = torch.stack([load_photograph(photographs.paths[index], transform) for index in nearest]).to(image)
        references = avg_pool2d(tiles, SHRINK)
        problems.append(Problem(small, references, references))
    sums = {}
    for row in chosen_rows():
        first = _sums(row.explain(neuron, problems[0])[0], row.unsigned)
        second = first if row.blind else _sums(row.explain(neuron, problems[1])[0], row.unsigned)
        sums[row.method, row.rule] = (first, second)
    oracles = [_sums(_oracle(neuron, own.oracle[side], problems[side]), False) for side in (0, 1)]
    return sums | {ORACLE: (oracles[0], oracles[1])}


def _oracle(neuron: Neuron, weight: Tensor, problem: Problem) -> Tensor:
    """The readout of the shared category itself in place of the shared weights."""
    method = ParallelBackprop(neuron.encoder, engine=ca.IntegratedGradients)
    pair = (problem.x, problem.references[:1])
    return method.attribute(
        pair, baselines=neuron.baseline, additional_forward_args=(weight[None],), n_steps=neuron.n_steps
    )[0]


def _sums(attribution: Tensor, unsigned: bool) -> np.ndarray:
    """Sums over the cells, (2, 2)."""
    values = (attribution.abs() if unsigned else attribution).detach().cpu().double().sum(dim=(0, 1))
    height, width = (side // 2 for side in values.shape)
    halves = [[values[:height, :width], values[:height, width:]], [values[height:, :width], values[height:, width:]]]
    return np.array([[float(cell.sum()) for cell in row] for row in halves])
