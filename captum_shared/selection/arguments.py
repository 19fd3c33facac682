"""Responses and membership as arrays, checked."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def as_array(values: object) -> np.ndarray:
    """As float64 on the CPU."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().double()
    return np.asarray(values, dtype=np.float64)


def as_responses(name: str, values: object, n: int | None = None) -> np.ndarray:
    """Responses (n,) of one neuron, checked."""
    array = as_array(values)
    if array.ndim != 1 or n not in (None, len(array)):
        raise ValueError(f"`{name}` must be ({'n' if n is None else n},), of one neuron, got shape {array.shape}")
    return array


def as_member(member: object) -> np.ndarray:
    """Membership (n,) as a boolean array, checked."""
    array = member.detach().cpu().numpy() if isinstance(member, Tensor) else np.asarray(member)
    if array.ndim != 1 or array.dtype != bool:
        raise ValueError(f"`member` must be (n,) and boolean, got shape {array.shape} of {array.dtype}")
    return array
