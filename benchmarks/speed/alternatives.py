"""What users would use instead, compared with the package on one network.

The same maps where the quantity is the same; pytorch-grad-cam scales its own, so that only its cost is compared. The
explicit Jacobian, one backward pass per latent and image, is also what second-order pairwise methods cost at least.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import captum.attr as ca
import torch
from torch import Tensor, nn

from benchmarks.speed.floors import latents
from benchmarks.speed.paths import Run, Workload, make_workload, pair_gradient
from benchmarks.speed.timing import Timing, compare
from captum_shared import LayerParallelBackprop, ParallelBackprop

MODEL, LAYER, N_STEPS, CHUNK = "resnet18", "layer2", 12, 8


class WholeNetwork(nn.Module):
    """Latents read with a hook while all of the network runs: the embedding that a user would write."""

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model = model
        self.outputs: list[Tensor] = []
        model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: self.outputs.append(output))

    def forward(self, x: Tensor) -> Tensor:
        self.model(x)
        return latents(lambda _: self.outputs.pop(), x)


def constant(p: Workload) -> Tensor:
    with torch.no_grad():
        result: Tensor = p.w * p.encoder(p.x) * p.encoder(p.y)
        return result


def wrapper_integrated(p: Workload) -> tuple[Run, Run]:
    embed = WholeNetwork(p.model, p.layer)
    method = ca.IntegratedGradients(lambda x, c: (embed(x) * c).sum(1))

    def other() -> object:
        with torch.no_grad():
            c = p.w * embed(p.x) * embed(p.y)
        options = {"n_steps": N_STEPS, "internal_batch_size": CHUNK}
        return [method.attribute(x, additional_forward_args=(c,), **options) for x in p.pair]

    return other, _integrated(p)


def neuron_integrated(p: Workload) -> tuple[Run, Run]:
    method = ca.NeuronIntegratedGradients(p.model, p.model.get_submodule(p.layer))

    def other() -> object:
        select = _selector(constant(p))
        options = {"n_steps": N_STEPS, "internal_batch_size": CHUNK}
        return [method.attribute(x.clone(), select, **options) for x in p.pair]

    return other, _integrated(p)


def neuron_gradient(p: Workload) -> tuple[Run, Run]:
    method = ca.NeuronGradient(p.model, p.model.get_submodule(p.layer))

    def other() -> object:
        select = _selector(constant(p))
        return [method.attribute(x.clone(), select) for x in p.pair]

    return other, pair_gradient(p)[0]


def explicit_jacobian(p: Workload) -> tuple[Run, Run]:
    def other() -> object:
        c = constant(p)[0]
        return [torch.einsum("d,dchw->chw", c, _jacobian(p, x))[None] for x in p.pair]

    return other, pair_gradient(p)[0]


def grad_cam(p: Workload) -> tuple[Run, Run]:
    from pytorch_grad_cam import GradCAM

    cam = GradCAM(WholeNetwork(p.model, p.layer), [p.model.get_submodule(p.layer)])

    def other() -> object:
        c = constant(p)[0]
        return [cam(x, targets=[lambda z: (z * c).sum()]) for x in p.pair]

    return other, partial(LayerParallelBackprop(p.encoder).attribute, p.pair, readout=p.w)


ALTERNATIVES: dict[str, Callable[[Workload], tuple[Run, Run]]] = {
    "gain over IntegratedGradients of a wrapper": wrapper_integrated,
    "gain over NeuronIntegratedGradients": neuron_integrated,
    "gain over NeuronGradient": neuron_gradient,
    "gain over the explicit Jacobian": explicit_jacobian,
}
WITH_GRAD_CAM = {"gain over pytorch-grad-cam, coarse maps": grad_cam}


def alternative_rows(quick: bool, device: str, rounds: int) -> list[Timing]:
    """How many times faster the package is; pytorch-grad-cam's row where it is installed."""
    rows = []
    for name, sides in (ALTERNATIVES | (WITH_GRAD_CAM if find_spec("pytorch_grad_cam") else {})).items():
        other, own = sides(make_workload(MODEL, LAYER, device))  # a network of its own: hooks stay on it
        rows.append(compare(name, MODEL, LAYER, other, own, rounds, seconds=1.0 if quick else 4.0))
    return rows


def _integrated(p: Workload) -> Run:
    return partial(ParallelBackprop(p.encoder).attribute, p.pair, readout=p.w, n_steps=N_STEPS)


def _selector(c: Tensor) -> Callable[[Tensor], Tensor]:
    def select(output: Tensor) -> Tensor:
        return (output.mean((2, 3)) * c).sum(1)

    return select


def _jacobian(p: Workload, x: Tensor) -> Tensor:
    """(D, C, H, W), one backward pass per latent."""
    leaf = x.clone().requires_grad_()
    z = p.encoder(leaf)[0]
    return torch.stack([torch.autograd.grad(value, leaf, retain_graph=True)[0][0] for value in z])
