"""Sums that neither overflow nor vanish: half precision in single, and latents brought to ordinary size."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_shared.checks import is_finite


def widened(values: Tensor) -> Tensor:
    """Half precision as float32; other types as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def of_unit_size(values: Tensor, like: Tensor | None = None) -> Tensor:
    """Vectors (..., D) over a power of two, the largest number of each then being in [0.5, 1): no bit is lost.

    Parameters
    ----------
    values : Tensor (..., D)
    like : Tensor (..., D) or (D,), optional
        Whose largest number to take instead, if that is larger.
    """
    values = widened(values)
    largest = values.detach().abs().amax(-1, keepdim=True)
    if like is not None:
        largest = torch.maximum(largest, widened(like).detach().abs().amax(-1, keepdim=True))
    most = 1 - torch.frexp(torch.tensor(torch.finfo(values.dtype).tiny)).exponent  # beyond it 2^-e is no normal number
    exponent = torch.frexp(largest).exponent.clamp(-int(most), int(most))
    return values * torch.ldexp(torch.ones_like(largest), -exponent)


def check_overflow(noun: str, result: Tensor, *inputs: Tensor, instead: str) -> Tensor:
    """A result without infinity, unless its inputs have it.

    Raises
    ------
    ValueError
        If finite inputs gave a result that is not finite.
    """
    if not is_finite(result) and all(is_finite(value) for value in inputs):
        raise ValueError(f"{noun} exceed {result.dtype}; expected smaller latents, or {instead}")
    return result
