"""`explain_recording`: from raw responses to a report."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.transforms.functional import to_tensor

from captum_shared.encoder import load_encoder
from captum_shared.encoder.cache import fingerprint
from captum_shared.encoder.images import evaluating
from captum_shared.encoder.registry import load_network
from captum_shared.folders import ReportFolder, report_folder
from captum_shared.readout import split_half_reliability
from captum_shared.recording import Recording
from captum_shared.report.device import find_device
from captum_shared.report.recording.encoding import Encoding, Latents, encode_stimuli, fit_neurons, folds_of
from captum_shared.report.recording.explanation import explain_neurons
from captum_shared.report.recording.manifest import describe_recording, inspect_stimuli
from captum_shared.report.recording.network import ImageTransform, Network, find_network
from captum_shared.report.recording.neurons import (
    Neuron,
    category_d_primes,
    preferred_categories,
    select_neurons,
    unusable_reasons,
)
from captum_shared.report.recording.settings import MIN_IMAGES, POOLS, Settings, checked
from captum_shared.report.recording.writing import write_report


def explain_recording(
    recording: Recording,
    encoder: nn.Module,
    transform: ImageTransform | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    pools: Sequence[str | int] = POOLS,
    estimator: Any = None,
    out: str | Path = "report",
    n_jobs: int | None = None,
    progress: bool = True,
    about: dict[str, Any] | None = None,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Explain a whole recording: fit every neuron, choose its drivers and references, draw what they share.

    A run that was interrupted, even killed, goes on when called again with the same arguments, and ends in the same
    files. Work is cut into independent units that run through `joblib.Parallel`, so that ``joblib.parallel_config``
    decides where.

    Parameters
    ----------
    recording : Recording
        With categories.
    encoder : LatentEncoder or nn.Module
        Either one layer and pooling; or a whole network, (N, C, H, W) -> anything, of which layer and pooling are
        chosen for each neuron by nested cross-validation.
    transform : callable, optional
        PIL image -> tensor (C, H, W), as `load_encoder` returns it. Default: scale to [0, 1].
    layers : "auto", str or sequence of str, optional
        For a whole network: the layers to choose from. "auto", the default, takes its blocks (at most 12).
    pools : sequence of "avg", "max" or int, default ("avg", 2, 4)
        For a whole network: the poolings to choose from, as in `LatentEncoder`.
    estimator : scikit-learn estimator, optional
        Any linear one that takes (n, D) latents and (n, K) responses. Default: PCA, then RidgeCV per neuron.
    out : path, default "report"
        Gets ``index.html``, ``neurons.csv``, ``pairs.csv``, ``layers.csv``, ``summary.json``, ``manifest.json``,
        ``maps/`` (.npy, memory-mappable), ``figures/`` and ``thumbnails/``.
    n_jobs : int, optional
        Processes, as in joblib. Default: as in ``joblib.parallel_config``, else one.
    progress : bool, default True
        Progress bars with the time left.
    about : dict, optional
        What to say of the network in the methods paragraph.
    overwrite : bool, default False
        Whether a report of another configuration in `out` is replaced.
    **options
        preferred : str or sequence of K str; the preferred category. Default: the one with the largest d'.
        standardize : bool, default True; scale each latent over all stimuli, for products depend on the scale.
        pca : int or None, default 256; components before the ridge regression.
        folds : int, default 5. n_splits : int, default 100; split halves.
        min_reliability : float, default 0.3. min_cv_r : float, default 0.2. min_d_prime : float, default 0.
        threshold : float, default 1; standard deviations above the mean that make a driver, recorded and predicted.
        drivers : int, default 5; at most so many per neuron.
        references : {"drivers", "category"}, default "drivers"; drivers within the category, as in the paper, or all.
        similarity : str, default "dot"; rule : str, default "product"; the paper's.
        n_steps : int, default 16; of integrated gradients.
        seed : int, default 0. batch_size : int, default 32.
        images_per_unit : int, default 64; neurons_per_unit : int, default 16; the units of work.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If an argument is wrong, the recording does not suffice, or `out` holds a report of another configuration (the
        difference is shown).
    """
    settings = checked(options)
    _check_recording(recording)
    transform = to_tensor if transform is None else transform
    hashes, failures = inspect_stimuli(recording)
    recording, hashes = _readable(recording, hashes, failures)
    with evaluating(encoder):
        network = find_network(encoder, transform, layers, pools, recording.stimuli[0])
        manifest = _manifest(recording, network, settings, estimator, about, hashes, failures)
        with report_folder(out, manifest, overwrite) as folder:
            if folder.finished:
                return folder.read_json("summary.json")
            notes = _notes(recording, failures)
            return _explain(recording, network, estimator, settings, folder.about, notes, folder, n_jobs, progress)


