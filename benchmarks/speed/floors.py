"""Hand-written minimal loops: what a careful user would write in plain torch for the same maps, and no more.

All take `body`, a network already cut at its layer; latents are means over positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

Body = Callable[[Tensor], Tensor]
Maps = tuple[Tensor, Tensor]
PENALTIES = np.logspace(-3, 7, 21)


def latents(body: Body, x: Tensor) -> Tensor:
    """Mean over positions, (N, D), of a map (N, D, h, w) or of tokens behind a class token (N, 1 + T, D)."""
    output = body(x)
    return output.mean((2, 3)) if output.ndim == 4 else output[:, 1:].mean(1)


def pair_gradient(body: Body, x: Tensor, y: Tensor, w: Tensor) -> Maps:
    """c and the gradients from one forward pass of each image."""
    maps = neurons_gradient(body, x, y, w[None])
    return maps[0][:, 0], maps[1][:, 0]


def neurons_gradient(body: Body, x: Tensor, y: Tensor, readouts: Tensor) -> Maps:
    """The same for K neurons, readouts (K, D): one forward pass of each image, K backward passes."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    z, z_ref = latents(body, x), latents(body, y)
    c = (readouts * (z * z_ref)[:, None]).detach().unbind(1)
    return _backward(z, x, c), _backward(z_ref, y, c)


def references_gradient(body: Body, x: Tensor, references: Tensor, w: Tensor) -> Maps:
    """The mean map over references (R, C, H, W) on x (1, C, H, W), and the map of that c on the first of them."""
    with torch.no_grad():
        mean = latents(body, references).mean(0)
    x, y = x.clone().requires_grad_(), references[:1].clone().requires_grad_()
    z, z_ref = latents(body, x), latents(body, y)
    c = (w * z * mean).detach()
    return torch.autograd.grad(z, x, c)[0], torch.autograd.grad(z_ref, y, c)[0]


def pair_integrated(body: Body, x: Tensor, y: Tensor, w: Tensor, n_steps: int, chunk: int) -> Maps:
    """Integrated gradients (Gauss-Legendre, from zero) in chunks of `chunk` images; one pair."""
    maps = neurons_integrated(body, x, y, w[None], n_steps, chunk)
    return maps[0][:, 0], maps[1][:, 0]


def neurons_integrated(body: Body, x: Tensor, y: Tensor, readouts: Tensor, n_steps: int, chunk: int) -> Maps:
    """The same for K neurons, readouts (K, D): the forward pass of a chunk serves all of them."""
    with torch.no_grad():
        c = readouts * latents(body, x) * latents(body, y)
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    alphas, sizes = (torch.from_numpy(v).to(x).split(chunk) for v in ((nodes + 1) / 2, weights / 2))
    return _integral(body, x, c, alphas, sizes), _integral(body, y, c, alphas, sizes)


def through_the_whole_network(model: nn.Module, layer: str, x: Tensor, y: Tensor, w: Tensor) -> Maps:
    """`pair_gradient` without cutting the network: the layer is read with a hook, and all that lies behind it runs."""
    outputs: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: outputs.append(output))

    def body(image: Tensor) -> Tensor:
        model(image)
        return outputs.pop()

    try:
        return pair_gradient(body, x, y, w)
    finally:
        handle.remove()


def latents_of_layers(model: nn.Module, layers: Sequence[str], batches: Sequence[Tensor]) -> list[np.ndarray]:
    """Mean latents (n, D) of several layers, each image once through the network."""
    outputs: list[Tensor] = []
    handles = [
        model.get_submodule(layer).register_forward_hook(lambda module, inputs, y: outputs.append(y.mean((2, 3))))
        for layer in layers
    ]
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    return [torch.cat(outputs[k :: len(layers)]).double().cpu().numpy() for k in range(len(layers))]


def ridge(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions (m, K) by ridge regressions (n, D) on (n, K), each with the penalty of least leave-one-out error."""
    values, vectors = np.linalg.eigh((x - x.mean(0)) @ (x - x.mean(0)).T)
    turned = vectors.T @ (y - y.mean(0))
    best, dual = np.full(y.shape[1], np.inf), np.zeros_like(y)
    for alpha in PENALTIES:
        inverse = 1 / (values.clip(0) + alpha)
        found = vectors @ (inverse[:, None] * turned)
        error = ((found / (vectors**2 @ inverse - 1 / (len(x) * alpha))[:, None]) ** 2).mean(0)
        dual[:, error < best], best = found[:, error < best], np.minimum(error, best)
    result: np.ndarray = (test - x.mean(0)) @ ((x - x.mean(0)).T @ dual) + y.mean(0)
    return result


def _backward(z: Tensor, x: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
    last = len(constants) - 1
    return torch.stack([torch.autograd.grad(z, x, c, retain_graph=k < last)[0] for k, c in enumerate(constants)], dim=1)


def _integral(body: Body, x: Tensor, c: Tensor, alphas: tuple[Tensor, ...], sizes: tuple[Tensor, ...]) -> Tensor:
    total = x.new_zeros(1, len(c), *x.shape[1:])
    for some, own in zip(alphas, sizes, strict=True):
        points = (some.view(-1, 1, 1, 1) * x).requires_grad_()
        z = latents(body, points)
        for k, constant in enumerate(c):
            gradient = torch.autograd.grad(z, points, constant.expand_as(z), retain_graph=k < len(c) - 1)[0]
            total[0, k] += torch.tensordot(own, gradient, dims=1)
    return total * x
