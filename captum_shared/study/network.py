"""The network under study: the layers and poolings to choose from, and an encoder for each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_shared.encoder import LatentEncoder
from captum_shared.encoder.latents import Pool
from captum_shared.encoder.layers import LayerScan, candidate_layers
from captum_shared.identity import ImageTransform
from captum_shared.images import open_rgb


@dataclass(frozen=True)
class Network:
    """A network with the layers and poolings to choose from."""

    scanner: LatentEncoder | LayerScan  # turns images into the latents of all candidates, side by side
    candidates: list[tuple[str, Pool]]
    widths: list[int]  # how many latents each candidate has
    transform: ImageTransform  # of the images

    @property
    def device(self) -> torch.device:
        """The device it computes on."""
        return device_of(self.scanner)

    def columns(self, candidate: int) -> slice:
        """The columns of a candidate's latents among those of all."""
        start = sum(self.widths[:candidate])
        return slice(start, start + self.widths[candidate])

    def cells(self, candidate: int) -> int:
        """How many cells of a grid a candidate's latents describe, channels first: 16 for a 4 x 4 grid."""
        pool = self.candidates[candidate][1]
        return pool**2 if isinstance(pool, int) else 1

    def encoder(self, candidate: int, transform: nn.Module) -> LatentEncoder:
        """The encoder of one candidate alone, followed by a transform of its latents."""
        transform = transform.to(self.device)
        if isinstance(self.scanner, LatentEncoder):  # a copy of the same network, as fast and as precise
            encoder = copy.deepcopy(self.scanner, {id(self.scanner.model): self.scanner.model})
            encoder.transform = transform if encoder.transform is None else _InTurn(encoder.transform, transform)
            return encoder
        layer, pool = self.candidates[candidate]
        return LatentEncoder(self.scanner.model, layer, pool, transform)

    def layer(self, candidate: int) -> str:
        """The layer of a candidate; empty where there is none."""
        return self.candidates[candidate][0] if candidate >= 0 else ""

    def pool(self, candidate: int) -> str:
        """The pooling of a candidate, as text."""
        pool = self.candidates[candidate][1]
        return str(pool) if isinstance(pool, str | int) else getattr(pool, "__name__", type(pool).__name__)


class _InTurn(nn.Module):
    """Two transforms of latents, one after the other; the first may be any callable."""

    def __init__(self, first: Callable[[Tensor], Tensor], second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, latents: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(latents))
        return result


def find_network(
    encoder: nn.Module,
    transform: ImageTransform,
    layers: str | Sequence[str] | None,
    pools: Sequence[str | int],
    example: Path,
) -> Network:
    """The candidates of a `LatentEncoder`, its own layer, or of a network, its blocks or those that are named."""
    x = transform_image(transform, example)[None].to(device_of(encoder))
    if isinstance(encoder, LatentEncoder):
        if layers is not None:
            raise ValueError("`layers` is for whole networks; got a LatentEncoder, which already has its layer")
        with torch.no_grad():
            return Network(encoder, [(encoder.layer, encoder.pool)], [encoder(x).shape[1]], transform)
    names = candidate_layers(encoder, x) if layers is None or layers == "auto" else _known_layers(encoder, layers)
    scan = LayerScan(encoder, names, tuple(pools))
    return Network(scan, list(scan.candidates), scan.widths(x), transform)


def transform_image(transform: ImageTransform, path: Path) -> Tensor:
    """One stimulus as the network sees it, (C, H, W)."""
    return transform(open_rgb(path))


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters; the CPU if it has none."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _known_layers(model: nn.Module, layers: str | Sequence[str]) -> list[str]:
    names = [layers] if isinstance(layers, str) else list(layers)
    known = dict(model.named_modules())
    unknown = [name for name in names if name not in known or not name]
    if unknown or not names:
        raise ValueError(f"unknown layer {(unknown or [''])[0]!r}; expected 'auto' or names of model.named_modules(), "
                         f"such as {[name for name in known if name][-3:]}")  # fmt: skip
    return names
