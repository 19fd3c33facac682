"""Areas of an image: the hottest one of a map, and controls that have exactly as many pixels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from captum_shared.checks import check_integer, check_number, describe
from captum_shared.metrics.localization import ArrayLike, as_tensor, one_per_map


def hottest_area(heat: ArrayLike, area: float = 0.1, *, size: tuple[int, int] | None = None, seed: int = 0) -> Tensor:
    """Mark the hottest pixels of a map, an exact number of them.

    Parameters
    ----------
    heat : torch.Tensor or np.ndarray
        (H, W) or (N, H, W), real, finite. For an attribution of pixels, pass its `display_heat`, which is smooth.
    area : float, default 0.1
        The share of the image, above 0, at most 1: round(area * H * W) pixels, at least one.
    size : (int, int), optional
        Height and width of the image, for a coarse map, which is resized bilinearly. Default: those of the map.
    seed : int, default 0
        Of the field that decides between equally hot pixels.

    Returns
    -------
    torch.Tensor
        bool, (H, W) or (N, H, W), on the CPU. Equally hot pixels are taken in the order of a smooth random field that
        depends on `size` and `seed` alone. So a map that prefers no pixel, constant or all zero, chooses what
        ``random_area(size, area, seed=seed)`` does, and its effects are those of chance.

    Raises
    ------
    TypeError, ValueError
        If the heat is not a real, finite array of such a shape, or the area or the size is out of range.

    Examples
    --------
    >>> heat = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
    >>> hottest_area(heat, area=0.5)
    tensor([[ True, False],
            [False,  True]])
    """
    values = _checked(heat)
    if size is not None:
        values = interpolate(values[:, None], _checked_size(size), mode="bilinear", align_corners=False)[:, 0]
    n, h, w = values.shape
    first = _order(h, w, check_integer("seed", seed, 0))
    among = values.flatten(1)[:, first].argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros(n, h * w, dtype=torch.bool)
    if not 0 < check_number("area", area) <= 1:
        raise ValueError(f"`area` is a share of the image, expected above 0 and at most 1, got {area}")
    count = max(1, round(area * h * w))
    mask.scatter_(1, first[among[:, :count]], True)
    return one_per_map(mask.view(n, h, w), heat)


def random_area(size: tuple[int, int], area: float = 0.1, *, seed: int) -> Tensor:
    """Mark smooth blobs at a random place, with an exact number of pixels.

    Parameters
    ----------
    size : (int, int)
        Height and width.
    area : float, default 0.1
        As in `hottest_area`.
    seed : int
        Of the noise, at least 0. The blobs are where Gaussian noise, smoothed over a tenth of the longer side (our
        choice), is largest. It goes on at the opposite border, so that every place is as likely as any other.

    Returns
    -------
    torch.Tensor
        bool, (H, W), on the CPU.

    Raises
    ------
    ValueError
        If size, area or seed is out of range.

    Examples
    --------
    >>> int(random_area((20, 30), area=0.1, seed=1).sum())
    60
    """
    return hottest_area(_smooth_noise(_checked_size(size), check_integer("seed", seed, 0)), area)


def moved_area(mask: ArrayLike, *, seed: int) -> Tensor:
    """Move an area to a random place: the same shape, the same number of pixels.

    Parameters
    ----------
    mask : torch.Tensor or np.ndarray
        bool, (H, W).
    seed : int
        Of the place, at least 0. The mask is flipped, or not, along each axis, and shifted by any number of pixels;
        what leaves the image on one side comes back on the other.

    Returns
    -------
    torch.Tensor
        bool, (H, W), on the CPU.

    Raises
    ------
    TypeError, ValueError
        If the mask is not such a one, or the seed is out of range.

    Examples
    --------
    >>> mask = torch.tensor([[True, True, False], [False, False, False]])
    >>> int(moved_area(mask, seed=3).sum())
    2
    """
    inside = check_mask(mask)
    if inside.ndim != 2:
        raise ValueError(f"`mask` must be (H, W), got {describe(mask)}")
    draws = np.random.default_rng(check_integer("seed", seed, 0))
    flipped = [axis for axis in (0, 1) if draws.integers(2)]
    shifts = tuple(int(draws.integers(side)) for side in inside.shape)
    return torch.roll(inside.flip(flipped), shifts, (0, 1))


def _checked_size(size: object) -> tuple[int, int]:
    if not isinstance(size, tuple | list | torch.Size) or len(size) != 2:
        raise ValueError(f"`size` must be (H, W), got {size!r}")
    return check_integer("height", size[0]), check_integer("width", size[1])


def check_mask(mask: object) -> Tensor:
    """A mask as a boolean tensor (H, W) or (N, H, W) on the CPU."""
    if not isinstance(mask, Tensor | np.ndarray):
        raise TypeError(f"`mask` must be a boolean tensor or array, got {type(mask).__name__}")
    inside = torch.from_numpy(np.ascontiguousarray(mask)) if isinstance(mask, np.ndarray) else mask.detach().cpu()
    if inside.dtype != torch.bool:
        raise TypeError(f"`mask` must be boolean, got {inside.dtype}: pass for example hottest_area(heat)")
    if inside.ndim not in (2, 3) or inside.numel() == 0:
        raise ValueError(f"`mask` must be (H, W) or (N, H, W), not empty, got {describe(mask)}")
    return inside


def _checked(heat: ArrayLike) -> Tensor:
    """Heat (N, h, w) in float64 on the CPU; each map is scaled to at most 1 if it varies, and 0 if it does not."""
    values = as_tensor(heat, "heat")
    if values.dtype == torch.bool:
        raise TypeError(f"`heat` must hold real numbers, got {values.dtype}")
    if values.ndim not in (2, 3) or values.numel() == 0:
        raise ValueError(f"`heat` must be (H, W) or (N, H, W), not empty, got {describe(heat)}")
    values = values.double().view(-1, *values.shape[-2:])
    if not bool(values.isfinite().all()):
        raise ValueError("`heat` must be finite, got NaN or infinite values")
    peak = values.abs().amax((1, 2), keepdim=True)
    scaled = values / torch.where(peak > 0, peak, 1)
    varies = scaled.amax((1, 2), keepdim=True) > scaled.amin((1, 2), keepdim=True)
    return torch.where(varies, scaled, 0.0)  # so that resizing a constant map leaves it constant


@lru_cache(maxsize=16)
def _order(h: int, w: int, seed: int) -> Tensor:
    """Pixels (h * w,) in the order in which equally hot ones are taken."""
    return torch.from_numpy(_smooth_noise((h, w), seed)).flatten().argsort(descending=True, stable=True)


def _smooth_noise(size: tuple[int, int], seed: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).standard_normal(size)
    result: np.ndarray = gaussian_filter(noise, 0.1 * max(size), mode="wrap")
    return result
