"""`preprocessing`: images as a network of one's own takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torchvision.transforms import v2

from captum_shared.checks import check_integer
from captum_shared.encoder.identity import ImageTransform

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def preprocessing(size: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> ImageTransform:
    """Resize the shorter side to `size`, crop the centre, scale to [0, 1], normalise: PIL image -> (3, size, size)."""
    check_integer("image_size", size)
    mean, std = IMAGENET_MEAN if mean is None else mean, IMAGENET_STD if std is None else std
    check_normalisation(mean, std)
    result: ImageTransform = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(size, antialias=True),
            v2.CenterCrop(size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean), list(std)),
        ]
    )
    return result


def check_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Refuse what cannot normalise channels; None is what the network's source says.

    Raises
    ------
    ValueError
        If a value is not finite, or a deviation not positive.
    """
    if not all(math.isfinite(value) for value in (*(mean or ()), *(std or ()))) or min(std or (1.0,)) <= 0:
        raise ValueError(f"`mean` and `std` must be finite and `std` positive, got {mean} and {std}")
