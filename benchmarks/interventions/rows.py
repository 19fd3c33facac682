"""The rows of the tables: the areas that each method chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.common.methods import Method, Neuron, Problem, all_methods, shuffled_reference
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
    known = all_methods()
    names = (*LAYER_ROWS[:3], *PIXEL_ROWS, *LAYER_ROWS[3:]) if pixels else LAYER_ROWS
    return [*(known[name] for name in names), Method(*SHUFFLED, shuffled_reference(LayerParallelBackprop))]


def heats_of(methods: Sequence[Method], neuron: Neuron, problem: Problem) -> dict[Name, Tensor]:
    """The heat of the image by each method, (H, W)."""
    size = (problem.x.shape[-2], problem.x.shape[-1])
    return {
        (method.method, method.rule): torch.from_numpy(
            to_heat(method.explain(neuron, problem)[0], size, method.unsigned)
        )
        for method in methods
    }


def areas_of_heats(heats: Mapping[Name, Tensor], area: float, seed: int) -> dict[Name, Tensor]:
    """The hottest areas (1, H, W) of heats (H, W), and those that chance chooses, (draws, H, W)."""
    areas = {name: hottest_area(heat, area)[None] for name, heat in heats.items()}
    size = tuple(next(iter(heats.values())).shape)
    seeds = range(seed * DRAWS, (seed + 1) * DRAWS)
    areas[MOVED] = torch.stack([moved_area(areas[OWN][0], seed=own) for own in seeds])
    areas[RANDOM] = torch.stack([random_area((size[0], size[1]), area, seed=own) for own in seeds])
    return areas
