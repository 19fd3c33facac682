"""Photographs alone: neurons of a category, their drivers outside it, twins fitted on the other half."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from benchmarks.common.results import Content
from benchmarks.interventions.scanned import Scanned, play_images, scan
from benchmarks.interventions.trials import Twin
from benchmarks.photo_game.neurons import ALPHAS, make_folds
from benchmarks.photo_game.splits import photographs_of, read_split
from captum_shared.labels import read_labels
from captum_shared.metrics import p_vs_q_auroc
from captum_shared.selection import find_drivers


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
    labelled = read_labels(setting.images, setting.labels)
    paths, categories, played = photographs_of(read_split(setting.split), *labelled)
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
    twins = [scanned.twin(layer, k, halves[1], target, ridge) for k, layer in enumerate(scanned.scanner.layers)]
    response = own.encode(scanned.latents) @ own.weight
    drivers = find_drivers(response[halves[0]], member[halves[0]], top=None)
    outside = np.flatnonzero(world.played & ~member)
    images = outside[np.argsort(-response[outside].numpy(), kind="stable")][: setting.pairs]
    strangers = np.flatnonzero(~member & (world.half == 0))
    drawn = []
    for image in images.tolist():
        seed = setting.seed + image
        drawn.append((image, int(np.random.default_rng(seed).choice(strangers[strangers != image])), seed))
    trials = play_images(scanned, own, twins, halves[0][drivers.candidates], drawn)
    auc = {twin.name: _auc(scanned, twin, member, halves[0]) for twin in twins}
    return {
        "trials": [{"group": category, **trial} for trial in trials],
        "twins": [twin.name for twin in twins],
        "auc": auc,
    }


def _auc(scanned: Scanned, twin: Twin, member: np.ndarray, places: np.ndarray) -> float:
    """How well a twin tells the category on photographs that it was not fitted on."""
    response = twin.encode(scanned.latents[places]) @ twin.weight
    inside = torch.from_numpy(member[places])[None]
    return float(p_vs_q_auroc(response[None], inside, ~inside))


def categories_of(setting: PhotoSetting, most: int) -> Sequence[str]:
    """The split's categories, the largest first."""
    chosen = read_split(setting.split)
    _, categories, played = photographs_of(chosen, *read_labels(setting.images, setting.labels))
    counts = Counter(categories[played].tolist())
    return sorted(chosen.categories, key=lambda name: -counts[name])[:most]
