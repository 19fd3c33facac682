"""The network that runs is the user's: latents are those of a plain hook, maps are J^T c, whatever the network does."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import any_networks
import captum.attr as ca
import pytest
import torch
from any_networks import CHANGES, LAYER, NETWORKS, OF_ONE_THREAD, by_hook
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum_shared import LatentEncoder, ParallelBackprop

X, Y = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
W = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

# Whose latents draw random numbers: only what is seeded can be compared.
RANDOM = {"Noise"}


def seeded(run: Callable[[], Any]) -> Any:
    torch.manual_seed(3)
    return run()


@torch.no_grad()
def same_as_hook(encoder: LatentEncoder, net: nn.Module) -> bool:
    """Twice, since the first pass of an encoder goes to the network's end."""
    expected = seeded(lambda: by_hook(net, X))
    return all(torch.equal(seeded(lambda: encoder.layer_output(X)), expected) for _ in range(2))


def map_by_hand(net: nn.Module, c: Tensor, x: Tensor) -> Tensor:
    """J^T c."""
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad((by_hook(net, leaf).mean((2, 3)) * c).sum(), leaf)[0]


def left_behind(net: nn.Module) -> list[Any]:
    """Our hooks."""
    tables = [table for module in net.modules() for table in (module._forward_hooks, module._forward_pre_hooks)]
    return [hook for table in tables for hook in table.values() if type(hook).__module__.startswith("captum")]


@pytest.mark.parametrize("name", NETWORKS)
def test_latents_and_maps(name: str) -> None:
    net = any_networks.make(name)
    encoder = LatentEncoder(net, LAYER)
    modes, buffers = [m.training for m in net.modules()], copy.deepcopy(dict(net.named_buffers()))
    assert same_as_hook(encoder, net)
    assert same_as_hook(copy.deepcopy(encoder), net)
    assert not left_behind(net)
    assert [m.training for m in net.modules()] == modes
    if name != "Remembers":
        assert all(torch.equal(value, buffers[key]) for key, value in net.named_buffers())
    if name in RANDOM:
        return
    maps = ParallelBackprop(LatentEncoder(net, LAYER), engine=ca.Saliency).attribute((X, Y), readout=W)
    with torch.no_grad():
        c = W * by_hook(net, X).mean((2, 3)) * by_hook(net, Y).mean((2, 3))
    for found, x in zip(maps, (X, Y), strict=True):
        expected = map_by_hand(net, c, x)
        assert expected.any()
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_after_each_kind_of_change(name: str) -> None:
    net = any_networks.make(name)
    encoder = LatentEncoder(net, LAYER)
    seeded(lambda: encoder(X))
    for kind, change in CHANGES.items():
        if kind == "replaced layer" and name in ("Keywords", "ChangesBehind"):
            continue
        with torch.random.fork_rng([]):
            change(net)
        assert same_as_hook(encoder, net), kind


@pytest.mark.slow  # another process imports torch
def test_in_another_process(tmp_path: Path) -> None:
    """Pickled after use; one process for all of them."""
    names = [name for name in NETWORKS if name != "Parametrized"]  # torch itself refuses to pickle them
    encoders = {name: LatentEncoder(any_networks.make(name), LAYER, "max") for name in names}
    with torch.no_grad():
        expected = {name: seeded(lambda encoder=encoder: encoder(X)) for name, encoder in encoders.items()}
    (tmp_path / "encoders.pkl").write_bytes(pickle.dumps((encoders, X)))
    code = """
import pickle, sys, torch
from pathlib import Path
torch.set_num_threads(1)
encoders, x = pickle.loads(Path(sys.argv[1], "encoders.pkl").read_bytes())
found = {}
for name, encoder in encoders.items():
    for _ in range(2):
        torch.manual_seed(3)
        found[name] = encoder(x).detach()
torch.save(found, Path(sys.argv[1], "found.pt"))
"""
    environment = {"PYTHONPATH": ":".join([*sys.path, str(Path(__file__).parent)]), "PATH": ""}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    found = torch.load(tmp_path / "found.pt")
    assert [name for name in names if not torch.allclose(found[name], expected[name], atol=1e-12)] == []


