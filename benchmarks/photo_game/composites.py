"""Composites of four photographs, and the references that share one photograph's category with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.photo_game.neurons import FOLDS, Driving, Knowledge, Photographs, driving
from captum_shared.identity import ImageTransform
from captum_shared.images import open_rgb
from captum_shared.matcher import ReferenceMatcher

REFERENCES = 5


@dataclass(frozen=True)
class Composite:
    """Four photographs in a square of cells, and two families of references.

    Attributes
    ----------
    categories : tuple of str
        That count: P and Q, which drive the neuron, and, in the game of both swaps, D and N.
    fold : int
    tiles : array of int (4,)
        Photographs, in the order P, Q, then D and N or two others.
    cells : array of int (4,)
        Where each lies, upper left first.
    references : array of int (2, R, T)
        For P, and for Q: R references of T photographs. In the game of both swaps the second is of D.
    """

    categories: tuple[str, ...]
    fold: int
    tiles: np.ndarray
    cells: np.ndarray
    references: np.ndarray

    @property
    def square(self) -> np.ndarray:
        """The photographs as they lie, (2, 2)."""
        return self.tiles[np.argsort(self.cells)].reshape(2, 2)

    def references_laid_out(self, side: int, n: int, *, exchanged: bool = False) -> np.ndarray:
        """The first `n` references of a side as their photographs lie, (n, rows, columns).

        Two photographs lie beside or above each other such that each covers the place where the composite has its
        category, or, `exchanged`, the other's. It matters to latents that are a grid of cells.
        """
        own: np.ndarray = self.references[side][:n]
        if own.shape[1] == 1:
            return np.expand_dims(own, 1)
        (row, column), (row_d, column_d) = (divmod(int(self.cells[k]), 2) for k in (side, 2))
        beside = column != column_d
        first = column < column_d if beside else row < row_d
        ordered = own if first != exchanged else own[:, ::-1]
        return np.expand_dims(ordered, 1 if beside else 2)

    @property
    def neuron(self) -> Driving:
        return driving(*self.categories[:2])

    @property
    def other_neuron(self) -> Driving:
        """Of the readout swap: D and N drive it."""
        return driving(*self.categories[2:])


def draw_pair_grid(
    categories: Sequence[str], n: int, photographs: Photographs, known: Sequence[Knowledge], rng: np.random.Generator,
    others: str | None = None,
) -> list[Composite]:  # fmt: skip
    """`n` composites of each pair of categories, the folds taking turns; references are the nearest for the neuron."""
    names, composites = photographs.categories, []
    for pair, fold, here in _rounds(categories, n, photographs):
        other = np.flatnonzero(here & ((names == others) if others else ~np.isin(names, pair)))
        if len(other) < 2:
            raise ValueError(f"composites need two other photographs in each fold, got {len(other)}")
        rest = rng.choice(other, 2, replace=False)
        tiles = np.array([*_one_of_each(pair, here, names, rng), *rest])
        cells = rng.permutation(4)
        z = known[fold].standardized(photographs.put_together(tiles[np.argsort(cells)].reshape(2, 2)))
        nearest = [_nearest(known[fold], driving(*pair), name, names, z) for name in pair]
        composites.append(Composite(pair, fold, tiles, cells, np.stack(nearest)[..., None]))
    return composites


def draw_both_swaps(
    categories: Sequence[str], n: int, photographs: Photographs, known: Sequence[Knowledge], rng: np.random.Generator
) -> list[Composite]:
    """`n` composites for each pair P and Q, with D and N drawn from the other categories."""
    names, composites = photographs.categories, []
    for pair, fold, here in _rounds(categories, n, photographs):
        rest = [name for name in categories if name not in pair]
        four = (*pair, *(str(name) for name in rng.choice(rest, 2, replace=False)))
        tiles = np.array(_one_of_each(four, here, names, rng))
        families = [_beside(known[fold], four, name, names, rng) for name in pair]
        composites.append(Composite(four, fold, tiles, rng.permutation(4), np.stack(families)))
    return composites


def _rounds(
    categories: Sequence[str], n: int, photographs: Photographs
) -> Iterator[tuple[tuple[str, str], int, np.ndarray]]:
    """Each pair of categories `n` times, the folds taking turns, with the photographs that are played in the fold."""
    for pair in combinations(categories, 2):
        for k in range(n):
            yield pair, k % FOLDS, photographs.played & (photographs.fold == k % FOLDS)


def _one_of_each(wanted: Sequence[str], here: np.ndarray, names: np.ndarray, rng: np.random.Generator) -> list[int]:
    return [int(rng.choice(np.flatnonzero((names == name) & here))) for name in wanted]


def _nearest(known: Knowledge, neuron: Driving, category: str, names: np.ndarray, z: Tensor) -> np.ndarray:
    """The drivers of a category that are most similar to the composite z (D,) for the neuron, best first, (R,)."""
    candidates = known.candidates(neuron, category, names)
    match = ReferenceMatcher(known.latents[candidates]).match(
        z[None].float(), known.readouts[neuron], k=min(REFERENCES, len(candidates))
    )
    return np.resize(candidates[match.index[0].numpy()], REFERENCES)


def _beside(
    known: Knowledge, four: tuple[str, ...], category: str, names: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """References (R, 2): a driver of the neuron from a category beside a driver of the other neuron from D."""
    shown = known.candidates(driving(*four[:2]), category, names)
    beside = known.candidates(driving(*four[2:]), four[2], names)
    return np.stack([np.resize(rng.permutation(own), REFERENCES) for own in (shown, beside)], axis=1)


def compose(composite: Composite, paths: Sequence[Path], transform: ImageTransform) -> Tensor:
    """The composite as an image (1, 3, 2 H, 2 W), each photograph transformed for itself."""
    cells = [transform(open_rgb(paths[tile])) for tile in composite.square.ravel()]
    return torch.cat([torch.cat(cells[:2], dim=2), torch.cat(cells[2:], dim=2)], dim=1)[None]
