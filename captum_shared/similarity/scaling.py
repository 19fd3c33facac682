"""Sums that neither overflow nor vanish: half precision in single, and latents brought to ordinary size."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(values: Tensor) -> Tensor:
    """Half precision as float32; other types as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def of_unit_size(values: Tensor, like: Tensor | None = None) -> Tensor:
    """Vectors (..., D) over a power of two, the largest number of each then being in [0.5, 1): no bit is lost.

    The largest number of `like`, (..., D) or (D,), is taken instead if it is larger.
    """
    values = widened(values)
    largest = values.detach().abs().amax(-1, keepdim=True)
    if like is not None:
        largest = torch.maximum(largest, widened(like).detach().abs().amax(-1, keepdim=True))
    most = 1 - torch.frexp(torch.tensor(torch.finfo(values.dtype).tiny)).exponent  # beyond it 2^-e is no normal number
    exponent = torch.frexp(largest).exponent.clamp(-int(most), int(most))
    return values * torch.ldexp(torch.ones_like(largest), -exponent)
