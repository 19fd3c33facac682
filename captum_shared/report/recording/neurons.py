"""Which neurons are explained, with which drivers and references, and why others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from captum_shared.matcher import ReferenceMatcher
from captum_shared.report.recording.encoding import Encoding, Latents, scaler_of
from captum_shared.report.recording.settings import MIN_IMAGES, Settings


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
    n_found: int
    pairs: tuple[Pair, ...] = ()

    @property
    def explained(self) -> bool:
        return not self.reason


def category_d_primes(responses: np.ndarray, categories: np.ndarray) -> dict[str, np.ndarray]:
    """d' of each category with at least `MIN_IMAGES` images, (K,) each; NaN where a neuron has too few responses.

    Difference between the mean responses inside and outside, over the root of the mean of the two variances.

    Parameters
    ----------
    responses : (K, n) array
        Means over repeats; NaN where there are none.
    categories : (n,) array of str
    """
    counts = Counter(str(name) for name in categories)
    return {
        name: np.array([_d_prime(neuron, categories == name) for neuron in responses])
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

    Drivers are out-of-category stimuli whose recorded response and whose cross-validated prediction both lie at least
    `threshold` standard deviations above their means over all stimuli, strongest recorded response first.
    """
    found = []
    for k, name in enumerate(names):
        d_prime = float(d_primes[preferred[k]][k]) if preferred[k] is not None else float("nan")  # type: ignore[index]
        reason = unusable[k] or _failed(reliability[k], encoding.cv_r[k], d_prime, settings)
        drivers = np.empty(0, dtype=int)
        candidates = drivers
        if not reason:
            member = categories == preferred[k]
            drivers, candidates = _drivers(responses[k], encoding.predictions[:, k], member, settings)
            reason = _nothing_to_pair(drivers, candidates, preferred[k], settings)
        n_found, drivers = len(drivers), drivers[: settings.drivers]
        found.append((Neuron(k, name, reason, preferred[k], d_prime, n_found), drivers, candidates))
    return _with_references(found, encoding, latents, settings)


def _with_references(
    found: Sequence[tuple[Neuron, np.ndarray, np.ndarray]], encoding: Encoding, latents: Latents, settings: Settings
) -> list[Neuron]:
    pairs: dict[int, tuple[Pair, ...]] = {}
    explained = [entry for entry in found if entry[0].explained]
    for candidate in sorted({int(encoding.candidate[neuron.index]) for neuron, _, _ in explained}):
        z = standardised(latents, candidate, settings.standardize)
        for neuron, drivers, candidates in explained:
            if encoding.candidate[neuron.index] == candidate:
                weight = torch.from_numpy(encoding.weights[neuron.index]).double()
                match = ReferenceMatcher(z[candidates], settings.similarity).match(z[drivers], weight)
                pairs[neuron.index] = tuple(
                    Pair(int(image), int(candidates[place]), float(similarity))
                    for image, place, similarity in zip(drivers, match.index[:, 0], match.similarity[:, 0], strict=True)
                )
    return [
        Neuron(n.index, n.name, n.reason, n.preferred, n.d_prime, n.n_found, pairs.get(n.index, ()))
        for n, _, _ in found
    ]


def standardised(latents: Latents, candidate: int, standardize: bool) -> torch.Tensor:
    """Latents of one candidate in the space in which weights and products are taken, (n, D) float64."""
    raw = latents.raw(candidate)
    return torch.from_numpy(scaler_of(raw, standardize).transform(raw.astype(np.float64)))


def z_scores(values: np.ndarray) -> np.ndarray:
    """Standard deviations above the mean, over what is not NaN; zero for a constant."""
    spread = np.nanstd(values)
    return (values - np.nanmean(values)) / (spread if spread > 0 else 1.0)


def _d_prime(responses: np.ndarray, member: np.ndarray) -> float:
    inside, outside = (responses[part][np.isfinite(responses[part])] for part in (member, ~member))
    if min(len(inside), len(outside)) < 2:
        return float("nan")
    spread = np.sqrt((inside.var(ddof=1) + outside.var(ddof=1)) / 2)
    return float((inside.mean() - outside.mean()) / spread) if spread > 0 else float("nan")


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


def _drivers(
    recorded: np.ndarray, predicted: np.ndarray, member: np.ndarray, s: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-category drivers, strongest first, and candidates for references."""
    there = np.isfinite(recorded) & np.isfinite(predicted)
    strong = there & (z_scores(recorded) >= s.threshold)
    drivers = np.flatnonzero(strong & ~member & (z_scores(predicted) >= s.threshold))
    drivers = drivers[np.argsort(-recorded[drivers], kind="stable")]
    return drivers, np.flatnonzero(member & (strong if s.references == "drivers" else there))


def _nothing_to_pair(drivers: np.ndarray, candidates: np.ndarray, preferred: str | None, s: Settings) -> str:
    above = f"{s.threshold:g} standard deviations above the mean"
    if not len(drivers):
        return f"no out-of-category stimulus with recorded and predicted response {above}"
    if not len(candidates):
        return f"no stimulus of {preferred} with a response {above} to serve as reference"
    return ""
