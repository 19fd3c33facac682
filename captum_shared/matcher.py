"""`ReferenceMatcher`: the images of a gallery that are most similar for a neuron."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_shared.similarity import SIMILARITIES, neuron_similarity

_BLOCK = 4096


@dataclass(frozen=True)
class Match:
    """The best references of each query.

    Attributes
    ----------
    index : Tensor (Q, k) or (K, Q, k), int64
        Their places in the gallery, best first; of equal ones the lower index first.
    similarity : Tensor, same shape
        Their similarities.
    counts : Tensor (G,), int64
        How often each image of the gallery was chosen. One that is everybody's reference is a hub.
    """

    index: Tensor
    similarity: Tensor
    counts: Tensor


class ReferenceMatcher:
    """Exact search for the reference y* = argmax s_w(x, y) over a gallery (Lappe et al. 2024).

    Parameters
    ----------
    gallery_latents : Tensor or array (G, D)
        Latents of the candidates: the within-category images, in the paper those that drive the neuron. A memory-mapped
        array is read in blocks.
    similarity : str, default "dot"
        A name in `SIMILARITIES`.

    Raises
    ------
    TypeError, ValueError
        If the gallery is empty, not (G, D), or holds NaN; if the similarity is unknown.

    Examples
    --------
    >>> matcher = ReferenceMatcher(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]))
    >>> match = matcher.match(torch.tensor([[0.0, 1.0]]), weight=torch.tensor([1.0, 1.0]), k=2)
    >>> match.index, match.similarity
    (tensor([[2, 1]]), tensor([[2., 1.]]))
    """

    def __init__(self, gallery_latents: Tensor | np.ndarray, similarity: str = "dot") -> None:
        if similarity not in SIMILARITIES:
            raise ValueError(f"unknown similarity {similarity!r}; expected one of {list(SIMILARITIES)}")
        self.similarity = similarity
        self.gallery = _as_latents("gallery_latents", gallery_latents)

    def __len__(self) -> int:
        return len(self.gallery)

    def match(
        self,
        query_latents: Tensor | np.ndarray,
        weight: Tensor | np.ndarray,
        k: int = 1,
        exclude: Tensor | np.ndarray | None = None,
    ) -> Match:
        """The k best references of each query.

        Memory is bounded: similarities exist for blocks of the queries and the gallery only.

        Parameters
        ----------
        query_latents : Tensor or array (Q, D)
        weight : Tensor or array (D,) or (K, D)
            Readout of one neuron, or of K neurons.
        k : int, default 1
        exclude : optional
            What each query must not get, such as itself: an index into the gallery per query, (Q,), or several,
            (Q, m), negative for none; or a boolean (Q, G), True where excluded.

        Returns
        -------
        Match
            `index` and `similarity` are (Q, k), or (K, Q, k) for a weight (K, D).

        Raises
        ------
        TypeError, ValueError
            If a shape does not fit, a value is NaN, or fewer than k candidates remain.
        """
        query = _as_latents("query_latents", query_latents, self.gallery)
        weights = self._check_weight(weight)
        banned = self._check_exclude(exclude, len(query))
        self._check_k(k, banned)
        found = [self._match_neuron(query, w, k, banned) for w in weights.reshape(-1, query.shape[1])]
        shape = (*weights.shape[:-1], len(query), k)
        index = torch.stack([best[1] for best in found]).reshape(shape)
        values = torch.stack([best[0] for best in found]).reshape(shape)
        return Match(index, values, torch.bincount(index.reshape(-1), minlength=len(self.gallery)))

    def _match_neuron(self, query: Tensor, weight: Tensor, k: int, banned: Tensor | None) -> tuple[Tensor, Tensor]:
        blocks = [
            self._match_block(query[rows], weight, k, None if banned is None else banned[rows])
            for rows in _slices(len(query))
        ]
        return torch.cat([values for values, _ in blocks]), torch.cat([index for _, index in blocks])

    def _match_block(self, query: Tensor, weight: Tensor, k: int, banned: Tensor | None) -> tuple[Tensor, Tensor]:
        values = query.new_empty(len(query), 0)
        index = torch.empty(len(query), 0, dtype=torch.int64, device=query.device)
        for columns in _slices(len(self.gallery)):
            block = self._similarities(query, weight, columns, banned)
            best, place = top_k(block, min(k, block.shape[1]))
            values, index = torch.cat([values, best], 1), torch.cat([index, place + columns.start], 1)
            values, index = _ordered(values, index, k)
        return values, index

    def _similarities(self, query: Tensor, weight: Tensor, columns: slice, banned: Tensor | None) -> Tensor:
        block = neuron_similarity(query, self.gallery[columns], weight, self.similarity)
        if banned is None:
            return block
        if banned.dtype == torch.bool:
            return block.masked_fill(banned[:, columns], -torch.inf)
        places = torch.arange(columns.start, columns.stop, device=block.device)
        return block.masked_fill((banned[:, :, None] == places).any(1), -torch.inf)

    def _check_weight(self, weight: Any) -> Tensor:
        weights = _as_floats("weight", weight).to(self.gallery)
        if weights.ndim not in (1, 2) or weights.shape[-1] != self.gallery.shape[1]:
            raise ValueError(
                f"`weight` must be (D,) or (K, D) with D = {self.gallery.shape[1]}, got shape {tuple(weights.shape)}"
            )
        return weights

    def _check_exclude(self, exclude: Any, n: int) -> Tensor | None:
        if exclude is None:
            return None
        banned = torch.as_tensor(exclude, device=self.gallery.device)
        shape = (n, len(self.gallery))
        fits = (
            tuple(banned.shape) == shape if banned.dtype == torch.bool else banned.ndim in (1, 2) and len(banned) == n
        )
        if not fits or banned.is_floating_point():
            raise ValueError(
                f"`exclude` must be indices (Q,) or (Q, m) with Q = {n}, or boolean (Q, G) = {shape}, "
                f"got {banned.dtype} of shape {tuple(banned.shape)}"
            )
        if banned.dtype == torch.bool:
            return banned
        if bool((banned >= len(self.gallery)).any()):
            raise ValueError(f"`exclude` must be below the gallery's size {len(self.gallery)}, got {int(banned.max())}")
        return banned.reshape(n, -1)

    def _check_k(self, k: Any, banned: Tensor | None) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"`k` must be a positive integer, got {k!r}")
        left = len(self.gallery)
        if banned is not None and banned.numel():
            left -= max(int(row.sum()) if row.dtype == torch.bool else len(row[row >= 0].unique()) for row in banned)
        if k > left:
            raise ValueError(f"`k` must be at most the number of candidates, {left} after exclusion, got {k}")


def top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row with their indices, largest first, ties broken by the lower index.

    `torch.topk` breaks ties at random; rows where that matters are sorted.

    Parameters
    ----------
    values : Tensor (N, G)
    k : int
    """
    best, index = values.topk(k, dim=1)
    tied = (values >= best[:, -1:]).sum(1) > k
    if tied.any():
        order = values[tied].sort(dim=1, descending=True, stable=True)
        best[tied], index[tied] = order.values[:, :k], order.indices[:, :k]
    return _ordered(best, index, k)


