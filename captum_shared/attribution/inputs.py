"""Checks of what an attribution of pairs takes: the pair, the readout, the shared weights."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor, nn

from captum_shared.checks import (
    NO_GRADIENT_THROUGH_INFERENCE,
    check_finite,
    check_images,
    check_integer,
    check_number,
    check_tensor,
    describe,
    is_finite,
)
from captum_shared.similarity.rules import check_shared

Pair = tuple[Tensor, Tensor]
Target = int | Sequence[int] | Tensor
Readout = Tensor | np.ndarray | nn.Module
Baseline = float | Tensor | Callable[..., object]
Baselines = Baseline | tuple[Baseline, Baseline]
Arguments = Mapping[str, object]
"""What an engine is called with, by name."""

_COUNTS = ("n_steps", "n_samples", "nt_samples", "perturbations_per_eval")
_OPTIONAL_COUNTS = ("internal_batch_size", "nt_samples_batch_size")


def check_pair(inputs: object, encoder: nn.Module) -> Pair:
    """The two batches of as many finite images on the encoder's device, detached from any graph."""
    if not isinstance(inputs, tuple) or len(inputs) != 2:
        found = f"a tuple of {len(inputs)}" if isinstance(inputs, tuple) else f"a {type(inputs).__name__}"
        raise TypeError(f"`inputs` must be a tuple (images, references) of two tensors, got {found}")
    x, x_ref = (_check_side(name, value, encoder) for name, value in zip(("images", "references"), inputs, strict=True))
    if len(x) != len(x_ref):
        raise ValueError(f"images and references must come in pairs, got {len(x)} images and {len(x_ref)} references")
    if x.device != x_ref.device:
        raise ValueError(f"images are on {x.device}, references are on {x_ref.device}; expected one device")
    if any(module.training for module in encoder.modules() if _depends_on_mode(module)):
        warnings.warn(
            "the encoder is in training mode: dropout and batch normalization make the maps random and dependent on "
            "the batch; call encoder.eval()",
            stacklevel=_level_of_the_user(),
        )
    return x, x_ref


def check_encoder(encoder: object) -> nn.Module:
    """The encoder, if it is a module that gradients can pass: not one made in inference mode."""
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"`encoder` must be an nn.Module (N, C, H, W) -> (N, D), got {type(encoder).__name__}")
    if any(value.is_inference() for value in (*encoder.parameters(), *encoder.buffers())):
        raise ValueError(NO_GRADIENT_THROUGH_INFERENCE)
    return encoder


def resolve_weight(readout: object, target: object, z: Tensor) -> Tensor:
    """The readout of the neuron, or of one neuron per pair, as (D,) or (N, D), like the latents `z` (N, D)."""
    if readout is None:
        raise ValueError("`readout` is missing: expected readout=w, (D,) or (N, D), or a LinearReadout with `target`")
    weight = (
        _module_weight(readout, target, len(z)) if isinstance(readout, nn.Module) else _tensor_weight(readout, target)
    )
    n, d = z.shape
    if tuple(weight.shape) not in ((d,), (1, d), (n, d)):
        raise ValueError(
            f"`readout` must be (D,) = ({d},) or (N, D) = ({n}, {d}), got shape {tuple(weight.shape)}. Under "
            "NoiseTunnel and sensitivity_max, which repeat pairs, pass a LinearReadout with one `target` per pair"
        )
    check_finite("readout", weight)
    return (weight[0] if len(weight) == 1 and weight.ndim == 2 else weight).to(z)


def resolve_weights(readouts: object, z: Tensor) -> Tensor:
    """The readouts of K neurons, (K, D), like the latents `z` (N, D)."""
    weights = readouts.weight if isinstance(readouts, nn.Module) else _tensor_weight(readouts, None)
    if not isinstance(weights, Tensor) or weights.ndim != 2 or weights.shape[1] != z.shape[1]:
        raise ValueError(f"`readouts` must be (K, D) with D = {z.shape[1]}, got {describe(weights)}")
    return check_finite("readouts", weights.detach()).to(z)


def check_given_shared(shared: object, z: Tensor) -> Tensor:
    """Shared weights c given by the user, if they are finite and of the shape of the latents `z` (N, D)."""
    if not isinstance(shared, Tensor) or shared.shape != z.shape:
        n, d = z.shape
        raise ValueError(
            f"the shared weights c in `additional_forward_args` must be (N, D) = ({n}, {d}), got {describe(shared)}"
        )
    check_device("the shared weights c in `additional_forward_args`", shared, z)
    return check_shared(differentiable_copy(shared))


def resolve_reference(reference_latents: object, z: Tensor) -> Tensor:
    """Latents to take instead of the references', (D,) or (N, D), like the latents `z` (N, D)."""
    n, d = z.shape
    latents = check_tensor("reference_latents", reference_latents)
    if tuple(latents.shape) not in ((d,), (1, d), (n, d)):
        raise ValueError(f"`reference_latents` must be (D,) = ({d},) or (N, D) = ({n}, {d}), got {describe(latents)}")
    return check_finite("reference_latents", latents.detach()).to(z)


