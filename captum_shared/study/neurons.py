"""Which neurons are explained, with which drivers and references, and why others are not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from captum_shared.labels import members
from captum_shared.selection import Drivers, Pairs, find_drivers, find_pairs, find_partners
from captum_shared.study.encoding import EncodingModels, Latents
from captum_shared.study.settings import RecordingSettings
from captum_shared.study.study import Study
from captum_shared.study.tuning import Tuning


@dataclass(frozen=True)
class NeuronFindings:
    """What is known about one neuron."""

    index: int  # in the recording
    name: str
    preferred: str | None  # its category, if it has one
    d_prime: float  # NaN without a category
    reason: str  # why it is not explained, or empty
    drivers: Drivers | None = None  # as the pairs, None if it is not explained
    pairs: Pairs | None = None  # the first of the references is the one that is shown

    @property
    def explained(self) -> bool:
        """Whether there are pairs."""
        return self.pairs is not None

    @property
    def explanation(self) -> tuple[Pairs, Drivers]:
        """Pairs and drivers of a neuron that is explained."""
        if self.pairs is None or self.drivers is None:
            raise ValueError(f"neuron {self.name} is not explained: {self.reason}")
        return self.pairs, self.drivers

    @property
    def shown(self) -> list[tuple[int, int, float]]:
        """Image and reference of each pair, as indices of stimuli, and their similarity."""
        if self.pairs is None:
            return []
        columns = (self.pairs.images, self.pairs.references[:, 0], self.pairs.similarity[:, 0])
        return [(int(i), int(j), float(s)) for i, j, s in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Findings:
    """Everything that a study of a recording found, except for the maps, which are in files."""

    tuning: Tuning  # what the responses alone tell
    latents: Latents
    models: EncodingModels
    neurons: tuple[NeuronFindings, ...]

    @property
    def explained(self) -> list[NeuronFindings]:
        """The neurons that have pairs."""
        return [neuron for neuron in self.neurons if neuron.explained]


def select_neurons(
    study: Study, tuning: Tuning, latents: Latents, models: EncodingModels
) -> tuple[NeuronFindings, ...]:
    """Drivers and references of each neuron, or the reason why there are none.

    A driver's recorded response and its cross-validated prediction both lie at least `threshold` standard deviations
    above their means over all stimuli, or below them for what silences the neuron; see `find_drivers`. Without
    categories, drivers are compared with one another; see `find_driver_pairs`.
    """
    neurons = [_with_drivers(study, tuning, models, k) for k in range(study.recording.n_neurons)]
    for candidate in sorted({int(models.candidate[n.index]) for n in neurons if n.drivers is not None}):
        z = latents.standardized(candidate)
        for n in neurons:
            if n.drivers is not None and models.candidate[n.index] == candidate:
                neurons[n.index] = replace(n, pairs=_pairs(n.drivers, z, models.weights[n.index], study.settings))
    return tuple(neurons)


def _with_drivers(study: Study, tuning: Tuning, models: EncodingModels, k: int) -> NeuronFindings:
    s = study.settings
    reason = tuning.unusable[k] or _failed(tuning.reliability[k], models.cv_r[k], tuning.d_prime[k], s)
    neuron = NeuronFindings(k, study.recording.neuron_ids[k], tuning.preferred[k], float(tuning.d_prime[k]), reason)
    if reason:
        return neuron
    drivers = _drivers(study, neuron, models)
    reason = _nothing_to_pair(drivers, neuron.preferred, s)
    return replace(neuron, reason=reason) if reason else replace(neuron, drivers=drivers)


def _drivers(study: Study, neuron: NeuronFindings, models: EncodingModels) -> Drivers:
    s, drive, k = study.settings, study.drive[neuron.index], neuron.index
    predicted = s.sign * models.predictions[:, k]
    if s.pairs == "drivers":
        return find_partners(drive, predicted=predicted, threshold=s.threshold, top=s.drivers, contents=study.contents)
    member = members(study.categories, str(neuron.preferred))
    return find_drivers(
        drive, member, predicted=predicted, threshold=s.threshold, top=s.drivers, references=s.references
    )


def _pairs(drivers: Drivers, z: torch.Tensor, weight: np.ndarray | None, s: RecordingSettings) -> Pairs:
    return find_pairs(
        z, drivers, torch.as_tensor(weight).double(), similarity=s.similarity, n_references=s.references_averaged
    )


def _failed(reliability: float, cv_r: float, d_prime: float, s: RecordingSettings) -> str:
    """The first criterion that a neuron fails. Without repeats the reliability is unknown, and fails none."""
    if np.isfinite(reliability) and reliability < s.min_reliability:
        return f"reliability {reliability:.2f} below {s.min_reliability:g}"
    if not cv_r >= s.min_cv_r:
        return f"cross-validated r {cv_r:.2f} below {s.min_cv_r:g}"
    if s.pairs == "category" and not d_prime >= s.min_d_prime:
        return f"d' {d_prime:.2f} below {s.min_d_prime:g}"
    return ""


def _nothing_to_pair(drivers: Drivers, preferred: str | None, s: RecordingSettings) -> str:
    side = "above" if s.sign > 0 else "below"
    above = f"recorded and predicted response {s.threshold:g} standard deviations {side} the mean"
    if s.pairs == "drivers":
        return "" if len(drivers.outside) > 1 else f"fewer than two different stimuli with {above}"
    if not len(drivers.outside):
        return f"no out-of-category stimulus with {above}"
    if not len(drivers.candidates):
        return f"no stimulus of {preferred} with {above} to serve as reference"
    return ""
