"""Sanity checks: does a map depend on what it is meant to explain?

Each check takes a function that makes maps, so that any Captum method can be checked, and returns rank correlations of
maps. If they are near 1, the change made no difference to the map.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from captum_shared.checks import check_integer, check_network, check_tensor, describe


def rank_correlation(maps: Tensor, others: Tensor) -> Tensor:
    """Compute Spearman's correlation of each map with its counterpart.

    Parameters
    ----------
    maps, others : Tensor (N, ...)
        Finite, of the same shape.

    Returns
    -------
    Tensor (N,), float64
        In [-1, 1]. A constant map has no ranks: its correlation is 0.

    Raises
    ------
    ValueError
        If the shapes differ, or a map is not finite.

    Examples
    --------
    >>> maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> [round(float(rank_correlation(maps, other)), 6) for other in (maps.exp(), -maps)]
    [1.0, -1.0]
    """
    check_tensor("maps", maps)
    check_tensor("others", others)
    if maps.shape != others.shape or maps.ndim < 2:
        raise ValueError(
            f"maps must be (N, ...) and of the same shape, got {tuple(maps.shape)} and {tuple(others.shape)}"
        )
    if not bool(maps.isfinite().all() and others.isfinite().all()):
        raise ValueError("maps must be finite, got NaN or infinite values")
    a, b = (_centered_ranks(m.detach().cpu().double().flatten(1)) for m in (maps, others))
    lengths = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(lengths > 0, (a * b).sum(1) / lengths, torch.zeros_like(lengths))


def cascading_randomization(
    model: nn.Module, explain: Callable[[nn.Module], Tensor], *, seed: int = 0
) -> dict[str, float]:
    """Randomize a network layer by layer, from the output to the input, and see how the maps change.

    Parameters
    ----------
    model : nn.Module
        Not changed: a copy is randomized.
    explain : callable
        Network -> maps (N, ...), by any method.
    seed : int
        For the random parameters.

    Returns
    -------
    dict of str to float
        Name of the layer down to which the network is random -> mean rank correlation of the maps with those of the
        original network. The last entry is for the fully randomized network; for a map that depends on what the network
        has learned, it is near 0.

    Raises
    ------
    ValueError
        If no module of the network has ``reset_parameters``.

    References
    ----------
    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1)), torch.rand(2, 3, 8, 8)
    >>> def gradients(model):
    ...     leaf = x.clone().requires_grad_()
    ...     return torch.autograd.grad(model(leaf).sum(), leaf)[0]
    >>> list(cascading_randomization(model, gradients))
    ['3', '0']
    """
    check_network(model)
    _check_callable(explain, "network -> maps (N, ...)")
    copy = deepcopy(model)
    layers = [(name, module) for name, module in copy.named_modules() if hasattr(module, "reset_parameters")]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no module with reset_parameters; nothing to randomize")
    original = explain(model)
    correlations = {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, module in reversed(layers):
            _reset_on_cpu(module)
            correlations[name] = float(rank_correlation(original, explain(copy)).mean())
    return correlations


def readout_randomization(
    weight: Tensor, explain: Callable[[Tensor], Tensor], *, repeats: int = 5, seed: int = 0
) -> float:
    """Shuffle a neuron's readout among the latents, and see how the maps change.

    Parameters
    ----------
    weight : Tensor (D,)
        Readout of the neuron.
    explain : callable
        Readout (D,) -> maps (N, ...), by any method.
    repeats : int
        Random orders to average over.
    seed : int
        For the orders.

    Returns
    -------
    float
        Mean rank correlation of the maps with those of the original readout.

    Raises
    ------
    ValueError
        If the weight is not (D,) or `repeats` is not positive.

    Examples
    --------
    >>> z = torch.randn(2, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    >>> weight = torch.tensor([4.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    >>> readout_randomization(weight, lambda w: torch.einsum("d,ndhw->nhw", w, z), repeats=10) < 0.9
    True
    """
    _check_callable(explain, "readout (D,) -> maps (N, ...)")
    if check_tensor("weight", weight).ndim != 1:
        raise ValueError(f"`weight` must be (D,), got {describe(weight)}")
    check_integer("repeats", repeats)
    generator = torch.Generator().manual_seed(seed)
    original = explain(weight)
    orders = [torch.randperm(len(weight), generator=generator) for _ in range(repeats)]
    each = [rank_correlation(original, explain(weight[order.to(weight.device)])).mean() for order in orders]
    return float(torch.stack(each).mean())


def reference_swap(reference: Tensor, other: Tensor, explain: Callable[[Tensor], Tensor]) -> float:
    """Swap the reference, and see how the maps of the same images change.

    Parameters
    ----------
    reference, other : Tensor (N, C, H, W)
        Two references for each image.
    explain : callable
        References -> maps of the images (N, ...), by any method; one that ignores the reference gives 1.

    Returns
    -------
    float
        Mean rank correlation of the maps of the same images.

    Raises
    ------
    TypeError, ValueError
        If the references are not tensors, `explain` is not callable, or its maps differ in shape or are not finite.

    Examples
    --------
    >>> x, reference, other = torch.rand(3, 2, 3, 8, 8)
    >>> round(reference_swap(reference, other, lambda y: x), 6)  # a map that ignores the reference
    1.0
    """
    _check_callable(explain, "references -> maps (N, ...)")
    check_tensor("reference", reference)
    check_tensor("other", other)
    return float(rank_correlation(explain(reference), explain(other)).mean())


def _check_callable(explain: object, takes: str) -> None:
    if not callable(explain):
        raise TypeError(f"`explain` must be callable, {takes}, got {type(explain).__name__}")


def _reset_on_cpu(module: nn.Module) -> None:
    """Random parameters from the CPU's generator: the same for every device, whose generators are left alone."""
    where = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
    module.cpu().reset_parameters()  # type: ignore[operator]
    if len(where) == 1:
        module.to(where.pop())


def _centered_ranks(values: Tensor) -> Tensor:
    """Ranks of each row with ties averaged, minus their mean, (N, n)."""
    ordered = values.sort(dim=1).values
    low = torch.searchsorted(ordered, values.contiguous(), right=False)
    high = torch.searchsorted(ordered, values.contiguous(), right=True)
    ranks = (low + high).double() / 2
    return ranks - ranks.mean(dim=1, keepdim=True)
