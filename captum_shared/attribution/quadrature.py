"""Integrated gradients of one or many constants c: sums of gradients along the path, in chunks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import IntegratedGradients
from captum.attr._utils.approximation_methods import approximation_parameters
from torch import Tensor, nn

from captum_shared.attribution.engine import differentiable

# Intervals of the rule with which n_steps="auto" starts; each round doubles them.
_FIRST_INTERVALS = 8
_LIMITS = ("tolerance", "max_steps")
_TOLERANCE, _MAX_STEPS = 0.01, 255


@dataclass(frozen=True)
class Path:
    """Straight paths from baselines `start` to images `x`, (N, ...) both, and constants `shared`, (N, K, D)."""

    x: Tensor
    start: Tensor
    shared: Tensor

    def __getitem__(self, which: Tensor | slice) -> Path:
        return Path(self.x[which], self.start[which], self.shared[which])


@dataclass(frozen=True)
class Integral:
    """Mean gradients along the paths.

    Attributes
    ----------
    mean : Tensor (N, K, ...)
    delta : Tensor (N, K)
        Completeness error: the sum of the attributions minus the difference of c . z between image and baseline.
    n_steps : Tensor (N,)
        Gradients taken for each image.
    """

    mean: Tensor
    delta: Tensor
    n_steps: Tensor


def is_automatic(method: Any, arguments: dict[str, Any]) -> bool:
    """Whether the steps are chosen by the completeness error.

    Raises
    ------
    ValueError
        If they cannot be, or `tolerance` and `max_steps` do not make sense.
    """
    if not _says_auto(arguments):
        return False
    if type(method) is not IntegratedGradients:
        raise ValueError(
            f'n_steps="auto" needs engine IntegratedGradients itself, got {type(method).__name__}; expected a number'
        )
    if "method" in arguments:
        raise ValueError(f'n_steps="auto" has a rule of its own; expected no `method`, got {arguments["method"]!r}')
    if not arguments.get("tolerance", _TOLERANCE) > 0:
        raise ValueError(f"`tolerance` must be positive, got {arguments['tolerance']!r}")
    if not arguments.get("max_steps", _MAX_STEPS) >= 1:
        raise ValueError(f"`max_steps` must be at least 1, got {arguments['max_steps']!r}")
    return True


def without_limits(method: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments without those that belong to n_steps="auto" only."""
    limits = _LIMITS if is_automatic(method, arguments) else ()
    return {name: value for name, value in arguments.items() if name not in limits}


def _says_auto(arguments: dict[str, Any]) -> bool:
    n_steps = arguments.get("n_steps")
    return isinstance(n_steps, str) and n_steps == "auto"


def integrated_maps(
    method: IntegratedGradients, encoder: nn.Module, x: Tensor, shared: Tensor, arguments: dict[str, Any]
) -> Tensor:
    """Maps (N, K, ...) of images `x` for constants `shared` (N, K, D)."""
    if _says_auto(arguments):
        return automatic_maps(method, encoder, x, shared, arguments)[0]
    path = _path(x, shared, arguments)
    rules = approximation_parameters(arguments.get("method", "gausslegendre"))
    sizes, alphas = (rule(arguments.get("n_steps", 50)) for rule in rules)
    mean = weighted_gradients(encoder, path, sizes, alphas, arguments["internal_batch_size"])
    return _maps(method, mean, path)


