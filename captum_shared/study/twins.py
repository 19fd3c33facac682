"""Twins: readouts of each explained neuron at another layer, which its maps have not seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from safetensors.numpy import load_file, save
from torch import Tensor

from captum_shared.encoder import LatentEncoder
from captum_shared.encoder.layers import candidate_layers
from captum_shared.folders import WORK
from captum_shared.study.encoding import (
    FitTask,
    Latents,
    blocks_of,
    correlations,
    encode_shard,
    fit_readouts,
    splits_of,
)
from captum_shared.study.network import find_network, transform_image
from captum_shared.study.neurons import Findings
from captum_shared.study.run import Job, Run, Share
from captum_shared.study.study import Study


@dataclass(frozen=True)
class Twin:
    """A neuron's readout at another layer, a candidate of the network whose latents these are.

    The weight (D,) is on the standardized latents, of the pole that is explained; r is the cross-validated correlation
    with the responses.
    """

    latents: Latents
    candidate: int
    weight: Tensor
    r: float

    @property
    def name(self) -> str:
        """Its layer and pooling."""
        network = self.latents.network
        return f"{network.layer(self.candidate)} {network.pool(self.candidate)}"


def find_twins(study: Study, findings: Findings, run: Run) -> dict[int, Twin]:
    """A twin for each explained neuron, by its index.

    It reads the candidate of another layer that predicts the neuron best or, if all candidates are of one layer, the
    block before that layer, pooled alike, see `twin_layer`. It is fitted to all stimuli, as the neuron's own model is.
    """
    found: dict[int, Twin] = {}
    if not findings.explained:
        return found
    layer = twin_layer(study)
    if layer is None:
        latents = findings.latents
        chosen = {neuron.index: _best_other(study, findings, neuron.index) for neuron in findings.explained}
    else:
        latents = _other_latents(study, layer, run)
        chosen = {neuron.index: 0 for neuron in findings.explained}
    for candidate in sorted(set(chosen.values())):
        members = np.array([chosen.get(k) == candidate for k in range(study.recording.n_neurons)])
        found |= _fitted(study, run, latents, candidate, members)
    return found


def twin_layer(study: Study) -> str | None:
    """The block before the only layer, or the last one if there is none before; None if there are several layers.

    Raises
    ------
    ValueError
        If the network has no other layer with positions.
    """
    layer, *more = {layer for layer, _ in study.network.candidates}
    if more:
        return None
    network = study.network
    example = transform_image(network.transform, study.recording.stimuli[0])[None].to(network.device)
    blocks = candidate_layers(network.scanner.model, example)
    others = [name for name in blocks if name != layer and not name.startswith(f"{layer}.")]
    before = [name for name in others if layer in blocks and blocks.index(name) < blocks.index(layer)]
    if not others:
        raise ValueError(f"`interventions` need a twin at another layer than {layer!r}, and the network has none")
    return (before or others)[-1]


def _best_other(study: Study, findings: Findings, neuron: int) -> int:
    """The candidate of another layer with the best score."""
    own, scores = study.network.layer(int(findings.models.candidate[neuron])), findings.models.scores[:, neuron]
    others = [c for c, (layer, _) in enumerate(study.network.candidates) if layer != own]
    return max(others, key=lambda c: float(scores[c]))


def _other_latents(study: Study, layer: str, run: Run) -> Latents:
    """Latents of a layer that is no candidate, for all stimuli."""
    network = study.network
    encoder = LatentEncoder(network.scanner.model, layer, network.candidates[0][1]).eval()
    other = find_network(encoder, network.transform, None, (), study.recording.stimuli[0])
    path = run.folder / WORK / "twin_latents.npy"

    def arguments(share: Share) -> tuple[object, ...]:
        return share(encoder), study.recording.stimuli, network.transform, study.settings.batch_size

    run.carry_out([Job((path,), encode_shard, arguments)], "images for twins")
    return Latents([path], other, study.settings.standardize)


def _fitted(study: Study, run: Run, latents: Latents, candidate: int, members: np.ndarray) -> dict[int, Twin]:
    """The twins of the neurons (K,) that read this candidate."""
    blocks, responses = blocks_of(study.responses, members), study.responses
    paths = [run.folder / WORK / f"twin_{candidate:03d}_{number:03d}.safetensors" for number in range(len(blocks))]

    def arguments(number: int, share: Share) -> tuple[object, ...]:
        rows = blocks[number].stimuli
        task = FitTask(responses[blocks[number].neurons][:, rows].T, splits_of(study.fold_of[rows]), study.estimator,
                       study.settings.pca)  # fmt: skip
        return latents.standardized(candidate).numpy()[rows], task

    jobs = [Job((path,), _fit, partial(arguments, number)) for number, path in enumerate(paths)]
    run.carry_out(jobs, "twins")
    found = {}
    for block, path in zip(blocks, paths, strict=True):
        fit = load_file(path)
        r = correlations(responses[block.neurons][:, block.stimuli], fit["predictions"])
        for k, neuron in enumerate(block.neurons):
            weight = study.settings.sign * torch.from_numpy(fit["weight"][k]).double()
            found[int(neuron)] = Twin(latents, candidate, weight, float(r[k]))
    return found


def _fit(z: np.ndarray, task: FitTask) -> tuple[bytes, ...]:
    _, fit, weight = fit_readouts(z, task)
    arrays = {"weight": weight, "predictions": fit.predictions}
    return (save({name: np.ascontiguousarray(array, np.float64) for name, array in arrays.items()}),)