def run_recording(
    *,
    recording: str | Path,
    model: str,
    layer: str = "auto",
    weights: str | Path | None = "DEFAULT",
    pool: str | int | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | None = None,
    stimuli: str | Path | None = None,
    labels: str | Path | None = None,
    missing: str = "raise",
    window: Sequence[float] | None = None,
    stimulus_column: str | None = None,
    category_column: str | None = None,
    variable: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`Recording.load` and `load_encoder`, then `explain_recording` with the rest of the options.

    `layer` is "auto", one layer, or several with commas between; `pool` one pooling, by default all of `POOLS`.
    """
    given = {"window": window, "stimulus_column": stimulus_column, "category_column": category_column}
    reader = {name: value for name, value in {**given, "variable": variable}.items() if value is not None}
    data = Recording.load(recording, stimuli=stimuli, labels=labels, missing=missing, **reader)
    shape: dict[str, Any] = {"image_size": image_size, "mean": mean, "std": std}
    where = find_device(device)
    about = {"model": model, "weights": Path(weights).name if weights else None, "image_size": image_size,
             "device": where.type}  # fmt: skip
    layers = [name.strip() for name in layer.split(",")]
    if pool is not None and layers != ["auto"] and len(layers) == 1:
        encoder, transform = load_encoder(model, layers[0], pool, weights, **shape)
        return explain_recording(data, encoder.to(where), transform, about=about, **options)
    network, transform = load_network(model, weights, **shape)
    pools = POOLS if pool is None else (pool,)
    chosen = "auto" if layers == ["auto"] else layers
    return explain_recording(data, network.to(where), transform, layers=chosen, pools=pools, about=about, **options)


def _explain(
    recording: Recording,
    network: Network,
    estimator: Any,
    settings: Settings,
    manifest: dict[str, Any],
    notes: Sequence[str],
    folder: ReportFolder,
    n_jobs: int | None,
    progress: bool,
) -> dict[str, Any]:
    """Every step, each in units of work; the summary."""
    run = (folder, n_jobs, progress)
    latents = encode_stimuli(network, recording.stimuli, settings, *run)
    hashes = manifest["recording"]["stimuli"]
    contents = [hashes[name] for name in recording.stimulus_names]
    reliability, neurons, encoding = _model(recording, contents, network, latents, estimator, settings, *run)
    explain_neurons(neurons, recording.stimuli, network, encoding, latents, settings, *run)
    return write_report(recording, network, encoding, neurons, reliability, settings, estimator, manifest, notes, *run)


def _manifest(
    recording: Recording,
    network: Network,
    settings: Settings,
    estimator: Any,
    about: dict[str, Any] | None,
    hashes: dict[str, str],
    failures: dict[str, str],
) -> dict[str, Any]:
    """Everything that the report depends on."""
    return {
        "command": "recording",
        "configuration": {
            "settings": settings.as_json(), "network": dict(about or {}), **_describe_network(network),
            "estimator": None if estimator is None else repr(estimator),
        },
        "recording": {**describe_recording(recording, hashes), "unreadable": failures},
    }  # fmt: skip


def _model(
    recording: Recording,
    contents: Sequence[str],
    network: Network,
    latents: Latents,
    estimator: Any,
    settings: Settings,
    folder: ReportFolder,
    n_jobs: int | None,
    progress: bool,
) -> tuple[np.ndarray, list[Neuron], Encoding]:
    """Reliability, encoding model and selection."""
    responses, categories = recording.mean_responses, np.array(recording.categories)
    reliability = split_half_reliability(recording.responses, settings.n_splits, settings.seed)
    unusable = unusable_reasons(responses, settings.folds)
    usable = np.array([not reason for reason in unusable])
    d_primes = category_d_primes(responses, categories)
    preferred = preferred_categories(d_primes, settings.preferred, recording.n_neurons)
    fold_of = folds_of(contents, settings.folds, settings.seed)
    encoding = fit_neurons(
        latents, responses, usable, categories, preferred, fold_of, estimator, settings, folder, n_jobs, progress
    )
    neurons = select_neurons(
        responses,
        recording.neuron_ids,
        categories,
        unusable,
        preferred,
        d_primes,
        reliability,
        encoding,
        latents,
        settings,
    )
    return reliability, neurons, encoding


def _check_recording(recording: Any) -> None:
    if not isinstance(recording, Recording):
        raise TypeError(f"`recording` must be a Recording, got {type(recording).__name__}; see Recording.load")
    if recording.categories is None:
        raise ValueError("`recording` must have categories, one per stimulus, to know what is out of category")


def _readable(
    recording: Recording, hashes: dict[str, str], failures: dict[str, str]
) -> tuple[Recording, dict[str, str]]:
    """The recording without the stimuli that cannot be read; says so."""
    if not failures:
        return recording, hashes
    lines = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
    message = f"{len(failures)} of {recording.n_stimuli} stimuli cannot be read: {lines}"
    if len(failures) == recording.n_stimuli:
        raise ValueError(message)
    warnings.warn(f"{message}. They are left out.", stacklevel=3)
    keep = np.array([name not in failures for name in recording.stimulus_names])
    return recording.select(keep), hashes


def _notes(recording: Recording, failures: dict[str, str]) -> list[str]:
    """What a reader must know first."""
    notes = []
    if failures:
        notes.append(f"Left out, for they cannot be read: {', '.join(failures)}.")
    small = sorted(name for name, n in Counter(recording.categories).items() if n < MIN_IMAGES)
    if small:
        notes.append(f"Categories with fewer than {MIN_IMAGES} stimuli, which are nobody's preferred one: "
                     f"{', '.join(small)}.")  # fmt: skip
    if recording.n_repeats == 1:
        notes.append("There are no repeats: reliability and noise ceiling are unknown, and correlations are raw.")
    return notes


def _describe_network(network: Network) -> dict[str, Any]:
    """What the latents depend on: weights, layers, poolings, image transform."""
    try:
        weights = fingerprint(network.scanner, None, None)
    except ValueError as error:
        raise ValueError(f"cannot tell whether a report belongs to this network: {error}") from error
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(network.transform))
    return {
        "candidates": [f"{layer} {pool}" for layer, pool in network.candidates],
        "weights": weights,
        "image_transform": " ".join(text.split()),
        "dtype": str(torch.get_default_dtype()),
    }
