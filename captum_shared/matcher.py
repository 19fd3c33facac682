"""`ReferenceMatcher`: the images of a gallery that are most similar for a neuron."""

from __future__ import annotations

import math
import mmap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_shared.checks import check_integer, describe
from captum_shared.similarity import find_similarity
from captum_shared.similarity.kinds import HasSimilarity, Similarity

# A block of similarities: (neuron, query) rows and images of the gallery.
_ROWS, _BLOCK = 2048, 4096


@dataclass(frozen=True)
class Match:
    """The best references of each query.

    Attributes
    ----------
    index : Tensor (Q, k) or (K, Q, k), int64
        Indices into the gallery, best first; among equals, the lower index comes first.
    similarity : Tensor, same shape
        Their similarities, in the dtype of the gallery or a wider one.
    counts : Tensor (G,), int64
        How often each image of the gallery was chosen. A reference reused for most queries is a hub.
    """

    index: Tensor
    similarity: Tensor
    counts: Tensor

    def __repr__(self) -> str:
        *neurons, queries, k = self.index.shape
        parts = [*(f"{n} neuron{'s'[: n != 1]}" for n in neurons), f"{queries} quer{'y' if queries == 1 else 'ies'}"]
        parts.append(f"the {'best' if k == 1 else f'{k} best'} of {len(self.counts)} images")
        if self.similarity.numel():
            parts.append(f"similarity {self.similarity.min():.3g} to {self.similarity.max():.3g}")
        return f"Match({', '.join(parts)})"


