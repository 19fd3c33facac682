"""A recording made for this benchmark: neurons that read a few latents of a network, so that the truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from captum_shared import LatentEncoder, Recording, encode_images, load_encoder
from captum_shared.identity import ImageTransform
from captum_shared.synthetic import CATEGORIES, make_images

REPEATS, NOISE, READ = 4, 0.5, 8  # repeats of each image, their SD in that of the signal, latents that a neuron reads


@dataclass(frozen=True)
class Population:
    """A recording, the network it was made with, and what each neuron would respond without noise, (n, K)."""

    recording: Recording
    encoder: LatentEncoder
    transform: ImageTransform
    signal: np.ndarray


def make_stimuli(folder: Path, n: int) -> list[Path]:
    """Rendered images of the synthetic categories in turn; kept, so that every run reads the same files."""
    paths = [folder / f"{k:05d}_{CATEGORIES[k % len(CATEGORIES)]}.png" for k in range(n)]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        for path, image in zip(paths, make_images(n).images, strict=True):
            Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)
    return paths


def make_population(folder: Path, n_neurons: int, n_images: int, network: dict[str, str | int | None]) -> Population:
    """Neurons that each read a few standardized latents with positive weights, and noise over repeats."""
    torch.manual_seed(0)  # of random weights
    encoder, transform = load_encoder(**network)  # type: ignore[arg-type]
    paths = make_stimuli(folder, n_images)
    latents = encode_images(encoder, paths, transform).double().numpy()
    z = (latents - latents.mean(0)) / (latents.std(0) + 1e-6)
    random = np.random.default_rng(0)
    weights = np.zeros((z.shape[1], n_neurons))
    for column in weights.T:
        column[random.choice(len(column), READ, replace=False)] = random.random(READ)
    signal = z @ weights
    signal = (signal - signal.mean(0)) / signal.std(0)
    responses = signal.T[:, :, None] + NOISE * random.normal(size=(n_neurons, n_images, REPEATS))
    categories = [CATEGORIES[k % len(CATEGORIES)] for k in range(n_images)]
    return Population(Recording(responses, paths, categories), encoder, transform, signal)
