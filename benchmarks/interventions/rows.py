"""The rows of the tables: the areas that each method chooses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.common.methods import (
    Method,
    Neuron,
    Problem,
    layer_methods,
    null_methods,
    pixel_methods,
    readout_methods,
)
from benchmarks.common.scores import to_heat
from captum_shared.attribution import LayerParallelBackprop
from captum_shared.interventions import hottest_area, moved_area, random_area

LAYER, PIXEL = "LayerParallelBackprop", "ParallelBackprop(IntegratedGradients)"
Name = tuple[str, str]
"""A method and its rule."""
LAYER_ROWS: tuple[Name, ...] = (
    (LAYER, "product"),
    (LAYER, "dot"),
    (LAYER, "moments, contrast 0.5"),
    ("GradCAM", ""),
    ("similarity without weights", ""),
    ("centre prior", ""),
)
PIXEL_ROWS: tuple[Name, ...] = ((PIXEL, "product"), (PIXEL, "moments, contrast 0.5"), ("IntegratedGradients", ""))
SHUFFLED: Name = ("shuffled reference", "product")
RANDOM: Name = ("random blobs", "")
MOVED: Name = ("same shape, moved", "")
READOUT: Name = ("GradCAM", "")
OWN: Name = (LAYER, "product")
DRAWS = 3


def methods_of(pixels: bool = True) -> list[Method]:
    """The methods, in the order of the table; without maps of pixels if they take too long."""
    known = {(m.method, m.rule): m for m in layer_methods() + pixel_methods() + readout_methods() + null_methods()}
    names = (*LAYER_ROWS[:3], *PIXEL_ROWS, *LAYER_ROWS[3:]) if pixels else LAYER_ROWS
    return [*(known[name] for name in names), Method(*SHUFFLED, _shuffled_reference)]


def heats_of(methods: Sequence[Method], neuron: Neuron, problem: Problem) -> dict[Name, Tensor]:
    """The heat of the image by each method, (H, W)."""
    size = (problem.x.shape[-2], problem.x.shape[-1])
    return {
        (method.method, method.rule): torch.from_numpy(
            to_heat(method.explain(neuron, problem)[0], size, method.unsigned)
        )
        for method in methods
    }


def areas_of_heats(heats: dict[Name, Tensor], area: float, seed: int) -> dict[Name, Tensor]:
    """The hottest areas (1, H, W) of heats (H, W), and those that chance chooses, (draws, H, W)."""
    areas = {name: hottest_area(heat, area)[None] for name, heat in heats.items()}
    size = tuple(next(iter(heats.values())).shape)
    seeds = range(seed * DRAWS, (seed + 1) * DRAWS)
    areas[MOVED] = torch.stack([moved_area(areas[OWN][0], seed=own) for own in seeds])
    areas[RANDOM] = torch.stack([random_area((size[0], size[1]), area, seed=own) for own in seeds])
    return areas


def _shuffled_reference(neuron: Neuron, problem: Problem) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        z_ref = neuron.encoder(problem.shuffled[:1])[0]
    method = LayerParallelBackprop(neuron.encoder, rule="product")
    pair = (problem.x, problem.references[:1])
    result: tuple[Tensor, Tensor] = method.attribute(pair, readout=neuron.weight, reference_latents=z_ref)
    return result
