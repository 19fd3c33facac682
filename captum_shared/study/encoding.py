"""The encoding model: latents of all candidates in one pass, readouts of all neurons, the choice between candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.numpy import load_file, save
from torch import Tensor, nn

from captum_shared.encoder import LatentEncoder, encode_images
from captum_shared.folders import WORK
from captum_shared.identity import ImageTransform
from captum_shared.labels import members
from captum_shared.readout import LinearReadout, latent_transform
from captum_shared.readout.fitting import Splits, pearson
from captum_shared.readout.folding import linear_output
from captum_shared.readout.nested import CandidateFit, CandidateScores, choose_candidates, fit_candidate
from captum_shared.readout.steps import Estimator
from captum_shared.study.network import Network
from captum_shared.study.run import Job, Run, Share, array_bytes
from captum_shared.study.settings import MIN_IMAGES
from captum_shared.study.study import Study
from captum_shared.study.tuning import Tuning

if TYPE_CHECKING:
    from sklearn.preprocessing import StandardScaler


@dataclass(frozen=True)
class EncodingModels:
    """The encoding models of K neurons, for n stimuli; NaN where a neuron cannot be fitted."""

    candidate: np.ndarray  # (K,) int, -1 where there is none
    scores: np.ndarray  # (C, K), minus the mean squared error inside all stimuli
    predictions: np.ndarray  # (n, K), from nested cross-validation
    cv_r: np.ndarray  # (K,)
    generalization: np.ndarray  # (n, K), of out-of-category stimuli, by readouts fitted within the category
    generalization_r: np.ndarray  # (K,)
    # Arrays (D,), on the standardized latents of the chosen candidate, of the pole that is explained: of what silences
    # a neuron they are the negative of its readout.
    weights: list[np.ndarray | None]


@dataclass(frozen=True)
class Block:
    """Neurons with responses to the same stimuli, which are fitted together, and these stimuli, by index."""

    neurons: np.ndarray
    stimuli: np.ndarray


@dataclass(frozen=True)
class FitTask:
    """Responses of a block, and how readouts are fitted to them."""

    responses: np.ndarray  # (m, k)
    splits: Splits  # of the block's stimuli
    estimator: Estimator | None
    pca: int | None


@dataclass(frozen=True)
class FitData(FitTask):
    """What the fits of a block need besides the latents of all stimuli: also those within categories."""

    rows: np.ndarray  # (m,) int, the block's stimuli
    categories: np.ndarray  # (m,) of str
    preferred: list[str | None]  # k


@dataclass(frozen=True)
class Latents:
    """Latents of all stimuli, in files of a few images each; read by candidate."""

    paths: Sequence[Path]
    network: Network
    standardize: bool  # whether they are scaled over all stimuli, regardless of the responses

    def raw(self, candidate: int) -> np.ndarray:
        """(n, D), as they come from the network."""
        columns = self.network.columns(candidate)
        return np.concatenate([np.load(path, mmap_mode="r")[:, columns] for path in self.paths])

    def standardized(self, candidate: int) -> Tensor:
        """(n, D) float64, in the space in which weights and products are computed."""
        return torch.from_numpy(_standardized(self.raw(candidate), self.standardize))

    def encoder(self, candidate: int) -> LatentEncoder:
        """The network up to a candidate, with latents in this space."""
        return self.network.encoder(candidate, latent_transform(_scaler(self.raw(candidate), self.standardize)))


def encode_stimuli(study: Study, run: Run) -> Latents:
    """Compute the latents of all candidates for all stimuli, one forward pass each, in jobs of `images_per_job`."""
    network, settings, stimuli = study.network, study.settings, study.recording.stimuli
    size = settings.images_per_job
    shards = [tuple(stimuli[start : start + size]) for start in range(0, len(stimuli), size)]
    paths = [run.folder / WORK / f"latents_{number:05d}.npy" for number in range(len(shards))]

    def arguments(shard: Sequence[Path], share: Share) -> tuple[object, ...]:
        return share(network.scanner), shard, network.transform, settings.batch_size

    jobs = [Job((path,), encode_shard, partial(arguments, shard)) for path, shard in zip(paths, shards, strict=True)]
    run.carry_out(jobs, "images")
    return Latents(paths, network, settings.standardize)


def fit_models(study: Study, tuning: Tuning, latents: Latents, run: Run) -> EncodingModels:
    """Fit every usable neuron on every candidate, and choose."""
    settings, responses = study.settings, study.responses
    blocks, n_candidates = blocks_of(responses, tuning.usable), len(study.network.candidates)

    def path(candidate: int, block: int) -> Path:
        return run.folder / WORK / f"fit_{candidate:03d}_{block:03d}.safetensors"

    def arguments(candidate: int, block: Block, share: Share) -> tuple[object, ...]:
        rows = block.stimuli
        y, chosen = responses[block.neurons][:, rows].T, [tuning.preferred[k] for k in block.neurons]
        splits = splits_of(study.fold_of[rows])
        data = FitData(y, splits, study.estimator, settings.pca, rows, study.categories[rows], chosen)
        return latents.raw(candidate), settings.standardize, data

    jobs = [
        Job((path(c, b),), _fit_block, partial(arguments, c, block))
        for c in range(n_candidates)
        for b, block in enumerate(blocks)
    ]
    run.carry_out(jobs, "fits")
    fits = [[load_file(path(c, b)) for c in range(n_candidates)] for b in range(len(blocks))]
    return _assembled(study, blocks, fits)


def blocks_of(responses: np.ndarray, usable: np.ndarray, most: int = 64) -> list[Block]:
    """Usable neurons in groups that share their stimuli, of at most `most`."""
    groups: dict[bytes, list[int]] = {}
    for neuron in np.flatnonzero(usable):
        groups.setdefault(np.isfinite(responses[neuron]).tobytes(), []).append(int(neuron))
    return [
        Block(np.array(neurons[start : start + most]), np.flatnonzero(np.isfinite(responses[neurons[0]])))
        for neurons in groups.values()
        for start in range(0, len(neurons), most)
    ]


def splits_of(fold_of: np.ndarray) -> Splits:
    """(train, test) indices of the folds that are not empty."""
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in np.unique(fold_of)]


def encode_shard(
    scanner: nn.Module, paths: Sequence[Path], transform: ImageTransform, batch_size: int
) -> tuple[bytes, ...]:
    """The latents of image files, as the content of a .npy file."""
    latents = encode_images(scanner, list(paths), transform, batch_size, unreadable="raise")
    return (array_bytes(latents.numpy()),)


def _fit_block(raw: np.ndarray, standardize: bool, data: FitData) -> tuple[bytes, ...]:
    """Fit a block of neurons on one candidate: to all stimuli, and within preferred categories."""
    z = _standardized(raw, standardize)[data.rows]
    x, fit, weight = fit_readouts(z, data)
    score, predictions = _fit_within(x, data)
    arrays = {
        "predictions": fit.predictions, "inner_scores": fit.inner_scores, "score": np.asarray(fit.score),
        "weight": weight.astype(np.float32),
        "within_score": score, "within_predictions": predictions,
    }  # fmt: skip
    return (save({name: np.ascontiguousarray(array) for name, array in arrays.items()}),)


def fit_readouts(z: np.ndarray, data: FitTask) -> tuple[np.ndarray, CandidateFit, np.ndarray]:
    """Fit readouts of latents (m, D): the coordinates in which they are fitted, the fit, and the weights (k, D)."""
    x, back = (z, None) if data.estimator is not None else without_empty_dimensions(z)
    fit = fit_candidate(x, data.responses, data.splits, data.estimator, data.pca)
    weight = LinearReadout.from_estimator(fit.estimator).weight.detach().numpy()
    return x, fit, weight if back is None else (z.T @ (back @ weight.T)).T


def _fit_within(x: np.ndarray, data: FitData) -> tuple[np.ndarray, np.ndarray]:
    """Fit each neuron inside its preferred category: scores (k,), and predictions (m, k) outside it."""
    score = np.full(data.responses.shape[1], -np.inf)
    predictions = np.full(data.responses.shape, np.nan)
    for category in sorted({name for name in data.preferred if name is not None}):
        neurons = np.array([k for k, name in enumerate(data.preferred) if name == category])
        member = members(data.categories, category)
        if MIN_IMAGES <= member.sum() < len(member):
            inside = fit_candidate(x[member], data.responses[member][:, neurons], [], data.estimator, data.pca)
            score[neurons] = inside.score
            predictions[np.ix_(~member, neurons)] = linear_output(inside.estimator, x[~member])
    return score, predictions


def _standardized(raw: np.ndarray, standardize: bool) -> np.ndarray:
    """Latents (n, D), scaled over all n if `standardize` says so."""
    scaled: np.ndarray = _scaler(raw, standardize).transform(raw.astype(np.float64))
    return scaled


def _scaler(raw: np.ndarray, standardize: bool) -> StandardScaler:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler(with_mean=standardize, with_std=standardize).fit(raw.astype(np.float64))


def without_empty_dimensions(z: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Latents (n, D) with D > n as coordinates in an orthonormal basis of at most n dimensions: nothing is lost.

    Ridge regression and PCA give the same predictions in any orthonormal basis. Also returns the (n, m) matrix B, by
    which weights v (m,) on the coordinates become ``z.T @ B @ v`` on the latents; None if D <= n: nothing is done.
    """
    if z.shape[1] <= z.shape[0]:
        return z, None
    values, vectors = np.linalg.eigh(z @ z.T)
    kept = values > values[-1] * len(z) * np.finfo(np.float64).eps
    lengths = np.sqrt(values[kept])
    return vectors[:, kept] * lengths, vectors[:, kept] / lengths


