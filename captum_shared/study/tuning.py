"""What the responses alone tell about each neuron: reliability, preferred category, and whether it can be fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from captum_shared.labels import members
from captum_shared.readout import reliability_of_means, split_half_reliability
from captum_shared.selection import d_prime
from captum_shared.study.subject import Subject, choosable, count_labels, given_categories


@dataclass(frozen=True)
class Tuning:
    """The tuning of K neurons."""

    reliability: np.ndarray  # (K,), split-half, corrected to all repeats, of the stimuli that have several, or NaN
    # (K,), the reliability of the mean responses to all stimuli, which sets the noise ceiling: the same if all have
    # several repeats.
    ceiling: np.ndarray
    preferred: list[str | None]  # of the pole that is explained: for what silences neurons, that of weakest responses
    d_prime: np.ndarray  # (K,), of the preferred category; NaN where there is none
    unusable: list[str]  # why a neuron cannot be fitted, or empty

    @property
    def usable(self) -> np.ndarray:
        """(K,) bool array."""
        return np.array([not reason for reason in self.unusable])


def find_tuning(study: Subject) -> Tuning:
    """Compute the reliability and the preferred category of each neuron."""
    settings = study.settings
    d_primes = category_d_primes(study.drive, study.categories)
    preferred = preferred_categories(d_primes, settings.preferred, study.recording.n_neurons)
    responses = study.recording.responses
    reliability = split_half_reliability(responses, settings.n_splits, settings.seed)
    return Tuning(
        reliability,
        reliability_of_means(reliability, responses),
        preferred,
        np.array([np.nan if name is None else d_primes[name][k] for k, name in enumerate(preferred)]),
        [_unusable(neuron, settings.folds) for neuron in study.responses],
    )


def category_d_primes(responses: np.ndarray, categories: np.ndarray) -> dict[str, np.ndarray]:
    """d' of each category with at least `MIN_IMAGES` images, (K,) each; NaN where a neuron has too few responses.

    Responses (K, n) are means over repeats; the categories (n,) are as `split_labels` takes them.
    """
    return {name: d_prime(responses.T, members(categories, name)) for name in choosable(categories)}


def preferred_categories(
    d_primes: dict[str, np.ndarray], given: str | Sequence[str] | None, n_neurons: int
) -> list[str | None]:
    """The category given by the user, for all or for each, or the one with the largest d'; None where there is none."""
    if given is not None:
        return list(given_categories(list(d_primes), given, n_neurons) or [])
    if not d_primes:
        return [None] * n_neurons
    table = np.stack(list(d_primes.values()))
    names = list(d_primes)
    return [None if np.isnan(column).all() else names[int(np.nanargmax(column))] for column in table.T]


def category_means(responses: np.ndarray, categories: np.ndarray) -> list[tuple[str, float, float]]:
    """Category, mean and standard error of one neuron's responses (n,) to it, strongest first.

    The standard error of a single response is 0.
    """
    rows = []
    for name in sorted(count_labels(categories)):
        inside = responses[members(categories, name) & np.isfinite(responses)]
        if len(inside):
            error = float(inside.std(ddof=1) / np.sqrt(len(inside))) if len(inside) > 1 else 0.0
            rows.append((name, float(inside.mean()), error))
    return sorted(rows, key=lambda row: -row[1])


def _unusable(responses: np.ndarray, folds: int) -> str:
    known = responses[np.isfinite(responses)]
    if not len(known):
        return "no responses: all are NaN"
    if np.ptp(known) == 0:
        return f"constant response of {known[0]:g}"
    if len(known) < 4 * folds:
        return f"responses to only {len(known)} stimuli; at least {4 * folds} are needed for {folds} folds"
    return ""
