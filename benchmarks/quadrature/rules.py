"""Rules of quadrature on [0, 1] and what is known of an integrand: used by `benchmarks.steps`, without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rule = tuple[Array, Array]
"""Points alpha and their weights, (n,) both."""

FINE = 512
"""Intervals of the grid, equal in the square root of alpha, on which local rules choose their points."""
FIRST = 8


def gauss(n: int) -> Rule:
    """Gauss-Legendre, Captum's default."""
    points, weights = np.polynomial.legendre.leggauss(n)
    return (points + 1) / 2, weights / 2


def midpoint(n: int) -> Rule:
    return (np.arange(n) + 0.5) / n, np.full(n, 1 / n)


def cosine(n: int) -> Rule:
    """The trapezoid rule in t, alpha = (1 - cos t) / 2, normalized: dense at both ends."""
    t = np.pi * np.arange(1, n + 1) / (n + 1)
    return (1 - np.cos(t)) / 2, np.sin(t) / np.sin(t).sum()


def clenshaw_curtis(n: int) -> Rule:
    """On the points of `cosine` and both ends, exact for polynomials; n must be odd."""
    m = n - 1
    t, j = np.pi * np.arange(n) / m, np.arange(1, m // 2 + 1)
    terms = np.where(2 * j == m, 1, 2) / (4 * j**2 - 1) * np.cos(2 * j * t[:, None])
    ends = np.where((np.arange(n) == 0) | (np.arange(n) == m), 1, 2)
    return (1 - np.cos(t)) / 2, ends / m * (1 - terms.sum(1)) / 2


def graded(n: int) -> Rule:
    """That of n_steps="auto": the trapezoid rule in the square root of alpha, dense near the baseline."""
    u = np.arange(1, n + 1) / n
    return u**2, np.where(u < 1, 2, 1) * u / n


def graded_grid(n: int) -> Array:
    """Its points, and the baseline, which has no weight in it: (n + 1,)."""
    return np.append(0.0, graded(n)[0])


def graded_gauss(n: int) -> Rule:
    """Gauss-Legendre in the square root of alpha."""
    u, weights = gauss(n)
    return u**2, 2 * u * weights


def trapezoid(points: Array) -> Rule:
    """Over any points in ascending order."""
    return points, _halves(np.diff(points))


def _halves(gaps: Array) -> Array:
    """Half of each gap for either of its ends."""
    result: Array = np.append(0.0, gaps / 2) + np.append(gaps / 2, 0.0)
    return result


RULES: dict[str, tuple[Callable[[int], Rule], tuple[int, ...]]] = {
    "Gauss-Legendre": (gauss, (8, 12, 18, 25, 36, 50, 72, 100)),
    "midpoint": (midpoint, (9, 18, 36, 72)),
    "trapezoid in cos t": (cosine, (7, 15, 31, 63)),
    "Clenshaw-Curtis": (clenshaw_curtis, (9, 17, 33, 65)),
    "Gauss-Legendre in sqrt(alpha)": (graded_gauss, (9, 18, 36, 50)),
    "graded trapezoid": (graded, (9, 18, 36, 72)),
}


@dataclass(frozen=True)
class Recorded:
    """What is known of one path.

    Attributes
    ----------
    alphas : array (n,)
        Ascending, from 0 to 1.
    value : array (n,)
        c . z there.
    slope : array (n,)
        Its derivative along the path.
    maps : array (n, H, W)
        The derivative's terms, summed over the colour channels.
    """

    alphas: Array
    value: Array
    slope: Array
    maps: NDArray[np.float32]

    @property
    def gain(self) -> float:
        return float(self.value[-1] - self.value[0])

    def at(self, alphas: Array) -> NDArray[np.intp]:
        result: NDArray[np.intp] = np.abs(self.alphas[None] - alphas[:, None]).argmin(axis=1)
        return result

    def integral(self, rule: Rule) -> tuple[float, Array]:
        """Of the slope and of the maps, (H, W)."""
        where = self.at(rule[0])
        return float(rule[1] @ self.slope[where]), np.tensordot(rule[1], self.maps[where], 1)

    def reference(self) -> Array:
        """Of the maps, from all points."""
        return self.integral(trapezoid(self.alphas))[1]


def interval_errors(path: Recorded, alphas: Array) -> tuple[Array, Array]:
    """The trapezoid rule's integral over each interval, and what is missing to the difference of the values."""
    where = path.at(alphas)
    integral = np.diff(alphas) * (path.slope[where[1:]] + path.slope[where[:-1]]) / 2
    return integral, np.diff(path.value[where]) - integral


def bisected(path: Recorded, sizes: tuple[int, ...]) -> dict[int, Rule]:
    """Rules that halve the interval with the largest completeness error, until they have this many points."""
    fine = graded_grid(FINE)
    chosen = list(range(0, FINE + 1, FINE // FIRST))
    found = {}
    while len(chosen) < max(sizes):
        missing = np.abs(interval_errors(path, fine[chosen])[1])
        missing[np.diff(chosen) == 1] = -1
        worst = int(missing.argmax())
        chosen.insert(worst + 1, (chosen[worst] + chosen[worst + 1]) // 2)
        if len(chosen) in sizes:
            found[len(chosen)] = trapezoid(fine[chosen])
    return found


def rescaled(path: Recorded, n: int) -> Rule:
    """The graded trapezoid rule, each interval scaled so that it is complete: a control variate."""
    alphas = graded_grid(n)
    integral, missing = interval_errors(path, alphas)
    return alphas, _halves(np.diff(alphas) * (1 + missing / integral))
