"""The V4 recording: readouts of a grid of cells fitted to half of the stimuli, twins to the other half."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.common.results import Content
from benchmarks.interventions.scanned import Scanned, play_images, scan
from captum_shared.readout.fitting import pearson
from captum_shared.recording import Recording
from captum_shared.selection import find_drivers
from captum_shared.study.tuning import category_d_primes, preferred_categories

LEAST_R = 0.4
"""Correlation of the map's readout with the responses to the other half, which a neuron must have to be played."""
THRESHOLD = 1.0
"""Of drivers: standard deviations above the mean, as in `captum-shared recording`."""


@dataclass(frozen=True)
class V4Setting:
    """Where the recording is, and what is played with it."""

    recording: str
    model: str
    weights: str
    layers: tuple[str, ...]
    pool: int
    pairs: int
    seed: int


@lru_cache(maxsize=1)
def open_v4(setting: V4Setting) -> tuple[Recording, Scanned]:
    """The recording, and one pass of the network over its stimuli."""
    recording = Recording.load(Path(setting.recording))
    return recording, scan(setting.model, setting.weights, setting.layers, setting.pool, recording.stimuli)


def play_neuron(setting: V4Setting, k: int) -> Content:
    """The strongest pairs of a neuron; none if it is predicted badly."""
    recording, scanned = open_v4(setting)
    responses, categories = np.nan_to_num(recording.mean_responses[k]), np.array(recording.categories)
    half = np.random.default_rng(setting.seed).permutation(recording.n_stimuli) % 2
    halves = [np.flatnonzero(half == side) for side in (0, 1)]
    own = scanned.twin("map", 0, halves[0], responses)
    z = own.encode(scanned.latents)
    r = _correlation(z[halves[1]] @ own.weight, responses[halves[1]])
    if not r >= LEAST_R:
        return {"trials": [], "twins": [], "r": r}
    twins = [scanned.twin(layer, i, halves[1], responses) for i, layer in enumerate(scanned.scanner.layers)]
    tuned = category_d_primes(responses[None], categories)
    member = categories == preferred_categories(tuned, None, 1)[0]
    predicted = (z @ own.weight).numpy()
    drivers = find_drivers(responses, member, predicted=predicted, threshold=THRESHOLD, top=setting.pairs)
    drawn = []
    for image in drivers.outside.tolist() if len(drivers.candidates) > 1 else ():
        seed = setting.seed + 1000 * k + image
        drawn.append((image, int(np.random.default_rng(seed).choice(np.flatnonzero(~member))), seed))
    trials = [{"group": str(k), **trial} for trial in play_images(scanned, own, twins, drivers.candidates, drawn)]
    held_out = {
        t.name: _correlation(t.encode(scanned.latents[halves[0]]) @ t.weight, responses[halves[0]]) for t in twins
    }
    return {"trials": trials, "twins": [twin.name for twin in twins], "r": r, "twins_r": held_out}


def _correlation(predicted: Tensor, responses: np.ndarray) -> float:
    return float(pearson(predicted.numpy()[:, None], responses[:, None])[0])
