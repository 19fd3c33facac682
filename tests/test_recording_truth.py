"""Known truth: responses from known readouts with a known ceiling are recovered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_shared import LatentEncoder, Recording, encode_images
from captum_shared.folders import report_folder
from captum_shared.networks.preprocessing import preprocessing
from captum_shared.study.encoding import EncodingModels, encode_stimuli, fit_models
from captum_shared.study.run import Run
from captum_shared.study.settings import RecordingSettings
from captum_shared.study.study import Study, open_study
from captum_shared.study.subject import open_subject
from captum_shared.study.tuning import find_tuning

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


def fitted(
    recording: Recording, network: torch.nn.Module, folder: Path, **choices: Any
) -> tuple[Study, EncodingModels]:
    settings = RecordingSettings(preferred="a")
    study = open_study(open_subject(recording, settings), network, preprocessing(24), **choices)
    with report_folder(folder / "out", study.manifest()) as report:
        run = Run(report, progress=False)
        return study, fit_models(study, find_tuning(study), encode_stimuli(study, run), run)


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

    study, models = fitted(recording, tiny, tmp_path, layers=["1", "3"], pools=("avg", 2))
    corrected = ceiling_corrected(models.cv_r, reliability)
    assert corrected == pytest.approx(1.0, abs=0.06)
    assert np.median(corrected) == pytest.approx(1.0, abs=0.03)
    assert (models.generalization_r / CEILING > 0.9).all()
    chosen = [study.network.candidates[c] for c in models.candidate]
    right = [k for k, candidate in enumerate(chosen) if candidate == ("3", "avg")]
    assert len(right) >= 6  # the true one, or a finer grid of the same layer, which holds it
    assert {layer for layer, _ in chosen} == {"3"}
    for k in right:
        weight = models.weights[k].astype(np.float64)
        assert weight @ truth[k] / np.linalg.norm(weight) / np.linalg.norm(truth[k]) > 0.95


def test_wrong_latents_do_not_reach_the_ceiling(images: list[Path], tiny: torch.nn.Module, tmp_path: Path) -> None:
    """The same check fails where it should: responses to something that the latents do not hold."""
    rng = np.random.default_rng(2)
    responses = rng.normal(size=(4, N, 1)) + NOISE * rng.normal(size=(4, N, REPEATS))
    _, models = fitted(
        Recording(responses, images, ["a", "b"] * (N // 2)), tiny, tmp_path, layers=["3"], pools=("avg",)
    )
    assert np.abs(models.cv_r).max() < 0.2
