"""Perturbation: what deleting or inserting the hottest pixels does to a score of the image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_shared.checks import check_finite, check_integer, check_number, check_tensor, describe
from captum_shared.metrics.localization import ArrayLike, as_tensor

Score = Callable[[Tensor], Tensor]
"""Images (n, C, H, W) to scores (n,): a neuron's response, the similarity to the reference, or any other."""


def deletion_curve(
    heat: ArrayLike, image: Tensor, score: Score, *, baseline: float | Tensor = 0.0, steps: int = 20
) -> Tensor:
    """Compute scores of an image as more and more of its hottest pixels are replaced.

    Parameters
    ----------
    heat : torch.Tensor or np.ndarray (H, W)
        Finite; only the order of its values matters. Equally hot pixels are taken in reading order.
    image : torch.Tensor (C, H, W)
        The image that the heat explains.
    score : callable
        Images (n, C, H, W) to scores (n,), called once with all steps.
    baseline : number or torch.Tensor (C, H, W), default 0
        What replaces a pixel: for normalized images, 0 is the mean colour; a blurred image keeps the colours.
    steps : int, default 20
        In how many steps to replace the pixels.

    Returns
    -------
    torch.Tensor (steps + 1,)
        On the CPU; from the whole image to the baseline, in equal numbers of pixels. It falls fast if the heat marks
        what the score depends on; `curve_area` gives its mean.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, the heat is not finite, the baseline is not on the image's device, `steps` is not
        positive, or the scores are not (n,).

    References
    ----------
    Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018.

    Examples
    --------
    >>> image = torch.tensor([[[4.0, 1.0], [1.0, 2.0]]])
    >>> deletion_curve(image[0], image, lambda images: images.sum((1, 2, 3)), steps=4)
    tensor([8., 4., 2., 1., 0.])
    """
    return _curve(heat, image, score, baseline, steps, keep_hottest=False)


def insertion_curve(
    heat: ArrayLike, image: Tensor, score: Score, *, baseline: float | Tensor = 0.0, steps: int = 20
) -> Tensor:
    """Compute scores of a baseline as more and more of the image's hottest pixels are inserted.

    Parameters
    ----------
    heat, image, score, baseline, steps
        As in `deletion_curve`.

    Returns
    -------
    torch.Tensor (steps + 1,)
        From the baseline to the whole image. It rises fast if the heat marks what the score depends on.

    Raises
    ------
    TypeError, ValueError
        As `deletion_curve`.

    Examples
    --------
    >>> image = torch.tensor([[[4.0, 1.0], [1.0, 2.0]]])
    >>> insertion_curve(image[0], image, lambda images: images.sum((1, 2, 3)), steps=4)
    tensor([0., 4., 6., 7., 8.])
    """
    return _curve(heat, image, score, baseline, steps, keep_hottest=True)


def curve_area(curve: Tensor) -> Tensor:
    """Compute the mean height of a curve (trapezoidal rule over [0, 1]), in the units of the score.

    Parameters
    ----------
    curve : torch.Tensor (..., steps + 1)
        From `deletion_curve` or `insertion_curve`.

    Returns
    -------
    torch.Tensor (...)

    Raises
    ------
    ValueError
        If the curve has fewer than two points.

    Examples
    --------
    >>> curve_area(torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0]))
    tensor(2.7500)
    """
    if check_tensor("curve", curve).ndim == 0 or curve.shape[-1] < 2:
        raise ValueError(f"`curve` must have at least two points, got shape {tuple(curve.shape)}")
    return (curve[..., 1:] / 2 + curve[..., :-1] / 2).mean(-1)


@torch.no_grad()
def _curve(
    heat: ArrayLike, image: Tensor, score: Score, baseline: float | Tensor, steps: int, keep_hottest: bool
) -> Tensor:
    values = _checked_heat(heat, image, score, steps)
    empty = _filled(baseline, image)
    rank = torch.empty_like(values, dtype=torch.long)
    rank[values.argsort(descending=True, stable=True)] = torch.arange(len(values))
    counts = torch.linspace(0, len(values), steps + 1).round()
    hottest = (rank < counts[:, None]).view(-1, 1, *image.shape[1:]).to(image.device)
    images = torch.where(hottest, image, empty) if keep_hottest else torch.where(hottest, empty, image)
    scores = score(images)
    if not isinstance(scores, Tensor) or scores.shape != (steps + 1,):
        raise ValueError(f"`score` must return ({steps + 1},) scores, got {describe(scores)}")
    return scores.detach().cpu()


def _filled(baseline: float | Tensor, image: Tensor) -> Tensor:
    """The baseline in the shape of the image (C, H, W)."""
    if not isinstance(baseline, Tensor):
        return torch.full_like(image, check_number("baseline", baseline))
    if baseline.device != image.device:
        raise ValueError(f"`baseline` must be on the device of `image`, {image.device}, got {baseline.device}")
    check_finite("baseline", baseline)
    try:
        return baseline.to(image.dtype).expand_as(image)
    except RuntimeError as error:
        raise ValueError(
            f"`baseline` must be a number or (C, H, W) = {tuple(image.shape)}, got {describe(baseline)}"
        ) from error


def _checked_heat(heat: ArrayLike, image: Tensor, score: Score, steps: int) -> Tensor:
    """Heat, (H * W,) float64 on the CPU."""
    values = as_tensor(heat, "heat")
    if check_tensor("image", image).ndim != 3 or not image.is_floating_point():
        raise ValueError(f"`image` must be floating point (C, H, W), got {image.dtype} of {describe(image)}")
    if not callable(score):
        raise TypeError(f"`score` must be callable, images (n, C, H, W) -> scores (n,), got {type(score).__name__}")
    if values.shape != image.shape[1:]:
        raise ValueError(
            f"`heat` must be (H, W) = {tuple(image.shape[1:])}, as the image, got shape {tuple(values.shape)}"
        )
    if not bool(values.isfinite().all()):
        raise ValueError("`heat` must be finite, got NaN or infinite values")
    check_integer("steps", steps)
    return values.double().flatten()
