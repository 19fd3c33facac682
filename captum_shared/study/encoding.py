"""The encoding model: latents of all candidates in one pass, readouts of all neurons, the choice between candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save
from torch import nn

from captum_shared.encoder import encode_images
from captum_shared.folders import WORK, ReportFolder
from captum_shared.readout import LinearReadout, latent_transform
from captum_shared.readout.fitting import Splits, pearson
from captum_shared.readout.folding import linear_output
from captum_shared.readout.nested import CandidateFit, choose_candidates, fit_candidate
from captum_shared.report.recording.network import ImageTransform, Network
from captum_shared.report.recording.settings import MIN_IMAGES, Settings
from captum_shared.report.recording.units import Unit, array_bytes, run_units


@dataclass(frozen=True)
class Encoding:
    """What the encoding model says about K neurons and n stimuli; NaN where a neuron cannot be fitted.

    Attributes
    ----------
    candidate : (K,) int array
        -1 where there is none.
    scores : (C, K) array
        Minus the mean squared error inside all stimuli.
    predictions : (n, K) array
        Of nested cross-validation.
    cv_r, generalization_r : (K,) arrays
    generalization : (n, K) array
        Predictions of out-of-category stimuli by readouts fitted within the category.
    weights : list of K arrays (D,) or None
        On the standardised latents of the chosen candidate.
    """

    candidate: np.ndarray
    scores: np.ndarray
    predictions: np.ndarray
    cv_r: np.ndarray
    generalization: np.ndarray
    generalization_r: np.ndarray
    weights: list[np.ndarray | None]


@dataclass(frozen=True)
class Block:
    """Neurons that have responses to the same stimuli, fitted together."""

    neurons: np.ndarray
    stimuli: np.ndarray


class Latents:
    """Latents of all stimuli, in files of some images each; read by candidate."""

    def __init__(self, paths: Sequence[Path], network: Network) -> None:
        self.paths = paths
        self.network = network

    def raw(self, candidate: int) -> np.ndarray:
        """(n, D), as the network gives them."""
        columns = self.network.columns(candidate)
        return np.concatenate([np.load(path, mmap_mode="r")[:, columns] for path in self.paths])


def encode_stimuli(
    network: Network,
    stimuli: Sequence[Path],
    settings: Settings,
    folder: ReportFolder,
    n_jobs: int | None,
    progress: bool,
) -> Latents:
    """All candidates' latents of all stimuli, one forward pass each, in units of `images_per_unit`."""
    size = settings.images_per_unit
    shards = [tuple(stimuli[start : start + size]) for start in range(0, len(stimuli), size)]
    paths = [folder / WORK / f"latents_{number:05d}.npy" for number in range(len(shards))]
    units = [
        Unit((path,), _encode_shard, partial(_shard_arguments, network, shard, settings))
        for path, shard in zip(paths, shards, strict=True)
    ]
    run_units(units, "images", folder, n_jobs, progress)
    return Latents(paths, network)


def scaler_of(raw: np.ndarray, standardize: bool) -> Any:
    """The scaling of latents (n, D) over all stimuli, fitted; responses play no part in it."""
    from sklearn.preprocessing import StandardScaler

    return StandardScaler(with_mean=standardize, with_std=standardize).fit(raw.astype(np.float64))


def scale_module(raw: np.ndarray, standardize: bool) -> nn.Module:
    """The same as a module for the encoder."""
    return latent_transform(scaler_of(raw, standardize))


def fit_neurons(
    latents: Latents,
    responses: np.ndarray,
    usable: np.ndarray,
    categories: np.ndarray,
    preferred: Sequence[str | None],
    fold_of: np.ndarray,
    estimator: Any,
    settings: Settings,
    folder: ReportFolder,
    n_jobs: int | None,
    progress: bool,
) -> Encoding:
    """Fit every usable neuron on every candidate, and choose.

    Parameters
    ----------
    latents : Latents
    responses : (K, n) array
        Means over repeats; NaN where there are none.
    usable : (K,) bool array
    categories : (n,) array of str
    preferred : sequence of K str or None
    fold_of : (n,) int array
    """
    blocks = blocks_of(responses, usable)
    n_candidates = len(latents.network.candidates)
    paths = [
        [folder / WORK / f"fit_{c:03d}_{b:03d}.safetensors" for b in range(len(blocks))] for c in range(n_candidates)
    ]

    def arguments(c: int, block: Block) -> tuple[Any, ...]:
        rows = block.stimuli
        chosen = [preferred[k] for k in block.neurons]
        y = responses[block.neurons][:, rows].T
        return latents.raw(c), rows, y, categories[rows], chosen, splits_of(fold_of[rows]), estimator, settings

    units = [
        Unit((paths[c][b],), _fit_unit, partial(arguments, c, block))
        for c in range(n_candidates)
        for b, block in enumerate(blocks)
    ]
    run_units(units, "fits", folder, n_jobs, progress)
    return _assembled(blocks, [[load_file(path) for path in row] for row in zip(*paths, strict=True)],
                      responses, fold_of, n_candidates)  # fmt: skip


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


def folds_of(contents: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """The fold of each stimulus, (n,); stimuli with the same content fall into the same fold."""
    _, place = np.unique(np.asarray(contents), return_inverse=True)
    n = place.max() + 1
    if n < folds:
        raise ValueError(f"`folds` must be at most the number of different stimuli, {n}, got {folds}")
    return (np.random.default_rng(seed).permutation(n) % folds)[place]


def splits_of(fold_of: np.ndarray) -> Splits:
    """(train, test) indices of the folds that test anything."""
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in np.unique(fold_of)]


