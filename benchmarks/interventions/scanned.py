"""A network and images, as all settings but the synthetic one use them: latents of several layers, readouts, trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common.methods import Neuron, Problem
from benchmarks.common.results import Content
from benchmarks.interventions.rows import heats_of, methods_of
from benchmarks.interventions.trials import Twin, make_judge, play
from captum_shared.encoder import LatentEncoder, encode_images
from captum_shared.encoder.layers import LayerScan
from captum_shared.identity import ImageTransform
from captum_shared.images import open_rgb
from captum_shared.interventions.scores import Scores
from captum_shared.matcher import ReferenceMatcher
from captum_shared.networks.registry import load_network
from captum_shared.readout import latent_transform
from captum_shared.readout.steps import Estimator
from captum_shared.study.encoding import FitTask, fit_readouts
from captum_shared.study.settings import RecordingSettings

BLACK = 0.0  # the mean colour of ImageNet, in the network's units: baseline of integrated gradients
N_STEPS = 8


@dataclass(frozen=True)
class Scanned:
    """Images, and their latents at several layers of a network.

    Attributes
    ----------
    scanner : LayerScan
        Turns images into all latents, with one pooling. Its first layer is that of the maps; the others are twins'.
    transform : callable
    paths : list of Path
    latents : Tensor (n, sum of D)
        Of all layers, side by side, as the network gives them.
    widths : list of int
    """

    scanner: LayerScan
    transform: ImageTransform
    paths: list[Path]
    latents: Tensor
    widths: list[int]

    def image(self, place: int) -> Tensor:
        """One of the images, (1, C, H, W)."""
        return self.transform(open_rgb(self.paths[place]))[None]

    def twin(
        self, name: str, k: int, known: np.ndarray, target: np.ndarray, estimator: Estimator | None = None
    ) -> Twin:
        """A readout of layer k, fitted to the target (n,) on known images, given by index.

        Without an estimator it is that of `captum-shared recording`.
        """
        task = FitTask(target[known][:, None], [], estimator, RecordingSettings.pca)
        start = sum(self.widths[:k])
        columns = slice(start, start + self.widths[k])
        return Twin.fitted(
            name, columns, self.latents[known], lambda z: torch.from_numpy(fit_readouts(z.numpy(), task)[2]).double()[0]
        )

    def encoder(self, transform: nn.Module | None = None) -> LatentEncoder:
        """Of the first layer."""
        return LatentEncoder(self.scanner.model, self.scanner.layers[0], self.scanner.pools[0], transform).eval()

    def neuron(self, twin: Twin) -> Neuron:
        """What methods are given: a readout of the first layer, with its gallery."""
        encoder, weight = self.encoder(_scaling(twin)), twin.weight.float()
        return Neuron(encoder, weight, weight, twin.latents.float(), encoder, BLACK, N_STEPS)

    def judge(self, twins: Sequence[Twin], reference: int, rival: int) -> Scores:
        """Of images, by their similarity to a reference and to a rival."""
        return make_judge(self.scanner, twins, self.latents[[reference]], self.latents[[rival]])


def scan(model: str, weights: str, layers: tuple[str, ...], pool: str | int, paths: Sequence[Path]) -> Scanned:
    """One pass of the network over all images."""
    network, transform = load_network(model, weights)
    scanner = LayerScan(network.requires_grad_(False), layers, (pool,)).eval()
    latents = encode_images(scanner, paths, transform, batch_size=16, progress=True, unreadable="raise")
    return Scanned(scanner, transform, list(paths), latents, scanner.widths(transform(open_rgb(paths[0]))[None]))


def play_images(
    scanned: Scanned, own: Twin, twins: Sequence[Twin], candidates: np.ndarray, drawn: Iterable[tuple[int, int, int]]
) -> list[Content]:
    """A trial of each image that was drawn, which comes with a stranger to it and a seed.

    Its reference and the rival are the candidates that are most and least similar to it for the neuron.
    """
    neuron, methods, z, trials = scanned.neuron(own), methods_of(), own.encode(scanned.latents), []
    for image, stranger, seed in drawn:
        others = candidates[candidates != image]
        ranked = others[ReferenceMatcher(z[others]).match(z[[image]], own.weight, k=len(others)).index[0].numpy()]
        reference, rival = int(ranked[0]), int(ranked[-1])
        problem = Problem(*(scanned.image(place) for place in (image, reference, stranger)))
        judge = scanned.judge(twins, reference, rival)
        trials.append(play(heats_of(methods, neuron, problem), problem.x[0], judge, seed))
    return trials


def _scaling(twin: Twin) -> nn.Module:
    """The standardization of a twin's latents, as a module."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.zeros((2, len(twin.mean))))
    scaler.mean_, scaler.scale_ = twin.mean.numpy(), twin.spread.numpy()
    scaler.var_ = scaler.scale_**2
    return latent_transform(scaler)
