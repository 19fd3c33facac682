"""Composites of four photographs, one image against two references: does removing what is shared with A spare B?

P and Q drive the neuron, and the composite holds a photograph of each beside two others. Reference A is of P, B of Q:
so the truth is known, too. Twins read other layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from benchmarks.common.methods import Problem
from benchmarks.common.results import Content
from benchmarks.interventions.photographs import PhotoSetting, open_world
from benchmarks.interventions.rows import READOUT, Name, heats_of, methods_of
from benchmarks.interventions.trials import MAIN_AREA, play
from benchmarks.photo_game.command import feature_maps
from benchmarks.photo_game.composites import Composite, compose, draw_pair_grid
from benchmarks.photo_game.neurons import ALPHAS, FOLDS, Knowledge, Photographs, driving, learn, make_folds
from benchmarks.photo_game.splits import read_split
from captum_shared.interventions import hottest_area

COMPOSITES = 1  # of each pair of categories
RIGHT: Name = ("truth", "in the photograph shared with A")
WRONG: Name = ("truth", "in the photograph shared with B")


@lru_cache(maxsize=1)
def draw(setting: PhotoSetting) -> tuple[Photographs, list[Knowledge], list[Composite]]:
    """Composites of each pair of the split's categories, as in the pair grid of `benchmarks.photo_game`."""
    world, categories = open_world(setting), read_split(setting.split).categories
    scanned = world.scanned
    fold = make_folds(world.categories, world.played, np.random.default_rng(setting.seed))
    maps = feature_maps(scanned.encoder(), scanned.paths, scanned.transform, 16, progress=False)
    photographs = Photographs(scanned.paths, world.categories, maps, world.played, fold)
    neurons = [driving(*own) for size in (1, 2) for own in combinations(categories, size)]
    known = [learn(photographs, k, neurons) for k in range(FOLDS)]
    random = np.random.default_rng(setting.seed)
    return photographs, known, draw_pair_grid(categories, COMPOSITES, photographs, known, random)


def play_composite(setting: PhotoSetting, number: int) -> Content:
    """One composite explained against each of its two references."""
    from sklearn.linear_model import RidgeCV

    world = open_world(setting)
    photographs, _, composites = draw(setting)
    composite, scanned = composites[number], world.scanned
    gallery = np.flatnonzero(photographs.fold != composite.fold)
    member, ridge = np.isin(world.categories, composite.categories).astype(float), RidgeCV(ALPHAS)
    own = scanned.twin("map", 0, gallery, member, ridge)
    layers = list(enumerate(scanned.scanner.layers))
    twins = [scanned.twin(layer, k, gallery, member, ridge) for k, layer in layers[1:]]
    neuron, x = scanned.neuron(own), compose(composite, scanned.paths, scanned.transform)
    trials = []
    for side in (0, 1):
        reference, rival = (int(composite.references[k][0, 0]) for k in (side, 1 - side))
        stranger = int(np.random.default_rng(setting.seed + number).choice(gallery[member[gallery] == 0]))
        problem = Problem(x, scanned.image(reference), scanned.image(stranger))
        judge = scanned.judge(twins, reference, rival)
        heats = heats_of(methods_of(pixels=False), neuron, problem)  # maps of pixels would take most of the time
        every = heats | _truths(composite, side, heats[READOUT])
        found = play(every, x[0], judge, setting.seed + number, most=False)
        trials.append({"group": " ".join(composite.categories[:2]), "categories": list(composite.categories[:2]),
                       "right_cell": _right_cell(heats, composite, side), **found})  # fmt: skip
    return {"trials": trials, "twins": [twin.name for twin in twins]}


def count_composites(setting: PhotoSetting) -> int:
    """How many there are."""
    k = len(read_split(setting.split).categories)
    return COMPOSITES * k * (k - 1) // 2


def cell_mask(size: tuple[int, int], cell: int) -> Tensor:
    """The pixels of a cell, upper left first, (H, W)."""
    mask = torch.zeros(size, dtype=torch.bool)
    (h, w), (row, column) = (side // 2 for side in size), divmod(cell, 2)
    mask[row * h : (row + 1) * h, column * w : (column + 1) * w] = True
    return mask


def _truths(composite: Composite, side: int, readout: Tensor) -> dict[Name, Tensor]:
    """The readout's own heat (H, W) inside the right photograph, and the wrong one: what a perfect map would choose."""
    heat, size = readout / readout.max().clamp(min=1e-12), (readout.shape[0], readout.shape[1])
    masks = (cell_mask(size, int(composite.cells[k])) for k in (side, 1 - side))
    return {name: heat * mask + mask for name, mask in zip((RIGHT, WRONG), masks, strict=True)}


def _right_cell(heats: Mapping[Name, Tensor], composite: Composite, side: int) -> list[list[object]]:
    """Of each method's hottest area in the photographs of P and Q, the share in the right one."""
    shares: list[list[object]] = []
    for name, heat in heats.items():
        area, size = hottest_area(heat, MAIN_AREA), (heat.shape[0], heat.shape[1])
        inside, beside = (float((area & cell_mask(size, int(composite.cells[k]))).sum()) for k in (side, 1 - side))
        shares.append([*name, inside / (inside + beside) if inside + beside else 0.5])
    return shares
