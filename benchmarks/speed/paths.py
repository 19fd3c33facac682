"""Attribution: each path of the package beside its hand-written loop in `floors`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import captum.attr as ca
import torch
import torchvision
from torch import Tensor, nn

from benchmarks.speed import floors
from benchmarks.speed.timing import Timing, compare, fastest
from captum_shared import LatentEncoder, ParallelBackprop

# Early, middle and last layer of each network.
LAYERS = {
    "resnet18": ("layer1", "layer2", "layer4"),
    "resnet50": ("layer1", "layer2", "layer4"),
    "squeezenet1_0": ("features.3", "features.7", "features.12"),
    "vit_b_16": ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_5", "encoder.layers.encoder_layer_11"),
}
QUICK_LAYERS = {"resnet18": ("layer4",), "squeezenet1_0": ("features.12",)}
# Small images, so that overheads show, which larger ones would hide.
SIZE, SIZES = 112, {"vit_b_16": 80}
STEPS = {"resnet18": 50, "squeezenet1_0": 50}
FEW_STEPS, NEURON_STEPS = 12, 2
K, REFERENCES = 16, 8
# Images per forward pass, of which the loop of integrated gradients takes the fastest.
CHUNKS, DEVICE_CHUNKS = (2, 4, 8, 16), (10, 25, 50)

Run = Callable[[], object]


@dataclass(frozen=True)
class Workload:
    """One pair of random images, one readout or K of them, and a network with random weights cut at a layer."""

    name: str
    layer: str
    model: nn.Module
    encoder: LatentEncoder
    x: Tensor
    y: Tensor
    references: Tensor
    weights: Tensor

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        return self.x, self.y

    @property
    def w(self) -> Tensor:
        return self.weights[0]

    @property
    def body(self) -> floors.Body:
        return cast(floors.Body, self.encoder.layer_output)  # all of these layers give tensors


def make_workload(name: str, layer: str, device: str = "cpu", size: int | None = None, seed: int = 0) -> Workload:
    """Random images, and what is to be explained about them."""
    torch.manual_seed(seed)
    size = size or SIZES.get(name, SIZE)
    sized = {"image_size": size} if name.startswith("vit") else {}
    model = torchvision.models.get_model(name, weights=None, **sized).eval().to(device)
    encoder = LatentEncoder(model, layer, pool="avg")
    x, y = torch.randn(2, 1, 3, size, size, device=device)
    references = torch.randn(REFERENCES, 3, size, size, device=device)
    with torch.no_grad():
        d = encoder(x).shape[1]
    return Workload(name, layer, model, encoder, x, y, references, torch.randn(K, d, device=device))


def control(p: Workload) -> tuple[Run, Run]:
    run = partial(floors.pair_gradient, p.body, *p.pair, p.w)
    return run, run


def pair_gradient(p: Workload) -> tuple[Run, Run]:
    pb = ParallelBackprop(p.encoder, engine=ca.Saliency)
    return partial(pb.attribute, p.pair, readout=p.w), control(p)[0]


def pair_integrated(p: Workload) -> tuple[Run, Run]:
    path, loop = integrated_runs(p, STEPS.get(p.name, FEW_STEPS))
    return path, partial(loop, best_chunk(p))


def integrated_runs(p: Workload, n_steps: int) -> tuple[Run, Callable[[int], object]]:
    """The path, and the loop in chunks of as many images as one tells it."""
    path = partial(ParallelBackprop(p.encoder).attribute, p.pair, readout=p.w, n_steps=n_steps)
    return path, partial(floors.pair_integrated, p.body, *p.pair, p.w, n_steps)


def neurons_gradient(p: Workload) -> tuple[Run, Run]:
    pb = ParallelBackprop(p.encoder, engine=ca.Saliency)
    path = partial(pb.attribute_neurons, p.pair, p.weights)
    return path, partial(floors.neurons_gradient, p.body, *p.pair, p.weights)


def neurons_integrated(p: Workload) -> tuple[Run, Run]:
    path = partial(ParallelBackprop(p.encoder).attribute_neurons, p.pair, p.weights, n_steps=NEURON_STEPS)
    body = p.body
    return path, partial(floors.neurons_integrated, body, *p.pair, p.weights, NEURON_STEPS, NEURON_STEPS)


def calls_gradient(p: Workload) -> tuple[Run, Run]:
    pb = ParallelBackprop(p.encoder, engine=ca.Saliency)
    return lambda: [pb.attribute(p.pair, readout=w) for w in p.weights], neurons_gradient(p)[0]


def calls_integrated(p: Workload) -> tuple[Run, Run]:
    pb = ParallelBackprop(p.encoder)
    calls = [partial(pb.attribute, p.pair, readout=w, n_steps=NEURON_STEPS) for w in p.weights]
    return lambda: [call() for call in calls], neurons_integrated(p)[0]


def references_averaged(p: Workload) -> tuple[Run, Run]:
    pb = ParallelBackprop(p.encoder, engine=ca.Saliency)

    def path() -> object:
        with torch.no_grad():
            mean = p.encoder(p.references).mean(0)
        return pb.attribute((p.x, p.references[:1]), readout=p.w, reference_latents=mean)

    return path, partial(floors.references_gradient, p.body, p.x, p.references, p.w)


def truncation(p: Workload) -> tuple[Run, Run]:
    return partial(floors.through_the_whole_network, p.model, p.layer, *p.pair, p.w), pair_gradient(p)[0]


def best_chunk(p: Workload) -> int:
    """The chunk with which the loop is fastest here."""
    chunks = CHUNKS if p.x.device.type == "cpu" else DEVICE_CHUNKS
    return fastest(chunks, integrated_runs(p, max(chunks))[1])


# In rows of a gain the slower side comes first: the ratio says how many times faster the package is.
COMPARISONS: dict[str, Callable[[Workload], tuple[Run, Run]]] = {
    "control": control,
    "pair gradient": pair_gradient,
    "pair integrated gradients": pair_integrated,
    "neurons gradient": neurons_gradient,
    "neurons integrated gradients": neurons_integrated,
    "references averaged": references_averaged,
    "gain of truncation": truncation,
    "gain of neurons gradient": calls_gradient,
    "gain of neurons integrated gradients": calls_integrated,
}
AT_MIDDLE_ONLY = ("gain of neurons gradient", "gain of neurons integrated gradients")


def jobs(quick: bool) -> list[tuple[str, str, str]]:
    """Name, model and layer of every row."""
    layers = QUICK_LAYERS if quick else LAYERS
    return [
        (name, model, layer)
        for model, some in layers.items()
        for layer in some
        for name in COMPARISONS
        if name not in AT_MIDDLE_ONLY or layer == some[len(some) // 2]
    ]


def path_row(job: tuple[str, str, str], device: str, size: int | None, rounds: int, seconds: float) -> Timing:
    """Measure one row: a name in `COMPARISONS`, a model and a layer."""
    name, model, layer = job
    path, floor = COMPARISONS[name](make_workload(model, layer, device, size))
    return compare(name, model, layer, path, floor, rounds, seconds=seconds)
