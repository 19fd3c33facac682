"""Images as the network sees them, turned back into pictures, and pictures as JPEG files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from torch import Tensor

from captum_shared.encoder.identity import ImageTransform


def black_and_white(transform: ImageTransform) -> tuple[Tensor, Tensor]:
    """What the transform makes of black and of white, (3, 1, 1) each: which tells how it normalises."""
    black, white = (transform(Image.new("RGB", (256, 256), name)).mean((1, 2)) for name in ("black", "white"))
    return black[:, None, None], white[:, None, None]


def pictures_of(x: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
    """Images as the network sees them, (..., 3, H, W), back in [0, 1], by its `black_and_white`."""
    black, white = ends
    return ((x - black) / (white - black)).clamp(0, 1)


def jpeg(pixels: np.ndarray, quality: int = 80) -> bytes:
    """Bytes (h, w, 3) as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
