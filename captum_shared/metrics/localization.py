"""Localization: how much of a heat map lies on the part that it should show.

Three scores in [0, 1] of a map against a mask; higher is better. A map that prefers no pixel (constant, or
all zero) scores at chance in all three, which is the share of the image that the mask covers: a map that
says nothing is neither rewarded nor punished.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import conv2d

from captum_shared.checks import check_number

ArrayLike = torch.Tensor | np.ndarray


def relevance_mass_accuracy(heat: ArrayLike, mask: ArrayLike) -> torch.Tensor:
    """Compute the share of the heat that lies inside the mask.

    Parameters
    ----------
    heat : torch.Tensor or np.ndarray
        (H, W) or (N, H, W), at least 0, finite. The scale of a map does not matter.
    mask : torch.Tensor or np.ndarray
        bool, of the shape of `heat`, with at least one pixel per map.

    Returns
    -------
    torch.Tensor
        () or (N,), float64, on the CPU. The scores of a mask and its complement sum to 1. A map without any heat
        scores the mask's share of the area, as in the limit of vanishing uniform heat. (The ratio itself is
        0 / 0; Quantus returns NaN there.)

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, the mask is not boolean or is empty, the heat is negative or not finite.

    References
    ----------
    Arras et al., "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network
    explanations", Information Fusion 81, 2022.

    Examples
    --------
    >>> heat = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
    >>> mask = torch.tensor([[True, False], [False, True]])
    >>> relevance_mass_accuracy(heat, mask)
    tensor(0.7500, dtype=torch.float64)
    """
    values, inside = check_heat(heat, mask, signed=False)
    peak = values.amax(-1, keepdim=True)
    values = torch.where(peak > 0, values / peak, 1.0)  # so that no sum overflows or vanishes
    return one_per_map((values * inside).sum(-1) / values.sum(-1), heat)


def relevance_rank_accuracy(heat: ArrayLike, mask: ArrayLike) -> torch.Tensor:
    """Compute the share of the k hottest pixels that lie inside the mask, where k is the mask's number of pixels.

    Parameters
    ----------
    heat : torch.Tensor or np.ndarray
        (H, W) or (N, H, W), finite. Only the order of the values matters; they may be negative.
    mask : torch.Tensor or np.ndarray
        bool, of the shape of `heat`, with at least one pixel per map.

    Returns
    -------
    torch.Tensor
        () or (N,), float64, on the CPU. If equal values straddle rank k, this is the expectation over a random
        order among them, so that the order of the pixels does not matter, and a constant map scores the mask's
        share of the area.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, the mask is not boolean or is empty, the heat is not finite.

    References
    ----------
    Arras et al., as in `relevance_mass_accuracy`.

    Examples
    --------
    >>> heat = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
    >>> mask = torch.tensor([[True, False], [False, True]])
    >>> relevance_rank_accuracy(heat, mask)  # the two hottest pixels are the two of the mask
    tensor(1., dtype=torch.float64)
    """
    values, inside = check_heat(heat, mask)
    k = inside.sum(-1, keepdim=True)
    threshold = values.sort(-1, descending=True).values.gather(-1, k - 1)
    above, tied = values > threshold, values == threshold
    chance = (k - above.sum(-1, keepdim=True)).double() / tied.sum(-1, keepdim=True)  # of a tied pixel
    hits = ((above + chance * tied) * inside).sum(-1)
    return one_per_map(hits / k[:, 0], heat)


def pointing_game(heat: ArrayLike, mask: ArrayLike, tolerance: float = 0) -> torch.Tensor:
    """Check whether the hottest pixel lies inside the mask.

    Parameters
    ----------
    heat : torch.Tensor or np.ndarray
        (H, W) or (N, H, W), finite; may be negative.
    mask : torch.Tensor or np.ndarray
        bool, of the shape of `heat`, with at least one pixel per map.
    tolerance : float
        In pixels, at least 0. A hottest pixel at most this far from the mask (Euclidean, between centres) also
        counts as a hit. Zhang et al. allow 15 on photographs; the default allows none.

    Returns
    -------
    torch.Tensor
        () or (N,), float64, on the CPU: 1 for a hit, 0 for a miss; if several pixels are equally hot, the share
        of them that hit.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, the mask is not boolean or is empty, the heat is not finite, or the
        tolerance is out of range.

    References
    ----------
    Zhang et al., "Top-Down Neural Attention by Excitation Backprop", International Journal of Computer
    Vision 126, 2018.

    Examples
    --------
    >>> heat = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
    >>> mask = torch.tensor([[True, False], [False, True]])
    >>> pointing_game(heat, mask), pointing_game(heat, ~mask), pointing_game(heat, ~mask, tolerance=1)
    (tensor(1., dtype=torch.float64), tensor(0., dtype=torch.float64), tensor(1., dtype=torch.float64))
    """
    if check_number("tolerance", tolerance) < 0:
        raise ValueError(f"`tolerance` must be at least 0, in pixels, got {tolerance}")
    values, inside = check_heat(heat, mask)
    target = _dilated(inside.view(-1, *heat.shape[-2:]), tolerance).flatten(1)
    hottest = values == values.amax(-1, keepdim=True)
    return one_per_map((hottest & target).sum(-1).double() / hottest.sum(-1), heat)


def check_heat(heat: ArrayLike, mask: ArrayLike, signed: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Heat, (N, H * W) in float64, and mask, (N, H * W), both on the CPU; unless `signed`, no heat is below 0."""
    values, inside = as_tensor(heat, "heat"), as_tensor(mask, "mask")
    if values.ndim not in (2, 3) or values.numel() == 0:
        raise ValueError(f"`heat` must be (H, W) or (N, H, W), not empty, got shape {tuple(values.shape)}")
    if inside.shape != values.shape:
        raise ValueError(
            f"`mask` must have the shape of `heat`, {tuple(values.shape)}, got shape {tuple(inside.shape)}"
        )
    if values.dtype == torch.bool:
        raise TypeError(f"`heat` must hold real numbers, got {values.dtype}")
    if inside.dtype != torch.bool:
        raise TypeError(f"`mask` must be boolean, got {inside.dtype}: pass for example mask > 0")
    n_maps = 1 if values.ndim == 2 else len(values)
    values, inside = values.double().reshape(n_maps, -1), inside.reshape(n_maps, -1)
    if not bool(values.isfinite().all()):
        raise ValueError("`heat` must be finite, got NaN or infinite values")
    empty = (~inside.any(-1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"`mask` must have at least one pixel per map, got none in map {empty[0]}")
    if not signed and bool((values < 0).any()):
        raise ValueError(
            f"`heat` must be at least 0, got a minimum of {values.min():.3g}: take the positive part first; "
            "for an attribution, use captum_shared.display_heat"
        )
    return values, inside


def as_tensor(value: ArrayLike, name: str) -> torch.Tensor:
    """A tensor or an array of real numbers or truth values, as a tensor on the CPU, detached."""
    if not isinstance(value, torch.Tensor | np.ndarray):
        raise TypeError(f"`{name}` must be a torch.Tensor or np.ndarray, got {type(value).__name__}")
    try:
        tensor = torch.as_tensor(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value)
    except TypeError as error:  # an array of strings or objects
        raise TypeError(f"`{name}` must hold real numbers, got {value.dtype}") from error
    if tensor.is_complex():
        raise TypeError(f"`{name}` must hold real numbers, got {tensor.dtype}")
    return tensor.detach().cpu()


def one_per_map(scores: torch.Tensor, heat: ArrayLike) -> torch.Tensor:
    """Scores (N,), or () for a single map (H, W)."""
    return scores if heat.ndim == 3 else scores[0]


def _dilated(mask: torch.Tensor, radius: float) -> torch.Tensor:
    """The pixels at most `radius` away from the mask, (N, H, W)."""
    reach = min(math.floor(radius), max(mask.shape[-2:]))
    if reach == 0:
        return mask
    squares = torch.arange(-reach, reach + 1) ** 2
    disk = (squares[:, None] + squares <= radius**2).float()
    return conv2d(mask[:, None].float(), disk[None, None], padding=reach)[:, 0] > 0.5
