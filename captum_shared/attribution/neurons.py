"""Maps of many neurons on the same pair: forward passes are shared, each neuron costs one backward pass."""

from __future__ import annotations

import torch
from captum.attr import Attribution, IntegratedGradients
from torch import Tensor

from captum_shared.attribution.engine import (
    SharedForward,
    differentiable,
    is_plain_gradient,
    run_engine,
    with_defaults,
)
from captum_shared.attribution.inputs import Arguments
from captum_shared.attribution.quadrature import integrated_maps


def neuron_maps(method: Attribution, forward: SharedForward, x: Tensor, shared: Tensor, arguments: Arguments) -> Tensor:
    """Maps (N, K, ...) of images `x` (N, ...) for shared weights `shared` (N, K, D)."""
    if type(method) is IntegratedGradients:
        complete = with_defaults(method, forward, x, arguments)
        return integrated_maps(method, forward.encoder, x, shared, complete)[0]
    if is_plain_gradient(method):
        leaf = x.detach().requires_grad_()
        with torch.enable_grad(), differentiable(forward):
            maps = vector_jacobian_products(forward.encoder(leaf), leaf, shared)
        return maps.abs() if arguments.get("abs") else maps
    return torch.stack([run_engine(method, forward, x, c, arguments)[0] for c in shared.unbind(1)], dim=1)


def vector_jacobian_products(z: Tensor, x: Tensor, shared: Tensor) -> Tensor:
    """J^T c, (N, K, ...), for constants c (N, K, D), J the Jacobian of latents `z` in `x`: a backward pass each."""
    last = shared.shape[1] - 1
    products = [torch.autograd.grad(z, x, c, retain_graph=k < last)[0] for k, c in enumerate(shared.unbind(1))]
    return torch.stack(products, dim=1)
