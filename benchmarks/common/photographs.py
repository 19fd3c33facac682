"""Photographs as networks take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor


def load_photograph(path: Path, transform: Callable[[Any], Tensor]) -> Tensor:
    """A photograph as the network takes it, (3, H, W)."""
    with Image.open(path) as image:
        return transform(image.convert("RGB"))