def _ordered(values: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k by falling value, then by rising index."""
    index, by_index = index.sort(dim=1)
    values, by_value = values.gather(1, by_index).sort(dim=1, descending=True, stable=True)
    return values[:, :k], index.gather(1, by_value)[:, :k]


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def _as_floats(name: str, value: Any) -> Tensor:
    if not isinstance(value, (Tensor, np.ndarray)):
        raise TypeError(f"`{name}` must be a tensor or an array, got {type(value).__name__}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # we only read
        floats = torch.as_tensor(value).detach()
    if not floats.is_floating_point():
        raise TypeError(f"`{name}` must be floating point, got {floats.dtype}")
    if not all(bool(part.isfinite().all()) for part in floats.split(1 << 16)):
        raise ValueError(f"`{name}` must be finite, got NaN or infinity")
    return floats


def _as_latents(name: str, value: Any, like: Tensor | None = None) -> Tensor:
    latents = _as_floats(name, value) if like is None else _as_floats(name, value).to(like)
    wanted = "(n, D)" if like is None else f"(n, {like.shape[1]})"
    if latents.ndim != 2 or latents.numel() == 0 or (like is not None and latents.shape[1] != like.shape[1]):
        raise ValueError(f"`{name}` must be {wanted} with n >= 1, got shape {tuple(latents.shape)}")
    return latents
