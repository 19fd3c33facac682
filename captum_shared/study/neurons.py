"""Which neurons are explained, with which drivers and references, and why others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from captum_shared.report.recording.encoding import Encoding, Latents, scaler_of
from captum_shared.report.recording.settings import MIN_IMAGES, Settings
from captum_shared.selection import Drivers, d_prime, find_drivers, find_pairs


@dataclass(frozen=True)
class Pair:
    """A driver outside the preferred category with its reference: places among the stimuli."""

    image: int
    reference: int
    similarity: float


@dataclass(frozen=True)
class Neuron:
    """What is known of one neuron. `reason` says why it is not explained; it is empty if it is."""

    index: int
    name: str
    reason: str
    preferred: str | None
    d_prime: float
    drivers: Drivers | None = None
    pairs: tuple[Pair, ...] = ()

    @property
    def explained(self) -> bool:
        return not self.reason


def category_d_primes(responses: np.ndarray, categories: np.ndarray) -> dict[str, np.ndarray]:
    """d' of each category with at least `MIN_IMAGES` images, (K,) each; NaN where a neuron has too few responses.

    Parameters
    ----------
    responses : (K, n) array
        Means over repeats; NaN where there are none.
    categories : (n,) array of str
    """
    counts = Counter(str(name) for name in categories)
    return {
        name: d_prime(responses.T, categories == name)
        for name in sorted(counts)
        if MIN_IMAGES <= counts[name] < len(categories)
    }


def preferred_categories(
    d_primes: dict[str, np.ndarray], given: str | Sequence[str] | None, n_neurons: int
) -> list[str | None]:
    """The category given by the user, for all or for each, or the one with the largest d'; None where there is none.

    Raises
    ------
    ValueError
        If a given category is unknown or too small, or not one is given for each neuron.
    """
    if given is not None:
        names = [given] * n_neurons if isinstance(given, str) else [str(name) for name in given]
        if len(names) != n_neurons:
            raise ValueError(f"`preferred` must be one category, or one for each of {n_neurons} neurons; "
                             f"got {len(names)}")  # fmt: skip
        unknown = sorted(set(names) - set(d_primes))
        if unknown:
            raise ValueError(f"`preferred` must be a category with at least {MIN_IMAGES} images, got {unknown[0]!r}; "
                             f"expected one of {list(d_primes)}")  # fmt: skip
        return list(names)
    if not d_primes:
        raise ValueError(f"no category has at least {MIN_IMAGES} images and leaves others; there is nothing to prefer")
    table = np.stack(list(d_primes.values()))
    names = list(d_primes)
    return [None if np.isnan(column).all() else names[int(np.nanargmax(column))] for column in table.T]


def unusable_reasons(responses: np.ndarray, folds: int) -> list[str]:
    """Why each neuron cannot be fitted; empty where it can. Of mean responses (K, n)."""
    return [_unusable(neuron, folds) for neuron in responses]


def select_neurons(
    responses: np.ndarray,
    names: Sequence[str],
    categories: np.ndarray,
    unusable: Sequence[str],
    preferred: Sequence[str | None],
    d_primes: dict[str, np.ndarray],
    reliability: np.ndarray,
    encoding: Encoding,
    latents: Latents,
    settings: Settings,
) -> list[Neuron]:
    """Drivers and references of each neuron, or the reason why there are none.

    Drivers are as in `find_drivers`: their recorded response and its cross-validated prediction both lie at least
    `threshold` standard deviations above their means over all stimuli.
    """
    neurons = []
    for k, name in enumerate(names):
        d = float(d_primes[preferred[k]][k]) if preferred[k] is not None else float("nan")  # type: ignore[index]
        reason, drivers = unusable[k] or _failed(reliability[k], encoding.cv_r[k], d, settings), None
        if not reason:
            drivers = find_drivers(
                responses[k], categories == preferred[k], predicted=encoding.predictions[:, k],
                threshold=settings.threshold, top=settings.drivers, references=settings.references,
            )  # fmt: skip
            reason = _nothing_to_pair(drivers, preferred[k], settings)
        neurons.append(Neuron(k, name, reason, preferred[k], d, drivers))
    return _with_references(neurons, encoding, latents, settings)


def _with_references(
    neurons: Sequence[Neuron], encoding: Encoding, latents: Latents, settings: Settings
) -> list[Neuron]:
    pairs: dict[int, tuple[Pair, ...]] = {}
    for candidate in sorted({int(encoding.candidate[n.index]) for n in neurons if n.explained}):
        z = standardised(latents, candidate, settings.standardize)
        for n in neurons:
            if n.explained and n.drivers is not None and encoding.candidate[n.index] == candidate:
                weight = torch.from_numpy(encoding.weights[n.index]).double()
                matched = find_pairs(z, n.drivers, weight, similarity=settings.similarity)
                pairs[n.index] = tuple(
                    Pair(int(image), int(references[0]), float(similarity[0]))
                    for image, references, similarity in zip(
                        matched.images, matched.references, matched.similarity, strict=True
                    )
                )
    return [replace(n, pairs=pairs.get(n.index, ())) for n in neurons]


def standardised(latents: Latents, candidate: int, standardize: bool) -> torch.Tensor:
    """Latents of one candidate in the space in which weights and products are taken, (n, D) float64."""
    raw = latents.raw(candidate)
    return torch.from_numpy(scaler_of(raw, standardize).transform(raw.astype(np.float64)))


def _unusable(responses: np.ndarray, folds: int) -> str:
    there = responses[np.isfinite(responses)]
    if not len(there):
        return "no responses: all are NaN"
    if np.ptp(there) == 0:
        return f"constant response of {there[0]:g}"
    if len(there) < 4 * folds:
        return f"responses to {len(there)} stimuli only; at least {4 * folds} are needed for {folds} folds"
    return ""


def _failed(reliability: float, cv_r: float, d_prime: float, s: Settings) -> str:
    """The first criterion that a neuron fails. A reliability that cannot be known (no repeats) fails none."""
    if np.isfinite(reliability) and reliability < s.min_reliability:
        return f"reliability {reliability:.2f} below {s.min_reliability:g}"
    if not cv_r >= s.min_cv_r:
        return f"cross-validated r {cv_r:.2f} below {s.min_cv_r:g}"
    if not d_prime >= s.min_d_prime:
        return f"d' {d_prime:.2f} below {s.min_d_prime:g}"
    return ""


def _nothing_to_pair(drivers: Drivers, preferred: str | None, s: Settings) -> str:
    above = f"recorded and predicted response {s.threshold:g} standard deviations above the mean"
    if not len(drivers.outside):
        return f"no out-of-category stimulus with {above}"
    if not len(drivers.candidates):
        return f"no stimulus of {preferred} with {above} to serve as reference"
    return ""
