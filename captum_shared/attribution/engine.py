"""Captum's methods as engines: how one is made, called on one image of the pair, and cleaned up after."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from captum.attr import (
    LRP,
    Attribution,
    DeepLiftShap,
    FeatureAblation,
    FeaturePermutation,
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    Lime,
    Occlusion,
    Saliency,
    ShapleyValues,
    ShapleyValueSampling,
)
from captum.attr._utils.approximation_methods import SUPPORTED_METHODS
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from captum_shared.attribution.inputs import Arguments, Pair, check_baseline, check_counts, check_device
from captum_shared.checks import check_choice, check_integer
from captum_shared.turns import HasModules, turn

EngineFactory = Callable[[nn.Module], Attribution]
Attributed = tuple[Tensor, Tensor | None]
"""A map, and its convergence delta if requested."""

# Arguments of which Captum takes one per input when the inputs are a tuple.
_PER_IMAGE = ("baselines", "feature_mask", "stdevs", "sliding_window_shapes", "strides")
_OURS = ("inputs", "target", "additional_forward_args")
# Bytes that a forward pass of integrated gradients may keep for its backward pass. On a CPU larger chunks leave the
# caches, and of fewer images than four late layers make poor use of their weights; other devices need to be busy.
_CPU_BYTES, _DEVICE_BYTES = 128 * 2**20, 2 * 2**30
_CPU_IMAGES = 4, 8
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Methods that are known not to change the network while they run.
_WITHOUT_HOOKS = (Saliency, IntegratedGradients, InputXGradient, GradientShap, FeatureAblation, FeaturePermutation,
                  Occlusion, ShapleyValueSampling, ShapleyValues, KernelShap, Lime)  # fmt: skip
_NO_GRADIENT = ("does not require grad", "appears to not have been used in the graph", "unreachable")


class SharedForward(nn.Module):
    """The scalar c . z(x) of each image, which the engines explain.

    Since the map is linear in the Jacobian J of the latents, the attribution of this scalar is J^T c.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.training = encoder.training
        self._kept_bytes: dict[tuple[torch.Size, torch.dtype, torch.device], int] = {}

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        """c . z(x), (N,), of images `x` and shared weights `shared` (N, D)."""
        result: Tensor = (self.encoder(x) * shared).sum(dim=1)
        return result

    def kept_bytes(self, x: Tensor) -> int:
        """Bytes of activations that one image like `x` (N, ...) keeps for a backward pass: measured once per shape."""
        key = (x.shape[1:], x.dtype, x.device)
        if key not in self._kept_bytes:
            self._kept_bytes[key] = _measure_kept_bytes(self.encoder, x[:1])
        return self._kept_bytes[key]


def _measure_kept_bytes(encoder: nn.Module, x: Tensor) -> int:
    """From one forward pass: what autograd saves besides the parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in (*encoder.parameters(), *encoder.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = encoder(leaf)  # held until here, so that no storage is counted twice or re-used
        return int(sum(kept.values()) + output.numel() * output.element_size())


def make_engine(factory: object, forward: nn.Module) -> Attribution:
    """The Captum method that `factory`, a class or a callable, makes for the forward module."""
    if isinstance(factory, Attribution) or not callable(factory):
        raise TypeError(
            f"`engine` must be a Captum class or a callable that takes the forward module, got {_name(factory)}; "
            "for example engine=lambda f: NoiseTunnel(IntegratedGradients(f))"
        )
    try:
        method = factory(forward)
    except TypeError as error:
        raise TypeError(f"`engine` {_name(factory)} cannot be made from a forward module alone: {error}") from error
    if not callable(getattr(method, "attribute", None)):
        raise TypeError(f"`engine` must return a Captum method with `attribute`, got {type(method).__name__}")
    return method


def is_plain_gradient(method: Attribution) -> bool:
    """Whether the method is Captum's plain gradient, for which no engine needs a forward pass of its own."""
    return type(method) is Saliency