class ReferenceMatcher:
    """Exact search for the reference y* = argmax s_w(x, y) over a gallery (Lappe et al. 2024).

    Parameters
    ----------
    gallery_latents : Tensor or array (G, D)
        Latents of the candidates: the within-category images, in the paper those that drive the neuron. A memory-mapped
        array is read in blocks. The search runs on the gallery's device, in its dtype: queries, readouts and exclusions
        are moved there, the gallery never moves, and the match is returned there. Where similarities might overflow or
        vanish in that dtype, they are computed in a wider one: float32 for half precision, else float64.
    similarity : str, rule or callable, default "dot"
        A name in `SIMILARITIES`, a rule that has a similarity, such as `moment_rule`, or a callable, as in
        `neuron_similarity`.

    Raises
    ------
    TypeError, ValueError
        If the gallery is empty, not (G, D), or not finite; if the similarity is unknown.

    Examples
    --------
    >>> matcher = ReferenceMatcher(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]))
    >>> match = matcher.match(torch.tensor([[0.0, 1.0]]), weight=torch.tensor([1.0, 1.0]), k=2)
    >>> match.index, match.similarity
    (tensor([[2, 1]]), tensor([[2., 1.]]))
    >>> match
    Match(1 query, the 2 best of 3 images, similarity 1 to 2)
    """

    def __init__(
        self, gallery_latents: Tensor | np.ndarray, similarity: str | Similarity | HasSimilarity = "dot"
    ) -> None:
        find_similarity(similarity)
        self.similarity = similarity
        self._map = _mapping(gallery_latents)
        self.gallery, self._largest = _as_latents("gallery_latents", gallery_latents)

    def __len__(self) -> int:
        return len(self.gallery)

    def match(
        self,
        query_latents: Tensor | np.ndarray,
        weight: Tensor | np.ndarray,
        k: int = 1,
        exclude: Tensor | np.ndarray | None = None,
    ) -> Match:
        """Find the k best references of each query.

        The gallery is read once. Memory is bounded: similarities are held for one block of neurons, queries and gallery
        at a time, about 100 MB at most.

        Parameters
        ----------
        query_latents : Tensor or array (Q, D)
            Latents of the images to find references for.
        weight : Tensor or array (D,) or (K, D)
            Readout of one neuron, or of K neurons.
        k : int, default 1
            How many references to return for each query.
        exclude : optional
            What to exclude for each query, such as the query itself: one index into the gallery per query, (Q,), or
            several, (Q, m), negative for none; or a boolean mask (Q, G), True where excluded.

        Returns
        -------
        Match
            `index` and `similarity` are (Q, k), or (K, Q, k) for a weight (K, D).

        Raises
        ------
        TypeError, ValueError
            If a shape does not fit, a value is not finite, fewer than k candidates remain, or similarities may exceed
            float64.
        """
        query, largest = _as_latents("query_latents", query_latents, self.gallery.shape[1])
        weights, weights_largest = self._check_weight(weight)
        dtype = _wide_enough(self.gallery.dtype, query.shape[1], (largest, self._largest), weights_largest)
        query, weights = (values.to(self.gallery.device, dtype) for values in (query, weights))
        banned = self._check_exclude(exclude, len(query))
        self._check_k(k, banned)
        values, index = self._best(query, weights.reshape(-1, query.shape[1]), k, banned)
        shape = (*weights.shape[:-1], len(query), k)
        index = index.reshape(shape)
        return Match(index, values.reshape(shape), torch.bincount(index.reshape(-1), minlength=len(self.gallery)))

    def _best(self, query: Tensor, weights: Tensor, k: int, banned: Tensor | None) -> tuple[Tensor, Tensor]:
        """Similarities and indices, (K, Q, k) each; the gallery is read once."""
        values = query.new_full((len(weights), len(query), k), -torch.inf)
        index = torch.zeros_like(values, dtype=torch.int64)
        similarity = find_similarity(self.similarity)
        for columns in _slices(len(self.gallery), _BLOCK):
            gallery = self.gallery[columns].to(query.dtype)
            for neurons, rows in _tiles(len(weights), len(query)):
                block = similarity(query[rows], gallery, weights[neurons])
                if banned is not None:
                    _ban(block, banned[rows], columns)
                _improve(values[neurons, rows], index[neurons, rows], block, columns.start)
            _release(self._map)
        return values, index

    def _check_weight(self, weight: object) -> tuple[Tensor, float]:
        weights, largest = _as_floats("weight", weight)
        if weights.ndim not in (1, 2) or weights.shape[-1] != self.gallery.shape[1]:
            raise ValueError(
                f"`weight` must be (D,) or (K, D) with D = {self.gallery.shape[1]}, got shape {tuple(weights.shape)}"
            )
        return weights, largest

    def _check_exclude(self, exclude: object, n: int) -> Tensor | None:
        if exclude is None:
            return None
        banned = _as_exclusions(exclude).to(self.gallery.device)
        shape = (n, len(self.gallery))
        fits = (
            tuple(banned.shape) == shape if banned.dtype == torch.bool else banned.ndim in (1, 2) and len(banned) == n
        )
        if not fits:
            raise ValueError(
                f"`exclude` must be indices (Q,) or (Q, m) with Q = {n}, or boolean (Q, G) = {shape}, "
                f"got {banned.dtype} of shape {tuple(banned.shape)}"
            )
        if banned.dtype == torch.bool:
            return banned
        if bool((banned >= len(self.gallery)).any()):
            raise ValueError(f"`exclude` must be below the gallery's size {len(self.gallery)}, got {int(banned.max())}")
        return banned.reshape(n, -1)

    def _check_k(self, k: object, banned: Tensor | None) -> None:
        k = check_integer("k", k)
        left = len(self.gallery) - (0 if banned is None or not banned.numel() else _most_banned(banned))
        if k > left:
            raise ValueError(f"`k` must be at most the number of candidates, {left} after exclusion, got {k}")


