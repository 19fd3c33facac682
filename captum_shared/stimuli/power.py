"""Welch's test of one file against others, how likely it is to find a difference, and what to correct for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from captum_shared.checks import check_integer, check_number, check_share


@dataclass(frozen=True)
class WelchTest:
    """The result of a two-sided test.

    The difference is the mean of the first sample minus the mean of the others' means, `low` to `high` its interval.
    """

    difference: float
    low: float
    high: float
    t: float
    df: float
    p: float


def welch_test(first: ArrayLike, others: Sequence[ArrayLike], *, level: float = 0.95) -> WelchTest:
    """Test whether the mean of a sample differs from the mean of several others' means; variances may be unequal.

    With a single other sample this is Welch's t test (Welch 1947, with Satterthwaite's degrees of freedom).

    Parameters
    ----------
    first : (n,) array
        One value for each trial.
    others : sequence of (n_j,) arrays
        At least one; each sample has at least two values. The numbers may differ.
    level : float, default 0.95
        Of the confidence interval.

    Returns
    -------
    WelchTest
        Without any variance, p is 1 if the means are equal, else 0.

    Raises
    ------
    ValueError
        If a sample has fewer than two values or holds NaN, or there are no others.

    Examples
    --------
    >>> round(welch_test([4, 5, 6, 5], [[1, 2, 3], [2, 1, 2]]).difference, 3)
    3.167
    """
    from scipy.stats import t as student

    samples = [np.asarray(sample, dtype=np.float64) for sample in (first, *others)]
    if len(samples) < 2 or any(sample.ndim != 1 or len(sample) < 2 for sample in samples):
        raise ValueError(f"a test needs samples of at least two values, got {[sample.shape for sample in samples]}")
    if not all(np.isfinite(sample).all() for sample in samples):
        raise ValueError("samples must be finite, got NaN or infinite values")
    weights = _weights(len(others))
    difference = float(weights @ [sample.mean() for sample in samples])
    error, df = _error(np.array([sample.var(ddof=1) for sample in samples]), [len(sample) for sample in samples])
    if error == 0:
        t = np.inf * np.sign(difference) if difference else 0.0
        return WelchTest(difference, difference, difference, t, df, float(difference == 0))
    t = difference / error
    half = error * float(student.isf((1 - level) / 2, df))
    return WelchTest(difference, difference - half, difference + half, t, df, float(2 * student.sf(abs(t), df)))


def welch_power(difference: float, variances: Sequence[float], n: int, alpha: float = 0.05) -> float:
    """How likely the two-sided `welch_test` finds a difference, with `n` trials of each sample: p <= alpha.

    From the noncentral t distribution, with the degrees of freedom that the true variances give.

    Parameters
    ----------
    difference : float
        The true one.
    variances : sequence of float
        Over trials, of the first sample and of each of the others; not all 0.
    n : int
        At least 2.
    alpha : float, default 0.05
        The level of the test.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Examples
    --------
    >>> round(welch_power(1.0, [1.0, 1.0], 17), 3)
    0.807
    """
    from scipy.stats import nct, norm
    from scipy.stats import t as student

    check_number("difference", difference)
    check_integer("n", n, 2)
    check_share("alpha", alpha)
    spread = np.asarray(variances, dtype=np.float64)
    if len(spread) < 2 or not np.isfinite(spread).all() or spread.min() < 0 or not spread.any():
        raise ValueError(f"`variances` must be at least two, at least 0 and not all 0, got {list(variances)}")
    error, df = _error(spread, [n] * len(spread))
    least, shift = float(student.isf(alpha / 2, df)), abs(difference) / error
    if shift > least + 12:  # where the noncentral t distribution overflows, and the power is 1
        return 1.0
    found = float(nct.sf(least, df, shift) + nct.cdf(-least, df, shift))
    return found if np.isfinite(found) else float(norm.sf(least - shift))


def repeats_needed(
    difference: float, variances: Sequence[float], *, alpha: float = 0.05, power: float = 0.8, most: int = 1000
) -> int | None:
    """The least number of trials of each sample with which `welch_power` reaches `power`.

    Parameters
    ----------
    difference, variances, alpha
        As in `welch_power`.
    power : float, default 0.8
        How likely the test is to find the difference, at least.
    most : int, default 1000
        Where the search ends.

    Returns
    -------
    int or None
        None if more than `most` are needed.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Examples
    --------
    >>> repeats_needed(1.0, [1.0, 1.0]), repeats_needed(0.01, [1.0, 1.0])
    (17, None)
    """
    check_share("power", power)
    trials = range(2, check_integer("most", most, 2) + 1)
    if not difference:
        return None
    place = bisect_left(trials, power, key=lambda n: welch_power(difference, variances, n, alpha))
    return trials[place] if place < len(trials) else None


def holm(p: ArrayLike) -> np.ndarray:
    """P-values corrected for their number, by Holm's method (1979): the share of false positives stays below any level.

    Parameters
    ----------
    p : (m,) array
        From 0 to 1.

    Returns
    -------
    (m,) array

    Raises
    ------
    ValueError
        If they are not numbers from 0 to 1.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"`p` must be (m,), from 0 to 1, got {p!r}")
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    times = np.arange(len(values), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * times), 1)
    return corrected


def _weights(others: int) -> np.ndarray:
    return np.array([1.0, *[-1 / others] * others])


def _error(variances: np.ndarray, n: Sequence[int]) -> tuple[float, float]:
    """Standard error of the difference, and its degrees of freedom."""
    sizes = np.asarray(n, dtype=np.float64)
    parts = _weights(len(variances) - 1) ** 2 * variances / sizes
    if not parts.any():
        return 0.0, float(sizes.sum() - len(sizes))
    scaled = parts / parts.max()  # squares of small numbers would vanish
    df = scaled.sum() ** 2 / (scaled**2 / (sizes - 1)).sum()
    return float(np.sqrt(parts.sum())), float(df)
