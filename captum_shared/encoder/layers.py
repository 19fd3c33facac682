"""Several layers of a network at once: which ones to try, and all their latents from one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captum_shared.checks import check_images, check_tensor, network_refusals
from captum_shared.encoder.latents import LatentEncoder, as_map, pool_map
from captum_shared.encoder.reading import Pass, Reader

MOST_LAYERS = 12
FEWEST_BLOCKS = 4
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_IDLE = (nn.Dropout, nn.Identity, nn.Flatten, nn.AdaptiveAvgPool2d)


def candidate_layers(model: nn.Module, example: Tensor, most: int = MOST_LAYERS) -> list[str]:
    """Name the layers worth trying: the network's blocks, in the order in which they run.

    Blocks are the members of the network's containers (`Sequential`, `ModuleList`) that have parts themselves, such as
    residual blocks, Fire modules, transformer layers. Where a member returns a tuple, the part of it that made the
    first tensor counts instead. A network with fewer than four blocks is treated as a plain stack, whose activation and
    pooling layers count instead. Only layers with positions that are called once in a forward pass are returned; if
    there are more than `most`, that many evenly spaced ones, including the last. `example` is an image, (1, C, H, W).
    """
    called = _called_once_with_positions(model, example)
    blocks = [name for name in called if any(True for _ in model.get_submodule(name).children())]
    quiet = [name for name in called if not any(True for _ in model.get_submodule(name).parameters())]
    layers = blocks if len(blocks) >= FEWEST_BLOCKS else (quiet or called)
    if not layers:
        raise ValueError(
            f"found no block with positions in {type(model).__name__}; expected the names of layers, as in "
            "model.named_modules(), instead of 'auto'"
        )
    if len(layers) <= most:
        return layers
    return [layers[round((i + 1) * len(layers) / most) - 1] for i in range(most)]


class LayerScan(nn.Module):
    """Latents of many (layer, pooling) candidates, side by side, from one forward pass.

    Each layer is called once and has positions; the pools are "avg", "max" or integers, as in `LatentEncoder`.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], pools: Sequence[str | int]) -> None:
        super().__init__()
        self.model = model
        self.layers = tuple(layers)
        self.pools = tuple(pools)
        self.training = model.training
        self._reader = Reader()

    @property
    def candidates(self) -> list[tuple[str, str | int]]:
        """(layer, pool), in the order of the latents."""
        return [(layer, pool) for layer in self.layers for pool in self.pools]

    def widths(self, example: Tensor) -> list[int]:
        """How many latents each candidate has, for images like `example` (1, C, H, W)."""
        with torch.no_grad():
            return [z.shape[1] for z in self._each(example)]

    def forward(self, x: Tensor) -> Tensor:
        """Latents of all candidates, (N, sum of D), of images `x` (N, C, H, W)."""
        return torch.cat(self._each(x), dim=1)

    def _each(self, x: Tensor) -> list[Tensor]:
        def pooled(layer: str, output: object) -> list[Tensor]:
            grid = as_map(check_tensor(layer, output).detach(), x.shape[-2:])
            return [pool_map(grid, pool).clone() for pool in self.pools]  # not a view of what may change

        taken = self._reader.read(self.model, self.layers, x, pooled)
        return [z for layer in self.layers for z in taken[layer]]


class SharedPass:
    """The outputs, tensors, of several encoders' layers in one network, from one forward pass."""

    def __init__(self, encoders: Sequence[LatentEncoder]) -> None:
        self.encoders = list(encoders)
        self._reader = Reader()

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Each encoder's `layer_output` of images `x` (N, C, H, W), without gradients."""
        model = self.encoders[0].model
        layers = list(dict.fromkeys(encoder.layer for encoder in self.encoders))
        with torch.no_grad(), network_refusals(check_images(x), model, f"layers {layers}"):
            taken = self._reader.read(model, layers, x, _copied)
        return [taken[encoder.layer] for encoder in self.encoders]


def _copied(layer: str, output: object) -> Tensor:
    """A copy, since the network may later change the output in place."""
    return check_tensor(layer, output).detach().clone()


def _members(model: nn.Module, prefix: str = "") -> dict[str, nn.Module]:
    """Members of the network's containers by name; what holds a long row of blocks counts as a container."""
    members: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if type(child) in _CONTAINERS or _holds_a_row(child):
            members |= _members(child, f"{prefix}{name}.")
        elif not isinstance(child, _IDLE):
            members[prefix + name] = child
    return members


def _holds_a_row(module: nn.Module) -> bool:
    """Whether a container somewhere inside has four members of one class that have parts themselves."""
    rows = (part for part in module.modules() if type(part) in _CONTAINERS)
    kinds = (Counter(type(member) for member in row.children() if any(member.children())) for row in rows)
    return any(max(count.values(), default=0) >= FEWEST_BLOCKS for count in kinds)


def _called_once_with_positions(model: nn.Module, example: Tensor) -> list[str]:
    """Members of containers, in the order of the calls; for one that returns a tuple, what made its first tensor."""
    members = _members(model)
    parts = {name: part for name, part in model.named_modules(remove_duplicate=False) if name}
    made: dict[int, tuple[str, object]] = {}  # the part that made a tensor, which is kept: no other gets its number

    def take(name: str, output: object) -> bool:
        first = output[0] if isinstance(output, tuple) and output else output
        if first is output and (id(output) not in made or any(True for _ in parts[name].children())):
            made[id(output)] = name, output
        elif name in members and id(first) in made:
            inner = made[id(first)][0]
            members[inner] = parts[inner]
        return _has_positions(output, example)

    run = Pass(model, parts, take)
    with torch.no_grad():
        run.run(example)
    return [name for name, found in run.taken.items() if found and name in members and run.calls[name] == 1]


def _has_positions(output: object, example: Tensor) -> bool:
    """A single number per token, as pooling along the tokens leaves it, is none."""
    if not isinstance(output, Tensor) or output.ndim not in (3, 4) or (output.ndim == 3 and output.shape[2] == 1):
        return False
    try:
        return as_map(output, example.shape[-2:]).shape[-2:].numel() > 1
    except ValueError:
        return False
