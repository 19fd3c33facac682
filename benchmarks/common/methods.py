"""The rows of the tables: every method that makes maps of a pair, with the neuron's model and without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from importlib.util import find_spec
from typing import Any

import captum.attr as ca
import numpy as np
import torch
from torch import Tensor, nn

from captum_shared.attribution import LayerParallelBackprop, ParallelBackprop
from captum_shared.attribution.engine import EngineFactory
from captum_shared.encoder import LatentEncoder
from captum_shared.readout import LinearReadout
from captum_shared.selection import is_crossed, rule_center, strongest_drivers
from captum_shared.similarity import MomentRule, moment_rule

N_STEPS = 16
N_REFERENCES = 10


@dataclass
class Neuron:
    """A neuron's model, and what the rules may know about it.

    Attributes
    ----------
    encoder : LatentEncoder
    weight : Tensor (D,)
    other_weight : Tensor (D,)
        The readout of another neuron, for the null row.
    gallery : Tensor (G, D)
        Latents of images that the neuron's responses are known for.
    random_encoder : LatentEncoder
        The same network with random parameters.
    baseline : float
        Of integrated gradients, DeepLift and Occlusion, in the units of the input.
    n_steps : int
        Of integrated gradients.
    """

    encoder: LatentEncoder
    weight: Tensor
    other_weight: Tensor
    gallery: Tensor
    random_encoder: LatentEncoder
    baseline: float
    n_steps: int = N_STEPS

    @cached_property
    def model(self) -> nn.Module:
        return nn.Sequential(self.encoder, LinearReadout(self.weight[None], torch.zeros(1).to(self.weight))).eval()

    @property
    def layer(self) -> nn.Module:
        """The encoder's layer."""
        return self.encoder.model.get_submodule(self.encoder.layer)

    @cached_property
    def drivers(self) -> np.ndarray:
        """Places in the gallery of the images that drive the neuron, strongest first."""
        return strongest_drivers(self.gallery @ self.weight)

    def moments(self, contrast: float, by_cell: bool = True) -> MomentRule:
        """The rule as it ships: of a grid cell by cell, unless of all its latents at once."""
        pool = self.encoder.pool
        return _moment_rule(self.gallery, contrast, pool**2 if by_cell and isinstance(pool, int) else 1)


@lru_cache(maxsize=8)
def _moment_rule(gallery: Tensor, contrast: float, cells: int) -> MomentRule:
    """Once for a gallery: tensors are told apart by identity."""
    return moment_rule(gallery, contrast, cells=cells)


@dataclass(frozen=True)
class Problem:
    """One image, (1, C, H, W), its references, (R, C, H, W), and references that have nothing to do with it."""

    x: Tensor
    references: Tensor
    shuffled: Tensor


Maps = tuple[Tensor, Tensor]
Explain = Callable[[Neuron, Problem], Maps]


@dataclass(frozen=True)
class Method:
    """A method's name, its rule, and how it makes the maps of an image and its reference.

    `unsigned` maps say where the score is sensitive, not in which direction: gradients that are not multiplied by
    the input. Their absolute value is taken before the channels are summed, as Captum's Saliency does.
    Scores are means over `draws` of maps that are random.
    """

    method: str
    rule: str
    explain: Explain
    unsigned: bool = False
    draws: int = 1

    @property
    def name(self) -> str:
        return f"{self.method} {self.rule}".strip()


def _shared(method: Callable[..., ca.Attribution], rule: str, **arguments: object) -> Explain:
    """By a rule; the arguments are the engine's."""

    def explain(neuron: Neuron, problem: Problem) -> Maps:
        made = method(neuron.encoder, **_rule(neuron, rule))
        result: Maps = made.attribute(
            _pair(problem), **_constants(neuron, problem, rule), **_with_own(neuron, arguments)
        )
        return result

    return explain


def _rule(neuron: Neuron, rule: str) -> dict[str, Any]:
    """Rules that are the gradient of a similarity give each image its constant from the other image."""
    name, _, setting = rule.partition(", ")
    crossed = {"constants": "crossed" if is_crossed(name.split()[0]) else "common"}
    if name.startswith("moments"):
        return {"rule": neuron.moments(float(setting.split()[1]), by_cell=name == "moments")} | crossed
    return {"rule": name} | crossed


