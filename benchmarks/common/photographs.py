"""Photographs as networks take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from captum_shared.images import open_rgb


def load_photograph(path: Path, transform: Callable[[Any], Tensor]) -> Tensor:
    """A photograph as the network takes it, (3, H, W)."""
    return transform(open_rgb(path))
