"""A second device, "other", on any machine: what it computes is computed on the CPU, but its tensors live elsewhere.

PyTorch keeps a device type for backends from outside; this one is written in Python. As on CUDA, a CPU tensor with
dimensions that meets one of its tensors raises, and so does `numpy()`. What CUDA does in silence is counted instead:
copies between the devices, and what makes the host wait for a number. Autograd and autocast are PyTorch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

AVAILABLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")

aten = torch.ops.aten
_INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
# On CUDA the size of what these give, or the number itself, is only known when the host has waited for it.
_WAITING = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default,
    aten._unique2.default, aten.unique_dim.default, aten.bincount.default, aten.repeat_interleave.Tensor,
}  # fmt: skip
# PyTorch makes these by enlarging an empty tensor, which a tensor that stands for another cannot do.
_MADE_WHOLE = ("arange", "arange.start", "arange.start_step", "linspace", "eye", "eye.m", "randperm")
_IN_HALF = ("conv2d", "linear", "matmul")  # enough of what autocast runs in half precision


@dataclass
class Traffic:
    """What went between the devices.

    Attributes
    ----------
    to_device, to_host : list of shapes
        Copies of tensors.
    waits : list of str
        Operations that made the host wait, `to_host` apart.
    """

    to_device: list[tuple[int, ...]] = field(default_factory=list)
    to_host: list[tuple[int, ...]] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)


_watchers: list[Traffic] = []
_rules = {"float64": True}


@contextmanager
def traffic() -> Iterator[Traffic]:
    """What goes between the devices within the block, also in the threads of a backward pass."""
    seen = Traffic()
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)


@contextmanager
def without_float64() -> Iterator[None]:
    """The device refuses float64, as Apple's MPS does."""
    _rules["float64"] = False
    try:
        yield
    finally:
        _rules["float64"] = True


class OtherTensor(Tensor):
    """A tensor on the other device; its numbers are in a CPU tensor that nobody else holds."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> OtherTensor:
        if held.dtype == torch.float64 and not _rules["float64"]:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        return Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=torch.device("other", 0)
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.held!r} on other:0"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func is aten.copy_.default:
        return _copy(*args[:2])
    device = torch.device(kwargs.get("device") or "other")
    if func is aten._to_copy.default and device.type == "cpu":
        _note("to_host", args[0])
    _refuse_mixture(func, args, kwargs)
    _note_waits(func, args)
    if func is aten._fused_sdp_choice.default:
        return 0  # attention as plain matrix products: the CPU's own kernels would be chosen otherwise
    held_args, held_kwargs = tree_map(_held, (args, kwargs))
    result = func(*held_args, **held_kwargs)
    if device.type == "cpu":
        return result
    if func._schema.is_mutable and args[0].shape != args[0].held.shape:
        raise NotImplementedError(f"the stand-in cannot enlarge a tensor ({func})")
    wrapped = tree_map(lambda part: OtherTensor(part) if isinstance(part, Tensor) else part, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _copy(target: Tensor, source: Tensor) -> Tensor:
    if isinstance(target, OtherTensor) and not isinstance(source, OtherTensor):
        _note("to_device", source)
    elif not isinstance(target, OtherTensor):
        _note("to_host", source)
    _held(target).copy_(_held(source))
    return target


def _held(part: Any) -> Any:
    if isinstance(part, torch.device):
        return torch.device("cpu")
    return part.held if isinstance(part, OtherTensor) else part


def _note(kind: str, what: Tensor | str) -> None:
    for seen in _watchers:
        getattr(seen, kind).append(what if isinstance(what, str) else tuple(what.shape))


def _note_waits(func: Any, args: Any) -> None:
    masks = func in _INDEXING and any(part is not None and part.dtype == torch.bool for part in args[1])
    if func in _WAITING or masks:
        _note("waits", str(func))


def _refuse_mixture(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """As on CUDA, only a CPU tensor without dimensions may stand beside others; and indices, which are copied."""
    if func in _INDEXING and isinstance(args[0], OtherTensor):
        for part in args[1]:
            if isinstance(part, Tensor) and not isinstance(part, OtherTensor):
                _note("to_device", part)
        args = args[:1] + args[2:]
    leaves = tree_leaves((args, kwargs))
    strangers = [part for part in leaves if isinstance(part, Tensor) and not isinstance(part, OtherTensor)]
    written = func._schema.is_mutable and not isinstance(args[0], OtherTensor)
    if any(part.ndim for part in strangers) or (strangers and written):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, other:0 and cpu! ({func})"
        )
    if any(isinstance(part, torch.Generator) for part in leaves):
        raise RuntimeError("Expected a 'other' device type for generator but found 'cpu'")


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **rest: Any) -> Tensor:
    return OtherTensor(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **rest: Any) -> Tensor:
    return OtherTensor(torch.empty_strided(size, stride, dtype=dtype))


def _made_whole(name: str) -> Callable[..., Tensor]:
    packet, _, overload = name.partition(".")
    make = getattr(getattr(aten, packet), overload or "default")

    def run(*args: Any, device: Any = None, pin_memory: Any = None, **options: Any) -> Tensor:
        return OtherTensor(make(*args, device="cpu", **options))

    return run


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    return _copy(target, source)


def _in_half(name: str) -> Callable[..., Tensor]:
    def run(*args: Any) -> Tensor:
        dtype = torch.get_autocast_dtype("other")
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):  # type: ignore[attr-defined]
            return getattr(aten, name)(
                *(part.to(dtype) if isinstance(part, Tensor) and part.is_floating_point() else part for part in args)
            )

    return run


def _register() -> list[torch.library.Library]:
    class Module(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.float16, torch.bfloat16]

        def is_available(self) -> bool:
            return False  # to `torch.accelerator`, which would wait for streams that are not there

    backend_registration._setup_privateuseone_for_python_backend("other", backend_module=Module())
    kernels, everything = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    kernels.impl("empty.memory_format", _empty, "PrivateUse1")
    kernels.impl("empty_strided", _empty_strided, "PrivateUse1")
    kernels.impl("_copy_from", _copy_from, "PrivateUse1")
    for name in _MADE_WHOLE:
        kernels.impl(name, _made_whole(name), "PrivateUse1")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in _IN_HALF:
        kernels.impl(name, _in_half(name), "AutocastPrivateUse1")
    return [kernels, everything]


_LIBRARIES = _register() if AVAILABLE else []  # held: what they registered goes with them
