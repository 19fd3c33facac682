"""A network and images, as all settings but the synthetic one use them: encoders, and the latents of several layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.common.methods import Neuron
from benchmarks.common.photographs import load_photograph
from benchmarks.interventions.trials import Twin
from captum_shared.encoder import LatentEncoder
from captum_shared.encoder.identity import ImageTransform
from captum_shared.encoder.layers import LayerScan
from captum_shared.encoder.registry import load_network
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
    network : nn.Module
    transform : callable
    paths : list of Path
    layers : tuple of str
        The first is that of the maps; the others are twins'.
    pool : str or int
    latents : Tensor (n, sum of D)
        Of all layers, side by side, as the network gives them.
    widths : list of int
    """

    network: nn.Module
    transform: ImageTransform
    paths: list[Path]
    layers: tuple[str, ...]
    pool: str | int
    latents: Tensor
    widths: list[int]

    @property
    def scanner(self) -> LayerScan:
        """What turns images into all latents."""
        return LayerScan(self.network, self.layers, (self.pool,)).eval()

    def columns(self, k: int) -> slice:
        """Of layer k."""
        start = sum(self.widths[:k])
        return slice(start, start + self.widths[k])

    def image(self, place: int) -> Tensor:
        """One of the images, (1, C, H, W)."""
        return load_photograph(self.paths[place], self.transform)[None]

    def twin(
        self, name: str, k: int, known: np.ndarray, target: np.ndarray, estimator: Estimator | None = None
    ) -> Twin:
        """A readout of layer k, fitted to the target (n,) on known images, given by index; see `fitted`."""
        raw = self.latents[known][:, self.columns(k)].double()
        mean, spread = raw.mean(0), raw.std(0, correction=0).clamp(min=1e-9)
        z = (raw - mean) / spread
        return Twin(name, self.columns(k), fitted(estimator, z, target[known]), z, mean, spread)

    def neuron(self, twin: Twin, gallery: Tensor | None = None) -> Neuron:
        """What methods are given: the first layer's readout, with its gallery."""
        encoder = LatentEncoder(self.network, self.layers[0], self.pool, _scaling(twin)).eval()
        layer = self.network.get_submodule(self.layers[0])
        weight = twin.weight.float()
        latents = twin.latents.float() if gallery is None else gallery
        return Neuron(encoder, layer, weight, weight, latents, encoder, BLACK, N_STEPS)


def scan(
    model: str, weights: str, layers: Sequence[str], pool: str | int, paths: Sequence[Path], batch_size: int = 16
) -> Scanned:
    """One pass of the network over all images."""
    network, transform = load_network(model, weights)
    network = network.eval().requires_grad_(False)
    scanner = LayerScan(network, tuple(layers), (pool,)).eval()
    example = load_photograph(paths[0], transform)[None]
    found = []
    for start in tqdm(range(0, len(paths), batch_size), "images", leave=False):
        batch = torch.stack([load_photograph(path, transform) for path in paths[start : start + batch_size]])
        with torch.no_grad():
            found.append(scanner(batch))
    return Scanned(network, transform, list(paths), tuple(layers), pool, torch.cat(found), scanner.widths(example))


def fitted(estimator: Estimator | None, z: Tensor, target: np.ndarray) -> Tensor:
    """The weights (D,) of a linear estimator on latents (n, D); without one, of that of `captum-shared recording`."""
    task = FitTask(target[:, None], [], estimator, RecordingSettings.pca)
    return torch.from_numpy(fit_readouts(z.numpy(), task)[2]).double()[0]


def _scaling(twin: Twin) -> nn.Module:
    """The standardisation of a twin's latents, as a module."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.zeros((2, len(twin.mean))))
    scaler.mean_, scaler.scale_ = twin.mean.numpy(), twin.spread.numpy()
    scaler.var_ = scaler.scale_**2
    return latent_transform(scaler)
