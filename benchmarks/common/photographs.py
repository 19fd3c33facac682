"""Photographs as networks take them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from captum_shared.encoder.identity import ImageTransform
from captum_shared.images import open_rgb


def load_photograph(path: Path, transform: ImageTransform) -> Tensor:
    """A photograph as the network takes it, (3, H, W)."""
    return transform(open_rgb(path))
