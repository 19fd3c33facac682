"""`preprocessing`: images as a network of one's own takes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.transforms import v2

from captum_shared.identity import ImageTransform

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def preprocessing(size: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> ImageTransform:
    """Resize the shorter side to `size`, crop the centre, scale to [0, 1], normalize: PIL image -> (3, size, size)."""
    result: ImageTransform = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(size, antialias=True),
            v2.CenterCrop(size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean or IMAGENET_MEAN), list(std or IMAGENET_STD)),
        ]
    )
    return result
