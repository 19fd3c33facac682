"""Neurons driven by categories: readouts fitted outside the fold of the photographs that are played."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from captum_shared.selection import find_drivers

FOLDS = 4
ALPHAS = np.logspace(1, 5, 9)

Driving = tuple[str, ...]
"""The categories that drive a neuron, in alphabetical order."""


@dataclass(frozen=True)
class Photographs:
    """Labelled photographs with their feature maps.

    Attributes
    ----------
    paths : list of Path
    categories : array of str (n,)
    maps : Tensor (n, K, h, w), half precision
    played : array of bool (n,)
        Whether composites may be made of it.
    fold : array of int (n,)
        Each category is spread evenly over the folds. Readouts are fitted, and references chosen, outside the fold that
        a composite's photographs are from.
    pool : int
        Latents are means over the cells of a pool x pool grid, channels first; 1: over all positions.
    """

    paths: list[Path]
    categories: np.ndarray
    maps: Tensor
    played: np.ndarray
    fold: np.ndarray
    pool: int = 1
    _pooled: dict[tuple[bytes, tuple[int, ...]], Tensor] = field(default_factory=dict, repr=False)

    @property
    def cells(self) -> int:
        """Of how many cells of an image the latents are."""
        return self.pool**2

    @cached_property
    def latents(self) -> Tensor:
        """Of each photograph alone, (n, D) with D = K cells."""
        return torch.stack([self._pool(features) for features in self.maps])

    def put_together(self, tiles: np.ndarray) -> Tensor:
        """Latents (D,) of the image that photographs make, laid out as `tiles` (rows, columns) says."""
        key = tiles.tobytes(), tiles.shape
        if key not in self._pooled:
            rows = [torch.cat([self.maps[tile] for tile in row], dim=2) for row in tiles]
            self._pooled[key] = self._pool(torch.cat(rows, dim=1))
        return self._pooled[key]

    def _pool(self, features: Tensor) -> Tensor:
        return adaptive_avg_pool2d(features.double(), self.pool).flatten()


def make_folds(categories: np.ndarray, played: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The fold of each photograph, (n,); what is played is spread as evenly as a whole category."""
    fold = np.empty(len(categories), dtype=int)
    for category in np.unique(categories):
        for here in (played, ~played):
            members = np.flatnonzero((categories == category) & here)
            fold[rng.permutation(members)] = np.arange(len(members)) % FOLDS
    return fold


@dataclass(frozen=True)
class Knowledge:
    """What is known outside a fold; all latents are standardized there.

    Attributes
    ----------
    gallery : array of int (G,)
        Photographs outside the fold.
    latents : Tensor (n, D)
        Of all photographs.
    spread : Tensor (D,)
        What the latents were divided by.
    zero : Tensor (D,)
        The latents of a map of zeros.
    readouts : dict of Driving to Tensor (D,)
    """

    gallery: np.ndarray
    latents: Tensor
    spread: Tensor
    zero: Tensor
    readouts: dict[Driving, Tensor]

    def standardized(self, pooled: Tensor) -> Tensor:
        """Latents (..., D) in the units of `latents`."""
        return pooled / self.spread + self.zero

    def candidates(self, driving: Driving, category: str, categories: np.ndarray) -> np.ndarray:
        """Photographs of a category in the gallery that may be a neuron's references."""
        response = self.latents[self.gallery] @ self.readouts[driving]
        result: np.ndarray = self.gallery[find_drivers(response, categories[self.gallery] == category).candidates]
        return result


def learn(photographs: Photographs, fold: int, neurons: Iterable[Driving]) -> Knowledge:
    """Ridge regressions of membership, for each neuron in any of the categories that drive it."""
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    gallery = np.flatnonzero(photographs.fold != fold)
    scaler = StandardScaler().fit(photographs.latents[gallery].numpy())
    latents = scaler.transform(photographs.latents.numpy())
    neurons = list(neurons)
    members = np.stack([np.isin(photographs.categories[gallery], names) for names in neurons], axis=1).astype(float)
    weights = RidgeCV(ALPHAS * photographs.cells, alpha_per_target=True).fit(latents[gallery], members).coef_
    spread, zero = torch.from_numpy(scaler.scale_), torch.from_numpy(-scaler.mean_ / scaler.scale_)
    readouts = dict(zip(neurons, torch.from_numpy(np.atleast_2d(weights)).float(), strict=True))
    return Knowledge(gallery, torch.from_numpy(latents).float(), spread.float(), zero.float(), readouts)


def driving(*categories: str) -> Driving:
    return tuple(sorted(categories))


def check_categories(names: Sequence[str], photographs: np.ndarray) -> None:
    """Refuse a list of categories that cannot be played.

    Raises
    ------
    ValueError
        If there are too few, one is named twice, or one has fewer photographs than there are folds.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"`categories` must be lists of two or more names such as dog,bird; got {','.join(names)!r}")
    counts = dict(zip(*(values.tolist() for values in np.unique(photographs, return_counts=True)), strict=True))
    for name in names:
        if counts.get(name, 0) < FOLDS:
            raise ValueError(
                f"category {name!r} has {counts.get(name, 0)} images; expected at least {FOLDS}, one a fold. "
                f"There are: {', '.join(f'{n} ({k})' for n, k in sorted(counts.items()))}"
            )
