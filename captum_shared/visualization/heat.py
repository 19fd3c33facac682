"""`display_heat`: from a signed attribution to the non-negative heat that is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

from captum_shared.visualization.image import to_numpy, without_batch

if TYPE_CHECKING:
    from captum_shared.visualization.image import ArrayLike

SMOOTHING = 0.025  # of the longer side: 5.6 pixels at 224. Our choice: the paper does not say.
EXPECTED = "expected (C, H, W), (H, W) or (1, C, H, W)"


def display_heat(attribution: ArrayLike, smoothing: float = SMOOTHING) -> np.ndarray:
    """Turn a signed attribution into the non-negative heat that is drawn.

    In this order: sum over the colour channels, Gaussian smoothing of the *signed* map, positive part. The
    order matters. Pixel attributions of a ReLU network are mostly noise whose signs cancel between
    neighbours, and smoothing lets them cancel. Positive parts taken pixel by pixel keep the positive half of
    the noise everywhere; smoothing afterwards only spreads it, and what is truly hot hardly stands out.

    Parameters
    ----------
    attribution : torch.Tensor or np.ndarray
        (C, H, W) or (H, W), or (1, C, H, W). Signed, finite.
    smoothing : float
        Standard deviation of the Gaussian as a fraction of the longer side, in [0, 1); 0 means none. The
        default, 0.025, is our choice: the paper does not give one. The map is mirrored at its border, so
        that smoothing keeps the sum of the signed map.

    Returns
    -------
    np.ndarray
        (H, W), float32, at least 0, in the units of the attribution.

    Raises
    ------
    TypeError, ValueError
        If the attribution is not a real, finite, non-empty array of such a shape; if `smoothing` is out of
        range.

    References
    ----------
    Lappe et al., "Parallel Backpropagation for Shared-Feature Visualization", NeurIPS 2024, the figures.

    Examples
    --------
    >>> noise = np.tile([[1.0, -1.0], [-1.0, 1.0]], (20, 20))  # signs that cancel between neighbours
    >>> bool(display_heat(noise, smoothing=0.05).max() < 0.1 * display_heat(noise, smoothing=0).max())
    True
    """
    return _positive_heat(_signed_map(attribution, "attribution"), smoothing)


def heat_on(size: tuple[int, ...], attribution: ArrayLike, smoothing: float, name: str) -> np.ndarray:
    """`display_heat` of an attribution of an image of `size`; a coarse map is resized to it first."""
    signed = _signed_map(attribution, name)
    if signed.shape != size:
        if not _is_coarse(signed.shape, size):
            raise ValueError(
                f"`{name}` is a map of {signed.shape} over an image of {size}: expected the same size, or a "
                "coarse map (a layer's grid: the image's aspect ratio, at most half its size)"
            )
        signed = interpolate(torch.from_numpy(signed)[None, None], size, mode="bilinear")[0, 0].numpy()
    return _positive_heat(signed, smoothing)


def _signed_map(attribution: ArrayLike, name: str) -> np.ndarray:
    """(H, W) float64, summed over channels."""
    array = to_numpy(attribution, name)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"`{name}` must hold real numbers, got dtype {array.dtype}")
    array = without_batch(array, name)
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(f"`{name}` has shape {array.shape}, {EXPECTED}, not empty")
    if array.ndim == 3 and array.shape[-1] in (1, 3) and min(array.shape[:2]) > 4:
        raise ValueError(f"`{name}` has shape {array.shape}, which looks channels-last: {EXPECTED}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite, got NaN or infinite values")
    return array if array.ndim == 2 else array.sum(axis=0)


def _positive_heat(signed: np.ndarray, smoothing: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    if not 0 <= smoothing < 1:
        raise ValueError(f"`smoothing` is a fraction of the longer side, expected [0, 1), got {smoothing}")
    sigma = smoothing * max(signed.shape)
    smooth = gaussian_filter(signed, sigma, mode="reflect") if sigma > 0 else signed
    result: np.ndarray = np.maximum(smooth, 0).astype(np.float32)
    return result


def _is_coarse(grid: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether one stride of at least two leads from an image of `size` to `grid`, give or take a cell."""
    sides = list(zip(grid, size, strict=True))
    least = max(pixels / (cells + 1) for cells, pixels in sides)
    most = min(pixels / (cells - 1) if cells > 1 else float("inf") for cells, pixels in sides)
    return least <= most and all(2 * cells <= pixels + 1 for cells, pixels in sides)
