"""Integrated gradients of one or many constants c: sums of gradients along the path, in chunks of bounded memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from captum.attr import Attribution, IntegratedGradients
from captum.attr._utils.approximation_methods import approximation_parameters
from torch import Tensor, nn

from captum_shared.attribution.engine import Attributed, differentiable
from captum_shared.attribution.first_layer import summed_gradients
from captum_shared.attribution.inputs import Arguments
from captum_shared.checks import check_integer, check_number

# Points of the rule with which n_steps="auto" starts; each round doubles them. 36 are as good as 50 of Gauss's.
_FIRST_STEPS = 9
_TOLERANCE, _MAX_STEPS = 0.015, 288


@dataclass(frozen=True)
class Path:
    """Straight paths from baselines `start` to images `x`, (N, ...) both, and constants `shared`, (N, K, D)."""

    x: Tensor
    start: Tensor
    shared: Tensor

    def __getitem__(self, which: Tensor | slice) -> Path:
        return Path(self.x[which], self.start[which], self.shared[which])

    def times_inputs(self, mean: Tensor) -> Tensor:
        """Maps (N, K, ...) of mean gradients along the paths."""
        return mean * (self.x - self.start).unsqueeze(1)


@dataclass(frozen=True)
class Integral:
    """Mean gradients along the paths, (N, K, ...), and how they were found.

    `delta` (N, K) is the error of completeness: the sum of the attributions minus the difference of c . z between image
    and baseline; `n_steps` (N,) are the gradients taken for each image.
    """

    mean: Tensor
    delta: Tensor
    n_steps: Tensor


def is_automatic(arguments: Arguments) -> bool:
    """Whether the steps are chosen by the errors of completeness and of the map."""
    n_steps = arguments.get("n_steps")
    return isinstance(n_steps, str) and n_steps == "auto"


def without_limits(method: Attribution, arguments: Arguments) -> Arguments:
    """The arguments without those that belong to n_steps="auto" only, which are checked here."""
    if not is_automatic(arguments):
        return arguments
    if type(method) is not IntegratedGradients:
        raise ValueError(
            f'n_steps="auto" needs engine IntegratedGradients itself, got {type(method).__name__}; expected a number'
        )
    if "method" in arguments:
        raise ValueError(f'n_steps="auto" has a rule of its own; expected no `method`, got {arguments["method"]!r}')
    if check_number("tolerance", arguments.get("tolerance", _TOLERANCE)) <= 0:
        raise ValueError(f"`tolerance` must be positive, got {arguments['tolerance']!r}")
    check_integer("max_steps", arguments.get("max_steps", _MAX_STEPS))
    return {name: value for name, value in arguments.items() if name not in ("tolerance", "max_steps")}


def integrated_maps(
    method: IntegratedGradients, encoder: nn.Module, x: Tensor, shared: Tensor, arguments: Arguments
) -> Attributed:
    """Maps (N, K, ...) of images `x` for constants `shared` (N, K, D); if automatic, the completeness errors (N, K)."""
    baselines, size = arguments.get("baselines"), arguments["internal_batch_size"]
    start = torch.as_tensor(0.0 if baselines is None else baselines, dtype=x.dtype, device=x.device)
    path = Path(x, start.expand_as(x), shared)
    chunk = None if size is None else check_integer("internal_batch_size", size, also="None")
    delta = None
    if is_automatic(arguments):
        tolerance = check_number("tolerance", arguments.get("tolerance", _TOLERANCE))
        max_steps = check_integer("max_steps", arguments.get("max_steps", _MAX_STEPS))
        integral = refine(encoder, path, chunk, tolerance, max_steps)
        mean, delta = integral.mean, integral.delta
    else:
        rules = approximation_parameters(arguments.get("method", "gausslegendre"))
        sizes, alphas = (rule(arguments.get("n_steps", 50)) for rule in rules)
        mean = weighted_gradients(encoder, path, sizes, alphas, chunk)
    maps = path.times_inputs(mean) if method.multiplies_by_inputs else mean
    return maps.to(x.dtype), delta


def refine(
    encoder: nn.Module, path: Path, chunk: int | None, tolerance: float = _TOLERANCE, max_steps: int = _MAX_STEPS
) -> Integral:
    """A nested rule, doubled for each image until two relative errors are at most `tolerance`.

    The trapezoid rule in u, alpha = u^2: along the path of a ReLU network the gradients jump, most often near the
    baseline, and errors fall as 1 / n for any rule, with a constant that depends on where its points are. Those of the
    coarser rule are half of the finer one's, so that no gradient is computed twice; the baseline has no weight.

    One error is that of completeness, the other that of the map, estimated from its change: each pixel's errors with
    the two rules satisfy error(n)^2 = error(2n)^2 + change^2, if the jumps are independent. The sum over pixels would
    not suffice: it is often right by chance long before the map is. Each image is refined separately, until both errors
    are small for all K constants, or further steps would exceed `max_steps` gradients.
    """
    steps = min(_FIRST_STEPS, max_steps)
    difference = _differences(encoder, path)
    mean = _graded_sum(encoder, path, range(1, steps + 1), steps, chunk)
    delta = _delta(mean, path, difference)
    error = torch.full_like(delta, math.inf)
    taken = torch.full((len(path.x),), steps)
    while 2 * steps <= max_steps:
        coarse = (error > tolerance) | (delta.abs() > tolerance * difference.abs())
        unfinished = coarse.any(dim=1).nonzero().squeeze(1)
        if not len(unfinished):
            break
        steps *= 2
        some, half = path[unfinished], mean[unfinished] / 2
        new = _graded_sum(encoder, some, range(1, steps, 2), steps, chunk)
        finer = half + new
        mean[unfinished] = finer
        delta[unfinished] = _delta(finer, some, difference[unfinished])
        error[unfinished] = _relative_size(new - half, finer, some) / math.sqrt(3)
        taken[unfinished.cpu()] = steps
    return Integral(mean, delta, taken)


def _graded_sum(encoder: nn.Module, path: Path, which: Sequence[int], steps: int, chunk: int | None) -> Tensor:
    """The part of points `which` in the trapezoid rule of `steps` intervals in u = sqrt(alpha): d alpha = 2 u du."""
    alphas = [(k / steps) ** 2 for k in which]
    sizes = [(1 if k == steps else 2) * k / steps**2 for k in which]
    return weighted_gradients(encoder, path, sizes, alphas, chunk)


def _relative_size(change: Tensor, mean: Tensor, path: Path) -> Tensor:
    """Norm of the map's change over that of the map, (N, K); 0 where there is no change."""
    wide = torch.promote_types(path.x.dtype, torch.float32)  # a norm in half precision may overflow
    maps = (path.times_inputs(part).flatten(2) for part in (change, mean))
    size, whole = (torch.linalg.vector_norm(part, dim=2, dtype=wide) for part in maps)
    return torch.where(size > 0, size / whole, 0.0).to(mean.dtype)


