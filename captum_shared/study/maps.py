"""Maps of every pair, in jobs of neurons that share the forward passes of their images."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import captum.attr
import numpy as np
import torch
from torch import Tensor, nn

from captum_shared.attribution import ParallelBackprop
from captum_shared.attribution.layer import layer_maps
from captum_shared.attribution.neurons import neuron_maps
from captum_shared.folders import ReportFolder
from captum_shared.selection import is_crossed, make_rule, rule_center
from captum_shared.similarity import Rule, shared_weights
from captum_shared.similarity.rules import origin_of, transposed
from captum_shared.study.network import ImageTransform, device_of, transform_image
from captum_shared.study.neurons import NeuronFindings
from captum_shared.study.run import Job, Run, Share, array_bytes
from captum_shared.study.settings import Settings
from captum_shared.study.study import Findings, Study


@dataclass(frozen=True)
class MapRequest:
    """A map that is wanted: of which image, for which shared weights (D,), and where it goes: neuron, pair, side."""

    image: Path
    shared: np.ndarray
    place: tuple[int, int, int]


def map_path(folder: ReportFolder, neuron: NeuronFindings, kind: str) -> Path:
    """The neuron's maps: .npy, (pairs, 2, h, w) float32, in the order of pairs.csv; image, then reference.

    `kind` is "pixel" or "layer": of the image's pixels, or coarse, of the layer's positions.
    """
    ending = "" if kind == "pixel" else f"_{kind}"
    return folder / "maps" / f"neuron_{file_stem(neuron.name)}{ending}.npy"


def file_stem(name: str) -> str:
    """A neuron's name as part of a file name, unique: what is not plain is replaced, and a hash is added."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if plain == name and len(name) <= 60:
        return name
    return f"{plain[:40]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def make_maps(study: Study, findings: Findings, run: Run) -> None:
    """Write the maps of all explained neurons; see `map_path`."""
    settings, chosen = study.settings, findings.models.candidate
    jobs = []
    for candidate in sorted({int(chosen[neuron.index]) for neuron in findings.explained}):
        own = [neuron for neuron in findings.explained if chosen[neuron.index] == candidate]
        place = _Candidate(study, findings, candidate)
        for start in range(0, len(own), settings.neurons_per_unit):
            block = own[start : start + settings.neurons_per_unit]
            paths = tuple(map_path(run.folder, neuron, kind) for kind in settings.maps for neuron in block)
            jobs.append(Job(paths, _explain_block, partial(place.arguments, block)))
    run.carry_out(jobs, "maps")


class _Candidate:
    """What the neurons of one candidate have in common; made when the first of its jobs comes."""

    def __init__(self, study: Study, findings: Findings, candidate: int) -> None:
        self.study = study
        self.findings = findings
        self.candidate = candidate
        self._encoder: nn.Module | None = None
        self._rule: str | Rule | None = None

    def arguments(self, block: Sequence[NeuronFindings], share: Share) -> tuple[Any, ...]:
        """Of `_explain_block`."""
        if self._encoder is None:
            self._encoder = self.findings.latents.encoder(self.candidate).eval()
        requests, counts = self._requests(block), [len(neuron.shown) for neuron in block]
        origin = origin_of(self._rule or "product", None)
        return share(self._encoder), self.study.network.transform, requests, counts, self.study.settings, origin

    def _requests(self, block: Sequence[NeuronFindings]) -> list[MapRequest]:
        z, stimuli = self.findings.latents.standardized(self.candidate), self.study.recording.stimuli
        if self._rule is None:
            self._rule = make_rule(self.study.settings.rule, z, self.study.network.cells(self.candidate))
        requests = []
        for number, neuron in enumerate(block):
            weight = torch.as_tensor(self.findings.models.weights[neuron.index]).double()
            sides = pair_weights(self._rule, z, neuron, weight)
            for pair, (image, reference, _) in enumerate(neuron.shown):
                requests.append(MapRequest(stimuli[image], sides[0][pair], (number, pair, 0)))
                requests.append(MapRequest(stimuli[reference], sides[1][pair], (number, pair, 1)))
        return requests


def pair_weights(rule: str | Rule, z: Tensor, neuron: NeuronFindings, weight: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Shared weights (pairs, D) of a neuron's images and of its references, by a rule with the neuron's center."""
    if neuron.pairs is None or neuron.drivers is None:
        raise ValueError(f"neuron {neuron.name} is not explained: {neuron.reason}")
    center = rule_center(rule, z, neuron.drivers)
    sides = z[neuron.pairs.images], z[neuron.pairs.references].mean(1)
    shared = shared_weights(*sides, weight, rule, center).float().numpy()
    if not is_crossed(rule):
        return shared, shared
    return shared, shared_weights(*sides[::-1], weight, transposed(rule), center).float().numpy()


def _explain_block(
    encoder: nn.Module,
    transform: ImageTransform,
    requests: Sequence[MapRequest],
    counts: Sequence[int],
    settings: Settings,
    origin: Tensor | None,
) -> list[bytes]:
    """Maps of a block of neurons, (pairs, 2, h, w) for each and each kind; one forward pass for all of an image's."""
    by_image: dict[Path, list[MapRequest]] = defaultdict(list)
    for request in requests:
        by_image[request.image].append(request)
    maps: dict[str, list[np.ndarray]] = {}
    with _frozen(encoder):
        makers = {"pixel": partial(_pixel_maps, encoder, settings), "layer": partial(_layer_maps, encoder, origin)}
        for image, wanted in by_image.items():
            x = transform_image(transform, image)[None].to(device_of(encoder))
            shared = torch.from_numpy(np.stack([request.shared for request in wanted])).to(x)
            for kind in settings.maps:
                heat = makers[kind](x, shared).cpu().numpy()
                into = maps.setdefault(kind, [np.zeros((n, 2, *heat.shape[1:]), np.float32) for n in counts])
                for request, values in zip(wanted, heat, strict=True):
                    number, pair, side = request.place
                    into[number][pair, side] = values
    return [array_bytes(values) for kind in settings.maps for values in maps[kind]]


def _pixel_maps(encoder: nn.Module, settings: Settings, x: Tensor, shared: Tensor) -> Tensor:
    """Maps (k, H, W) of an image (1, C, H, W) for shared weights (k, D), summed over the colour channels."""
    method = ParallelBackprop(encoder, engine=getattr(captum.attr, settings.engine))
    heat = neuron_maps(method.engine, method.forward_module, x, shared[None], settings.engine_arguments)
    return heat[0].sum(1)


def _layer_maps(encoder: nn.Module, origin: Tensor | None, x: Tensor, shared: Tensor) -> Tensor:
    """Maps (k, h, w) of an image's positions at the layer."""
    return layer_maps(encoder, x, shared, None if origin is None else origin.to(x))


@contextmanager
def _frozen(encoder: nn.Module) -> Iterator[None]:
    """No gradients of parameters, which nobody asked for."""
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
