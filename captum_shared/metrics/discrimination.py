"""Discrimination: which of two parts a heat map prefers, whatever their sizes.

All scores compare densities, the mean heat per pixel of each part, so that a large part is not preferred for its size.
A map that prefers neither part scores at chance: 0.5, or 0 for the contrast.
"""

from __future__ import annotations

import torch

from captum_shared.metrics.localization import ArrayLike, as_tensor, check_heat, one_per_map


def heat_density(heat: ArrayLike, mask: ArrayLike) -> torch.Tensor:
    """Compute the mean heat of the pixels inside the mask.

    Parameters
    ----------
    heat : torch.Tensor or np.ndarray
        (H, W) or (N, H, W), at least 0, finite.
    mask : torch.Tensor or np.ndarray
        bool, of the shape of `heat`, with at least one pixel per map.

    Returns
    -------
    torch.Tensor
        () or (N,), float64, on the CPU, in the units of the heat.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, the mask is not boolean or is empty, the heat is negative or not finite.

    Examples
    --------
    >>> heat = torch.tensor([[4.0, 1.0], [1.0, 1.0]])
    >>> p, q = torch.tensor([[True, False], [False, False]]), torch.tensor([[False, True], [True, True]])
    >>> [float(heat_density(heat, part)) for part in (p, ~p)]
    [4.0, 1.0]
    """
    values, inside = check_heat(heat, mask, signed=False)
    return one_per_map((values / inside.sum(-1, keepdim=True) * inside).sum(-1), heat)


def density_contrast(heat: ArrayLike, mask_p: ArrayLike, mask_q: ArrayLike) -> torch.Tensor:
    """Compute (m_P - m_Q) / (m_P + m_Q), where m is the density of the heat on each part.

    Parameters
    ----------
    heat, mask_p, mask_q
        As in `heat_density`.

    Returns
    -------
    torch.Tensor
        () or (N,) in [-1, 1]: 1 if all of the heat on the two parts is on P, -1 if it is on Q, 0 if there is none.

    Raises
    ------
    TypeError, ValueError
        As `heat_density`.

    Examples
    --------
    >>> heat = torch.tensor([[4.0, 1.0], [1.0, 1.0]])
    >>> p, q = torch.tensor([[True, False], [False, False]]), torch.tensor([[False, True], [True, True]])
    >>> float(density_contrast(heat, p, q))
    0.6
    """
    p, q = (heat_density(_scaled(heat), mask) for mask in (mask_p, mask_q))
    return torch.where(p + q > 0, (p - q) / (p + q), torch.zeros_like(p))


def leakage(heat: ArrayLike, target: ArrayLike, others: ArrayLike) -> torch.Tensor:
    """Compute m_others / (m_target + m_others): how much of the heat's density is where it should not be.

    Parameters
    ----------
    heat, target, others
        As in `heat_density`: the part that should be hot, and the parts that should not.

    Returns
    -------
    torch.Tensor
        () or (N,) in [0, 1]: 0 if no heat leaks, 0.5 if the map does not distinguish the parts, or is empty on both.

    Raises
    ------
    TypeError, ValueError
        As `heat_density`.

    Examples
    --------
    >>> heat = torch.tensor([[4.0, 1.0], [1.0, 1.0]])
    >>> p, q = torch.tensor([[True, False], [False, False]]), torch.tensor([[False, True], [True, True]])
    >>> float(leakage(heat, p, q))
    0.2
    """
    return (1 - density_contrast(heat, target, others)) / 2


def p_vs_q_auroc(heat: ArrayLike, mask_p: ArrayLike, mask_q: ArrayLike) -> torch.Tensor:
    """Compute the probability that a random pixel of P is hotter than a random pixel of Q, ties counting half.

    Parameters
    ----------
    heat : torch.Tensor or np.ndarray
        (H, W) or (N, H, W), finite. Only the order of the values matters; they may be negative.
    mask_p, mask_q : torch.Tensor or np.ndarray
        bool, of the shape of `heat`, with at least one pixel per map.

    Returns
    -------
    torch.Tensor
        () or (N,), float64: the area under the ROC curve; 0.5 for a constant map.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, a mask is not boolean or is empty, the heat is not finite.

    Examples
    --------
    >>> heat = torch.tensor([[4.0, 1.0], [1.0, 1.0]])
    >>> p, q = torch.tensor([[True, False], [False, False]]), torch.tensor([[False, True], [True, True]])
    >>> float(p_vs_q_auroc(heat, p, q))
    1.0
    """
    values, p = check_heat(heat, mask_p)
    _, q = check_heat(heat, mask_q)
    areas = [_area(row[inside], row[other]) for row, inside, other in zip(values, p, q, strict=True)]
    return one_per_map(torch.stack(areas), heat)


def swap_accuracy(heat_a: ArrayLike, heat_b: ArrayLike, mask_p: ArrayLike, mask_q: ArrayLike) -> torch.Tensor:
    """Compute how often the heat prefers the right part of the same image when the reference, or neuron, is swapped.

    This describes the reference swap. The readout swap takes other arguments: maps of one pair, explained for a neuron
    that P drives and for another that Q drives. A map that ignores the neuron scores 0.5 there.

    Parameters
    ----------
    heat_a, heat_b : torch.Tensor or np.ndarray
        (H, W) or (N, H, W), at least 0, finite: maps of one image, explained against reference A, which shares P, and
        against reference B, which shares Q.
    mask_p, mask_q : torch.Tensor or np.ndarray
        bool, of the shape of the maps, with at least one pixel each.

    Returns
    -------
    torch.Tensor
        () or (N,): the mean of two hits, denser on P with A and denser on Q with B, ties counting half. A map that does
        not depend on the reference scores 0.5, whatever it shows.

    Raises
    ------
    TypeError, ValueError
        If the shapes do not fit, a mask is not boolean or is empty, the heat is negative or not finite.

    Examples
    --------
    >>> heat = torch.tensor([[4.0, 1.0], [1.0, 1.0]])
    >>> p, q = torch.tensor([[True, False], [False, False]]), torch.tensor([[False, True], [True, True]])
    >>> float(swap_accuracy(heat, 4 - heat, p, q)), float(swap_accuracy(heat, heat, p, q))
    (1.0, 0.5)
    """
    with_a = density_contrast(heat_a, mask_p, mask_q).sign()
    with_b = density_contrast(heat_b, mask_p, mask_q).sign()
    return 0.5 + (with_a - with_b) / 4


def _area(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """The Mann-Whitney statistic, from the ranks of the negatives."""
    ordered = negative.sort().values
    below = torch.searchsorted(ordered, positive, right=False)
    not_above = torch.searchsorted(ordered, positive, right=True)
    return (below + not_above).double().mean() / (2 * len(negative))


def _scaled(heat: ArrayLike) -> ArrayLike:
    """Each map over its peak, so that no sum overflows or vanishes."""
    values = as_tensor(heat, "heat")
    if values.ndim not in (2, 3) or values.dtype == torch.bool:
        return heat  # refused by the check that follows
    values = values.double()
    peak = values.amax((-2, -1), keepdim=True) if values.numel() else values
    return torch.where((peak > 0) & peak.isfinite(), values / peak, values)
