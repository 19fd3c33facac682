"""Images as the network sees them, turned back into pictures, and pictures as JPEG files."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_shared.identity import ImageTransform
from captum_shared.study.network import transform_image


def black_and_white(transform: ImageTransform) -> tuple[Tensor, Tensor]:
    """What the transform makes of black and of white, (3, 1, 1) each: which tells how it normalizes."""
    black, white = (transform(Image.new("RGB", (256, 256), name)).mean((1, 2)) for name in ("black", "white"))
    return black[:, None, None], white[:, None, None]


def pictures_of(x: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
    """Images as the network sees them, (..., 3, H, W), back in [0, 1], by its `black_and_white`."""
    black, white = ends
    return ((x - black) / (white - black)).clamp(0, 1)


def seen_pictures(transform: ImageTransform) -> Callable[[Path], Tensor]:
    """What turns an image file into the picture (3, H, W) in [0, 1] that the network sees."""
    return partial(_seen_picture, transform, black_and_white(transform))


def _seen_picture(transform: ImageTransform, ends: tuple[Tensor, Tensor], path: Path) -> Tensor:
    return pictures_of(transform_image(transform, path), ends)


def enlarged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (n, C, h, w) at the size of their pictures; maps of pixels have it already."""
    if maps.shape[2:] == size:
        return maps
    return torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)


def jpeg(pixels: np.ndarray, quality: int = 80) -> bytes:
    """Bytes (h, w, 3) as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
