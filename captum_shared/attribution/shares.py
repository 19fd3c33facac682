"""Latents as sums over the positions of the layer's map, where the pooling is linear and the transform affine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from captum_shared.checks import check_integer
from captum_shared.encoder import LatentEncoder

Transform = Callable[[Tensor], Tensor]
Place = TypeVar("Place", int, Tensor)


@dataclass(frozen=True)
class Shares:
    """What each position p of a map contributes to the latents z minus an origin: a(p), whose sum over p is z - origin.

    Pooling is linear: pooled latents are sums over positions. An affine transform z = L u + b of pooled latents u is
    written as L (u - s) + (L s + b), with s the shift of its first step, such as a scaler's mean. In each cell of the
    grid, s is shared out among the positions as the pooling weights them; so is what remains, L s + b - origin, where
    the latents keep the map's layout, and else it is shared out equally over all positions.

    Attributes
    ----------
    features : Tensor (N, K, h, w)
        The maps.
    grid : (int, int, int)
        Channels K, and the numbers of cells a and b along both sides that maps are averaged to.
    shift : Tensor (N, K, a, b)
    rest : Tensor (N, D)
    transform : callable or None
    """

    features: Tensor
    grid: tuple[int, int, int]
    shift: Tensor
    rest: Tensor
    transform: Transform | None

    def of(self, n: int) -> Shares:
        """Those of image n alone."""
        return replace(self, features=self.features[n : n + 1], shift=self.shift[n : n + 1], rest=self.rest[n : n + 1])

    def heat(self, shared: Tensor) -> Tensor:
        """c . a(p), (N, Q, h, w), for Q constants of each image, (N, Q, D)."""
        pulled = self._pulled_back(shared.flatten(0, 1)).unflatten(0, shared.shape[:2]).unflatten(2, self.grid)
        rest = shared * self.rest.unsqueeze(1)
        spread = rest.unflatten(2, self.grid).sum(2) if self._keeps_layout else None
        _, a, b = self.grid
        height, width = self.features.shape[2:]
        heat = self.features.new_zeros(*shared.shape[:2], height, width)
        for i, j in product(range(a), range(b)):
            rows, columns = slice(*_window(i, a, height)), slice(*_window(j, b, width))
            part = self.features[:, :, rows, columns] - self.shift[:, :, i, j, None, None]
            inside = torch.einsum("nqk,nkhw->nqhw", pulled[..., i, j], part)
            if spread is not None:
                inside = inside + spread[..., i, j, None, None]
            heat[..., rows, columns] += inside / part[0, 0].numel()
        return heat if spread is not None else heat + (rest.sum(2) / self.features[0, 0].numel())[..., None, None]

    def at(self, n: int, positions: Tensor) -> Tensor:
        """a(p) of image n at some positions (P,), counted along the rows of the map: (P, D)."""
        height, width = self.features.shape[2:]
        row, column = positions // width, positions % width
        _, a, b = self.grid
        down, across = _weights(row, a, height, self.features), _weights(column, b, width, self.features)
        weights = down.unsqueeze(2) * across.unsqueeze(1)  # (P, a, b)
        features = self.features[n, :, row, column].T[:, :, None, None]
        linear = self._linear(((features - self.shift[n]) * weights.unsqueeze(1)).flatten(1))
        if not self._keeps_layout:
            return linear + self.rest[n] / self.features[0, 0].numel()
        result: Tensor = linear + (self.rest[n].unflatten(0, self.grid) * weights.unsqueeze(1)).flatten(1)
        return result

    def parts(self, n: int, most: int) -> Tensor:
        """What at most `most` places a side contribute together, (h', w', D); a position on an edge is divided."""
        sides = self.features.shape[2:]
        down, across = (overlaps(side, min(side, most)).to(self.features) for side in sides)
        shares = self.at(n, torch.arange(sides.numel(), device=self.features.device)).unflatten(0, sides)
        return torch.einsum("ah,bw,hwd->abd", down, across, shares)

    @property
    def _keeps_layout(self) -> bool:
        return self.rest[0].numel() == self.shift[0].numel()

    def _linear(self, pooled: Tensor) -> Tensor:
        """L u, (P, D), of pooled latents (P, K a b)."""
        if self.transform is None:
            return pooled
        return self.transform(pooled) - self.transform(torch.zeros_like(pooled[:1]))

    def _pulled_back(self, shared: Tensor) -> Tensor:
        """L^T c, (Q, K a b), of constants (Q, D)."""
        if self.transform is None:
            return shared
        with torch.enable_grad():
            leaf = shared.new_zeros(len(shared), self.shift[0].numel()).requires_grad_()
            return torch.autograd.grad(self.transform(leaf), leaf, shared)[0]


def overlaps(n: int, m: int) -> Tensor:
    """(m, n) float64: how much of each of n equal cells lies in each of m; every column sums to 1."""
    edges = torch.arange(m + 1, dtype=torch.float64)[:, None] * n / m
    return (edges - torch.arange(n)).clamp(0, 1).diff(dim=0)


def position_shares(encoder: LatentEncoder, features: Tensor, origin: Tensor | None = None) -> Shares:
    """The shares of the positions of maps `features`, (N, K, h, w), in latents minus `origin`, (D,) or (N, D)."""
    reason = why_not_linear(encoder, features)
    if reason:
        raise ValueError(f"{reason}; expected pool='avg', 'flatten' or a number, and no transform or an affine one")
    grid = _grid(encoder.pool, features)
    shift = features.new_zeros(len(features), math.prod(grid))
    if encoder.transform is None:
        shift = shift if origin is None else shift + origin.to(shift)
        rest = torch.zeros_like(shift)
    else:
        shift = shift + _own_shift(encoder.transform, shift)
        with torch.no_grad():
            rest = encoder.transform(shift)
        rest = rest if origin is None else rest - origin.to(rest)
    return Shares(features, grid, shift.unflatten(1, grid), rest, encoder.transform)


def why_not_linear(encoder: LatentEncoder, features: Tensor) -> str | None:
    """Why latents are not sums over the positions of maps `features`, (N, K, h, w); None if they are."""
    pool = encoder.pool
    if not (pool in ("avg", "flatten") if isinstance(pool, str) else isinstance(pool, int)):
        name = repr(pool) if isinstance(pool, str) else "a callable"
        return f"latents with pool={name} are not sums over the positions of the map"
    if encoder.transform is not None and not _is_affine(encoder.transform, _probes(pool, features)):
        return f"the encoder's transform, {type(encoder.transform).__name__}, is not affine"
    return None


def _probes(pool: object, features: Tensor) -> Tensor:
    """Two pooled latents, (2, K a b): those of the first map and of the same map, mirrored and shrunken."""
    pooled = adaptive_avg_pool2d(features[:1], _grid(pool, features)[1:]).flatten(1)
    return torch.cat([pooled, -0.3 * pooled.flip(1) - 1])


def _is_affine(transform: Transform, probes: Tensor) -> bool:
    with torch.no_grad():
        first, second, both, none = transform(torch.cat([probes, probes.sum(0, keepdim=True), 0 * probes[:1]]))
    size = torch.stack([first, second, both, none]).abs().amax()
    error = (first + second - both - none).abs().amax()
    return bool(error <= 1e4 * torch.finfo(probes.dtype).eps * size)


def _grid(pool: object, features: Tensor) -> tuple[int, int, int]:
    """Channels, and cells along both sides of the maps."""
    height, width = features.shape[2:]
    if pool == "flatten":
        return features.shape[1], height, width
    side = 1 if pool == "avg" else check_integer("pool", pool)
    return features.shape[1], side, side


def _own_shift(transform: Transform, pooled: Tensor) -> Tensor:
    """What the transform's first step subtracts, (D,), as scikit-learn's scalers do; zero if it does not say."""
    first = transform[0] if isinstance(transform, nn.Sequential) and len(transform) else transform
    shift: object = getattr(first, "shift", None)
    if isinstance(shift, Tensor) and shift.shape == pooled.shape[1:]:
        return shift.to(pooled)
    return torch.zeros_like(pooled[0])


def _window(cell: Place, n_cells: int, side: int) -> tuple[Place, Place]:
    """The first of the positions along a side that a cell averages, and the one behind the last."""
    return cell * side // n_cells, ((cell + 1) * side + n_cells - 1) // n_cells


def _weights(position: Tensor, n_cells: int, side: int, like: Tensor) -> Tensor:
    """How much of each position (P,) along a side is in each cell, (P, cells)."""
    start, stop = _window(torch.arange(n_cells, device=position.device), n_cells, side)
    place = position.unsqueeze(1)
    return ((place >= start) & (place < stop)).to(like.dtype) / (stop - start)
