"""Is the hottest area necessary, sufficient and specific? What a score does when the area is removed, or kept alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_shared.checks import check_integer, check_latents, check_tensor, describe
from captum_shared.interventions.areas import check_mask
from captum_shared.interventions.fills import ALIKE, Fill
from captum_shared.interventions.images import keep, remove
from captum_shared.metrics import bootstrap_interval
from captum_shared.metrics.localization import ArrayLike, one_per_map

Scores = Callable[[Tensor], Tensor]
"""Images (n, C, H, W) to scores (n,), or to S scores of each, (n, S)."""
DEFAULT_FILLS = ("blur", "mean")


def necessity(
    score: Scores, image: Tensor, masks: ArrayLike, *, fills: Sequence[Fill] = DEFAULT_FILLS, batch_size: int = 32
) -> Tensor:
    """Compute how much a score falls when an area is removed.

    Parameters
    ----------
    score : callable
        Images (n, C, H, W) to scores (n,), or to S scores of each, (n, S): such as the similarity to the reference for
        the neuron, in a network that the map has not seen; see `linear_scores`.
    image : torch.Tensor (C, H, W)
        Floating point, finite.
    masks : torch.Tensor or np.ndarray
        bool, (A, H, W), or (H, W) for one area; see `hottest_area`, and `random_area` for controls.
    fills : sequence of fills, default ("blur", "mean")
        As in `remove`, at least one; the mean over them is returned, so that no one artefact decides.
    batch_size : int, default 32
        Images per call of the score.

    Returns
    -------
    torch.Tensor
        (A,) or (A, S), without A for a mask (H, W): score(image) - score(removed), in the units of the score.

    Raises
    ------
    ImportError, TypeError, ValueError
        If image, masks or fills do not fit each other, the scores are not (n,) or (n, S), or not finite.

    Examples
    --------
    >>> image = torch.tensor([[[4.0, 1.0], [1.0, 2.0]]])
    >>> necessity(lambda images: images[:, 0, 0, 0], image, image[0] > 3, fills=["mean"])
    tensor(2.)
    """
    areas = _areas(masks, image)
    before = _scored(score, image[None], batch_size)
    after = [
        _scored(score, torch.stack([remove(image, area, fill) for area in areas]), batch_size)
        for fill in _several(fills, image)
    ]
    return one_per_map(before - torch.stack(after).mean(0), masks)


def sufficiency(
    score: Scores, image: Tensor, masks: ArrayLike, *, fills: Sequence[Fill] = DEFAULT_FILLS, batch_size: int = 32
) -> Tensor:
    """Compute how much higher a score is with an area alone than with nothing.

    Parameters
    ----------
    score, image, masks, fills, batch_size
        As in `necessity`; the fill takes the place of everything outside the area.

    Returns
    -------
    torch.Tensor
        (A,) or (A, S), without A for a mask (H, W): score(kept) - score(the whole image filled), in the units of the
        score. Of an area that is the whole image, necessity and sufficiency are the same.

    Raises
    ------
    ImportError, TypeError, ValueError
        As `necessity`.

    Examples
    --------
    >>> image = torch.tensor([[[4.0, 1.0], [1.0, 2.0]]])
    >>> sufficiency(lambda images: images.sum((1, 2, 3)), image, image[0] > 3, fills=["mean"])
    tensor(2.)
    """
    areas = _areas(masks, image)
    nothing = torch.zeros_like(areas[:1])
    rises = []
    for fill in _several(fills, image):
        made = torch.stack([keep(image, area, fill) for area in (*nothing, *areas)])
        values = _scored(score, made, batch_size)
        rises.append(values[1:] - values[:1])
    return one_per_map(torch.stack(rises).mean(0), masks)


def specificity(
    score: Scores, rival: Scores, image: Tensor, masks: ArrayLike, *, fills: Sequence[Fill] = DEFAULT_FILLS
) -> Tensor:
    """Compute how much more a score falls than a rival when an area is removed.

    Parameters
    ----------
    score, rival : callable
        As in `necessity`, in the same units: such as the similarity to the reference, and to another one, of which the
        area should hold nothing.
    image, masks, fills
        As in `necessity`.

    Returns
    -------
    torch.Tensor
        The difference of their necessities. It is 0 on average for an area that is merely important.

    Raises
    ------
    ImportError, TypeError, ValueError
        As `necessity`.

    Examples
    --------
    >>> image = torch.tensor([[[4.0, 1.0], [1.0, 6.0]]])
    >>> first, last = lambda images: images[:, 0, 0, 0], lambda images: images[:, 0, 1, 1]
    >>> specificity(first, last, image, image[0] == 4, fills=["mean"])
    tensor(1.)
    """
    return necessity(score, image, masks, fills=fills) - necessity(rival, image, masks, fills=fills)


def linear_scores(encode: Callable[[Tensor], Tensor], constants: Tensor, latents: Tensor) -> Scores:
    """Make scores that are linear in latents, in standard deviations over known images.

    Parameters
    ----------
    encode : callable
        Images (n, C, H, W) to latents (n, D), such as a `LatentEncoder`.
    constants : torch.Tensor (S, D)
        One row for each score: ``w * z_ref`` for the neuron-specific similarity to a reference, ``w`` for the response.
    latents : torch.Tensor (G, D)
        Of the known images, G >= 2.

    Returns
    -------
    callable
        Images (n, C, H, W) to scores (n, S), float64 on the CPU, without gradient. A score that is the same for all
        known images is not scaled.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> score = linear_scores(lambda images: images.flatten(1), torch.tensor([[2.0]]), torch.tensor([[-1.0], [1.0]]))
    >>> score(torch.tensor([[[[3.0]]]]))
    tensor([[3.]], dtype=torch.float64)
    """
    rows = check_latents("constants", constants, "S").detach().double().cpu()
    known = check_latents("latents", latents, "G", rows.shape[1]).detach().double().cpu()
    if len(known) < 2:
        raise ValueError(f"`latents` must be of at least 2 images, got {describe(latents)}")
    spread = (known @ rows.T).std(0, correction=0)
    scaled = rows / torch.where(spread > 0, spread, 1)[:, None]

    @torch.no_grad()
    def score(images: Tensor) -> Tensor:
        values: Tensor = encode(images).double().cpu() @ scaled.T
        return values

    return score


@dataclass(frozen=True)
class Contrast:
    """A mean effect over pairs, beside that of its controls.

    Attributes
    ----------
    mean : float
        Of the effect.
    low, high : float
        Its 95 % interval.
    control : float
        Mean of the controls.
    difference, difference_low, difference_high : float
        The effect minus its own control, with its interval.
    pairs, groups : int
        How many there were.
    """

    mean: float
    low: float
    high: float
    control: float
    difference: float
    difference_low: float
    difference_high: float
    pairs: int
    groups: int


def contrast_effects(
    effects: Sequence[float] | np.ndarray,
    controls: Sequence[float] | np.ndarray,
    groups: Sequence[object] | None = None,
    *,
    seed: int = 0,
) -> Contrast:
    """Compare effects with their controls over pairs, with intervals by the bootstrap.

    Parameters
    ----------
    effects, controls : sequence of float (P,)
        Of each pair, and of its control, or the mean of several; finite.
    groups : sequence (P,), optional
        Such as the neuron of each pair: pairs of a group are averaged first, since they are not independent, and groups
        are drawn. Default: each pair is a group.
    seed : int, default 0
        For the draws.

    Returns
    -------
    Contrast
        The intervals are those of `captum_shared.metrics.bootstrap_interval`; with one group they have no width.

    Raises
    ------
    TypeError, ValueError
        If there are no pairs, the lengths differ, or a value is not finite.

    Examples
    --------
    >>> found = contrast_effects([0.3, 0.5, 0.4], [0.1, 0.1, 0.1])
    >>> round(found.mean, 6), round(found.difference, 6), found.difference_low > 0
    (0.4, 0.3, True)
    """
    values, others = (np.asarray(each, dtype=np.float64) for each in (effects, controls))
    if values.ndim != 1 or values.shape != others.shape or not values.size:
        raise ValueError(f"`effects` and `controls` must be (P,) of one length, P >= 1, got shapes {values.shape} and "
                         f"{others.shape}")  # fmt: skip
    names = np.arange(len(values)) if groups is None else np.array([str(group) for group in groups])
    if len(names) != len(values):
        raise ValueError(f"`groups` must be ({len(values)},), one for each pair, got {len(names)}")
    of = [names == name for name in dict.fromkeys(names.tolist())]
    each, gains = ([float(x[inside].mean()) for inside in of] for x in (values, values - others))
    low, high = bootstrap_interval(each, seed=seed)
    difference = bootstrap_interval(gains, seed=seed)
    control = float(np.mean([others[inside].mean() for inside in of]))
    return Contrast(float(np.mean(each)), low, high, control, float(np.mean(gains)), *difference, len(values), len(of))


def chance_level(effect: float, controls: Sequence[float] | np.ndarray) -> float:
    """Compute how often a control is at least as large as an effect: the level of a permutation test.

    Parameters
    ----------
    effect : float
        Of the area that a map chose.
    controls : sequence of float (n,)
        Of n areas that chance chose.

    Returns
    -------
    float
        (1 + how many controls are at least as large) / (1 + n), which chance keeps at or below p in a share p of
        cases. With 19 controls the least is 0.05.

    Raises
    ------
    TypeError, ValueError
        If there are no controls, or a value is not finite.

    References
    ----------
    Phipson and Smyth, "Permutation P-values should never be zero", 2010.

    Examples
    --------
    >>> chance_level(0.4, [0.1, 0.5, 0.2])
    0.5
    """
    others = np.asarray(controls, dtype=np.float64)
    if others.ndim != 1 or not others.size or not np.isfinite([effect, *others]).all():
        raise ValueError(f"`effect` and `controls` (n,) must be finite, n >= 1, got {effect} and {controls}")
    return float((1 + (others >= effect).sum()) / (1 + len(others)))


def _areas(masks: ArrayLike, image: Tensor) -> Tensor:
    if check_tensor("image", image).ndim != 3:
        raise ValueError(f"`image` must be (C, H, W), got {describe(image)}")
    areas = check_mask(masks)
    areas = areas if areas.ndim == 3 else areas[None]
    if areas.shape[1:] != image.shape[1:]:
        raise ValueError(f"`masks` must be (A, H, W) with H x W = {tuple(image.shape[1:])}, as the image, "
                         f"got {describe(masks)}")  # fmt: skip
    return areas


def _several(fills: Sequence[Fill], image: Tensor) -> list[Fill]:
    """The fills; those that do not depend on the area are made once, as images."""
    if isinstance(fills, str | Tensor) or not isinstance(fills, Sequence) or not fills:
        raise ValueError(f"`fills` must be a sequence of at least one fill, got {fills!r}")
    everywhere = torch.ones(image.shape[1:], dtype=torch.bool)
    return [remove(image, everywhere, fill) if isinstance(fill, str) and fill in ALIKE else fill for fill in fills]


def _scored(score: Scores, images: Tensor, batch_size: int) -> Tensor:
    size = check_integer("batch_size", batch_size)
    values = []
    for batch in images.split(size):
        value = score(batch)
        if not isinstance(value, Tensor) or value.ndim not in (1, 2) or len(value) != len(batch):
            raise ValueError(f"`score` must return ({len(batch)},) or ({len(batch)}, S) scores, got {describe(value)}")
        values.append(value.detach().cpu())
    scores = torch.cat(values)
    if not bool(scores.isfinite().all()):
        raise ValueError("`score` must return finite scores, got NaN or infinite values")
    return scores