def automatic_maps(
    method: IntegratedGradients, encoder: nn.Module, x: Tensor, shared: Tensor, arguments: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """The same with n_steps="auto", and the completeness errors (N, K)."""
    path = _path(x, shared, arguments)
    limits = {name: arguments[name] for name in _LIMITS if name in arguments}
    integral = refine(encoder, path, arguments["internal_batch_size"], **limits)
    return _maps(method, integral.mean, path), integral.delta


def _path(x: Tensor, shared: Tensor, arguments: dict[str, Any]) -> Path:
    baselines = arguments.get("baselines")
    start = torch.as_tensor(0.0 if baselines is None else baselines, dtype=x.dtype, device=x.device)
    return Path(x, start.expand_as(x), shared)


def _maps(method: IntegratedGradients, mean: Tensor, path: Path) -> Tensor:
    maps = mean * (path.x - path.start).unsqueeze(1) if method.multiplies_by_inputs else mean
    return maps.to(path.x.dtype)


def refine(
    encoder: nn.Module, path: Path, chunk: int | None, tolerance: float = _TOLERANCE, max_steps: int = _MAX_STEPS
) -> Integral:
    """A nested rule, doubled for each image until its relative completeness error is at most `tolerance`.

    The trapezoid rule in t, alpha = (1 - cos t) / 2: like Gauss's, its points are dense at both ends of the path, where
    the gradients change most; unlike Gauss's, those of the coarser rule are half of the finer one's, so that no
    gradient is computed twice. The ends themselves have no weight. Weights are normalised to one. Images go on by
    themselves, until their error is small for all K constants or no more than `max_steps` gradients would allow it.
    """
    intervals = min(_FIRST_INTERVALS, max_steps + 1)
    difference = _differences(encoder, path)
    total, weight = _cosine_sum(encoder, path, [k / intervals for k in range(1, intervals)], chunk)
    mean = total / weight
    delta = _delta(mean, path, difference)
    steps = torch.full((len(path.x),), intervals - 1)
    while 2 * intervals - 1 <= max_steps:
        unfinished = (delta.abs() > tolerance * difference.abs()).any(dim=1).nonzero().squeeze(1)
        if not len(unfinished):
            break
        some = path[unfinished]
        new, more = _cosine_sum(encoder, some, [(k + 0.5) / intervals for k in range(intervals)], chunk)
        total[unfinished] += new
        weight += more
        mean[unfinished] = total[unfinished] / weight
        delta[unfinished] = _delta(mean[unfinished], some, difference[unfinished])
        steps[unfinished.cpu()] += intervals
        intervals *= 2
    return Integral(mean, delta, steps)


def _cosine_sum(encoder: nn.Module, path: Path, places: Sequence[float], chunk: int | None) -> tuple[Tensor, float]:
    """Gradients at t = pi times `places`, times sin t, added up; and the sum of the sines."""
    sines = [math.sin(math.pi * t) for t in places]
    alphas = [(1 - math.cos(math.pi * t)) / 2 for t in places]
    return weighted_gradients(encoder, path, sines, alphas, chunk), sum(sines)


def weighted_gradients(
    encoder: nn.Module, path: Path, sizes: Sequence[float], alphas: Sequence[float], chunk: int | None
) -> Tensor:
    """Sum of ``sizes`` times the gradients J^T c at ``alphas`` along the paths, (N, K, ...).

    At most `chunk` points go through the network at once, all of them if None: several steps of all images, or one
    step of some of them.
    """
    n, n_steps = len(path.x), len(alphas)
    most = chunk or n * n_steps
    total = torch.zeros_like(path.x).unsqueeze(1).repeat(1, path.shared.shape[1], *[1] * (path.x.ndim - 1))
    for block in (slice(first, first + most) for first in range(0, n, most)):
        some = path[block]
        per_chunk = most // len(some.x)
        for own in (slice(first, first + per_chunk) for first in range(0, n_steps, per_chunk)):
            _add_chunk(total[block], encoder, some, sizes[own], alphas[own])
    return total


def _add_chunk(total: Tensor, encoder: nn.Module, path: Path, sizes: Sequence[float], alphas: Sequence[float]) -> None:
    """One forward pass, and a backward pass for each constant, added up at once: no gradient is kept."""
    points = torch.cat([path.start + alpha * (path.x - path.start) for alpha in alphas]).requires_grad_()
    weights = torch.tensor(sizes, dtype=points.dtype, device=points.device)
    last = path.shared.shape[1] - 1
    with torch.enable_grad(), differentiable():
        z = encoder(points)
        for k, c in enumerate(path.shared.unbind(1)):
            (gradient,) = torch.autograd.grad(z, points, c.repeat(len(alphas), 1), retain_graph=k < last)
            total[:, k] += torch.tensordot(weights, gradient.unflatten(0, (len(alphas), -1)), dims=1)


@torch.no_grad()
def _differences(encoder: nn.Module, path: Path) -> Tensor:
    """c . z of the images minus that of the baselines, (N, K)."""
    return torch.einsum("nkd,nd->nk", path.shared, encoder(path.x) - encoder(path.start))


def _delta(mean: Tensor, path: Path, difference: Tensor) -> Tensor:
    return (mean * (path.x - path.start).unsqueeze(1)).flatten(2).sum(2) - difference
