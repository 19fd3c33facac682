"""Confidence intervals by the bootstrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captum_shared.checks import check_integer, check_number, describe


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, *, level: float = 0.95, repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Compute a percentile interval of the mean by drawing neurons with replacement.

    Parameters
    ----------
    values : sequence of float (n,)
        One per neuron, finite; average over a neuron's images first, since they are not independent.
    level : float, default 0.95
        Coverage of the interval, between 0 and 1.
    repeats : int, default 2000
        How many times to draw.
    seed : int
        For the draws.

    Returns
    -------
    (float, float)
        Lower and upper end. A single neuron gives an interval of width 0, which says nothing.

    Raises
    ------
    ValueError
        If there are no values, one is not finite, or the level is not between 0 and 1.

    Examples
    --------
    >>> low, high = bootstrap_interval([0.6, 0.7, 0.8, 0.9])
    >>> low < 0.75 < high
    True
    """
    try:
        sample = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`values` must be finite numbers (n,), got {describe(values)}") from error
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"`values` must be finite numbers (n,) with n >= 1, got shape {sample.shape}: {sample}")
    check_integer("repeats", repeats)
    if not 0 < check_number("level", level) < 1:
        raise ValueError(f"`level` must be between 0 and 1, got {level}")
    draws = np.random.default_rng(seed).integers(0, len(sample), (repeats, len(sample)))
    exponent = np.frexp(np.abs(sample).max())[1]  # taken off, so that no sum overflows
    means = np.ldexp(sample, -exponent)[draws].mean(axis=1)
    low, high = np.ldexp(np.quantile(means, [(1 - level) / 2, (1 + level) / 2]), exponent)
    return float(low), float(high)
