"""`PixelSource`: images by index, as the network sees them and as pictures in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

from captum_shared.encoder.images import Images, ImageSource
from captum_shared.identity import ImageTransform

_IMAGES_KEPT = 128


class PixelSource:
    """Images by index, normalized or as pictures.

    Parameters
    ----------
    images, transform
        As in `top_activations`.
    mean, std : sequence of float, optional
        The normalization of the channels that `transform` applies, or that was applied to a tensor. Default: determined
        by passing a black, a grey and a white image through `transform`; none without a transform.

    Raises
    ------
    ValueError
        If only one of mean and std is given, or what `transform` does to colours is not a normalization.

    Examples
    --------
    >>> pictures = torch.rand(4, 3, 8, 8)
    >>> source = PixelSource((pictures - 0.5) / 0.25, mean=[0.5] * 3, std=[0.25] * 3)
    >>> torch.allclose(source.pictures(source.normalized([2, 0])), pictures[[2, 0]], atol=1e-6)
    True
    """

    def __init__(
        self,
        images: Images,
        transform: ImageTransform | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if (mean is None) != (std is None):
            raise ValueError(f"`mean` and `std` go together, got mean={mean} and std={std}")
        self._source = ImageSource(images, transform)
        self._given = None if mean is None or std is None else (_column(mean), _column(std))
        self._transform = transform
        self._load = lru_cache(_IMAGES_KEPT)(self._read)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_load"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._load = lru_cache(_IMAGES_KEPT)(self._read)  # each process keeps images of its own

    def __len__(self) -> int:
        return len(self._source)

    def normalized(self, indices: Sequence[int]) -> Tensor:
        """Images (n, C, H, W) as the network sees them."""
        return torch.stack([self._load(int(index)) for index in indices])

    def pictures(self, x: Tensor) -> Tensor:
        """Normalized images or crops (n, C, h, w) as pictures, black at 0 and white at 1."""
        mean, std = self._normalization(x)
        return x * std + mean

    def unpictured(self, pictures: Tensor) -> Tensor:
        """Pictures (n, C, h, w) as the network sees them."""
        mean, std = self._normalization(pictures)
        return (pictures - mean) / std

    def _read(self, index: int) -> Tensor:
        item = self._source[index]
        if item.image is None:
            raise ValueError(f"image {index} cannot be read: {item.failure}")
        return item.image

    def _normalization(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._given is None:
            self._given = find_normalization(self._transform) if self._transform else (_column([0.0]), _column([1.0]))
        mean, std = self._given
        return mean.to(x), std.to(x)


def find_normalization(transform: ImageTransform) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (C, 1, 1) each, that an image transform subtracts and divides by."""
    black, grey, white = (
        transform(Image.new("RGB", (256, 256), (level,) * 3)).double().mean((1, 2), keepdim=True)
        for level in (0, 102, 255)
    )
    std = 1 / (white - black)
    if not (std.isfinite().all() and torch.allclose((grey - black) * std, torch.tensor(0.4).double(), atol=1e-3)):
        raise ValueError(
            "what `transform` does to colours is not a normalization of channels; pass `mean` and `std` such that "
            "picture = image * std + mean"
        )
    return -black * std, std


def _column(values: Sequence[float]) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1, 1, 1)
