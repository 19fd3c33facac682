"""`Subject`: what a study is about, known before there is any network: neurons, and stimuli that can be read."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from captum_shared.labels import split_labels
from captum_shared.recording import Recording
from captum_shared.study.contents import inspect_stimuli
from captum_shared.study.settings import MIN_IMAGES, RecordingSettings


@dataclass(frozen=True)
class Subject:
    """What is studied; made by `open_subject`."""

    recording: Recording  # the neurons under study, and the stimuli that can be read
    settings: RecordingSettings
    hashes: dict[str, str]  # of the stimuli's files, by name
    unreadable: dict[str, str]  # stimuli that are left out, with the reason

    @cached_property
    def responses(self) -> np.ndarray:
        """Means over repeats, (K, n); NaN where there is none."""
        return self.recording.mean_responses

    @cached_property
    def categories(self) -> np.ndarray:
        """(n,) array of str, as `split_labels` takes them; empty where there are none."""
        return np.array(self.recording.categories or [""] * self.recording.n_stimuli)

    @cached_property
    def drive(self) -> np.ndarray:
        """How much each stimulus drives the pole that is explained, (K, n): the responses, or their negative."""
        return self.settings.sign * self.responses

    @cached_property
    def contents(self) -> list[str]:
        """Equal where stimuli have the same content, (n,)."""
        return [self.hashes.get(name, name) for name in self.recording.stimulus_names]

    @cached_property
    def fold_of(self) -> np.ndarray:
        """The outer fold of each stimulus, (n,)."""
        return folds_of(self.contents, self.settings.folds, self.settings.seed)

    @property
    def notes(self) -> list[str]:
        """What a reader should know before the rest."""
        notes = []
        if self.unreadable:
            notes.append(f"Left out because they cannot be read: {', '.join(self.unreadable)}.")
        counts = count_labels(self.categories)
        small = sorted(name for name, n in counts.items() if n < MIN_IMAGES)
        if sum(counts.values()) > self.recording.n_stimuli:
            notes.append("Stimuli may be in several categories: their shares do not sum to 1.")
        if small and self.settings.pairs == "category":
            notes.append(f"Categories with fewer than {MIN_IMAGES} stimuli are never chosen as preferred: "
                         f"{', '.join(small)}.")  # fmt: skip
        repeated, n = self.recording.n_repeated, self.recording.n_stimuli
        if repeated == 0:
            notes.append("There are no repeats: reliability and noise ceiling are unknown, and correlations are raw.")
        elif repeated < n:
            notes.append(f"Reliability and noise ceiling come from the {repeated} of {n} stimuli that have repeats.")
        return notes


def open_subject(recording: Recording, settings: RecordingSettings) -> Subject:
    """Check a recording and its stimuli, all that can be checked without a network.

    Refused if it has no categories, and pairs need them, if neurons or a preferred category are unknown, or its stimuli
    do not suffice. Those that cannot be read are left out, with a warning.
    """
    _check_recording(recording, settings)
    recording = _chosen_neurons(recording, settings.neurons)
    hashes, unreadable = inspect_stimuli(recording)
    subject = Subject(_readable(recording, unreadable), settings, hashes, unreadable)
    if settings.pairs == "category" or settings.preferred is not None:
        given_categories(choosable(subject.categories), settings.preferred, recording.n_neurons)
    _ = subject.fold_of
    return subject


def choosable(categories: Sequence[str] | np.ndarray) -> list[str]:
    """The categories (n,) that may be preferred: with at least `MIN_IMAGES` images, and others beside them."""
    counts = count_labels(categories)
    return [name for name in sorted(counts) if MIN_IMAGES <= counts[name] < len(categories)]


def count_labels(categories: Sequence[str] | np.ndarray) -> Counter[str]:
    """How many images are in each category; an image may be in several, or in none."""
    return Counter(name for category in categories for name in split_labels(str(category)))


def given_categories(known: Sequence[str], given: str | Sequence[str] | None, n_neurons: int) -> list[str] | None:
    """The category of each neuron, if the user gives them, checked; None if they are to be found among the known."""
    if given is None:
        if not known:
            raise ValueError(
                f"no category has at least {MIN_IMAGES} images and leaves others; there is nothing to prefer"
            )
        return None
    names = [given] * n_neurons if isinstance(given, str) else [str(name) for name in given]
    if len(names) != n_neurons:
        raise ValueError(f"`preferred` must be one category, or one for each of {n_neurons} neurons; got {len(names)}")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"`preferred` must be a category with at least {MIN_IMAGES} images, got {unknown[0]!r}; "
                         f"expected one of {list(known)}")  # fmt: skip
    return names


def folds_of(contents: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """The fold of each stimulus, (n,); stimuli with the same content fall into the same fold."""
    _, place = np.unique(np.asarray(contents), return_inverse=True)
    n = place.max() + 1
    if n < folds:
        raise ValueError(f"`folds` must be at most the number of different stimuli, {n}, got {folds}")
    return (np.random.default_rng(seed).permutation(n) % folds)[place]


def _check_recording(recording: Any, settings: RecordingSettings) -> None:
    if not isinstance(recording, Recording):
        raise TypeError(f"`recording` must be a Recording, got {type(recording).__name__}; see Recording.load")
    if recording.categories is None and settings.pairs == "category":
        raise ValueError(
            "`recording` must have categories, one per stimulus, to know what is out of category; without categories, "
            "set `pairs` to 'drivers', which compares each neuron's drivers with one another"
        )


def _chosen_neurons(recording: Recording, names: Sequence[str] | None) -> Recording:
    """The recording with only these neurons, in the order of the recording."""
    if names is None:
        return recording
    chosen = recording.select_neurons(list(dict.fromkeys(names)))
    return chosen.select_neurons([name for name in recording.neuron_ids if name in chosen.neuron_ids])


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
