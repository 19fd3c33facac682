"""Tensors and arrays as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from PIL import Image

    ArrayLike = torch.Tensor | np.ndarray
    ImageLike = torch.Tensor | np.ndarray | Image.Image


def to_numpy(value: object, name: str, expected: str = "a torch.Tensor or np.ndarray") -> np.ndarray:
    """A tensor (any device, any dtype, with or without gradient) or an array, as an array."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"`{name}` must be {expected}, got {type(value).__name__}")
    return value


def without_batch(array: np.ndarray, name: str) -> np.ndarray:
    """The array without a leading batch dimension of 1."""
    if array.ndim != 4:
        return array
    if array.shape[0] != 1:
        raise ValueError(f"`{name}` must be a single one, got a batch of shape {array.shape}")
    result: np.ndarray = array[0]
    return result
