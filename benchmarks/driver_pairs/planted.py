"""A recording of neurons that some kinds of part excite and others silence, with the truth about every image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.synthetic_game.neurons import DRIVING_KINDS
from captum_shared.encoder import LatentEncoder, encode_images
from captum_shared.recording import Recording
from captum_shared.synthetic import DEMO_LAYER, KINDS, SyntheticImages, demo_network, make_images, render
from captum_shared.synthetic.network import CHANNELS

EXCITE, SUPPRESS = 3, 2  # kinds that excite a neuron, and that silence it
REPEATS, NOISE = 4, 0.5  # repeats of each image, their SD in that of the signal
LEAST = 0.3
"""A kind is part of the truth if the response changes by this much without it; its mean effect is 1."""


@dataclass(frozen=True)
class Planted:
    """A recording with its truth.

    Attributes
    ----------
    recording : Recording
        K neurons, n stimuli with categories.
    encoder : LatentEncoder
        The network that the neurons read.
    images : SyntheticImages
    latents : Tensor (n, D)
    weights : Tensor (D, K)
        The neurons' true readouts.
    known : dict
        What `effects` has found so far.
    """

    recording: Recording
    encoder: LatentEncoder
    images: SyntheticImages
    latents: Tensor
    weights: Tensor
    known: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)

    def effects(self, place: int) -> dict[str, np.ndarray]:
        """How much the responses (K,) fall when a kind is removed from an image, in units of a kind's mean effect.

        The image is rendered again without each of its kinds.
        """
        if place not in self.known:
            scene, kinds = self.images.scenes[place], list(self.images.masks[place])
            without = torch.stack([render(scene.without(kind))[0] for kind in kinds])
            falls = (self.latents[place] - encode_images(self.encoder, without)) @ self.weights
            self.known[place] = dict(zip(kinds, falls.numpy(), strict=True))
        return self.known[place]

    def truth(self, neuron: int, pair: tuple[int, int], sign: float) -> tuple[str, ...]:
        """Kinds in both images without which the neuron's response falls, or rises if `sign` is -1."""
        one, other = (self.effects(place) for place in pair)
        both = [kind for kind in one if kind in other]
        return tuple(kind for kind in both if min(sign * e[kind][neuron] for e in (one, other)) >= LEAST)

    def shared(self, pair: tuple[int, int]) -> set[str]:
        """Kinds that are visible in both images, whatever they do."""
        return set(self.images.masks[pair[0]]) & set(self.images.masks[pair[1]])

    def mask(self, place: int, kinds: tuple[str, ...]) -> np.ndarray:
        """Where these kinds are in an image, (size, size) bool."""
        result: np.ndarray = np.logical_or.reduce([self.images.masks[place][kind] for kind in kinds])
        return result


def plant(folder: Path, n_neurons: int, n_images: int, seed: int) -> Planted:
    """Render stimuli of all categories into `folder`, and record neurons with random kinds."""
    images = make_images(n_images, seed=2_000_000 + seed)
    encoder = LatentEncoder(demo_network().requires_grad_(False), DEMO_LAYER)
    latents = encode_images(encoder, images.images)
    rng = np.random.default_rng(seed)
    weights = _weights(latents, images.presence(), n_neurons, rng)
    signal = (latents @ weights).double().numpy()
    scale = signal.std(0)
    noise = NOISE * scale[:, None, None] * rng.normal(size=(n_neurons, n_images, REPEATS))
    recording = Recording(signal.T[:, :, None] + noise, _saved(images, folder), images.categories)
    return Planted(recording, encoder, images, latents, weights)


def _weights(latents: Tensor, presence: Tensor, n_neurons: int, rng: np.random.Generator) -> Tensor:
    """Readouts (D, K) to which each exciting kind adds 1, on average over images, and each silencing kind -1."""
    weights = torch.zeros(latents.shape[1], n_neurons)
    for column in weights.T:
        kinds = rng.permutation(DRIVING_KINDS["trained"])[: EXCITE + SUPPRESS]
        for kind, effect in zip(kinds, [1.0] * EXCITE + [-1.0] * SUPPRESS, strict=True):
            place = list(KINDS).index(str(kind))
            detectors = slice(place * CHANNELS, (place + 1) * CHANNELS)
            there = presence[:, place] > 0
            outputs = latents[:, detectors].mean(1)
            column[detectors] = effect / CHANNELS / float(outputs[there].mean() - outputs[~there].mean())
    return weights


def _saved(images: SyntheticImages, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{k:05d}.png" for k in range(len(images))]
    for path, image in zip(paths, images.images, strict=True):
        Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)
    return paths
