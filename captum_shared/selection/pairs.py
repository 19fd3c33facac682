"""What is compared with what: each driver with its references."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_shared.matcher import ReferenceMatcher, top_k
from captum_shared.selection.drivers import Drivers, Partners
from captum_shared.similarity import neuron_similarity

Score = Callable[[Tensor, Tensor], Tensor]
"""Takes the neuron-specific and the plain similarities of all pairs of a neuron's drivers, (a, a) each."""


@dataclass(frozen=True)
class Pairs:
    """Drivers and their references, as indices of images.

    Attributes
    ----------
    images : (m,) int array
        Drivers outside the category, strongest first.
    references : (m, k) int array
        The k candidates most similar to each, best first.
    similarity : (m, k) array
        Their similarities.
    plain : (m, k) array, optional
        Of pairs of drivers, the similarities of their latents without the neuron.
    """

    images: np.ndarray
    references: np.ndarray
    similarity: np.ndarray
    plain: np.ndarray | None = None

    def __repr__(self) -> str:
        m, k = self.references.shape
        span = f", similarity {self.similarity.min():.3g} to {self.similarity.max():.3g}" if m else ""
        return f"Pairs({m} images, {k} reference{'s'[: k != 1]} each{span})"


def find_pairs(
    latents: Tensor, drivers: Drivers, weight: Tensor, *, similarity: str = "dot", n_references: int = 1
) -> Pairs:
    """Pair each driver outside the category with the candidates that are most similar to it for the neuron.

    Drivers from `find_partners` are paired with one another, by `find_driver_pairs`.

    Parameters
    ----------
    latents : Tensor (n, D)
        Of all images.
    drivers : Drivers
        From `find_drivers`, or from `find_partners`.
    weight : Tensor (D,)
        Readout of the neuron.
    similarity : str, default "dot"
        A name in `SIMILARITIES`.
    n_references : int, default 1
        How many references to return for each driver; fewer if there are fewer candidates.

    Returns
    -------
    Pairs

    Raises
    ------
    TypeError, ValueError
        If there are no candidates, a shape does not fit, or the similarity is unknown.

    Examples
    --------
    >>> import torch
    >>> latents = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.1, 1.0]])
    >>> drivers = Drivers(outside=np.array([2]), candidates=np.array([0, 1]), everywhere=np.array([0, 1, 2]))
    >>> find_pairs(latents, drivers, torch.ones(2)).references
    array([[1]])
    """
    if isinstance(drivers, Partners):
        return find_driver_pairs(latents, drivers, weight, similarity=similarity, n_references=n_references)
    if not len(drivers.candidates):
        raise ValueError("pairs need at least one candidate for the reference, got none")
    k = min(n_references, len(drivers.candidates))
    if not len(drivers.outside):
        return Pairs(drivers.outside, np.empty((0, k), dtype=int), np.empty((0, k)))
    match = ReferenceMatcher(latents[drivers.candidates], similarity).match(latents[drivers.outside], weight, k=k)
    return Pairs(drivers.outside, drivers.candidates[match.index.cpu().numpy()], match.similarity.cpu().numpy())


def rank_difference(specific: Tensor, plain: Tensor) -> Tensor:
    """Rank of each pair's neuron-specific similarity minus that of its plain similarity, (a, a), in [-1, 1].

    Ranks are among all pairs of different drivers, from 0 for the lowest to 1 for the highest; equal ones share the
    mean of their ranks.
    """
    return (_ranks(specific) - _ranks(plain)) / (2 * len(specific) * (len(specific) - 1))


