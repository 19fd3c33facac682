"""Maps of every pair, in units of neurons that share the forward passes of their images."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from captum_shared.attribution import ParallelBackprop
from captum_shared.attribution.neurons import neuron_maps
from captum_shared.folders import ReportFolder
from captum_shared.report.recording.encoding import Encoding, Latents, scale_module
from captum_shared.report.recording.network import ImageTransform, Network, transform_image
from captum_shared.report.recording.neurons import Neuron, standardised
from captum_shared.report.recording.settings import Settings
from captum_shared.report.recording.units import Unit, array_bytes, run_units
from captum_shared.selection import rule_center
from captum_shared.similarity import shared_weights


@dataclass(frozen=True)
class Demand:
    """A map that is wanted: the image, where it goes (neuron in the unit, pair, side), and the shared weights (D,)."""

    image: Path
    place: tuple[int, int, int]
    shared: np.ndarray


def map_path(folder: ReportFolder, neuron: Neuron) -> Path:
    """The neuron's maps: .npy, (pairs, 2, H, W) float32, in the order of pairs.csv; image, then reference."""
    return folder / "maps" / f"neuron_{file_stem(neuron.name)}.npy"


def file_stem(name: str) -> str:
    """A neuron's name as part of a file name, unique: what is not plain is replaced, and a hash is added."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if plain == name and len(name) <= 60:
        return name
    return f"{plain[:40]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def explain_neurons(
    neurons: Sequence[Neuron],
    stimuli: Sequence[Path],
    network: Network,
    encoding: Encoding,
    latents: Latents,
    settings: Settings,
    folder: ReportFolder,
    n_jobs: int | None,
    progress: bool,
) -> None:
    """Write the maps of all explained neurons; see `map_path`."""
    units = []
    for candidate in sorted({int(encoding.candidate[n.index]) for n in neurons if n.explained}):
        own = [n for n in neurons if n.explained and encoding.candidate[n.index] == candidate]
        for start in range(0, len(own), settings.neurons_per_unit):
            block = own[start : start + settings.neurons_per_unit]

            def arguments(candidate: int = candidate, block: Sequence[Neuron] = block) -> tuple[Any, ...]:
                demands = _demands(block, candidate, stimuli, encoding, latents, settings)
                scale = scale_module(latents.raw(candidate), settings.standardize)
                encoder = network.encoder(candidate, scale.to(next(network.scanner.parameters()).device))
                return encoder, network.transform, demands, [len(n.pairs) for n in block], settings.n_steps

            units.append(Unit(tuple(map_path(folder, n) for n in block), _explain_unit, arguments))
    run_units(units, "maps", folder, n_jobs, progress)


def _demands(
    block: Sequence[Neuron],
    candidate: int,
    stimuli: Sequence[Path],
    encoding: Encoding,
    latents: Latents,
    settings: Settings,
) -> list[Demand]:
    z = standardised(latents, candidate, settings.standardize)
    found = []
    for number, neuron in enumerate(block):
        weight = torch.from_numpy(encoding.weights[neuron.index]).double()
        images, references = ([getattr(p, side) for p in neuron.pairs] for side in ("image", "reference"))
        center = rule_center(settings.rule, z, neuron.drivers) if neuron.drivers is not None else None
        shared = shared_weights(z[images], z[references], weight, settings.rule, center).float().numpy()
        for pair, c in enumerate(shared):
            found.append(Demand(stimuli[images[pair]], (number, pair, 0), c))
            found.append(Demand(stimuli[references[pair]], (number, pair, 1), c))
    return found


def _explain_unit(
    encoder: nn.Module, transform: ImageTransform, demands: Sequence[Demand], n_pairs: Sequence[int], n_steps: int
) -> list[bytes]:
    """Maps of a block of neurons, (pairs, 2, H, W) for each, summed over the colour channels; one forward per image."""
    by_image: dict[Path, list[Demand]] = defaultdict(list)
    for demand in demands:
        by_image[demand.image].append(demand)
    method = ParallelBackprop(encoder.eval())
    device = next(encoder.parameters()).device
    frozen = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    maps: list[np.ndarray] = []
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for image, wanted in by_image.items():
            x = transform_image(transform, image)[None].to(device)
            shared = torch.from_numpy(np.stack([demand.shared for demand in wanted]))[None].to(device)
            heat = neuron_maps(method.engine, method.forward_module, x, shared, {"n_steps": n_steps})
            summed = heat[0].sum(1).cpu().numpy()
            if not maps:
                maps = [np.zeros((n, 2, *summed.shape[1:]), np.float32) for n in n_pairs]
            for demand, values in zip(wanted, summed, strict=True):
                number, pair, side = demand.place
                maps[number][pair, side] = values
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    return [array_bytes(values) for values in maps]
