"""What takes the place of an area: blur, the mean colour, inpainting. Several, so that no one artefact decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from captum_shared.checks import check_choice, check_finite, check_tensor, describe

Filler = Callable[[Tensor, Tensor], Tensor]
"""From an image (C, H, W) and a mask (H, W) to an image of which the pixels inside the mask are taken."""
Fill = str | Tensor | Filler

FILLS = ("blur", "mean", "inpaint")
"""Fills by name.

"blur": the image, smoothed by a Gaussian whose standard deviation is a twentieth of the longer side.
"mean": the image's mean colour. "inpaint": what surrounds the area, continued into it by OpenCV (Bertalmio et al.
2001). The widths are our choice.
"""
ALIKE = ("blur", "mean")
"""Those that do not depend on the area."""
BLUR = 0.05  # of the longer side
_RADIUS = 3  # pixels, of OpenCV's inpainting


def filled(image: Tensor, mask: Tensor, fill: Fill) -> Tensor:
    """An image (C, H, W), replaced where the mask (H, W) is True; see `remove`."""
    if not isinstance(fill, str):
        return torch.where(mask, _given(image, fill(image, mask) if callable(fill) else fill), image)
    check_choice("fill", fill, FILLS)
    if not bool(mask.any()):
        return image.clone()
    return torch.where(mask, {"blur": _blurred, "mean": _mean, "inpaint": _inpainted}[fill](image, mask), image)


def mean_colour(image: Tensor) -> Tensor:
    """The mean of each channel, (..., C, 1, 1)."""
    return image.double().mean((-2, -1), keepdim=True).to(image.dtype)


def _given(image: Tensor, fill: object) -> Tensor:
    values = check_finite("fill", check_tensor("fill", fill)).detach()
    try:
        return values.to(image).expand_as(image)
    except RuntimeError as error:
        raise ValueError(f"`fill` must be (C, H, W) = {tuple(image.shape)}, got {describe(fill)}") from error


def _mean(image: Tensor, mask: Tensor) -> Tensor:
    return mean_colour(image).expand_as(image)


def _blurred(image: Tensor, mask: Tensor) -> Tensor:
    from scipy.ndimage import gaussian_filter

    sigma = BLUR * max(image.shape[1:])
    array = gaussian_filter(image.double().cpu().numpy(), (0, sigma, sigma), mode="reflect")
    return torch.from_numpy(array).to(image)


def _inpainted(image: Tensor, mask: Tensor) -> Tensor:
    """Each channel by itself, since OpenCV takes real numbers only so. Without surroundings, the mean colour.

    Navier-Stokes: Telea's method, as OpenCV 5.0 has it, leaves the range of the image, and a constant one changed.
    """
    if bool(mask.all()):
        return _mean(image, mask)
    try:
        import cv2
    except ImportError as error:
        raise ImportError('the fill "inpaint" needs OpenCV: pip install "captum-shared[inpaint]"') from error
    inside = mask.cpu().numpy().astype(np.uint8)
    channels = [
        cv2.inpaint(np.ascontiguousarray(channel), inside, _RADIUS, cv2.INPAINT_NS)
        for channel in image.float().cpu().numpy()
    ]
    return torch.from_numpy(np.stack(channels)).to(image)
