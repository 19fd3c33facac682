"""Cut a network at a layer, so that nothing behind the layer runs."""

from __future__ import annotations

import copy
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import NodePathTracer, create_feature_extractor


def truncate(model: nn.Module, layer: str) -> nn.Module:
    """The part of `model` up to and including `layer`, as a module that returns the layer's output.

    Uses torchvision's feature extraction where the model can be traced, and an early exit where it cannot.

    Parameters
    ----------
    model : nn.Module
        Any network. Its parameters are shared, not copied.
    layer : str
        A name from ``model.named_modules()``.

    Raises
    ------
    ValueError
        If the layer is unknown, or called more than once in one forward pass.
    """
    _check_layer(model, layer)
    return traced(model, layer) or EarlyExit(model, layer)


def traced(model: nn.Module, layer: str) -> nn.Module | None:
    """The traced network up to `layer`, or None if the model cannot be traced."""
    with _modes_kept(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tracer = NodePathTracer()
            graph = tracer.trace(model)
            calls = _count_calls(graph, layer)
            if _returns_several(tracer, layer):
                return None
            extractor = create_feature_extractor(model, {layer: "output"}, suppress_diff_warning=True)
        except Exception:  # a tracer fails in as many ways as there are models; the early exit serves them all
            return None
    if calls > 1:
        raise ValueError(
            f"layer {layer!r} is called {calls} times in one forward pass, so its output is ambiguous; "
            "expected a layer that is called once, such as the block around it"
        )
    return Traced(_without_annotations(extractor))


class Traced(nn.Module):
    """A traced network with a single output.

    Parameters
    ----------
    extractor : nn.Module
        What `create_feature_extractor` returns, with its output named "output".
    """

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor
        self.training = extractor.training

    def forward(self, x: Tensor) -> Any:
        """The layer's output for the batch `x`."""
        return self.extractor(x)["output"]

    def __deepcopy__(self, memo: dict[int, Any]) -> Traced:
        """A copy with the same modes; the extractor's own copy forgets them and trains."""
        twin = Traced(copy.deepcopy(self.extractor, memo))
        twin.train(self.extractor.training)
        for old, new in zip(self.modules(), twin.modules(), strict=True):
            new.training = old.training
        return twin


class EarlyExit(nn.Module):
    """A network whose forward pass ends, by a private exception, when `layer` has returned.

    Parameters
    ----------
    model : nn.Module
        Any network.
    layer : str
        A name from ``model.named_modules()``. If it is called several times, the first call counts.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model = model
        self.layer = layer
        self.training = model.training

    def forward(self, x: Tensor) -> Any:
        """The layer's output for the batch `x`."""
        stop = _Stop()
        thread = threading.get_ident()

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            if threading.get_ident() == thread:
                stop.output = output
                raise stop

        handle = self.model.get_submodule(self.layer).register_forward_hook(leave)
        try:
            self.model(x)
        except _Stop as caught:
            if caught is not stop:
                raise
            return stop.output
        finally:
            handle.remove()
        raise ValueError(f"layer {self.layer!r} was not called in the model's forward pass")

    def extra_repr(self) -> str:
        """The layer's name."""
        return f"layer={self.layer!r}"


class _Stop(BaseException):  # not an Exception: a model's own `except Exception` must not swallow it
    output: Any = None


def _check_layer(model: nn.Module, layer: str) -> None:
    names = [name for name, _ in model.named_modules() if name]
    if not isinstance(layer, str):
        raise TypeError(f"`layer` must be the name of a module, got {type(layer).__name__}")
    if layer not in names:
        near = get_close_matches(layer, names, n=3) or names[-3:]
        raise ValueError(f"unknown layer {layer!r}; expected a name of model.named_modules(), such as {near}")


def _count_calls(graph: torch.fx.Graph, layer: str) -> int:
    """How often `layer` is called: the least called of the modules inside it tells."""
    inside = (str(n.target) for n in graph.nodes if n.op == "call_module")
    counts = Counter(name for name in inside if name == layer or name.startswith(layer + "."))
    return min(counts.values(), default=1)


def _returns_several(tracer: NodePathTracer, layer: str) -> bool:
    """Whether more than the layer's last operation is used outside it: the extractor would give the last alone."""
    inside = [n for n, name in tracer.node_to_qualname.items() if name == layer or name.startswith(layer + ".")]
    return any(user not in inside for node in inside[:-1] for user in node.users)


def _without_annotations(extractor: Any) -> Any:
    """Drop the type annotations of the traced code: torch 2.6 cannot pickle those that are strings."""
    for graph in (extractor.train_graph, extractor.eval_graph):
        for node in graph.nodes:
            node.type = None
    extractor.recompile()
    return extractor


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """Tracing switches modes and sets all modules alike afterwards; put each one back."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