def _assembled(
    study: Study, blocks: Sequence[Block], fits: Sequence[Sequence[dict[str, np.ndarray]]]
) -> EncodingModels:
    """Assemble the fits of all blocks and candidates."""
    responses = study.responses
    n_neurons, n_stimuli = responses.shape
    empty = np.full((n_stimuli, n_neurons), np.nan)
    candidate = np.full(n_neurons, -1)
    scores = np.full((len(study.network.candidates), n_neurons), np.nan)
    predictions, generalization = empty.copy(), empty.copy()
    weights: list[np.ndarray | None] = [None] * n_neurons
    for block, row in zip(blocks, fits, strict=True):
        place = np.ix_(block.stimuli, block.neurons)
        parts = [CandidateScores(f["predictions"], f["inner_scores"], f["score"]) for f in row]
        recorded = responses[block.neurons][:, block.stimuli].T
        choice = choose_candidates(parts, recorded, splits_of(study.fold_of[block.stimuli]))
        candidate[block.neurons] = choice.chosen
        scores[:, block.neurons] = np.stack([f["score"] for f in row])
        predictions[place] = choice.predictions
        best = np.stack([f["within_score"] for f in row]).argmax(axis=0)
        generalization[place] = np.stack([row[c]["within_predictions"][:, k] for k, c in enumerate(best)], axis=1)
        for k, neuron in enumerate(block.neurons):
            weights[neuron] = study.settings.sign * row[choice.chosen[k]]["weight"][k]
    r = [correlations(responses, values) for values in (predictions, generalization)]
    return EncodingModels(candidate, scores, predictions, r[0], generalization, r[1], weights)


def correlations(responses: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Correlation of each neuron's responses (K, n) with its predictions (n, K), over stimuli that have both: (K,)."""
    r = np.full(len(responses), np.nan)
    for neuron, (recorded, predicted) in enumerate(zip(responses, predictions.T, strict=True)):
        both = np.isfinite(recorded) & np.isfinite(predicted)
        if both.sum() > 2:
            r[neuron] = pearson(recorded[both][:, None], predicted[both][:, None])[0]
    return r
