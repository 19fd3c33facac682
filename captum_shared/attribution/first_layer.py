"""The backward pass of a network's first convolution, which is linear in the images: once for many points.

In a backward pass down to the pixels it is often the most expensive layer, since its output is large. Along a path of
integrated gradients only the sum over points is needed, so the gradients are added up above this layer and go through
it together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

_saved = attrgetter(*(f"_saved_{name}" for name in (
    "weight", "stride", "padding", "dilation", "transposed", "output_padding", "groups",
)))  # fmt: skip


def summed_gradients(z: Tensor, points: Tensor, shared: Tensor, weights: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Weighted sums over points of the gradients J^T c: a backward pass for each constant, from one forward pass.

    Latents `z` (S N, D) come from the leaf `points` (S N, ...), N images for each of S points of a path, which have
    `weights` (S,). Yields which of the K constants `shared` (N, K, D), and their sums (N, k, ...).
    """
    n_points, n_constants = len(weights), shared.shape[1]
    layer = first_convolution(z, points) if min(n_points, n_constants) > 1 else None
    inputs = points if layer is None else GradientEdge(layer, 0)

    def summed(k: int) -> Tensor:
        keep = layer is not None or k < n_constants - 1
        (gradient,) = torch.autograd.grad(z, inputs, shared[:, k].repeat(n_points, 1), retain_graph=keep)
        products: Tensor = torch.tensordot(weights, gradient.unflatten(0, (n_points, -1)), dims=1)
        return products

    if layer is None:
        yield from ((slice(k, k + 1), summed(k).unsqueeze(1)) for k in range(n_constants))
        return
    for start in range(0, n_constants, n_points):
        some = range(n_constants)[start : start + n_points]
        yield slice(some.start, some.stop), _through(layer, [summed(k) for k in some], points)


def first_convolution(z: Tensor, points: Tensor) -> Node | None:
    """The graph's node of the one convolution that `points` go into; None if they go elsewhere, or into several."""
    found: list[tuple[Node, int]] = []
    seen: set[Node] = set()
    left = [z.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for place, (before, _) in enumerate(node.next_functions):
            if getattr(before, "variable", None) is points:
                found.append((node, place))
            left.append(before)
    if len(found) != 1 or found[0][1] != 0 or found[0][0].name() != "ConvolutionBackward0":
        return None
    return found[0][0]


@torch.no_grad()
def _through(layer: Node, sums: Sequence[Tensor], points: Tensor) -> Tensor:
    """Sums (N, ...) of k constants at a convolution's output, as gradients of its input in one pass, (N, k, ...).

    The layer treats each image alone, so the sums take the places of images.
    """
    n_images = len(sums) * len(sums[0])
    weight, *geometry = _saved(layer)
    only_input = [True, False, False]
    gradient = torch.ops.aten.convolution_backward(
        torch.cat(list(sums)), points[:n_images], weight, None, *geometry, only_input
    )[0]
    maps: Tensor = gradient.unflatten(0, (len(sums), -1)).transpose(0, 1)
    return maps
