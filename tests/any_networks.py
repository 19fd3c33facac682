"""Networks that no tracer reads right: what they do depends on values, attributes and hooks, or happens in place.

All have the layer `body.last`, behind which its output is changed in place, and read `gain` where they start.
"""

from __future__ import annotations

import contextlib
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm
from torch.utils.checkpoint import checkpoint

from captum_shared import LatentEncoder

LAYER = "body.last"


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(4, 5, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return self.last(h)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = 1.0
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.body: Any = Body()
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.through(self.middle(self.first(x) * self.gain)))

    def middle(self, h: Tensor) -> Tensor:
        return self.relu(h)

    def through(self, h: Tensor) -> Tensor:
        return self.body(h)

    def end(self, h: Tensor) -> Tensor:
        h.mul_(0.5).add_(1)
        return self.head(h.mean((2, 3)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"plain": Plain}


def network(kind: type[nn.Module]) -> type[nn.Module]:
    NETWORKS[kind.__name__] = kind
    return kind


def effect(name: str, change: Callable[[Tensor], Any]) -> None:
    """A network that calls `change` for what it does to the tensor, not for its value."""

    def middle(self: nn.Module, h: Tensor) -> Tensor:
        change(h)
        return h

    kind = type(name, (Plain,), {"middle": middle, "__module__": __name__})
    globals()[name] = network(kind)


effect("MethodInPlace", lambda h: h.relu_())
effect("FunctionalInPlace", lambda h: F.relu(h, inplace=True))
effect("FunctionInPlace", torch.relu_)
effect("MulInPlace", lambda h: h.mul_(-3))
effect("ClampInPlace", lambda h: h.clamp_(-0.1, 0.1))
effect("MaskedFill", lambda h: h.masked_fill_(h < 0, 0.3))
effect("Copy", lambda h: h.copy_(h.flip(-1)))
effect("ViewInPlace", lambda h: h.view(-1).mul_(2))
effect("DetachedInPlace", lambda h: h.detach().add_(0.5))
effect("Out", lambda h: torch.neg(h.detach(), out=h.detach()))
effect("Item", lambda h: h.__setitem__((slice(None), 0), 0.0))
effect("BooleanItem", lambda h: h.__setitem__(h < 0, 0.0))
effect("IndexFill", lambda h: h.index_fill_(1, torch.tensor([1, 2]), 0.7))
effect("SelectInPlace", lambda h: h.select(1, 2).sub_(1).abs_())
effect("ChunkInPlace", lambda h: [part.mul_(i) for i, part in enumerate(h.detach().split(2, dim=1))])


@network
class ModuleInPlace(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def middle(self, h: Tensor) -> Tensor:
        self.relu(h)
        return h


@network
class DefaultArgument(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        h = self.first(x) * self.gain + (self.own if bias is None else bias)
        return self.end(self.body(self.relu(h)))


@network
class AttentionMask(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.register_buffer("mask", torch.eye(64, dtype=torch.bool).roll(1, 0), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens = (self.first(x) * self.gain).flatten(2).mT
        found, _ = self.attention(tokens, tokens, tokens, attn_mask=self.mask if mask is None else mask)
        return self.end(self.body(found.mT.unflatten(2, (8, 8))))


@network
class Branch(Plain):
    def middle(self, h: Tensor) -> Tensor:
        return self.relu(h) if h.sum() > 1e6 else h.sigmoid()


@network
class While(Plain):
    def middle(self, h: Tensor) -> Tensor:
        while h.abs().max() > 0.5:
            h = h / 2
        return h


@network
class Shape(Plain):
    def middle(self, h: Tensor) -> Tensor:
        return h * len(h) if h.shape[-1] % 4 == 0 else -h


@network
class AttributeLoop(Plain):
    times = 3

    def middle(self, h: Tensor) -> Tensor:
        for i in range(self.times):
            h = torch.cos(h + i)
        return h


@network
class Functions(Plain):
    functions = (torch.tanh, F.softplus, torch.Tensor.neg_)

    def middle(self, h: Tensor) -> Tensor:
        for function in self.functions:
            function(h)
            h = function(h)
        return h


@network
class ByName(Plain):
    def __init__(self) -> None:
        super().__init__()
        for i in range(3):
            setattr(self, f"block{i}", nn.Conv2d(4, 4, 1))

    def middle(self, h: Tensor) -> Tensor:
        for i in (2, 0, 1):
            h = getattr(self, f"block{i}")(h)
        return h


@network
class Generator(Plain):
    def steps(self, h: Tensor) -> Iterator[Tensor]:
        with torch.autocast("cpu", enabled=False):
            yield self.relu(h)
            yield self.body(h)

    def forward(self, x: Tensor) -> Tensor:
        for h in self.steps(self.first(x) * self.gain):
            x = h
        return self.end(x)


@network
class Try(Plain):
    def through(self, h: Tensor) -> Tensor:
        try:
            return self.body(h)
        except Exception:
            return h.new_zeros(len(h), 5, 8, 8)


@network
class BareExcept(Plain):
    def through(self, h: Tensor) -> Tensor:
        try:
            return self.body(h)
        except:  # noqa: E722
            return h.new_zeros(len(h), 5, 8, 8)


@network
class FinallyReturns(Plain):
    def through(self, h: Tensor) -> Tensor:
        found = h.new_zeros(len(h), 5, 8, 8)
        try:
            found = self.body(h)
        finally:
            return found  # noqa: B012


@network
class Replaces(Plain):
    """Raises another exception for any; what is behind the layer fails."""

    def through(self, h: Tensor) -> Tensor:
        try:
            return self.body(h)
        except BaseException as error:
            raise RuntimeError("the body failed") from error


@network
class ChangesBehind(Plain):
    """Goes on after the exception, and changes the layer's output in place."""

    def through(self, h: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        handle = self.body.last.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        try:
            return self.body(h)
        except BaseException:
            with torch.no_grad():
                return outputs[0].mul_(7)
        finally:
            handle.remove()


@network
class TryOther(Plain):
    def middle(self, h: Tensor) -> Tensor:
        try:
            return self.missing(h)
        except AttributeError:
            return self.relu(h)


@network
class Keywords(Plain):
    class Only(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 5, 1)

        def forward(self, *, h: Tensor, scale: float = 1.0) -> Tensor:
            return self.conv(h) * scale

    def __init__(self) -> None:
        super().__init__()
        self.body.last = self.Only()

    def through(self, h: Tensor) -> Tensor:
        return self.body.last(h=h, scale=2.0)


@network
class AnyArguments(Plain):
    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        return super().forward(*args, **kwargs)


@network
class Checkpointed(Plain):
    def through(self, h: Tensor) -> Tensor:
        return checkpoint(self.body, h, use_reentrant=False)


@network
class CheckpointBefore(Plain):
    def middle(self, h: Tensor) -> Tensor:
        return checkpoint(lambda h: self.relu(h).exp(), h, use_reentrant=False)


@network
class CheckpointAround(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(super().forward, x, use_reentrant=False)


@network
class TiedWeights(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.b.weight = self.a.weight

    def middle(self, h: Tensor) -> Tensor:
        return self.b(self.a(h).tanh_())


@network
class TiedModules(Plain):
    """Called once under one of its two names."""

    def __init__(self) -> None:
        super().__init__()
        self.another_name = self.relu

    def middle(self, h: Tensor) -> Tensor:
        return self.another_name(h)


@network
class CalledTwiceBefore(Plain):
    def middle(self, h: Tensor) -> Tensor:
        return self.relu(self.relu(h) - 0.1)


@network
class Parametrized(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.body.last = parametrizations.weight_norm(self.body.last)
        self.first = parametrizations.orthogonal(self.first)  # type: ignore[assignment]


@network
class SpectralNorm(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.body.last = spectral_norm(self.body.last)


@network
class SharedConvolution(Plain):
    """The weights of a layer, used in another way than by calling it."""

    def middle(self, h: Tensor) -> Tensor:
        return F.conv_transpose2d(F.conv2d(h, self.body.last.weight), self.body.last.weight)


Two = namedtuple("Two", "a b")


@network
class NamedTuple(Plain):
    def middle(self, h: Tensor) -> Tensor:
        two = Two(h, h * 2)
        two.a.abs_()
        return two.a + two.b


@dataclass
class State:
    h: Tensor
    depth: int = 0


@network
class DataClass(Plain):
    def middle(self, h: Tensor) -> Tensor:
        state = State(h)
        while state.depth < 2:
            state.h, state.depth = state.h.tanh(), state.depth + 1
        return state.h


@network
class Recursive(Plain):
    def middle(self, h: Tensor, depth: int = 3) -> Tensor:
        return self.middle(h.sin(), depth - 1) if depth else h


@network
class Context(Plain):
    @contextlib.contextmanager
    def doubled(self) -> Iterator[int]:
        self.factor = 2
        try:
            yield self.factor
        finally:
            self.factor = 1

    def forward(self, x: Tensor) -> Tensor:
        with self.doubled():
            return self.end(self.body(self.first(x) * self.gain * self.factor))


@network
class NoGradStatistics(Plain):
    def middle(self, h: Tensor) -> Tensor:
        with torch.no_grad():
            mean, scale = h.mean((0, 2, 3), keepdim=True), h.std().item()
        return (h - mean) / scale


@network
class Straight(torch.autograd.Function):
    """Rounds, with the gradient of not rounding."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return h.round(decimals=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 3 * gradient


del NETWORKS["Straight"]


@network
class OwnFunction(Plain):
    def middle(self, h: Tensor) -> Tensor:
        return Straight.apply(h)


@network
class Noise(Plain):
    """Draws in evaluation mode, before the layer and behind it."""

    def middle(self, h: Tensor) -> Tensor:
        return F.dropout(h, 0.5, training=True) + torch.randn_like(h)

    def end(self, h: Tensor) -> Tensor:
        return super().end(h + torch.randn_like(h))


@network
class Remembers(Plain):
    def middle(self, h: Tensor) -> Tensor:
        self.shape = h.shape
        self.register_buffer("seen", h.detach().mean(0), persistent=False)
        return h - self.seen


@network
class InsideEncoder(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.inner = LatentEncoder(Plain(), LAYER, "max")

    def forward(self, x: Tensor) -> Tensor:
        scale = self.inner(x).mean(1)[:, None, None, None]
        return self.end(self.body(self.first(x) * self.gain * scale))


@network
class Sorted(Plain):
    def middle(self, h: Tensor) -> Tensor:
        values, order = h.flatten(2).sort(dim=2)
        return torch.gather(values, 2, order.argsort(2).flip(2)).reshape(h.shape)


@network
class Mapped(Plain):
    def middle(self, h: Tensor) -> Tensor:
        return torch.vmap(lambda one: one - one.mean(0))(h)


@network
class EarlyReturn(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = self.body(self.first(x) * self.gain)
        if h.ndim == 4:
            return self.end(h)
        return self.missing(h)


@network
class Property(Plain):
    @property
    def activation(self) -> Callable[[Tensor], Tensor]:
        return self.relu if self.gain > 0 else torch.tanh

    def middle(self, h: Tensor) -> Tensor:
        return self.activation(h)


@network
class PlainList(Plain):
    """Modules that are not registered."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Conv2d(4, 4, 1).double(), nn.ReLU(inplace=True)]

    def middle(self, h: Tensor) -> Tensor:
        for module in self.hidden:
            h = module(h)
        return h


@network
class OwnCall(Plain):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x * 2 - 0.5)


@network
class Residual(Plain):
    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x) * self.gain
        out = self.body(self.relu(h))
        out[:, :4] += h
        return self.end(out)


def _minus(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    return -2 * inputs[0]


def _shifted(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.tanh() + 0.2


def _in_place(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    output.abs_()


def _always(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output * 1.5


class _Flipped:
    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, x: Tensor) -> Tensor:
        return Plain.forward(self.net, x.flip(-1))


def hooked(name: str, hang: Callable[[Any], Any]) -> None:
    def make() -> nn.Module:
        net = Plain()
        hang(net)
        return net

    NETWORKS[name] = make


hooked("PreHookOnModel", lambda net: net.register_forward_pre_hook(_minus))
hooked("PreHookOnContainer", lambda net: net.body.register_forward_pre_hook(_minus))
hooked("PreHookOnLayer", lambda net: net.body.last.register_forward_pre_hook(_minus))
hooked("HookBefore", lambda net: net.first.register_forward_hook(_shifted))
hooked("HookOnLayer", lambda net: net.body.last.register_forward_hook(_shifted))
hooked("HookOnLayerInPlace", lambda net: net.body.last.register_forward_hook(_in_place))
hooked("AlwaysCalled", lambda net: net.body.last.register_forward_hook(_always, always_call=True))
hooked("HookBehind", lambda net: net.body.register_forward_hook(_in_place))
hooked("ReplacedForward", lambda net: setattr(net, "forward", _Flipped(net)))


# These keep in attributes what belongs to one forward pass: no two threads can run them.
OF_ONE_THREAD = {"ChangesBehind", "Context", "Remembers"}


# What users do to a network afterwards.

CHANGES: dict[str, Callable[[Any], Any]] = {
    "replaced submodule": lambda net: setattr(net, "first", nn.Conv2d(3, 4, 1).double()),
    "replaced layer": lambda net: setattr(net.body, "last", nn.Conv2d(4, 5, 3, padding=1).double()),
    "changed attribute": lambda net: setattr(net, "gain", 2.5),
    "hook on the model": lambda net: net.register_forward_pre_hook(_minus),
    "hook on the container": lambda net: net.body.register_forward_pre_hook(_minus),
    "hook on the layer": lambda net: net.body.last.register_forward_hook(_shifted),
    "weights in place": lambda net: net.first.weight.detach().mul_(-0.7),
    "weights loaded": lambda net: net.load_state_dict({k: 0.9 * v for k, v in net.state_dict().items()}),
}


def make(name: str) -> nn.Module:
    """The network of that name, always with the same weights."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return NETWORKS[name]().double().eval()


def by_hook(net: nn.Module, x: Tensor) -> Tensor:
    """What a plain hook on the layer sees in a whole forward pass."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        outputs.append(output)
        return output.clone()

    with net.get_submodule(LAYER).register_forward_hook(keep):
        net(x)
    assert len(outputs) == 1
    return outputs[0]
