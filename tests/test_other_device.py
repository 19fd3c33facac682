"""The stand-in for a second device finds what it is there to find."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import other_device
import pytest
import torch
from other_device import traffic, without_float64
from torch import Tensor, nn

pytestmark = pytest.mark.skipif(not other_device.AVAILABLE, reason="this PyTorch takes no device written in Python")

MIXED = "Expected all tensors to be on the same device"


class Everything(nn.Module):
    """Convolution, batch norm, pooling, attention, layer norm, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.attention, self.layer_norm = nn.MultiheadAttention(6, 2, batch_first=True), nn.LayerNorm(6)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        maps = nn.functional.max_pool2d(self.relu(self.norm(self.conv(x))), 2)
        tokens = self.layer_norm(maps.flatten(2).transpose(1, 2))
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        return self.head(nn.functional.gelu(tokens).mean(1))


@pytest.mark.parametrize("training", [False, True])
def test_gradients_and_their_gradients_are_the_cpus(training: bool) -> None:
    model, x = Everything().train(training), torch.randn(2, 3, 8, 8)
    found = []
    for where in ("cpu", "other"):
        net, leaf = copy.deepcopy(model).to(where), x.clone().to(where).requires_grad_()
        (gradient,) = torch.autograd.grad(net(leaf).square().sum(), leaf, create_graph=True)
        gradient.square().sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.device.type == net.conv.weight.grad.device.type == where
        found.append([gradient.detach().cpu(), leaf.grad.cpu(), net.conv.weight.grad.cpu()])
    for cpu, other in zip(*found, strict=True):
        assert cpu.abs().max() > 0
        assert torch.equal(cpu, other)


@pytest.mark.parametrize(
    "mix",
    [lambda a, b: a + b, lambda a, b: b @ a.T, lambda a, b: torch.cat([a, b]), lambda a, b: b.mul_(a), lambda a, b: a.mul_(b[0, 0]),
     lambda a, b: torch.where(b > 0, b, a), lambda a, b: a[b > 0], lambda a, b: a[0, 0].add_(b[0, 0]), lambda a, b: nn.functional.linear(a, b)],
)  # fmt: skip
def test_a_cpu_tensor_that_meets_one_of_the_device_raises(mix: Callable[..., object]) -> None:
    a = torch.rand(3, 3)
    with pytest.raises(RuntimeError, match=MIXED):
        mix(a, a.to("other"))


def test_numbers_may_meet() -> None:
    a = torch.rand(3, 3)
    b = a.to("other")
    assert torch.equal((b + 1).cpu(), a + 1)
    assert torch.equal((b * a[0, 0]).cpu(), a * a[0, 0])


def test_copies_and_waits_are_counted() -> None:
    a, b = torch.rand(3, 4), torch.zeros(5, device="other")
    with traffic() as seen:
        c = a.to("other")
        torch.tensor([1.0, 2.0], device="other")
        b[torch.tensor([0, 1])] = 0.0
    assert seen.to_device == [(3, 4), (2,), (2,)]
    assert seen.to_host == seen.waits == []
    with traffic() as seen:
        c.cpu()
        a.copy_(c)
        c.tolist()
    assert seen.to_host == [(3, 4)] * 3
    with traffic() as seen:
        float(c[0, 0])
        if (c > 2).any():
            raise AssertionError
        c[c > 0.5], c.nonzero()
    assert seen.waits == [f"aten.{name}" for name in ("_local_scalar_dense.default",) * 2 + ("index.Tensor", "nonzero.default")]  # fmt: skip
    with traffic() as seen:
        (c + 1).square().sum().expand(3).clone()
    assert seen == other_device.Traffic()


@pytest.mark.parametrize("convert", [lambda t: t.numpy(), np.asarray])
def test_no_array_without_a_copy_that_is_asked_for(convert: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(RuntimeError, match="numpy"):
        convert(torch.zeros(2, device="other"))


def test_generators_of_the_cpu_are_refused() -> None:
    with pytest.raises(RuntimeError, match="device type for generator"):
        torch.rand(3, device="other", generator=torch.Generator())


@pytest.mark.parametrize(
    "make", [torch.zeros, torch.ones, torch.rand, torch.empty, torch.eye, torch.arange, torch.randperm]
)
def test_made_on_the_device(make: Callable[..., torch.Tensor]) -> None:
    with traffic() as seen:
        made = make(3, device="other")
    assert made.device == torch.device("other", 0)
    assert made.shape == made.cpu().shape == make(3).shape
    assert seen == other_device.Traffic()


def test_ranges_have_their_length() -> None:
    assert torch.arange(2, 8, 2, device="other").tolist() == [2, 4, 6]
    assert len(torch.arange(5, device="other")[1:]) == 4
    assert torch.linspace(0, 1, 3, device="other").shape == (3,)
    assert torch.eye(2, 3, device="other").shape == (2, 3)
    with pytest.raises(NotImplementedError, match="cannot enlarge"):
        torch.zeros(1, device="other").resize_(3)


def test_views_share_what_they_show() -> None:
    a = torch.zeros(2, 3, device="other")
    a[1].fill_(2.0)
    a.T[0] += 1
    assert a.tolist() == [[1, 0, 0], [3, 2, 2]]


def test_a_device_without_float64() -> None:
    with without_float64(), pytest.raises(TypeError, match="doesn't support float64"):
        torch.zeros(3, dtype=torch.float64).to("other")
    assert torch.zeros(3, dtype=torch.float64).to("other").dtype == torch.float64


def test_autocast_is_by_device() -> None:
    model, x = nn.Linear(3, 2).to("other"), torch.rand(2, 3, device="other")
    with torch.autocast("other", dtype=torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).dtype == torch.float32
