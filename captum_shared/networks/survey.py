"""`survey_layers`: what each layer of a network returns, and whether it can be cut there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from captum_shared.checks import check_images, network_refusals
from captum_shared.encoder.latents import find_layout, token_grid
from captum_shared.encoder.layers import candidate_layers
from captum_shared.encoder.reading import Pass

IMAGES = 2
"""In the pass that surveys, so that the dimension of the images is not taken for another of length one."""
_STRETCH = 1.5


@dataclass(frozen=True)
class SurveyedLayer:
    """A layer as it was in one forward pass."""

    name: str
    kind: str  # its class
    shape: tuple[int, ...] | None  # of its output for one image; None if that is no tensor
    form: str = ""  # "map", "tokens", "vector", or "" if it is none of them
    pools: tuple[str, ...] = ()  # that suit it, "grid" for the side of a grid; empty for vectors, which need none
    reason: str = ""  # why the network cannot be cut here; empty if it can
    block: bool = False  # whether it is tried if the layers to choose from are "auto"


def survey_layers(model: nn.Module, example: Tensor) -> list[SurveyedLayer]:
    """All modules that are called for an image (1, C, H, W), in the order in which they first return.

    A network can be cut at a layer that is called once and returns one floating point tensor, of a row for each image,
    that depends on the images, so that gradients reach them. Layers without parts that only pass on their input, such
    as dropout, are of no use. The network is run in the mode in which it is.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    before: dict[int, tuple[object, float]] = {}

    def take(name: str, output: object) -> SurveyedLayer:
        module = modules[name]
        layer = SurveyedLayer(name, type(module).__name__, _shape(output))
        idle = _passed_on(module, output, before) and not any(True for _ in module.children())
        try:
            form, pools = _form(_readable(output), example.shape[-2:])
        except ValueError as why:
            return replace(layer, reason=str(why))
        return replace(layer, reason="passes on its input") if idle else replace(layer, form=form, pools=pools)

    run = Pass(model, modules, take)
    with network_refusals(check_images(example), model), torch.enable_grad(), frozen(model):
        run.run(example.expand(IMAGES, -1, -1, -1).clone().requires_grad_() + 0)
    try:
        blocks = candidate_layers(model, example)
    except ValueError:
        blocks = []
    layers = []
    for name, layer in run.taken.items():
        if run.calls[name] > 1:
            layer = SurveyedLayer(name, layer.kind, layer.shape, reason=f"called {run.calls[name]} times")
        layers.append(replace(layer, block=name in blocks))
    return layers


def _passed_on(module: nn.Module, output: object, before: dict[int, tuple[object, float]]) -> bool:
    """Whether the module does nothing, or another has returned the same tensor, not changed in place since."""
    if isinstance(module, nn.Identity):
        return True
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return False
    total = float(output.detach().sum())
    earlier = before.get(id(output))
    before[id(output)] = output, total  # kept, so that no other gets its number
    return earlier is not None and earlier[1] == total


def _shape(output: object) -> tuple[int, ...] | None:
    if not isinstance(output, Tensor):
        return None
    return tuple(output.shape[1:] if _has_rows(output) else output.shape)


def _has_rows(output: Tensor) -> bool:
    return output.ndim >= 2 and output.shape[0] == IMAGES


def _readable(output: object) -> Tensor:
    """A layer's output, if latents can be made of it; the error says why not."""
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise ValueError(f"returns {'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}, not a tensor")
    if not _has_rows(output):
        raise ValueError("its first dimension is not that of the images")
    if not output.is_floating_point():
        raise ValueError(f"returns {str(output.dtype).removeprefix('torch.')}")
    if not output.requires_grad:
        raise ValueError("no gradient reaches the images from here")
    if output.ndim > 4:
        raise ValueError("has too many dimensions")
    return output


def _form(output: Tensor, image_size: torch.Size) -> tuple[str, tuple[str, ...]]:
    """What the output is, and which poolings suit it; the error says why it has no positions."""
    if output.ndim == 2:
        return "vector", ()
    if output.ndim == 4:
        sides = output.shape[2:] if find_layout(output, image_size) == "channels_first" else output.shape[1:3]
        if abs(math.log(sides[0] * image_size[1] / (sides[1] * image_size[0]))) > math.log(_STRETCH):
            raise ValueError("its sides do not scale with those of the image")
        return "map", ("avg", "max", "grid") if sides.numel() > 1 else ("avg",)
    if output.shape[2] == 1:
        raise ValueError("has one number for each token")
    try:
        extra, height, width = token_grid(output.shape[1], image_size)
    except ValueError as error:
        raise ValueError(f"its {output.shape[1]} tokens fit no grid") from error
    if height * width == 1 and not extra:
        raise ValueError("has a single token")
    return "tokens", ("avg", "max", *(["cls"] if extra else []), "grid")


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Parameters without gradients: then what has one depends on the images."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