def _nested(method: Attribution) -> list[Attribution]:
    """The method and those inside it, if it wraps others as NoiseTunnel does; the innermost is the last."""
    methods = [method]
    while hasattr(methods[-1], "attribution_method"):
        methods.append(methods[-1].attribution_method)
    return methods


def check_arguments(method: Attribution, arguments: Arguments) -> None:
    """Refuse arguments that the engine does not take, and numbers and names that cannot be right."""
    if not arguments:
        return
    methods = _nested(method)
    known = {name for each in methods for name in inspect.signature(each.attribute).parameters}
    known -= {"self", "kwargs", "args", *_OURS}
    for name in arguments:
        if name not in known:
            raise TypeError(f"engine {type(method).__name__} takes no argument {name!r}; it takes {sorted(known)}")
    check_counts(arguments)
    if isinstance(methods[-1], IntegratedGradients) and "method" in arguments:
        check_choice("method", arguments["method"], SUPPORTED_METHODS)


def split_arguments(
    method: Attribution, arguments: Arguments, pair: Pair
) -> tuple[dict[str, object], dict[str, object]]:
    """The engine's arguments for the image and for the reference.

    As in Captum, where the inputs are a tuple, an argument may be a tuple of two, one for each.
    """
    baselines = arguments.get("baselines")
    if isinstance(baselines, tuple) and len(baselines) != 2:
        raise ValueError(
            f"`baselines` must be a number, a tensor or a tuple of two, got a tuple of {len(baselines)}; "
            "a tuple holds one for the images and one for the references"
        )
    distribution = isinstance(_nested(method)[-1], (DeepLiftShap, GradientShap))
    sides: tuple[dict[str, object], dict[str, object]] = ({}, {})
    for name, value in arguments.items():
        for side, argument, x in zip(sides, _of_each_image(name, value), pair, strict=True):
            check_device(f"`{name}`", argument, x)
            side[name] = argument
            if name == "baselines":
                check_baseline(argument, x, distribution)
    return sides


def _of_each_image(name: str, value: object) -> tuple[object, object]:
    if name not in _PER_IMAGE or not isinstance(value, tuple) or len(value) != 2:
        return value, value
    if name == "sliding_window_shapes" and not all(isinstance(window, tuple) for window in value):
        return value, value
    return value[0], value[1]


def with_defaults(method: Attribution, forward: SharedForward, x: Tensor, arguments: Arguments) -> Arguments:
    """The arguments with our defaults: signed gradients, and integrated gradients in chunks of bounded memory."""
    inner = _nested(method)[-1]
    if isinstance(inner, Saliency):
        return {"abs": False, **arguments}
    if isinstance(inner, IntegratedGradients) and "internal_batch_size" not in arguments:
        chunk = chunk_size(forward, x)
        if inner is not method:  # Captum sends the noisy samples of a batch through the network at once
            samples = arguments.get("nt_samples_batch_size") or arguments.get("nt_samples", 5)
            chunk = max(chunk, len(x) * check_integer("nt_samples", samples))
        return {"internal_batch_size": chunk, **arguments}
    return arguments


