"""The pair grid game: 2x2 composites of photographs, and a neuron that two categories drive."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common.methods import N_REFERENCES, Neuron, Problem
from benchmarks.common.photographs import load_photograph
from captum_shared.encoder import LatentEncoder
from captum_shared.matcher import ReferenceMatcher
from captum_shared.readout import latent_transform
from captum_shared.similarity import category_centers

FOLDS = 4
ALPHAS = np.logspace(1, 5, 9)


@dataclass(frozen=True)
class Photographs:
    """Labelled photographs with their feature maps.

    Attributes
    ----------
    paths : list of Path
    categories : array of str (n,)
    maps : Tensor (n, K, h, w)
    fold : array of int (n,)
        Each category is spread evenly over the folds. Readouts are fitted, and references sought, outside the fold that
        a composite's photographs are from.
    """

    paths: list[Path]
    categories: np.ndarray
    maps: Tensor
    fold: np.ndarray


@dataclass(frozen=True)
class Composite:
    """Photographs in the four cells: indices of one of each category and of two others, and the cell of each."""

    pair: tuple[str, str]
    fold: int
    photographs: tuple[int, int, int, int]
    cells: tuple[int, int, int, int]


def make_folds(categories: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The fold of each photograph, (n,)."""
    fold = np.empty(len(categories), dtype=int)
    for category in np.unique(categories):
        members = np.flatnonzero(categories == category)
        fold[rng.permutation(members)] = np.arange(len(members)) % FOLDS
    return fold


