"""Photographs alone: neurons of a category, their drivers outside it, twins fitted on the other half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from benchmarks.common.methods import Problem
from benchmarks.common.results import Content
from benchmarks.interventions.rows import heats_of, methods_of
from benchmarks.interventions.scanned import Scanned, scan
from benchmarks.interventions.trials import Twin, make_judge, play
from benchmarks.photo_game.neurons import ALPHAS, make_folds
from benchmarks.photo_game.splits import read_split
from captum_shared.labels import read_labels
from captum_shared.metrics import p_vs_q_auroc
from captum_shared.selection import find_drivers, find_pairs


@dataclass(frozen=True)
class PhotoSetting:
    """Where the photographs are, and what is played with them."""

    images: str
    labels: str
    model: str
    weights: str
    layers: tuple[str, ...]
    split: str
    pairs: int
    seed: int


@dataclass(frozen=True)
class World:
    """Photographs with their categories, the halves, and which may be explained."""

    scanned: Scanned
    categories: np.ndarray
    half: np.ndarray
    played: np.ndarray


@lru_cache(maxsize=1)
def open_world(setting: PhotoSetting) -> World:
    """The photographs of a split; those of later splits stay unseen."""
    paths, names = read_labels(setting.images, setting.labels)
    chosen = read_split(setting.split)
    keep = [k for k, path in enumerate(paths) if path.name in chosen.seen]
    paths, categories = [paths[k] for k in keep], np.array([names[k] for k in keep])
    played = np.array([path.name in chosen.played for path in paths])
    half = make_folds(categories, played, np.random.default_rng(setting.seed)) % 2
    return World(scan(setting.model, setting.weights, setting.layers, "avg", paths), categories, half, played)


def play_category(setting: PhotoSetting, category: str) -> Content:
    """All pairs of the neuron of one category."""
    from sklearn.linear_model import RidgeCV

    world = open_world(setting)
    scanned, member = world.scanned, world.categories == category
    halves = [np.flatnonzero(world.half == k) for k in (0, 1)]
    ridge, target = RidgeCV(ALPHAS), member.astype(float)
    own = scanned.twin("map", 0, halves[0], target, ridge)
    twins = [scanned.twin(layer, k, halves[1], target, ridge) for k, layer in enumerate(scanned.layers)]
    neuron, z = scanned.neuron(own), own.encode(scanned.latents)
    response = z @ own.weight
    inside = np.isin(np.arange(len(member)), halves[0])
    drivers = find_drivers(response[halves[0]], member[halves[0]], top=None)
    candidates = halves[0][drivers.candidates]
    outside = np.flatnonzero(world.played & ~member)
    images = outside[np.argsort(-response[outside].numpy(), kind="stable")][: setting.pairs]
    strangers = np.flatnonzero(~member & inside)
    methods, trials = methods_of(), []
    for image in images:
        reference, rival = best_and_least(z, int(image), candidates, own)
        seed = setting.seed + int(image)
        stranger = int(np.random.default_rng(seed).choice(strangers[strangers != image]))
        problem = Problem(scanned.image(image), scanned.image(reference), scanned.image(stranger))
        rows = (scanned.latents[[place]] for place in (reference, rival))
        judge = make_judge(scanned.scanner, twins, *rows)
        names = {name: scanned.paths[k].name for name, k in (("image", image), ("reference", reference),
                                                             ("rival", rival))}  # fmt: skip
        trials.append(
            {"group": category, **names, **play(heats_of(methods, neuron, problem), problem.x[0], judge, seed)}
        )
    auc = {twin.name: _auc(scanned, twin, member, halves[0]) for twin in twins}
    return {"trials": trials, "twins": [twin.name for twin in twins], "auc": auc}


def best_and_least(z: torch.Tensor, image: int, candidates: np.ndarray, own: Twin) -> tuple[int, int]:
    """The candidates that are most and least similar to an image for the neuron."""
    from captum_shared.selection import Drivers

    others = candidates[candidates != image]
    drivers = Drivers(np.array([image]), others, others)
    ranked = find_pairs(z, drivers, own.weight, n_references=len(others)).references[0]
    return int(ranked[0]), int(ranked[-1])


def _auc(scanned: Scanned, twin: Twin, member: np.ndarray, places: np.ndarray) -> float:
    """How well a twin tells the category on photographs that it was not fitted on."""
    response = twin.encode(scanned.latents[places]) @ twin.weight
    inside = torch.from_numpy(member[places])[None]
    return float(p_vs_q_auroc(response[None], inside, ~inside))


def categories_of(setting: PhotoSetting, most: int) -> Sequence[str]:
    """The split's categories, the largest first."""
    paths, names = read_labels(setting.images, setting.labels)
    chosen = read_split(setting.split)
    counts = {name: sum(n == name and p.name in chosen.played for p, n in zip(paths, names, strict=True))
              for name in chosen.categories}  # fmt: skip
    return sorted(counts, key=lambda name: -counts[name])[:most]