def chunk_size(forward: SharedForward, x: Tensor) -> int:
    """Images like `x` (N, ...) per forward pass of integrated gradients: as many as the bytes allow."""
    kept = max(1, forward.kept_bytes(x))
    if x.device.type != "cpu":
        return max(1, _DEVICE_BYTES // kept)
    fewest, most = _CPU_IMAGES
    return min(max(_CPU_BYTES // kept, fewest), most)


def run_engine(
    method: Attribution, forward: SharedForward, x: Tensor, shared: Tensor, arguments: Arguments
) -> Attributed:
    """The engine's attribution of c . z(x), detached and in the dtype of `x`; the network is left as it was."""
    inner = _nested(method)[-1]
    with nullcontext() if type(inner) in _WITHOUT_HOOKS else unchanged(forward), differentiable(forward):
        complete = with_defaults(method, forward, x, arguments)
        if isinstance(inner, LRP):
            _give_rules_to_idle_modules(forward, x[:1], shared[:1])
        results = [_attribute(method, x[some], shared[some], _of_block(complete, some, len(x)))
                   for some in _blocks(method, len(x), complete)]  # fmt: skip
    if len(results) == 1:
        return results[0]
    deltas = [delta for _, delta in results if delta is not None]
    return torch.cat([maps for maps, _ in results]), torch.cat(deltas) if deltas else None


def _give_rules_to_idle_modules(forward: SharedForward, x: Tensor, shared: Tensor) -> None:
    """LRP has no rule for some modules, and asks for one even if they do not run, after the encoder's layer."""
    thread, busy = threading.get_ident(), set()

    def note(module: nn.Module, inputs: object) -> None:
        if threading.get_ident() == thread:
            busy.add(module)

    with register_module_forward_pre_hook(note), torch.no_grad():
        forward(x, shared)
    for module in set(forward.modules()) - busy:
        if not hasattr(module, "rule"):
            module.rule = EpsilonRule()


def _attribute(method: Attribution, x: Tensor, shared: Tensor, arguments: Arguments) -> Attributed:
    # A tuple, since DeepLiftShap unpacks a bare tensor; a fresh leaf, so that the user's tensor is never touched.
    leaf = x.detach().requires_grad_()
    result = method.attribute(leaf, additional_forward_args=(shared,), **arguments)
    if isinstance(result, tuple):
        return result[0].detach().to(x.dtype), result[1].detach()
    return result.detach().to(x.dtype), None


def _blocks(method: Attribution, n: int, arguments: Arguments) -> list[slice]:
    """The n images; for integrated gradients in blocks, where Captum's would take all of one step at once."""
    size = arguments.get("internal_batch_size") if type(method) is IntegratedGradients else None
    most = check_integer("internal_batch_size", size, also="None") if size else n
    return [slice(first, first + most) for first in range(0, n, most)]


def _of_block(arguments: Arguments, block: slice, n: int) -> Arguments:
    """The arguments of a block of the n images: those with one baseline for each have their own."""
    baselines = arguments.get("baselines")
    if isinstance(baselines, Tensor) and baselines.ndim and len(baselines) == n:
        return {**arguments, "baselines": baselines[block]}
    return arguments


@contextmanager
def differentiable(encoder: HasModules) -> Iterator[None]:
    """Take a turn, and say what is wrong when the latents do not depend differentiably on the images."""
    try:
        with turn(encoder):
            yield
    except RuntimeError as error:
        if not any(phrase in str(error) for phrase in _NO_GRADIENT):
            raise
        raise ValueError(
            "the encoder gives no gradient with respect to the images; expected latents that depend on them "
            "differentiably (look for torch.no_grad, detach or a rounding inside the network)"
        ) from error


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Be the only thread that uses a network, and restore the hooks, modes and attributes of its modules afterwards.

    Captum's methods leave hooks, or attributes such as `rule` and `activations`, behind when something goes wrong.
    """
    with turn(model, alone=True):
        modules = list(model.modules())
        attributes = [dict(module.__dict__) for module in modules]
        hooks = [{name: dict(getattr(module, name)) for name in _HOOKS} for module in modules]
        try:
            yield
        finally:
            for module, kept, tables in zip(modules, attributes, hooks, strict=True):
                _restore(module, kept, tables)


def _restore(module: nn.Module, attributes: dict[str, object], hooks: dict[str, dict[int, object]]) -> None:
    for name in set(module.__dict__) - set(attributes):
        del module.__dict__[name]
    module.__dict__.update(attributes)
    for name, before in hooks.items():
        table = getattr(module, name)
        if dict(table) != before:
            table.clear()
            table.update(before)


def _name(value: object) -> str:
    return getattr(value, "__name__", type(value).__name__)