def _constants(neuron: Neuron, problem: Problem, rule: str) -> dict[str, Any]:
    """What the rule is given: its center, and the mean of several references except for the paper's product."""
    if rule == "product":
        return {"readout": neuron.weight}
    with torch.no_grad():
        z_ref = neuron.encoder(problem.references[:N_REFERENCES]).mean(0)
    center = rule_center("centered" if rule == "dot, centered" else rule, neuron.gallery, neuron.drivers)
    return {"readout": neuron.weight, "reference_latents": z_ref} | ({} if center is None else {"center": center})


RULE_ROWS = ("product", "product, mean", "dot", "dot, centered", "centered", "contrast", "matched",
             "moments, contrast 0", "moments, contrast 0.5", "moments, contrast 1")  # fmt: skip
GRID_ROWS = ("moments of all latents, contrast 0", "moments of all latents, contrast 0.5")
"""Of latents that are a grid of cells, beside `RULE_ROWS`."""


def _readout_alone(make: Callable[[Neuron], ca.Attribution], **arguments: object) -> Explain:
    def explain(neuron: Neuron, problem: Problem) -> Maps:
        method, values = make(neuron), _with_own(neuron, arguments)
        maps = [method.attribute(x.clone().requires_grad_(), target=0, **values).detach() for x in _pair(problem)]
        return maps[0], maps[1]

    return explain


def _similarity(neuron: Neuron, problem: Problem) -> Maps:
    """Where the images are similar to the network, whatever the neuron reads (Stylianou et al. 2019)."""
    with torch.no_grad():
        z, z_ref = (neuron.encoder(x) for x in _pair(problem))
    method = LayerParallelBackprop(neuron.encoder)
    maps = [method.attribute(_pair(problem), additional_forward_args=(c,))[i] for i, c in enumerate((z_ref, z))]
    return maps[0], maps[1]


def _cam_similarity(neuron: Neuron, problem: Problem) -> Maps:
    """Grad-CAM of the cosine similarity to the other image's latents, by pytorch-grad-cam."""
    from pytorch_grad_cam import GradCAM

    with torch.no_grad():
        latents = [neuron.encoder(x)[0] for x in _pair(problem)]
    with GradCAM(model=neuron.encoder, target_layers=[neuron.layer]) as cam:
        maps = [
            torch.from_numpy(cam(x.clone().requires_grad_(), [lambda z, c=c: torch.cosine_similarity(z, c, dim=0)]))[
                :, None
            ]
            for x, c in zip(_pair(problem), reversed(latents), strict=True)
        ]
    return maps[0], maps[1]


def shuffled_reference(method: Callable[..., ca.Attribution], **arguments: object) -> Explain:
    """By the paper's rule, with a reference that has nothing to do with the image."""

    def explain(neuron: Neuron, problem: Problem) -> Maps:
        with torch.no_grad():
            z_ref = neuron.encoder(problem.shuffled[:1])[0]
        own = {"readout": neuron.weight, "reference_latents": z_ref, **_with_own(neuron, arguments)}
        result: Maps = method(neuron.encoder).attribute(_pair(problem), **own)
        return result

    return explain


def _of_each(draw: Callable[[Tensor], Tensor]) -> Explain:
    """What is drawn of each image alone."""

    def explain(neuron: Neuron, problem: Problem) -> Maps:
        x, x_ref = _pair(problem)
        return draw(x), draw(x_ref)

    return explain


def _edges(x: Tensor) -> Tensor:
    """Sobel's gradient magnitude of the brightness, (1, 1, H, W)."""
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(x)
    grey = nn.functional.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    result: Tensor = nn.functional.conv2d(grey, torch.stack([kernel, kernel.T])[:, None]).norm(dim=1, keepdim=True)
    return result


def _bump(x: Tensor) -> Tensor:
    y, u = (torch.linspace(-1, 1, side).to(x) for side in x.shape[-2:])
    return torch.exp(-2 * (y[:, None] ** 2 + u**2))[None, None]


def _pair(problem: Problem) -> Maps:
    return problem.x, problem.references[:1]


