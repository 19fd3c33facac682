"""Reading the outputs of layers in a network's forward pass, which ends once all of them have returned."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.hooks import RemovableHandle

from captum_shared.turns import turn

T = TypeVar("T")
Take = Callable[[str, object], T]
"""What is kept of a layer, made of its name and its output."""


class Reader:
    """Reads layers of a network, and checks in the first pass that each layer is called only once.

    The user's network runs, as it is at the time. Its first pass goes to the end, so that calls can be counted; later
    ones end after the last of the layers, by an exception that is not an `Exception`. In the first pass, what comes
    after the layers gets a copy of their output, without gradients, and random numbers and buffers are restored.
    """

    def __init__(self) -> None:
        self._counted: tuple[object, ...] | None = None  # the network and layers whose calls have been counted
        self._stops = True  # False for a network that catches even the exception that ends its pass

    @torch.compiler.disable  # compiled code may leave hooks out
    def read(self, model: nn.Module, layers: Sequence[str], x: Tensor, take: Take[T]) -> dict[str, T]:
        """What `take` makes of each layer's name and output, while the pass runs; each layer must be called once."""
        modules = {name: find_layer(model, name) for name in layers}
        network = model.training, *(weakref.ref(module) for module in (model, *modules.values()))
        run = Pass(model, modules, take, whole=not self._stops or self._counted != network)
        if not run.run(x):  # then what it took may have been changed in place
            self._stops = False
            run = Pass(model, modules, take)
            run.run(x)
        run.check()
        self._counted = network
        return run.taken

    def __getstate__(self) -> dict[str, object]:
        return Reader().__dict__  # a copy counts again: it may be of a network that has been changed


class Pass(Generic[T]):
    """One forward pass: how often each layer was called, and what `take` made of its first output, in this order."""

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Module], take: Take[T], whole: bool = True) -> None:
        self.model, self.layers, self.take, self.whole = model, layers, take, whole
        self.taken: dict[str, T] = {}
        self.calls: Counter[str] = Counter()
        self._failure: Exception | None = None
        self._stopped = False
        self._rest = ExitStack()  # closed at the end of a whole pass

    def run(self, x: Tensor) -> bool:
        """Run the network on images `x`; False if it has caught the exception that should have ended its pass.

        Errors after the last of the layers are ignored: heads expect a certain size.
        """
        arrived = False
        self._device = x.device
        grad = torch.set_grad_enabled(torch.is_grad_enabled())
        with turn(self.model), grad, self._rest, _hooked(self):
            try:
                self.model(x)
            except _Stop as stop:
                if stop.args[0] is not self:
                    raise
                arrived = True
            except Exception:
                if len(self.taken) < len(self.layers) and self._failure is None:
                    raise
        if self._failure is not None:
            raise self._failure
        return arrived or not self._stopped

    def check(self) -> None:
        """Refuse layers that were not called, or more than once."""
        for name in self.layers:
            if self.calls[name] == 0:
                raise ValueError(
                    f"layer {name!r} was not called in the model's forward pass; expected a layer that is called once, "
                    "as a module and in this thread"
                )
            if self.calls[name] > 1:
                raise ValueError(
                    f"layer {name!r} is called {self.calls[name]} times in one forward pass, so its output is "
                    "ambiguous; expected a layer that is called once, such as the block around it"
                )

    def returned(self, name: str, output: object) -> object:
        """Note that a layer has returned; what this returns is passed on through the network."""
        self.calls[name] += 1
        if self._stopped or name in self.taken:
            return None
        try:
            self.taken[name] = self.take(name, output)
        except Exception as failure:  # the network might catch it
            self._failure = failure
            self._stop()
        if len(self.taken) < len(self.layers):
            return None
        if not self.whole:
            self._stop()
        return self._go_on(output)

    def _stop(self) -> None:
        self._stopped = True
        raise _Stop(self)

    def _go_on(self, output: object) -> object:
        """Only to count calls: without gradients or traces, and without a hold on what was taken."""
        torch.set_grad_enabled(False)
        devices = [self._device] if self._device.type == "cuda" else []
        self._rest.enter_context(torch.random.fork_rng(devices, device_type="cuda"))
        if any(module.training for module in self.model.modules()):
            for buffer in self.model.buffers():
                self._rest.callback(buffer.data.copy_, buffer.detach().clone())
        return tree_map(lambda part: part.detach().clone() if isinstance(part, Tensor) else part, output)


class _Hook(Generic[T]):
    """Tells a pass that a layer has returned, unless another thread's pass or one inside it has called the layer."""

    def __init__(self, run: Pass[T] | None = None, name: str = "") -> None:
        self.run, self.name = run, name

    def __call__(self, module: nn.Module, inputs: object, output: object) -> object:
        of_model = [run for run in _running.get() if self.run and run.model is self.run.model]
        return of_model[-1].returned(self.name, output) if of_model[-1:] == [self.run] else None

    def __reduce__(self) -> tuple[type, tuple[()]]:  # another thread copies the network during the pass
        return _Hook, ()


class _Stop(BaseException):  # not an Exception: a model's own `except Exception` must not catch it
    """Ends the pass that it holds."""


_running: ContextVar[tuple[Pass[Any], ...]] = ContextVar("passes of this thread, the innermost last", default=())
_numbering = threading.Lock()  # torch numbers its hooks without one: two threads' hooks could have one number
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_numbering.acquire, after_in_parent=_numbering.release, after_in_child=_numbering.release
    )


@contextmanager
def _hooked(run: Pass[T]) -> Iterator[None]:
    """Hooks on the pass's layers, behind all others, so that they see what others make of the output."""
    hooks: list[RemovableHandle] = []
    before = _running.set((*_running.get(), run))
    try:
        with _numbering:
            hooks.extend(
                module.register_forward_hook(_Hook(run, name))
                for name, module in run.layers.items()
                if not isinstance(module, torch.jit.ScriptModule)  # which takes none
            )
        yield
    finally:
        _running.reset(before)
        for hook in hooks:
            hook.remove()


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The module of that name, "" for the network; a TypeError if its calls cannot be seen, a ValueError if none is."""
    if not isinstance(layer, str):
        raise TypeError(f"`layer` must be the name of a module, got {type(layer).__name__}")
    path = [model]
    for name in layer.split(".") if layer else ():
        around = path[-1]
        if around._compiled_call_impl is not None or hasattr(around, "_orig_mod"):
            raise TypeError(
                f"layer {layer!r} is inside a compiled module, which hides its layers; expected the network as it was "
                "before torch.compile"
            )
        inside = dict(around._modules.items()).get(name)  # of a scripted module, it is no dict
        if inside is None:
            raise unknown_layer(model, layer)
        path.append(inside)
    if any(isinstance(module, torch.jit.ScriptModule) for module in path):
        raise TypeError(f"layer {layer!r} is in a scripted module, which takes no hooks; expected an nn.Module")
    return path[-1]


def unknown_layer(model: nn.Module, layer: str) -> ValueError:
    """What to raise for a name that no module has."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    near = get_close_matches(layer, names, n=3) or names[-3:]
    return ValueError(f"unknown layer {layer!r}; expected a name of model.named_modules(), such as {near}")
