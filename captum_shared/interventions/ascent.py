"""Accentuate an image: the smallest step by which a score grows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_shared.checks import check_finite, check_integer, check_number, check_tensor, describe
from captum_shared.interventions.areas import check_mask
from captum_shared.interventions.fills import mean_colour
from captum_shared.metrics.localization import ArrayLike

Score = Callable[[Tensor], Tensor]
"""Images (n, C, H, W) to scores (n,)."""


def accentuate(
    image: Tensor, score: Score, *, strength: float = 0.05, steps: int = 10, mask: ArrayLike | None = None
) -> Tensor:
    """Change an image a little, so that a score of it grows: gradient ascent within a small ball.

    Parameters
    ----------
    image : torch.Tensor (C, H, W)
        Floating point, finite.
    score : callable
        Images (1, C, H, W) to scores (1,), differentiable: such as c . z, with c the shared weights of the pair.
    strength : float, default 0.05
        The largest L2 norm of the change, over that of the image without its mean colour; at least 0. Our choice.
    steps : int, default 10
        Each is a step of two radii over `steps` along the gradient, followed by a projection into the ball.
    mask : torch.Tensor or np.ndarray, optional
        bool, (H, W): the only pixels that may change.

    Returns
    -------
    torch.Tensor (C, H, W)
        Of dtype and device of the image; its values are not clipped. Where the gradient is 0, it stays as it is.

    Raises
    ------
    TypeError, ValueError
        If image, mask, strength or steps is not such a one, or the scores are not (1,), or their gradient not finite.

    Examples
    --------
    >>> image = torch.tensor([[[1.0, -1.0]]])
    >>> accentuate(image, lambda images: images[:, 0, 0, 0], strength=0.5) - image
    tensor([[[0.7071, 0.0000]]])
    """
    if check_tensor("image", image).ndim != 3 or not image.is_floating_point():
        raise ValueError(f"`image` must be floating point (C, H, W), got {image.dtype} of {describe(image)}")
    if check_number("strength", strength) < 0:
        raise ValueError(f"`strength` must be at least 0, got {strength}")
    check_integer("steps", steps)
    start = check_finite("image", image.detach())
    free = torch.ones_like(start[0]) if mask is None else _free(mask, start)
    radius = strength * float((start - mean_colour(start)).double().norm())
    change = torch.zeros_like(start)
    for _ in range(steps):
        gradient = _gradient(start + change, score) * free
        size = gradient.norm()
        if size == 0:
            break
        change = change + gradient / size * (2 * radius / steps)
        change = change * min(1.0, radius / max(float(change.norm()), torch.finfo(change.dtype).tiny))
    return start + change


def _free(mask: ArrayLike, image: Tensor) -> Tensor:
    inside = check_mask(mask)
    if inside.shape != image.shape[1:]:
        raise ValueError(f"`mask` must be (H, W) = {tuple(image.shape[1:])}, as the image, got {describe(mask)}")
    return inside.to(image)


def _gradient(image: Tensor, score: Score) -> Tensor:
    with torch.inference_mode(mode=False), torch.enable_grad():
        x = image.clone()[None].requires_grad_()
        value = score(x)
        if not isinstance(value, Tensor) or value.shape != (1,):
            raise ValueError(f"`score` must return (1,) scores, got {describe(value)}")
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return check_finite("the gradient of the score", gradient[0])
