"""Maps of many neurons on the same pair: forward passes are shared, each neuron costs one backward pass."""

from __future__ import annotations

from typing import Any

import torch
from captum.attr import IntegratedGradients
from captum.attr._utils.approximation_methods import approximation_parameters
from torch import Tensor, nn

from captum_shared.attribution.engine import SharedForward, differentiable, run_engine, with_defaults


def neuron_maps(method: Any, forward: SharedForward, x: Tensor, shared: Tensor, arguments: dict[str, Any]) -> Tensor:
    """Maps (N, K, ...) of images `x` (N, ...) for shared weights `shared` (N, K, D)."""
    if type(method) is IntegratedGradients:
        return _integrated_gradients(method, forward.encoder, x, shared, with_defaults(method, x, arguments)).to(
            x.dtype
        )
    return torch.stack([run_engine(method, forward, x, c, arguments) for c in shared.unbind(1)], dim=1)


def vector_jacobian_products(z: Tensor, x: Tensor, shared: Tensor) -> Tensor:
    """J^T c for K constants c per image, J the Jacobian of `z` with respect to `x`: one backward pass each.

    Parameters
    ----------
    z : Tensor (N, D)
        Latents, with their graph.
    x : Tensor (N, ...)
        The images they were computed from.
    shared : Tensor (N, K, D)

    Returns
    -------
    Tensor (N, K, ...)
    """
    last = shared.shape[1] - 1
    products = [torch.autograd.grad(z, x, c, retain_graph=k < last)[0] for k, c in enumerate(shared.unbind(1))]
    return torch.stack(products, dim=1)


def _integrated_gradients(
    method: IntegratedGradients, encoder: nn.Module, x: Tensor, shared: Tensor, arguments: dict[str, Any]
) -> Tensor:
    """Captum's quadrature: `n_steps` points from baseline to image, in chunks of at most `internal_batch_size`."""
    n_steps = arguments.get("n_steps", 50)
    rules = approximation_parameters(arguments.get("method", "gausslegendre"))
    sizes, alphas = (rule(n_steps) for rule in rules)
    start = torch.as_tensor(0.0 if arguments.get("baselines") is None else arguments["baselines"]).to(x).expand_as(x)
    per_chunk = max(1, (arguments["internal_batch_size"] or len(x) * n_steps) // len(x))
    total = torch.zeros_like(x).unsqueeze(1)
    for first in range(0, n_steps, per_chunk):
        chunk = slice(first, first + per_chunk)
        total = total + _weighted_gradients(encoder, x, start, shared, sizes[chunk], alphas[chunk])
    return total * (x - start).unsqueeze(1) if method.multiplies_by_inputs else total


def _weighted_gradients(
    encoder: nn.Module, x: Tensor, start: Tensor, shared: Tensor, sizes: list[float], alphas: list[float]
) -> Tensor:
    points = torch.cat([start + alpha * (x - start) for alpha in alphas]).requires_grad_()
    with torch.enable_grad(), differentiable():
        products = vector_jacobian_products(encoder(points), points, shared.repeat(len(alphas), 1, 1))
    weights = torch.tensor(sizes, dtype=x.dtype, device=x.device)
    return torch.einsum("s,s...->...", weights, products.unflatten(0, (len(alphas), len(x))))