def top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of `values` (N, G) with their indices, largest first, ties broken by the lower index.

    `torch.topk` breaks ties at random; rows with ties among their k + 1 largest are sorted.
    """
    best, index = values.topk(min(k + 1, values.shape[1]), dim=1)
    tied = (best[:, 1:] == best[:, :-1]).any(1).nonzero().squeeze(1)
    best, index = best[:, :k], index[:, :k]
    if len(tied):
        order = values[tied].sort(dim=1, descending=True, stable=True)
        best[tied], index[tied] = order.values[:, :k], order.indices[:, :k]
    return best, index


def _improve(values: Tensor, index: Tensor, block: Tensor, start: int) -> None:
    """Put what a block of similarities (K, Q, n) has that is larger into the best so far, (K, Q, k), in place.

    The block's images come behind those seen, from `start` on, so that of equal ones those stay.
    """
    k = values.shape[-1]
    better = (block.amax(-1) > values[..., -1]).nonzero(as_tuple=True)  # places: a mask would be searched at each use
    if len(better[0]):
        best, place = top_k(block[better], min(k, block.shape[-1]))
        best, place = torch.cat([values[better], best], 1), torch.cat([index[better], place + start], 1)
        best, order = best.sort(dim=1, descending=True, stable=True)
        values[better], index[better] = best[:, :k], place.gather(1, order[:, :k])


def _ban(block: Tensor, banned: Tensor, columns: slice) -> None:
    """Make the similarities (K, Q, n) of excluded images minus infinity; `banned` as from `_check_exclude`."""
    if banned.dtype == torch.bool:
        block.masked_fill_(banned[:, columns], -torch.inf)
        return
    rows, which = torch.nonzero((banned >= columns.start) & (banned < columns.stop), as_tuple=True)
    block[:, rows, banned[rows, which] - columns.start] = -torch.inf


def _most_banned(banned: Tensor) -> int:
    """The largest number of different images that a query excludes."""
    if banned.dtype == torch.bool:
        return int(banned.sum(1).max())
    places = banned.sort(dim=1).values
    new = torch.cat([torch.ones_like(places[:, :1], dtype=torch.bool), places.diff(dim=1) > 0], 1)
    return int((new & (places >= 0)).sum(1).max())


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _tiles(n_neurons: int, n_queries: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of at most `_ROWS` pairs of neuron and query."""
    for rows in _slices(n_queries, _ROWS):
        for neurons in _slices(n_neurons, max(1, _ROWS // (rows.stop - rows.start))):
            yield neurons, rows


def _mapping(array: object) -> mmap.mmap | None:
    """The memory map of a file behind an array, if its pages can be dropped without loss."""
    if not isinstance(array, np.memmap) or array.mode == "c":  # "c": changes are in memory only
        return None
    base: object = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    return base if hasattr(base, "madvise") else None  # not on Windows


def _release(mapping: mmap.mmap | None) -> None:
    """Drop the pages of the file that were read, so that they do not add up; what is needed again is read again."""
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


def _as_exclusions(exclude: object) -> Tensor:
    """Indices or a mask; uint8 may be meant as either, and torch itself takes it for a mask."""
    try:
        banned = torch.as_tensor(exclude)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`exclude` must be integer indices or boolean, got {describe(exclude)} ({error})") from error
    if banned.dtype == torch.uint8 or banned.is_floating_point() or banned.is_complex():
        hint = ": pass exclude.bool() if it is a mask, exclude.long() if it holds indices"
        hint = hint if banned.dtype == torch.uint8 else ""
        raise TypeError(f"`exclude` must be integer indices or boolean, got {banned.dtype}{hint}")
    return banned if banned.dtype == torch.bool else banned.long()


def _wide_enough(dtype: torch.dtype, d: int, latents: tuple[float, float], weight: float) -> torch.dtype:
    """The type of the gallery, or the next wider one that similarities of D latents neither overflow nor vanish in.

    `latents` are the largest magnitudes of the queries and of the gallery, `weight` is that of the readouts.
    """
    least, most = min(latents), max(1.0, *latents)
    low, high = least * least * weight, d * max(1.0, weight) * most * most
    single = torch.promote_types(dtype, torch.float32)
    info = torch.finfo(single)
    if high <= info.max and (low >= info.tiny / info.eps or 0 in (least, weight)):  # of zeros nothing vanishes
        return single
    if high <= torch.finfo(torch.float64).max:
        return torch.float64
    raise ValueError(
        f"similarities of latents up to {max(latents):.3g} may exceed torch.float64; expected smaller ones"
    )


def _as_floats(name: str, value: object) -> tuple[Tensor, float]:
    """A tensor or an array as a tensor, and its largest magnitude."""
    if not isinstance(value, (Tensor, np.ndarray)):
        raise TypeError(f"`{name}` must be a tensor or an array, got {type(value).__name__}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # we only read
        floats = torch.as_tensor(value).detach()
    if not floats.is_floating_point():
        raise TypeError(f"`{name}` must be floating point, got {floats.dtype}")
    mapping = _mapping(value)
    largest = 0.0
    for part in torch.atleast_1d(floats).split(_BLOCK):
        extremes = [abs(float(extreme)) for extreme in part.aminmax()] if part.numel() else []
        if not all(map(math.isfinite, extremes)):  # NaN is both
            raise ValueError(f"`{name}` must be finite, got NaN or infinity")
        largest = max(largest, *extremes, 0.0)
        _release(mapping)
    return floats, largest


def _as_latents(name: str, value: object, d: int | str = "D") -> tuple[Tensor, float]:
    """Latents (n, d), and their largest magnitude."""
    latents, largest = _as_floats(name, value)
    if latents.ndim != 2 or latents.numel() == 0 or d not in ("D", latents.shape[1]):
        raise ValueError(f"`{name}` must be (n, {d}) with n >= 1, got shape {tuple(latents.shape)}")
    return latents, largest
