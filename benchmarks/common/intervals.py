"""Intervals of proportions and means whose units are not independent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captum_shared.metrics import bootstrap_interval

REPEATS = 2000
ENDS = ((1 - 0.95) / 2, (1 + 0.95) / 2)


def category_interval(values: np.ndarray, categories: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals of means over items, each of two or more categories, by a bootstrap over categories.

    Two pairs that share a category are not independent. So categories are drawn with replacement, and an item counts
    as often as the product of how often its categories were drawn (pigeonhole bootstrap: Owen 2007; dyads: Davezies,
    D'Haultfoeuille & Guyonvarch 2021). Draws in which no item counts are left out. Where all values are 0, or all 1,
    nothing varies: the ends are then those of `exact_interval`, with a unit for each pair of first categories.

    Parameters
    ----------
    values : array (R, n)
        Of R rows, finite.
    categories : n sequences of str
        Of each item, all of one length.

    Returns
    -------
    low, high : array (R,), array (R,)
    """
    names, place = np.unique(np.asarray(categories), return_inverse=True)
    members = place.reshape(values.shape[1], -1)
    counts = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), REPEATS)
    weights = counts[:, members].prod(2).astype(float)
    weights = weights[weights.any(1)]
    means = values @ (weights / weights.sum(1, keepdims=True)).T
    ends = np.quantile(means, ENDS, axis=1)
    n_pairs = len(np.unique(np.sort(members[:, :2], axis=1), axis=0))
    for row in np.flatnonzero((values == values[:, :1]).all(1) & np.isin(values[:, 0], (0, 1))):
        ends[:, row] = exact_interval(int(values[row, 0]) * n_pairs, n_pairs)
    return ends[0], ends[1]


def unit_interval(values: Sequence[float]) -> tuple[float, float]:
    """Of a mean over independent units, by a bootstrap; where all values are 0, or all 1, the exact one."""
    if values[0] in (0, 1) and len(set(values)) == 1:
        return exact_interval(int(values[0]) * len(values), len(values))
    return bootstrap_interval(values)


def exact_interval(hits: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a proportion: `hits` of `n` independent units."""
    from scipy.stats import beta

    low = beta.ppf(ENDS[0], hits, n - hits + 1) if hits else 0.0
    high = beta.ppf(ENDS[1], hits + 1, n - hits) if hits < n else 1.0
    return float(low), float(high)
