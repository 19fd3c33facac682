"""`Study`: the question about a recording."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from torch import nn
from torchvision.transforms.functional import to_tensor

from captum_shared.encoder.identity import ImageTransform
from captum_shared.readout.steps import Estimator
from captum_shared.recording import Recording
from captum_shared.study.contents import describe_network, describe_recording, inspect_stimuli
from captum_shared.study.network import Network, find_network
from captum_shared.study.settings import MIN_IMAGES, POOLS, RecordingSettings


@dataclass(frozen=True)
class Study:
    """The question; nothing in it changes while it is answered.

    Attributes
    ----------
    recording : Recording
        The neurons under study, and the stimuli that can be read.
    network : Network
        In evaluation mode.
    settings : RecordingSettings
    estimator : scikit-learn estimator or None
    about : dict
        What to say of the network.
    hashes : dict
        Of the stimuli's files, by name.
    unreadable : dict
        Stimuli that are left out, with the reason.
    """

    recording: Recording
    network: Network
    settings: RecordingSettings
    estimator: Estimator | None = None
    about: dict[str, object] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    @cached_property
    def responses(self) -> np.ndarray:
        """Means over repeats, (K, n); NaN where there is none."""
        return self.recording.mean_responses

    @cached_property
    def categories(self) -> np.ndarray:
        """(n,) array of str."""
        return np.array(self.recording.categories)

    @property
    def notes(self) -> list[str]:
        """What a reader should know before the rest."""
        notes = []
        if self.unreadable:
            notes.append(f"Left out because they cannot be read: {', '.join(self.unreadable)}.")
        small = sorted(name for name, n in Counter(self.recording.categories).items() if n < MIN_IMAGES)
        if small:
            notes.append(f"Categories with fewer than {MIN_IMAGES} stimuli are never chosen as preferred: "
                         f"{', '.join(small)}.")  # fmt: skip
        if self.recording.n_repeats == 1:
            notes.append("There are no repeats: reliability and noise ceiling are unknown, and correlations are raw.")
        return notes

    def manifest(self) -> dict[str, object]:
        """Everything the findings depend on."""
        return {
            "command": "recording",
            "configuration": {
                "settings": self.settings.as_json(), "network": dict(self.about),
                "candidates": [f"{layer} {pool}" for layer, pool in self.network.candidates],
                **describe_network(self.network.scanner, self.network.transform, self.recording.stimuli),
                "estimator": None if self.estimator is None else repr(self.estimator),
            },
            "recording": {**describe_recording(self.recording, self.hashes), "unreadable": self.unreadable},
        }  # fmt: skip


def open_study(
    recording: Recording,
    encoder: nn.Module,
    transform: ImageTransform | None,
    settings: RecordingSettings,
    *,
    layers: str | Sequence[str] | None = None,
    pools: Sequence[str | int] = POOLS,
    estimator: Estimator | None = None,
    about: Mapping[str, object] | None = None,
) -> Study:
    """Open the study: check the recording, its stimuli and the network; arguments as in `explain_recording`.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If an argument is wrong, or no stimulus can be read.

    Warns
    -----
    UserWarning
        If stimuli are left out because they cannot be read.
    """
    _check_recording(recording)
    recording = _chosen_neurons(recording, settings.neurons)
    hashes, unreadable = inspect_stimuli(recording)
    recording = _readable(recording, unreadable)
    network = find_network(encoder, transform or to_tensor, layers, pools, recording.stimuli[0])
    return Study(recording, network, settings, estimator, dict(about or {}), hashes, unreadable)


def _check_recording(recording: object) -> None:
    if not isinstance(recording, Recording):
        raise TypeError(f"`recording` must be a Recording, got {type(recording).__name__}; see Recording.load")
    if recording.categories is None:
        raise ValueError("`recording` must have categories, one per stimulus, to know what is out of category")


def _chosen_neurons(recording: Recording, names: Sequence[str] | None) -> Recording:
    """The recording with only these neurons, in the order of the recording."""
    if names is None:
        return recording
    unknown = [name for name in names if name not in recording.neuron_ids]
    if unknown or not names:
        shown = ", ".join(recording.neuron_ids[:10]) + (" ..." if recording.n_neurons > 10 else "")
        raise ValueError(f"`neurons` must be names of the recording's neurons ({shown}), got {unknown or 'none'}")
    index = [k for k, name in enumerate(recording.neuron_ids) if name in names]
    return Recording(
        recording.responses[index], recording.stimuli, recording.categories, [recording.neuron_ids[k] for k in index]
    )


def _readable(recording: Recording, unreadable: dict[str, str]) -> Recording:
    """The recording without the stimuli that cannot be read; warns about them."""
    if not unreadable:
        return recording
    lines = "; ".join(f"{name}: {reason}" for name, reason in unreadable.items())
    message = f"{len(unreadable)} of {recording.n_stimuli} stimuli cannot be read: {lines}"
    if len(unreadable) == recording.n_stimuli:
        raise ValueError(message)
    warnings.warn(f"{message}. They are left out.", stacklevel=4)
    return recording.select(np.array([name not in unreadable for name in recording.stimulus_names]))