# Threads.

ENGINES: dict[str, tuple[Callable[[nn.Module], Any], dict[str, Any]]] = {
    "gradient": (ca.Saliency, {}),
    "integrated gradients": (ca.IntegratedGradients, {"n_steps": 3}),
    "DeepLift": (ca.DeepLift, {}),
    "GuidedBackprop": (ca.GuidedBackprop, {}),
}


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def outcome(encoder: nn.Module, engine: str) -> Any:
    """Maps, or the name of the error: not every engine takes every network."""
    factory, options = ENGINES[engine]
    try:
        maps = ParallelBackprop(encoder, engine=factory).attribute((X, Y), readout=W, **options)
    except Exception as error:
        return type(error).__name__
    return torch.stack(maps)


def alike(a: Any, b: Any) -> bool:
    return a == b if isinstance(a, str) or isinstance(b, str) else torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in RANDOM | OF_ONE_THREAD])
def test_eight_threads(name: str, switching: None) -> None:
    net = any_networks.make(name)
    alone = {engine: outcome(LatentEncoder(net, LAYER), engine) for engine in ENGINES}
    assert isinstance(alone["gradient"], Tensor)
    encoders = [LatentEncoder(net, LAYER), LatentEncoder(net, LAYER)]
    jobs = [(encoders[i // 4], engine) for i, engine in enumerate(list(ENGINES) * 2)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: outcome(*job), jobs))
    assert [engine for (_, engine), own in zip(jobs, found, strict=True) if not alike(own, alone[engine])] == []
    assert not left_behind(net)


# Random networks.

OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu_": lambda h: h.relu_(),
    "mul_": lambda h: h.mul_(1.5),
    "add_": lambda h: h.add_(0.3),
    "tanh": torch.tanh,
    "clamp_": lambda h: h.clamp_(-1, 1),
    "neg": torch.neg,
    "masked": lambda h: h.masked_fill_(h.detach() > 0.8, 0.8),
    "half": lambda h: h[:, :2].mul_(0.5).repeat(1, 2, 1, 1),
    "effect": lambda h: (h.sub_(0.1), h)[1],
    "branch": lambda h: h.abs() if h.sum() > 0 else h.sin(),
    "flip": lambda h: h.flip(-1),
    "item": lambda h: (h.__setitem__((slice(None), 0), 0.5), h)[1],
}


class Composed(nn.Module):
    """Operations by name, convolutions between them, and a layer somewhere."""

    def __init__(self, before: list[str], after: list[str]) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.body = nn.ModuleDict({"last": nn.BatchNorm2d(4)})

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for i, name in enumerate(self.before):
            h = OPERATIONS[name](h) if i % 2 else OPERATIONS[name](self.second(h))
        h = self.body["last"](h)
        for name in self.after:
            h = OPERATIONS[name](h)
        return h


names = st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=5)


@settings(max_examples=60)
@given(before=names, after=names, seed=st.integers(0, 9))
def test_random_networks(before: list[str], after: list[str], seed: int) -> None:
    torch.manual_seed(seed)
    net = Composed(before, after).double().eval()
    encoder = LatentEncoder(net, LAYER)
    assert same_as_hook(encoder, net)
    c = torch.randn(4, dtype=torch.float64)
    try:
        expected = map_by_hand(net, c, X)
    except RuntimeError:  # an operation's own gradient does not survive the next one, in place
        return
    pb = ParallelBackprop(encoder, engine=ca.Saliency)
    found = pb.attribute((X, Y), additional_forward_args=(c.expand(2, -1),))
    assert torch.allclose(found[0], expected, rtol=1e-9, atol=1e-12)
