"""How long images take to be read and seen by a network, from one batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_shared.encoder import encode_images
from captum_shared.identity import ImageTransform
from captum_shared.images import decode_rgb, reason_of
from captum_shared.report.forecast.forecast import timed

MOST_ROWS = 1000
"""Fits are timed on so many images at most."""


def readable_images(paths: Sequence[Path], categories: Sequence[str]) -> tuple[list[Path], list[str], list[str]]:
    """Those of the images that can be read, their categories, and a note about the others, if there are any."""
    failures = {}
    for path in paths:
        try:
            decode_rgb(path.read_bytes())
        except (OSError, ValueError) as error:
            failures[path] = reason_of(error)
    kept = [(path, name) for path, name in zip(paths, categories, strict=True) if path not in failures]
    lines = "; ".join(f"{path}: {reason}" for path, reason in failures.items())
    notes = [f"would be left out, for they cannot be read: {lines}"] if failures else []
    return [path for path, _ in kept], [name for _, name in kept], notes


def encoding_time(
    encoder: nn.Module, paths: Sequence[Path], transform: ImageTransform, batch_size: int
) -> tuple[float, Tensor]:
    """Seconds per image to be read and encoded, and the latents (m, D) of two batches: one is read during the other."""
    some = list(paths[: 2 * batch_size])
    encode_images(encoder, some[:1], transform, 1)  # the first pass of a network is slower
    seconds, latents = timed(lambda: encode_images(encoder, some, transform, batch_size))
    return seconds / len(some), latents


def latents_like(latents: Tensor, n: int, seed: int = 0) -> Tensor:
    """Random latents (n, D) with the means and standard deviations of others."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, latents.shape[1], generator=generator, dtype=latents.dtype)
    spread = latents.std(0) if len(latents) > 1 else torch.ones_like(latents[0])
    return latents.mean(0) + noise * (spread + spread.mean() * 0.1)


def growth(n: int, m: int, d: int) -> float:
    """How many times longer a linear fit takes with n images instead of m, by d latents.

    The work grows with n * d * min(n, d), as that of the decomposition at its heart.
    """
    return n * min(n, d) / (m * min(m, d))
