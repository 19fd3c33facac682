"""Pairs of drivers that are alike for a neuron and unlike otherwise: how much each pair is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]
"""Takes the neuron-specific and the plain similarities of all pairs of a neuron's drivers, (a, a) each."""


def plain_similarity(latents: Tensor, center: Tensor) -> Tensor:
    """Cosine of latents (a, D) minus their mean over all images, `center` (D,), without any neuron: (a, a).

    Zero for an image whose latents are the mean.
    """
    z = latents - center
    length = z.norm(dim=1, keepdim=True)
    z = z / torch.where(length > 0, length, torch.ones_like(length))
    return (z @ z.T).clamp(-1, 1)


def rank_difference(specific: Tensor, plain: Tensor) -> Tensor:
    """Rank of each pair's neuron-specific similarity minus that of its plain similarity, (a, a), in [-1, 1].

    Ranks are among all pairs of different drivers, from 0 for the lowest to 1 for the highest; equal ones share the
    mean of their ranks.
    """
    return (_ranks(specific) - _ranks(plain)) / (2 * len(specific) * (len(specific) - 1))


def symmetric(values: Tensor) -> Tensor:
    """Similarities (a, a) with those below the diagonal taken from above it, from which rounding may set them apart."""
    return values.triu() + values.triu(1).mT


def _ranks(values: Tensor) -> Tensor:
    """Twice the number of pairs of different drivers below each entry, plus the number of those equal to it: exact."""
    pairs = values[~torch.eye(len(values), dtype=torch.bool, device=values.device)].sort().values
    below, up_to = (torch.searchsorted(pairs, values.contiguous(), right=right) for right in (False, True))
    return (below + up_to).double()
