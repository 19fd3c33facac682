"""`TrialNoise`: how much a neuron's responses vary from trial to trial, as its repeats tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from captum_shared.checks import check_number

_ROUNDS = 10  # of weighted least squares; the weights have settled long before
_LEAST = 1e-3  # of the mean variance: no stimulus is taken to be less variable


@dataclass(frozen=True)
class TrialNoise:
    """The variance over trials as a straight line of the mean response: ``floor + slope * mean``.

    For Poisson counts the floor is 0 and the slope is 1; the slope is the Fano factor where the floor is 0.

    Attributes
    ----------
    floor, slope : float
        At least 0, not both 0.
    """

    floor: float
    slope: float

    def __post_init__(self) -> None:
        values = [check_number(name, getattr(self, name)) for name in ("floor", "slope")]
        if min(values) < 0 or max(values) == 0:
            raise ValueError(f"`floor` and `slope` must be at least 0 and not both 0, got {values[0]:g}, {values[1]:g}")

    def variance(self, mean: ArrayLike) -> np.ndarray:
        """The variance over trials at these mean responses; below 0 as at 0."""
        result: np.ndarray = self.floor + self.slope * np.maximum(np.asarray(mean, dtype=np.float64), 0)
        return result

    def draw(self, mean: ArrayLike, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` trials at each of these mean responses: Poisson-like, with this mean and this variance.

        A Poisson count of mean m^2 / v, times v / m, has mean m and variance v. Where m is not positive, a normal
        distribution is drawn from.

        Returns
        -------
        (..., n) array
        """
        m = np.asarray(mean, dtype=np.float64)[..., None]
        v = self.variance(m)
        scale = np.divide(v, m, out=np.ones_like(m), where=m > 0)
        scale[scale == 0] = 1.0  # without variance at this mean, which only a mean of 0 has
        counts = scale * rng.poisson(np.where(m > 0, m / scale, 0.0), (*m.shape[:-1], n))
        return np.where(m > 0, counts, rng.normal(m, np.sqrt(v), (*m.shape[:-1], n)))


def measure_noise(responses: ArrayLike) -> TrialNoise:
    """Measure the trial noise of one neuron from the repeats of its stimuli.

    The variances of the stimuli are fitted by a line through their means, by least squares without negative
    coefficients; each is weighted as a sample variance of so many repeats deserves, (R - 1) / v^2.

    Parameters
    ----------
    responses : (n, R) array
        To n stimuli, NaN where a repeat is missing.

    Returns
    -------
    TrialNoise

    Raises
    ------
    ValueError
        If no stimulus has two repeats, or all repeats are equal.

    Examples
    --------
    >>> spikes = np.random.default_rng(0).poisson(np.linspace(1, 9, 4000)[:, None], (4000, 10))
    >>> noise = measure_noise(spikes)
    >>> round(noise.floor, 1), round(noise.slope, 1)
    (0.0, 1.0)
    """
    from scipy.optimize import nnls

    values = np.asarray(responses, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"`responses` must be (n, R), of one neuron, got shape {values.shape}")
    count = np.isfinite(values).sum(axis=1)
    values, count = values[count > 1], count[count > 1]
    if not len(values):
        raise ValueError("trial noise needs a stimulus with at least two repeats, got none")
    mean, variance = np.nanmean(values, axis=1), np.nanvar(values, axis=1, ddof=1)
    pooled = float(np.average(variance, weights=count - 1))
    if pooled == 0:
        raise ValueError("trial noise is unknown: all repeats of each stimulus are equal")
    design = np.stack([np.ones_like(mean), np.maximum(mean, 0)], axis=1)
    fitted = np.full(len(values), pooled)
    for _ in range(_ROUNDS):
        weight = np.sqrt(count - 1) / np.maximum(fitted, _LEAST * pooled)
        line, _ = nnls(design * weight[:, None], variance * weight)
        fitted = design @ line
    return TrialNoise(float(line[0]), float(line[1]))
