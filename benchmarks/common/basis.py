"""Rotations of the latent basis: a stated degree of superposition."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def random_rotation(n_latents: int, seed: int) -> Tensor:
    """Any orthogonal matrix (D, D), float64."""
    generator = torch.Generator().manual_seed(seed)
    result: Tensor = torch.linalg.qr(torch.randn(n_latents, n_latents, generator=generator, dtype=torch.float64)).Q
    return result


def basis_rotation(n_latents: int, degrees: float, *, seed: int = 0) -> Tensor:
    """A rotation that turns every latent axis, and every other vector, by exactly this angle.

    cos(a) I + sin(a) S, with S a random orthogonal and skew-symmetric matrix. At 0 degrees the latents are as they
    were; at 90 degrees each is spread over all others. A readout that is rotated with them responds as before, so only
    the basis changes in which a channel-wise product is taken.

    Parameters
    ----------
    n_latents : int
        D, positive and even: no rotation of an odd space turns every vector.
    degrees : float
        The angle a.
    seed : int
        Of the random planes.

    Returns
    -------
    Tensor (D, D), float32, orthogonal
        R, to be used as ``z @ R.T``.

    Raises
    ------
    ValueError
        If `n_latents` is not positive and even, or the angle is not finite.
    """
    if n_latents < 2 or n_latents % 2:
        raise ValueError(f"`n_latents` must be even and at least 2, got {n_latents}")
    if not math.isfinite(degrees):
        raise ValueError(f"`degrees` must be finite, got {degrees}")
    basis = random_rotation(n_latents, seed)
    first, second = basis[:, 0::2], basis[:, 1::2]
    turn = first @ second.T - second @ first.T
    angle = math.radians(degrees)
    result: Tensor = (math.cos(angle) * torch.eye(n_latents, dtype=torch.float64) + math.sin(angle) * turn).float()
    return result


class Rotation(nn.Module):
    """Rotate latents, (n, D) -> (n, D): the `transform` of a `LatentEncoder`."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.matrix.T.to(z)
