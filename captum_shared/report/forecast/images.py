"""How long images take to be read and seen by a network, from one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_shared.encoder import encode_images
from captum_shared.encoder.identity import ImageTransform
from captum_shared.images import decode_rgb, reason_of
from captum_shared.report.forecast.forecast import timed

MOST_ROWS = 1000
"""Fits are timed on so many images at most."""


def unreadable_images(paths: Sequence[Path]) -> dict[Path, str]:
    """Images that cannot be read, and why."""
    failures = {}
    for path in paths:
        try:
            decode_rgb(path.read_bytes())
        except (OSError, ValueError) as error:
            failures[path] = reason_of(error)
    return failures


def left_out(failures: Mapping[Path, str]) -> list[str]:
    """A note about images that cannot be read; none if all can."""
    lines = "; ".join(f"{path}: {reason}" for path, reason in failures.items())
    return [f"would be left out, for they cannot be read: {lines}"] if failures else []


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


def scaled_fit(fit: Callable[[int], object], n: int, d: int) -> float:
    """Seconds that a linear fit of n images by d latents takes, timed on at most `MOST_ROWS`.

    The work grows with n * d * min(n, d), as that of the decomposition at its heart.
    """
    m = min(n, MOST_ROWS)
    seconds, _ = timed(lambda: fit(m))
    return seconds * (n * min(n, d)) / (m * min(m, d))
