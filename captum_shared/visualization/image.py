"""`to_image`: any common form of one image as an array that can be drawn; and tensors as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from PIL import Image

    ArrayLike = torch.Tensor | np.ndarray
    ImageLike = torch.Tensor | np.ndarray | Image.Image

SLACK = 0.02  # rounding of a bfloat16 image that was normalized and restored
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's convert("L")


def to_image(image: ImageLike, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> np.ndarray:
    """Turn any common form of one image into an array that can be drawn.

    Parameters
    ----------
    image : torch.Tensor, np.ndarray or PIL image
        (C, H, W), (H, W, C) or (H, W) with one or three channels, or (1, C, H, W); uint8, or floating point
        in [0, 1]. If both ends could be channels, the first is taken.
    mean, std : sequence of float, optional
        The normalization to undo, `image * std + mean`: one value, or one per channel.

    Returns
    -------
    np.ndarray
        (H, W, 3), float32, in [0, 1].

    Raises
    ------
    TypeError, ValueError
        If the image is none of these, or has values outside [0, 1], as a normalized image has.
    """
    array = _channels_last(_pixels(image))
    if mean is not None or std is not None:
        array = _unnormalized(array, mean, std)
    elif array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    low, high = float(array.min()), float(array.max())
    if not (low >= -SLACK and high <= 1 + SLACK):  # NaN ends here too
        raise ValueError(
            f"`image` must have values in [0, 1], got [{low:.3g}, {high:.3g}]: if it is normalized, undo "
            "that, or pass `mean` and `std` to have it undone; if it is in 0..255, pass it as uint8"
        )
    return np.broadcast_to(array.clip(0, 1), (*array.shape[:2], 3)).astype(np.float32)


def soft_grey(picture: np.ndarray) -> np.ndarray:
    """The picture in grey (H, W): black stays black, and nothing is white, which would outshine yellow."""
    return 0.9 * (picture @ LUMA)


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


def _pixels(image: ImageLike) -> np.ndarray:
    """uint8 or float32."""
    from PIL import Image

    if isinstance(image, Image.Image):
        image = np.asarray(image if image.mode[0] in "IF" else image.convert("RGB"))
    array = to_numpy(image, "image", "a torch.Tensor, np.ndarray or PIL image")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"`image` must be uint8 or floating point, got dtype {array.dtype}")
    return array.astype(np.float32)


def _channels_last(array: np.ndarray) -> np.ndarray:
    array = without_batch(array, "image")
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.size == 0 or not {array.shape[0], array.shape[-1]} & {1, 3}:
        raise ValueError(
            f"`image` has shape {array.shape}, expected (C, H, W), (H, W, C) or (H, W) with 1 or 3 channels"
        )
    return array.transpose(1, 2, 0) if array.shape[0] in (1, 3) else array


def _unnormalized(array: np.ndarray, mean: Sequence[float] | None, std: Sequence[float] | None) -> np.ndarray:
    if mean is None or std is None:
        raise ValueError(f"`mean` and `std` go together, got mean={mean} and std={std}")
    if array.dtype == np.uint8:
        raise ValueError("`mean` and `std` undo a normalization, got a uint8 image, which is not normalized")
    shift, scale = (np.asarray(value, dtype=np.float32).reshape(-1) for value in (mean, std))
    channels = array.shape[-1]
    if not {shift.size, scale.size} <= {1, channels}:
        raise ValueError(
            f"`mean` and `std` must have one value per channel, {channels}, got {shift.size} and {scale.size}"
        )
    return array * scale + shift