def find_driver_pairs(
    latents: Tensor,
    partners: Partners,
    weight: Tensor,
    *,
    similarity: str = "dot",
    n_references: int = 1,
    score: Score = rank_difference,
) -> Pairs:
    """Pair drivers with one another: alike for the neuron, and unlike otherwise.

    For recordings without categories. A driver's reference is the driver with which it has the largest difference of
    ranks: that of their neuron-specific similarity minus that of their plain similarity, both among all pairs of the
    neuron's drivers. The plain similarity is that of the latents without the neuron: the cosine after subtracting the
    mean over all images. Each pair is shown once: a driver whose pair is there already, the other way round, is passed
    over, and the next strongest takes its turn. Of equal partners the stronger driver is chosen.

    This choice is ours; the paper (Lappe et al. 2024) has categories.

    Parameters
    ----------
    latents : Tensor (n, D)
        Of all images.
    partners : Partners
        From `find_partners`.
    weight : Tensor (D,)
        Readout of the neuron.
    similarity : str, default "dot"
        The neuron-specific similarity, a name in `SIMILARITIES`.
    n_references : int, default 1
        How many references to return for each driver; fewer if there are fewer drivers.
    score : callable, optional
        Takes the neuron-specific and the plain similarities of all pairs, (a, a) each, and returns scores (a, a); the
        pairs with the highest are chosen. Default: the difference of ranks.

    Returns
    -------
    Pairs
        Similarities are neuron-specific; `plain` has the others.

    Raises
    ------
    TypeError, ValueError
        If there are fewer than two drivers, a shape does not fit, or the similarity is unknown.

    Examples
    --------
    Three images drive a neuron that reads the first latent; the last two share another latent with the first or not.

    >>> from captum_shared.selection import find_partners
    >>> latents = torch.tensor([[3.0, 2.0], [3.0, 2.0], [3.0, -2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    >>> partners = find_partners(latents[:, 0], threshold=0.5, top=1)
    >>> pairs = find_driver_pairs(latents, partners, torch.tensor([1.0, 0.0]))
    >>> pairs.images, pairs.references
    (array([0]), array([[2]]))
    """
    places = partners.outside
    if len(places) < 2:
        raise ValueError(f"pairs of drivers need at least two different ones, got {len(places)}")
    z = latents[places]
    both = neuron_similarity(z, z, weight, similarity), _plain_similarity(z, latents.mean(0))
    specific, plain = (_symmetric(values) for values in both)
    values = score(specific, plain).clone().fill_diagonal_(-torch.inf)
    best = top_k(values, min(n_references, len(places) - 1))[1]
    rows = _each_pair_once(best[:, 0].tolist())[: partners.top]
    chosen = best[rows]
    similarities = (values.gather(1, best)[rows].cpu().numpy() for values in (specific, plain))
    return Pairs(places[rows], places[chosen.cpu().numpy()], *similarities)


def _each_pair_once(best: list[int]) -> list[int]:
    """The rows whose pair with their best column was not there before, the other way round."""
    seen: set[tuple[int, int]] = set()
    rows = []
    for row, column in enumerate(best):
        pair = (min(row, column), max(row, column))
        if pair not in seen:
            seen.add(pair)
            rows.append(row)
    return rows


def _plain_similarity(latents: Tensor, center: Tensor) -> Tensor:
    """Cosine of latents (a, D) minus their mean over all images, `center` (D,), without any neuron: (a, a).

    Zero for an image whose latents are the mean.
    """
    z = latents - center
    length = z.norm(dim=1, keepdim=True)
    z = z / torch.where(length > 0, length, torch.ones_like(length))
    return (z @ z.T).clamp(-1, 1)


def _symmetric(values: Tensor) -> Tensor:
    """Similarities (a, a) with those below the diagonal taken from above it, from which rounding may set them apart."""
    return values.triu() + values.triu(1).mT


def _ranks(values: Tensor) -> Tensor:
    """Twice the number of pairs of different drivers below each entry, plus the number of those equal to it: exact."""
    pairs = values[~torch.eye(len(values), dtype=torch.bool, device=values.device)].sort().values
    below, up_to = (torch.searchsorted(pairs, values.contiguous(), right=right) for right in (False, True))
    return (below + up_to).double()