def check_counts(arguments: Arguments) -> None:
    """Refuse numbers of steps and samples of an engine that are not positive integers."""
    for name in _COUNTS:
        if name in arguments and arguments[name] != "auto":
            check_integer(name, arguments[name], also="'auto'" if name == "n_steps" else "")
    for name in _OPTIONAL_COUNTS:
        if arguments.get(name) is not None:
            check_integer(name, arguments[name], also="None")


def check_baseline(baseline: object, x: Tensor, distribution: bool) -> None:
    """Refuse what cannot be the baseline of the images `x` (N, ...): a number, one tensor for each or one for all.

    If the engine takes a `distribution` of baselines, there may be any number of them, (B, ...), or a function.
    """
    if baseline is None or (distribution and callable(baseline)):
        return
    if isinstance(baseline, Real):
        check_number("baselines", baseline)
        return
    if not isinstance(baseline, Tensor):
        raise TypeError(f"`baselines` must be a number or a tensor, got {type(baseline).__name__}")
    if baseline.dtype != x.dtype:
        raise TypeError(f"`baselines` must be of the images' dtype, {x.dtype}, got {baseline.dtype}")
    if baseline.shape[1:] != x.shape[1:] or not (distribution or len(baseline) in (1, len(x))):
        raise ValueError(
            f"`baselines` must be a number or of the images' shape, {tuple(x.shape)}, one for each or one for all, got "
            f"{describe(baseline)}"
        )
    check_finite("baselines", baseline)


def differentiable_copy(x: Tensor) -> Tensor:
    """The tensor without its graph; a copy if it was made in inference mode, where gradients cannot use it."""
    return x.detach().clone() if x.is_inference() else x.detach()


def check_device(name: str, value: object, x: Tensor) -> None:
    """Refuse a tensor that is not where the images `x` are."""
    if isinstance(value, Tensor) and value.device != x.device:
        raise ValueError(f"{name} must be on the device of the images, {x.device}, got {value.device}")


def _depends_on_mode(module: nn.Module) -> bool:
    return isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd))


def _level_of_the_user() -> int:
    """The `stacklevel` of the line behind all those of this package and of Captum."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(("captum_shared.", "captum.")):
        level, frame = level + 1, frame.f_back
    return level


def _check_side(name: str, images: object, encoder: nn.Module) -> Tensor:
    x = check_images(images, name)
    parameter = next(encoder.parameters(), None)
    if parameter is not None and parameter.device != x.device:
        raise ValueError(f"{name} are on {x.device}, the encoder is on {parameter.device}; expected one device")
    if not is_finite(x):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return differentiable_copy(x)


def _tensor_weight(readout: object, target: object) -> Tensor:
    if not isinstance(readout, (Tensor, np.ndarray)):
        raise TypeError(f"`readout` must be a tensor, an array or a LinearReadout, got {type(readout).__name__}")
    if target is not None:
        raise ValueError("`target` picks a neuron of a LinearReadout; got a target with a readout that is a tensor")
    weight = torch.as_tensor(readout).detach()
    if not weight.is_floating_point() or weight.ndim == 0:
        raise ValueError(f"`readout` must be floating point, (D,) or (N, D), got {weight.dtype} {tuple(weight.shape)}")
    return weight


def _module_weight(readout: nn.Module, target: object, n: int) -> Tensor:
    weight = getattr(readout, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise TypeError(f"`readout` must be a tensor or have a weight (K, D), got {type(readout).__name__}")
    if target is None and len(weight) == 1:
        return weight.detach()
    index = _neuron_index(target, len(weight), n)
    return weight.detach()[index.to(weight.device)]


def _neuron_index(target: object, k: int, n: int) -> Tensor:
    if target is None:
        raise ValueError(f"`target` is missing: the readout has {k} neurons; expected the neuron's index")
    each = target if isinstance(target, (list, tuple)) else [target]
    if isinstance(target, Tensor):
        right = not target.is_floating_point() and not target.is_complex() and target.dtype != torch.bool
    else:
        right = all(isinstance(value, Integral) and not isinstance(value, bool) for value in each)
    if not right:
        raise TypeError(f"`target` must be an int or one int per pair, ({n},), got {target!r}")
    index = torch.as_tensor(target)
    if index.numel() not in (1, n) or index.ndim > 1:
        raise ValueError(f"`target` must be an int or one int per pair, ({n},), got {target!r}")
    if bool((index < 0).any()) or bool((index >= k).any()):
        raise ValueError(f"`target` must be in [0, {k - 1}], got {target!r}")
    return index.reshape(()) if index.numel() == 1 else index