def weighted_gradients(
    encoder: nn.Module, path: Path, sizes: Sequence[float], alphas: Sequence[float], chunk: int | None
) -> Tensor:
    """Sum of ``sizes`` times the gradients J^T c at ``alphas`` along the paths, (N, K, ...).

    At most `chunk` points go through the network at once, all of them if None: several steps of all images, or one
    step of some of them.
    """
    n, n_steps = len(path.x), len(alphas)
    most = chunk or n * n_steps
    weights = torch.tensor(sizes, dtype=path.x.dtype, device=path.x.device)  # once: a GPU waits for each such copy
    total = torch.zeros_like(path.x).unsqueeze(1).repeat(1, path.shared.shape[1], *[1] * (path.x.ndim - 1))
    for block in (slice(first, first + most) for first in range(0, n, most)):
        some = path[block]
        n_chunks = -(-n_steps // (most // len(some.x)))
        edges = [n_steps * k // n_chunks for k in range(n_chunks + 1)]  # chunks as even as they can be
        for steps in (slice(*both) for both in itertools.pairwise(edges)):
            _add_chunk(total[block], encoder, some, weights[steps], alphas[steps])
    return total


def _add_chunk(total: Tensor, encoder: nn.Module, path: Path, weights: Tensor, alphas: Sequence[float]) -> None:
    """One forward pass, and a backward pass for each constant, added up at once: no gradient is kept."""
    points = torch.cat([path.start + alpha * (path.x - path.start) for alpha in alphas]).requires_grad_()
    with torch.enable_grad(), differentiable(encoder):
        for some, sums in summed_gradients(encoder(points), points, path.shared, weights):
            total[:, some] += sums


@torch.no_grad()
def _differences(encoder: nn.Module, path: Path) -> Tensor:
    """c . z of the images minus that of the baselines, (N, K)."""
    return torch.einsum("nkd,nd->nk", path.shared, encoder(path.x) - encoder(path.start))


def _delta(mean: Tensor, path: Path, difference: Tensor) -> Tensor:
    return path.times_inputs(mean).flatten(2).sum(2) - difference
