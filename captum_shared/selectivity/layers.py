"""The maps of several layers from one forward pass, which ends after the last of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from captum_shared.checks import check_network, network_refusals
from captum_shared.encoder.latents import as_map
from captum_shared.encoder.reading import Reader, find_layer

Read = TypeVar("Read")


class LayerReader:
    """Reads layers of a network as maps (N, U, h, w): U units, at h x w positions.

    Maps are reduced while the forward pass runs: afterwards an in-place ReLU may have changed them, and several maps
    together may be large. From the second pass on, nothing behind the last of the layers runs.

    Parameters
    ----------
    model : nn.Module
    layers : sequence of str
        Names from ``model.named_modules()``; the empty name is the model's output. A layer may give a map,
        channels first or last, tokens (the class token and registers belong to no position), or vectors, as
        `LatentEncoder`; vectors are maps of one position.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        self.model = check_network(model)
        if not layers or not all(isinstance(layer, str) for layer in layers):
            raise TypeError(f"`layers` must be a name or a sequence of names of modules, got {layers!r}")
        for layer in layers:
            find_layer(model, layer)
        if len(set(layers)) < len(layers):
            raise ValueError(f"`layers` must name each layer once, got {list(layers)}")
        self.layers = list(layers)
        self._reader = Reader()

    def read(self, x: Tensor, take: Callable[[str, Tensor], Read]) -> dict[str, Read]:
        """What `take` makes of each layer's name and map, for images `x`, (N, C, H, W)."""
        with network_refusals(x, self.model, f"layers {self.layers}"):
            taken: dict[str, Read] = self._reader.read(
                self.model, self.layers, x, lambda name, out: take(name, _as_map(name, out, x.shape))
            )
            return taken


def _as_map(layer: str, output: object, image_shape: torch.Size) -> Tensor:
    """The output of `layer` for images of shape (N, C, H, W) as a map (N, U, h, w)."""
    if not isinstance(output, Tensor):
        raise TypeError(f"layer {layer!r} returned a {type(output).__name__}; expected a tensor: choose a layer inside")
    return output[:, :, None, None] if output.ndim == 2 else as_map(output, image_shape[-2:])
