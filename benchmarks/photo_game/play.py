"""A game played: all rows on all composites, in one condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from benchmarks.common.basis import basis_rotation, random_rotation
from benchmarks.photo_game.composites import REFERENCES, Composite
from benchmarks.photo_game.neurons import Driving, Knowledge, Photographs, driving
from benchmarks.photo_game.rows import Pairs, Row
from benchmarks.photo_game.scoring import QUESTIONS, Scores, heat_in_tiles, scores_of
from captum_shared.selection import rule_center, strongest_drivers
from captum_shared.similarity import category_centers

CHUNK = 25


@dataclass(frozen=True)
class Condition:
    """What is varied: the basis of the latents, how many references are averaged, the size of the rules' gallery.

    `exchanged`: each photograph of a reference lies where the composite has the other's category.
    """

    name: str = "native"
    degrees: float | None = None
    any_rotation: bool = False
    references: int = REFERENCES
    gallery: int | None = None
    exchanged: bool = False

    def basis(self, n: int, seed: int) -> Tensor | None:
        if self.any_rotation:
            return random_rotation(n, seed)
        return None if self.degrees is None else basis_rotation(n, self.degrees, seed=seed).double()


CONDITIONS = (
    Condition(),
    Condition("rotation 30 degrees", 30.0),
    Condition("rotation 90 degrees", 90.0),
    Condition("random rotation", any_rotation=True),
    Condition("1 reference", references=1),
    *(Condition(f"gallery of {n}", gallery=n) for n in (50, 100, 200, 400)),
)

GRID_CONDITIONS = (
    Condition(),
    Condition("references' photographs exchanged", exchanged=True),
    Condition("random rotation", any_rotation=True),
)
"""Of latents that are a grid of cells; a rotation turns the channels, in each cell alike."""


def play(
    composites: Sequence[Composite], photographs: Photographs, known: Sequence[Knowledge], rows: Sequence[Row],
    condition: Condition, seed: int = 0,
) -> dict[str, Scores]:  # fmt: skip
    """Scores (rows, composites) by image: the composite as the image, "query", and as its reference.

    Explained as a reference, the composite's map is that of a pair whose image is what was the first reference.
    """
    noise = torch.Generator().manual_seed(seed)
    found: dict[str, list[Scores]] = {}
    order: list[int] = []
    for fold, knowledge in enumerate(known):
        here = [k for k, composite in enumerate(composites) if composite.fold == fold]
        own = [composites[k] for k in here]
        if own:
            order += here
            constants = constants_of(own, photographs, knowledge, rows, condition, seed)
            for start in range(0, len(own), CHUNK):
                part = slice(start, start + CHUNK)
                for image, scores in _score(own[part], photographs, constants[..., part, :], knowledge, noise).items():
                    found.setdefault(image, []).append(scores)
    back = np.argsort(order)
    return {
        image: {name: np.concatenate([one[name] for one in parts], axis=1)[:, back] for name in parts[0]}
        for image, parts in found.items()
    }


def constants_of(
    composites: Sequence[Composite], photographs: Photographs, known: Knowledge, rows: Sequence[Row],
    condition: Condition, seed: int,
) -> Tensor:  # fmt: skip
    """(2 images, questions, rows, N, D + cells), in the network's own basis; the last are offsets in each cell."""
    cells = photographs.cells
    turn = condition.basis(known.latents.shape[1] // cells, seed)
    places = known.gallery
    if condition.gallery is not None:
        places = np.random.default_rng(seed).permutation(places)[: condition.gallery]
    frame = Frame(known, photographs, places, turn)
    query: list[Tensor] = []
    reference: list[Tensor] = []
    for question in QUESTIONS[: 2 if len(composites[0].categories) == 2 else 3]:
        several, one = (
            frame.pairs(composites, question, n, exchanged=condition.exchanged) for n in (condition.references, 1)
        )
        second = one.exchanged()  # the composite as the reference of what was its own
        for images, pairs, found in (
            (query, several, [row.constants(several) for row in rows]),
            (reference, second, [row.of_reference(second) for row in rows]),
        ):
            offsets = torch.stack([row.offset(pairs, c) for row, c in zip(rows, found, strict=True)])
            constants = torch.stack(found) if turn is None else turned(torch.stack(found), turn.T, cells)
            images.append(torch.cat([constants, offsets], dim=-1).float())
    return torch.stack([torch.stack(query), torch.stack(reference)])


def turned(values: Tensor, turn: Tensor, cells: int) -> Tensor:
    """Latents (..., K cells), channels first, with the channels of each cell turned by a matrix (K, K)."""
    result: Tensor = (values.double().unflatten(-1, (-1, cells)).mT @ turn.T).mT.flatten(-2)
    return result


class Frame:
    """What the rules are told, in one basis of the latents: the network's own, or turned by an orthogonal matrix."""

    def __init__(self, known: Knowledge, photographs: Photographs, gallery: np.ndarray, turn: Tensor | None) -> None:
        self.known, self.photographs, self.turn = known, photographs, turn
        self.latents, self.zero = self._turned(known.latents), self._turned(known.zero[None])
        self.readouts = {neuron: self._turned(weight) for neuron, weight in known.readouts.items()}
        self.gallery = self.latents[gallery]
        self.labelled = self.latents[known.gallery], photographs.categories[known.gallery].tolist()
        self.mean = self.gallery.mean(0)
        self.strongest = cache(self._strongest)
        self.centers = cache(self._centers)

    def _turned(self, values: Tensor) -> Tensor:
        return values.double() if self.turn is None else turned(values, self.turn, self.photographs.cells)

    def _images(self, layouts: Sequence[np.ndarray]) -> Tensor:
        """Latents (n, D) of images that photographs make."""
        pooled = torch.stack([self.photographs.put_together(layout) for layout in layouts])
        return self._turned(self.known.standardized(pooled))

    def _strongest(self, neuron: Driving) -> Tensor:
        center = rule_center("matched", self.gallery, strongest_drivers(self.gallery @ self.readouts[neuron]))
        assert center is not None
        return center

    def _centers(self, neuron: Driving, category: str) -> tuple[Tensor, Tensor]:
        latents, names = self.labelled
        return category_centers(latents, self.readouts[neuron], names, category)

    def pairs(
        self, composites: Sequence[Composite], question: tuple[int, int], n_references: int, *, exchanged: bool = False
    ) -> Pairs:
        """The composites with the references of a side, for one of the two neurons."""
        which, side = question
        neurons = [c.neuron if which == 0 else c.other_neuron for c in composites]
        # The category that both images hold, and the other one that drives the neuron.
        shared = [c.categories[side if which == 0 else 2] for c in composites]
        rival = [c.categories[1 - side if which == 0 else 3] for c in composites]
        references = [c.references_laid_out(side, n_references, exchanged=exchanged) for c in composites]
        centers = [self.centers(*key) for key in zip(neurons, shared, strict=True)]
        return Pairs(
            z=self._images([c.square for c in composites]),
            z_ref=torch.stack([self._images(list(own)).mean(0) for own in references]),
            weight=torch.stack([self.readouts[neuron] for neuron in neurons]),
            gallery=self.gallery,
            mean=self.mean,
            strongest=torch.stack([self.strongest(neuron) for neuron in neurons]),
            shared=torch.stack([self.readouts[driving(name)] for name in shared]),
            rival=torch.stack([self.readouts[driving(name)] for name in rival]),
            known_ref=torch.stack([z_ref for z_ref, _ in centers]),
            known_center=torch.stack([center for _, center in centers]),
            zero=self.zero,
            cells=self.photographs.cells,
        )


def _score(
    composites: Sequence[Composite],
    photographs: Photographs,
    constants: Tensor,
    known: Knowledge,
    noise: torch.Generator,
) -> dict[str, Scores]:
    """Maps from constants (2, questions, rows, B, D + cells), as `LayerParallelBackprop` makes them, and scores."""
    tiles = torch.from_numpy(np.stack([c.tiles for c in composites]))
    cells = torch.from_numpy(np.stack([c.cells for c in composites]))
    features = photographs.maps[tiles].float()  # (B, 4, K, h, w)
    weights = torch.cat([constants[..., : -photographs.cells] / known.spread, constants[..., -photographs.cells :]], -1)
    maps = maps_of_tiles(features, weights.flatten(0, 2), photographs.pool, cells)
    maps = torch.where(maps.isnan(), torch.randn(maps.shape, generator=noise), maps).transpose(0, 1)
    heat = heat_in_tiles(maps, cells).reshape(*constants.shape[:3], *maps.shape[1:3], -1)
    return scores_of(heat)


def maps_of_tiles(features: Tensor, weights: Tensor, pool: int, cells: Tensor) -> Tensor:
    """What each position adds to the latents of the composite, weighted.

    Parameters
    ----------
    features : Tensor (B, 4, K, h, w)
    weights : Tensor (X, B, (K + 1) pool pool)
        Channels first; the last is an offset, shared out among the positions of a cell.
    pool : int
        1, or even: each tile has its own cells.
    cells : Tensor (B, 4)
        Where each tile lies.

    Returns
    -------
    Tensor (B, X, 4, h, w)
    """
    sizes = features.shape[3:]
    inputs = torch.cat([features, torch.ones_like(features[:, :, :1])], dim=2).flatten(3)
    side = max(1, pool // 2)  # cells of a tile along a side
    share = adaptive_avg_pool2d(torch.eye(sizes.numel()).unflatten(1, sizes), side).flatten(1)  # (h w, cells)
    if pool == 1:
        own = weights[:, :, None, :, None].expand(-1, -1, 4, -1, -1)
    else:
        places = weights.unflatten(-1, (-1, 2, side, 2, side)).permute(0, 1, 3, 5, 2, 4, 6).flatten(5).flatten(2, 3)
        own = places[:, torch.arange(len(cells))[:, None], cells]
    own = own.permute(4, 1, 2, 0, 3)  # (cells, B, 4, X, K + 1)
    maps = sum(share[:, k] * (weight @ inputs) for k, weight in enumerate(own))
    result: Tensor = torch.as_tensor(maps).transpose(1, 2).unflatten(-1, sizes)
    return result