def _shard_arguments(network: Network, shard: Sequence[Path], settings: Settings) -> tuple[Any, ...]:
    return network.scanner, shard, network.transform, settings.batch_size


def _encode_shard(
    scanner: nn.Module, paths: Sequence[Path], transform: ImageTransform, batch_size: int
) -> tuple[bytes, ...]:
    latents = encode_images(scanner, list(paths), transform, batch_size, unreadable="raise")
    return (array_bytes(latents.numpy()),)


def _fit_unit(
    raw: np.ndarray,
    rows: np.ndarray,
    responses: np.ndarray,
    categories: np.ndarray,
    preferred: Sequence[str | None],
    splits: Splits,
    estimator: Any,
    settings: Settings,
) -> tuple[bytes, ...]:
    """Fit a block of neurons, (n, K) responses, on one candidate: to all stimuli, and within preferred categories."""
    z = scaler_of(raw, settings.standardize).transform(raw.astype(np.float64))[rows]
    x, back = (z, None) if estimator is not None else without_empty_dimensions(z)
    fit = fit_candidate(x, responses, splits, estimator, settings.pca)
    weight = LinearReadout.from_estimator(fit.estimator).weight.numpy()
    score, predictions = _fit_within(x, responses, categories, preferred, estimator, settings.pca)
    arrays = {
        "predictions": fit.predictions, "inner_scores": fit.inner_scores, "score": np.asarray(fit.score),
        "weight": (weight if back is None else (z.T @ (back @ weight.T)).T).astype(np.float32),
        "within_score": score, "within_predictions": predictions,
    }  # fmt: skip
    return (save({name: np.ascontiguousarray(array) for name, array in arrays.items()}),)


def _fit_within(
    x: np.ndarray,
    responses: np.ndarray,
    categories: np.ndarray,
    preferred: Sequence[str | None],
    estimator: Any,
    pca: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit each neuron inside its preferred category: scores (K,), and predictions (n, K) of what is outside."""
    score = np.full(responses.shape[1], -np.inf)
    predictions = np.full(responses.shape, np.nan)
    for category in sorted({name for name in preferred if name is not None}):
        neurons = np.array([k for k, name in enumerate(preferred) if name == category])
        member = categories == category
        if MIN_IMAGES <= member.sum() < len(member):
            inside = fit_candidate(x[member], responses[member][:, neurons], [], estimator, pca)
            score[neurons] = inside.score
            predictions[np.ix_(~member, neurons)] = linear_output(inside.estimator, x[~member])
    return score, predictions


def without_empty_dimensions(z: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Latents (n, D) with D > n as coordinates in an orthonormal basis of at most n dimensions: nothing is lost.

    Ridge regression and PCA give the same predictions in any orthonormal basis. Also gives the (n, m) matrix B with
    which weights v (m,) on the coordinates are ``z.T @ B @ v`` on the latents; None if D <= n, where nothing is done.
    """
    if z.shape[1] <= z.shape[0]:
        return z, None
    values, vectors = np.linalg.eigh(z @ z.T)
    kept = values > values[-1] * len(z) * np.finfo(np.float64).eps
    lengths = np.sqrt(values[kept])
    return vectors[:, kept] * lengths, vectors[:, kept] / lengths


def _assembled(
    blocks: Sequence[Block],
    fits: Sequence[Sequence[dict[str, np.ndarray]]],
    responses: np.ndarray,
    fold_of: np.ndarray,
    n_candidates: int,
) -> Encoding:
    """Put the blocks' fits, by block and candidate, together."""
    n_neurons, n_stimuli = responses.shape
    empty = np.full((n_stimuli, n_neurons), np.nan)
    candidate = np.full(n_neurons, -1)
    scores = np.full((n_candidates, n_neurons), np.nan)
    predictions, generalization = empty.copy(), empty.copy()
    weights: list[np.ndarray | None] = [None] * n_neurons
    for block, row in zip(blocks, fits, strict=True):
        place = np.ix_(block.stimuli, block.neurons)
        parts = [CandidateFit(f["predictions"], f["inner_scores"], f["score"], None) for f in row]
        recorded = responses[block.neurons][:, block.stimuli].T
        choice = choose_candidates(parts, recorded, splits_of(fold_of[block.stimuli]))
        candidate[block.neurons] = choice.chosen
        scores[:, block.neurons] = np.stack([f["score"] for f in row])
        predictions[place] = choice.predictions
        best = np.stack([f["within_score"] for f in row]).argmax(axis=0)
        generalization[place] = np.stack([row[c]["within_predictions"][:, k] for k, c in enumerate(best)], axis=1)
        for k, neuron in enumerate(block.neurons):
            weights[neuron] = row[choice.chosen[k]]["weight"][k]
    r = [correlations(responses, values) for values in (predictions, generalization)]
    return Encoding(candidate, scores, predictions, r[0], generalization, r[1], weights)


def correlations(responses: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Of each neuron's responses (K, n) with its predictions (n, K), where both are there, (K,)."""
    r = np.full(len(responses), np.nan)
    for neuron, (recorded, predicted) in enumerate(zip(responses, predictions.T, strict=True)):
        both = np.isfinite(recorded) & np.isfinite(predicted)
        if both.sum() > 2:
            r[neuron] = pearson(recorded[both][:, None], predicted[both][:, None])[0]
    return r
