"""Known truth: responses from known readouts with a known ceiling are recovered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_shared import LatentEncoder, Recording, encode_images
from captum_shared.encoder.registry import preprocessing
from captum_shared.report.recording.encoding import encode_stimuli, fit_neurons, folds_of
from captum_shared.report.recording.network import find_network
from captum_shared.report.recording.settings import Settings

N, REPEATS, NOISE = 400, 5, 1.0
CEILING = np.sqrt(1 / (1 + NOISE**2 / REPEATS))


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Random blotches, so that the latents have full rank."""
    rng = np.random.default_rng(0)
    paths = []
    for k in range(N):
        small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        paths.append(tmp_path / f"{k:03d}.png")
        small.resize((24, 24), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def test_known_readouts_are_recovered(images: list[Path], tiny: torch.nn.Module, tmp_path: Path) -> None:
    transform, rng = preprocessing(24), np.random.default_rng(1)
    z = encode_images(LatentEncoder(tiny, "3"), images, transform).double().numpy()
    z = (z - z.mean(0)) / z.std(0)
    truth = rng.normal(size=(8, z.shape[1])) @ np.linalg.inv(
        np.linalg.cholesky(np.cov(z.T) + 0.01 * np.eye(z.shape[1]))
    )
    signal = z @ truth.T
    spread = signal.std(0)
    truth, signal = truth / spread[:, None], signal / spread
    responses = signal.T[:, :, None] + NOISE * rng.normal(size=(8, N, REPEATS))
    recording = Recording(responses, images, ["a", "b"] * (N // 2))

    from captum_shared.readout import ceiling_corrected, noise_ceiling, split_half_reliability

    reliability = split_half_reliability(recording.responses)
    assert noise_ceiling(reliability) == pytest.approx(CEILING, abs=0.02)

    settings = Settings()
    network = find_network(tiny, transform, ["1", "3"], ("avg", 2), images[0])
    latents = encode_stimuli(network, images, settings, tmp_path / "out", None, False)
    encoding = fit_neurons(
        latents, recording.mean_responses, np.ones(8, dtype=bool), np.array(recording.categories), ["a"] * 8,
        folds_of([path.name for path in images], 5, 0), None, settings, tmp_path / "out", None, False,
    )  # fmt: skip
    corrected = ceiling_corrected(encoding.cv_r, reliability)
    assert corrected == pytest.approx(1.0, abs=0.06)
    assert np.median(corrected) == pytest.approx(1.0, abs=0.03)
    assert (encoding.generalization_r / CEILING > 0.9).all()
    chosen = [network.candidates[c] for c in encoding.candidate]
    right = [k for k, candidate in enumerate(chosen) if candidate == ("3", "avg")]
    assert len(right) >= 6  # the true one, or a finer grid of the same layer, which holds it
    assert {layer for layer, _ in chosen} == {"3"}
    for k in right:
        weight = encoding.weights[k].astype(np.float64)
        assert weight @ truth[k] / np.linalg.norm(weight) / np.linalg.norm(truth[k]) > 0.95


def test_wrong_latents_do_not_reach_the_ceiling(images: list[Path], tiny: torch.nn.Module, tmp_path: Path) -> None:
    """The same check fails where it should: responses to something that the latents do not hold."""
    rng = np.random.default_rng(2)
    responses = rng.normal(size=(4, N, 1)) + NOISE * rng.normal(size=(4, N, REPEATS))
    network = find_network(tiny, preprocessing(24), ["3"], ("avg",), images[0])
    latents = encode_stimuli(network, images, Settings(), tmp_path / "out", None, False)
    encoding = fit_neurons(
        latents, responses.mean(2), np.ones(4, dtype=bool), np.array(["a", "b"] * (N // 2)), ["a"] * 4,
        folds_of([path.name for path in images], 5, 0), None, Settings(), tmp_path / "out", None, False,
    )  # fmt: skip
    assert np.abs(encoding.cv_r).max() < 0.2