def category_pairs(words: Sequence[str], categories: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs of each comma-separated list of categories, in order.

    Raises
    ------
    ValueError
        If a category is unknown or too small, or a list has fewer than two.
    """
    counts = {name: list(categories).count(name) for name in set(categories)}
    pairs: list[tuple[str, str]] = []
    for word in words:
        names = [name.strip() for name in word.split(",")]
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise ValueError(f"`categories` must be lists of two or more names such as dog,bird; got {word!r}")
        for name in names:
            if counts.get(name, 0) < FOLDS:
                raise ValueError(
                    f"category {name!r} has {counts.get(name, 0)} images; expected at least {FOLDS}, one a fold. "
                    f"There are: {', '.join(f'{n} ({k})' for n, k in sorted(counts.items()))}"
                )
        pairs += [pair for pair in combinations(names, 2) if pair not in pairs and pair[::-1] not in pairs]
    return pairs


def draw_composites(
    pair: tuple[str, str], n: int, photographs: Photographs, others: str | None, rng: np.random.Generator
) -> list[Composite]:
    """`n` composites of a category pair, the folds taking turns.

    Raises
    ------
    ValueError
        If there are fewer than two other photographs in a fold.
    """
    composites = []
    names, fold = photographs.categories, photographs.fold
    other = (names == others) if others else ~np.isin(names, pair)
    for k in range(n):
        here = fold == k % FOLDS
        if (other & here).sum() < 2:
            raise ValueError(f"composites need two other photographs in each fold, got {(other & here).sum()}")
        own = [int(rng.choice(np.flatnonzero((names == name) & here))) for name in pair]
        rest = rng.choice(np.flatnonzero(other & here), 2, replace=False)
        first, second, third, fourth = (int(cell) for cell in rng.permutation(4))
        indices = (own[0], own[1], int(rest[0]), int(rest[1]))
        composites.append(Composite(pair, k % FOLDS, indices, (first, second, third, fourth)))
    return composites


def compose(composite: Composite, paths: Sequence[Path], transform: Callable[[Any], Tensor]) -> Tensor:
    """The composite as an image (1, 3, 2 H, 2 W), each photograph transformed for itself."""
    tiles: dict[int, Tensor] = {}
    for index, cell in zip(composite.photographs, composite.cells, strict=True):
        tiles[cell] = load_photograph(paths[index], transform)
    rows = [torch.cat([tiles[2 * r], tiles[2 * r + 1]], dim=2) for r in (0, 1)]
    return torch.cat(rows, dim=1)[None]


def cell_masks(size: tuple[int, int]) -> list[np.ndarray]:
    """Masks of the four cells, upper left first."""
    masks = []
    for row in (0, 1):
        for column in (0, 1):
            mask = np.zeros(size, dtype=bool)
            rows, columns = (
                slice(k * side // 2, (k + 1) * side // 2) for k, side in zip((row, column), size, strict=True)
            )
            mask[rows, columns] = True
            masks.append(mask)
    return masks


@dataclass(frozen=True)
class GridNeuron:
    """A neuron driven by both categories of a pair, fitted outside one fold, with the readout of each category.

    `centers` are those of a rule that knows the gallery's categories, though not which two the neuron is driven by.
    """

    neuron: Neuron
    oracle: tuple[Tensor, Tensor]
    references: tuple[np.ndarray, np.ndarray]
    centers: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def feature_encoder(transform: Callable[[Tensor], Tensor] | None = None) -> LatentEncoder:
    """An encoder whose images are the feature maps of another, so that the network runs once per composite."""
    return LatentEncoder(nn.Sequential(OrderedDict(maps=nn.Identity())), "maps", "avg", transform, "channels_first")


def fit_neuron(
    photographs: Photographs, pair: tuple[str, str], fold: int, other_pair: tuple[str, str], device: str
) -> GridNeuron:
    """Ridge regressions of membership on standardised latents, outside the fold."""
    from sklearn.preprocessing import StandardScaler

    train = np.flatnonzero(photographs.fold != fold)
    pooled = photographs.maps.mean(dim=(2, 3)).double()
    scaler = StandardScaler().fit(pooled[train].numpy())
    latents = torch.from_numpy(scaler.transform(pooled.numpy())).float()
    names = photographs.categories
    both, first, second, other = (
        _ridge(latents[train], np.isin(names[train], own)) for own in (pair, pair[:1], pair[1:], other_pair)
    )
    encoder = feature_encoder(latent_transform(scaler)).eval()
    both, other, gallery = (values.to(device) for values in (both, other, latents[train]))
    neuron = Neuron(encoder.to(device), _layer(encoder), both, other, gallery, deepcopy(encoder), 0.0)
    response = (latents @ both.cpu()).numpy()
    drivers = []
    for name in pair:
        own = train[names[train] == name]
        drivers.append(own[response[own] >= np.median(response[own])])
    centers = [category_centers(neuron.gallery, neuron.weight, names[train].tolist(), name) for name in pair]
    oracle = (first.to(device), second.to(device))
    return GridNeuron(neuron, oracle, (drivers[0], drivers[1]), (centers[0], centers[1]))


def nearest_references(own: GridNeuron, side: int, x: Tensor, photographs: Photographs) -> np.ndarray:
    """Indices of the drivers from one category that are most similar to the composite for the neuron, best first."""
    candidates = own.references[side]
    with torch.no_grad():
        z = own.neuron.encoder(x)
        gallery = own.neuron.encoder(photographs.maps[candidates].float().to(x.device))
    k = min(N_REFERENCES, len(candidates))
    return candidates[ReferenceMatcher(gallery).match(z, own.neuron.weight, k=k).index[0].cpu().numpy()]


def make_problem(own: GridNeuron, side: int, x: Tensor, photographs: Photographs, rng: np.random.Generator) -> Problem:
    """The composite's feature map with its nearest references from one category."""
    nearest = nearest_references(own, side, x, photographs)
    anyone = np.concatenate(own.references)
    shuffled = photographs.maps[int(rng.choice(anyone))][None].float().to(x.device)
    return Problem(x, photographs.maps[nearest].float().to(x.device), shuffled)


def _ridge(latents: Tensor, member: np.ndarray) -> Tensor:
    from sklearn.linear_model import RidgeCV

    return torch.from_numpy(RidgeCV(ALPHAS).fit(latents.numpy(), member.astype(float)).coef_).float()


def _layer(encoder: LatentEncoder) -> nn.Module:
    return encoder.model.get_submodule(encoder.layer)