def _with_own(neuron: Neuron, arguments: Mapping[str, object]) -> dict[str, Any]:
    """Replace `baselines=True` and `n_steps=True` by the neuron's values."""
    own = {"baselines": neuron.baseline, "n_steps": neuron.n_steps}
    return {name: own[name] if value is True else value for name, value in arguments.items()}


def randomized(encoder: LatentEncoder, seed: int) -> LatentEncoder:
    """A copy with parameters drawn anew."""
    random = deepcopy(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in random.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return random


_IG = {"baselines": True, "n_steps": True}
_WINDOW = {"baselines": True, "sliding_window_shapes": (3, 16, 16), "strides": (3, 8, 8), "perturbations_per_eval": 64}


def pixel_methods() -> list[Method]:
    """ParallelBackprop with each engine and with each rule."""
    engines: dict[str, tuple[EngineFactory, dict[str, object], bool]] = {
        "Saliency": (ca.Saliency, {}, True),
        "InputXGradient": (ca.InputXGradient, {}, False),
        "GuidedBackprop": (ca.GuidedBackprop, {}, True),
        "NoiseTunnel": (lambda forward: ca.NoiseTunnel(ca.Saliency(forward)), {"nt_samples": 8, "stdevs": 0.05}, True),
    }
    rows = [Method("ParallelBackprop(IntegratedGradients)", rule, _shared(ParallelBackprop, rule, **_IG))
            for rule in RULE_ROWS]  # fmt: skip
    for name, (engine, arguments, unsigned) in engines.items():
        explain = _shared(partial(ParallelBackprop, engine=engine), "product", **arguments)
        rows.append(Method(f"ParallelBackprop({name})", "product", explain, unsigned))
    return rows


def layer_methods(rules: Sequence[str] = RULE_ROWS) -> list[Method]:
    """LayerParallelBackprop with each rule."""
    return [Method("LayerParallelBackprop", rule, _shared(LayerParallelBackprop, rule)) for rule in rules]


def readout_methods() -> list[Method]:
    """Captum's methods on the readout alone, and similarity without the readout."""
    rows = [
        Method("Saliency", "", _readout_alone(lambda n: ca.Saliency(n.model), abs=False), True, True),
        Method("IntegratedGradients", "", _readout_alone(lambda n: ca.IntegratedGradients(n.model), **_IG)),
        Method("InputXGradient", "", _readout_alone(lambda n: ca.InputXGradient(n.model))),
        Method("GuidedBackprop", "", _readout_alone(lambda n: ca.GuidedBackprop(n.model)), True, True),
        Method("GradCAM", "", _readout_alone(lambda n: ca.LayerGradCam(n.model, n.layer))),
        Method("GuidedGradCam", "", _readout_alone(lambda n: ca.GuidedGradCam(n.model, n.layer)), True, True),
        Method("DeepLift", "", _readout_alone(lambda n: ca.DeepLift(n.model), baselines=True)),
        Method("Occlusion", "", _readout_alone(lambda n: ca.Occlusion(n.model), **_WINDOW)),
        Method("similarity without weights", "", _similarity),
    ]
    if find_spec("pytorch_grad_cam") is not None:
        rows.append(Method("pytorch-grad-cam similarity", "", _cam_similarity))
    return rows


def null_methods() -> list[Method]:
    """Rows that do not know what is shared."""
    product = _shared(ParallelBackprop, "product", **_IG)
    return [
        # noise drawn anew for every image and reference; torch's generator is seeded by the benchmark
        Method("random map", "", _of_each(torch.randn_like), draws=20),
        Method("edge map", "", _of_each(_edges)),
        Method("centre prior", "", _of_each(_bump)),
        Method("shuffled reference", "product", shuffled_reference(ParallelBackprop, **_IG)),
        Method("shuffled readout", "product", lambda n, p: product(replace(n, weight=n.other_weight), p)),
        Method("randomized network", "product", lambda n, p: product(replace(n, encoder=n.random_encoder), p)),
    ]


def all_methods() -> dict[tuple[str, str], Method]:
    """Every row by its method and rule, in the order of the tables."""
    every = pixel_methods() + layer_methods() + readout_methods() + null_methods()
    return {(method.method, method.rule): method for method in every}
