"""Split-half reliability of responses, and the noise ceiling that it sets for any model of them."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from captum_shared.checks import check_integer, describe
from captum_shared.readout.fitting import pearson


def split_half_reliability(responses: ArrayLike, n_splits: int = 100, seed: int = 0) -> np.ndarray:
    """Estimate the reliability of the mean over repeats from random halves, by the Spearman-Brown formula.

    In each split, the repeats of every stimulus are halved at random, and the means of the halves are correlated over
    stimuli. With r the mean correlation over splits, the reliability of the mean of all repeats is 2 r / (1 + r)
    (Spearman 1910, Brown 1910). If the number of repeats is odd, one half has one more. Stimuli with fewer than two
    repeats are left out.

    Parameters
    ----------
    responses : (K, n, R) array
        K neurons, n stimuli, R repeats; NaN where a repeat is missing.
    n_splits : int, default 100
    seed : int, default 0
        The halves are the same for all neurons, so that a neuron's result does not depend on the others.

    Returns
    -------
    (K,) float64 array
        At most 1; NaN where fewer than three stimuli have two repeats, or a half is constant.

    Raises
    ------
    ValueError
        If `responses` is not (K, n, R) or `n_splits` is not positive.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal, noise = rng.normal(size=(1, 500, 1)), rng.normal(size=(1, 500, 4))
    >>> bool(0.75 < split_half_reliability(signal + noise)[0] < 0.85)  # of the mean of 4: 1 / (1 + 1 / 4)
    True
    """
    array = _numbers("responses", responses)
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"`responses` must be (K, n, R) and not empty, got shape {array.shape}")
    check_integer("n_splits", n_splits)
    rng = np.random.default_rng(seed)
    keys = rng.random((n_splits, *array.shape[1:]))
    return np.array([_reliability(neuron, keys) for neuron in array])


def reliability_of_means(reliability: ArrayLike, responses: ArrayLike) -> np.ndarray:
    r"""Reliability of the mean responses to all stimuli, from that of the stimuli that have repeats.

    Where stimuli differ in their repeats, such as many shown once and some shown thirty times, the reliability comes
    from those shown several times, but predictions are compared with the mean responses to all. With n the numbers of
    repeats, a = E[1 / n] over the first, b = E[1 / n] over all and k = a / b, the Spearman-Brown formula gives
    k r / (1 + (k - 1) r). It takes the responses to both to have the same variance without noise, and the same noise.

    Parameters
    ----------
    reliability : (K,) array
        Of the mean responses to the stimuli with two or more repeats, as from `split_half_reliability`.
    responses : (K, n, R) array
        NaN where a repeat is missing.

    Returns
    -------
    (K,) float64 array
        The reliability itself if all stimuli have several repeats; NaN where it is NaN.

    Examples
    --------
    Half of the stimuli have four repeats, the other half one.

    >>> responses = np.ones((1, 10, 4))
    >>> responses[:, :5, 1:] = np.nan
    >>> reliability_of_means([0.8], responses)  # signal 1, noise 1: 1 / (1 + (1 + 1 / 4) / 2)
    array([0.61538462])
    """
    array, values = _numbers("responses", responses), _numbers("reliability", reliability)
    if array.ndim != 3 or values.shape != array.shape[:1]:
        raise ValueError(f"`responses` must be (K, n, R) and `reliability` (K,), got {array.shape} and {values.shape}")
    count = np.isfinite(array).sum(axis=2)
    inverse = 1 / np.maximum(count, 1)
    shares = [np.where(part, inverse, 0).sum(1) / np.maximum(part.sum(1), 1) for part in (count > 1, count > 0)]
    ratio = np.divide(shares[0], shares[1], out=np.ones(len(array)), where=shares[1] > 0)
    result: np.ndarray = ratio * values / (1 + (ratio - 1) * values)
    return result


def noise_ceiling(reliability: ArrayLike) -> np.ndarray:
    """The correlation with the mean responses that a perfect model reaches: the square root of the reliability.

    Parameters
    ----------
    reliability : (K,) array

    Returns
    -------
    (K,) float64 array
        NaN where the reliability is not positive.

    Examples
    --------
    >>> noise_ceiling([0.81, -0.1]).tolist()
    [0.9, nan]
    """
    values = _numbers("reliability", reliability)
    return np.sqrt(np.where(values > 0, values, np.nan))


def ceiling_corrected(r: ArrayLike, reliability: ArrayLike) -> np.ndarray:
    """Correlations as fractions of the noise ceiling, ``r / sqrt(reliability)``, (K,); may exceed 1 by chance.

    Examples
    --------
    >>> ceiling_corrected([0.45], [0.81]).tolist()
    [0.5]
    """
    values, ceiling = _numbers("r", r), noise_ceiling(reliability)
    if ceiling.shape not in ((), values.shape):
        raise ValueError(f"`r` and `reliability` must both be (K,), got shapes {values.shape} and {ceiling.shape}")
    result: np.ndarray = values / ceiling
    return result


def _numbers(name: str, values: object) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be real numbers, got {describe(values)}") from error
    if values is None:
        raise TypeError(f"`{name}` must be real numbers, got None")
    return array


def _reliability(neuron: np.ndarray, keys: np.ndarray) -> float:
    """Of one neuron, (n, R), with random keys (splits, n, R) that order the repeats."""
    there = np.isfinite(neuron)
    count = there.sum(axis=1)
    use = count >= 2
    if use.sum() < 3:
        return float("nan")
    rank = np.where(there[use], keys[:, use], np.inf).argsort(axis=2).argsort(axis=2)
    half = (count[use] // 2)[:, None]
    first, second = rank < half, (rank >= half) & there[use]
    means = [(np.where(part, neuron[use], 0.0)).sum(axis=2) / part.sum(axis=2) for part in (first, second)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all splits constant
        r = float(np.nanmean(pearson(means[0].T, means[1].T)))
    return 2 * r / (1 + r) if r > -1 else float("nan")
