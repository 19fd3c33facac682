"""Sums of gradients along a path: the first convolution's backward pass, taken once for many points, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from captum_shared import LatentEncoder, ParallelBackprop
from captum_shared.attribution import first_layer
from captum_shared.attribution.first_layer import first_convolution, summed_gradients

CONV, STRIDED = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 3, stride=2, groups=1)
BACK = nn.ConvTranspose2d(2, 3, 2)
FIRST: dict[str, Callable[[Tensor], Tensor]] = {
    "convolution": lambda x: CONV(x).relu(),
    "in place": lambda x: nn.functional.relu(STRIDED(x), inplace=True),
    "transposed": lambda x: BACK(x).tanh(),
    "residual behind it": lambda x: CONV(x) + CONV(x).relu().detach(),
}
OTHER: dict[str, Callable[[Tensor], Tensor]] = {
    "normalized before": lambda x: CONV((x - 0.3) / 2).relu(),
    "residual around it": lambda x: CONV(x).relu() + x.mean(1, keepdim=True),
    "called twice": lambda x: CONV(x).relu() * CONV(x),
    "linear": lambda x: nn.functional.linear(x, torch.ones(3, 6)).relu(),
    "filter of the image": lambda x: nn.functional.conv2d(x, x[:1].tanh()),
}


def latents(first: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return (first(x) ** 2).flatten(2).mean(2)


@pytest.mark.parametrize("name", [*FIRST, *OTHER])
@given(n_points=st.integers(1, 4), n_images=st.integers(1, 3), n_constants=st.integers(1, 6), seed=st.integers(0, 1000))
def test_sums_are_those_of_single_gradients(
    name: str, n_points: int, n_images: int, n_constants: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    points = torch.randn(n_points * n_images, 2, 5, 6, generator=random).requires_grad_()
    weights = torch.rand(n_points, generator=random)
    z = latents({**FIRST, **OTHER}[name], points)
    shared = torch.randn(n_images, n_constants, z.shape[1], generator=random)
    assert (first_convolution(z, points) is not None) == (name in FIRST)

    found = torch.full((n_images, n_constants, 2, 5, 6), torch.nan)
    for some, sums in summed_gradients(z, points, shared, weights):
        found[:, some] = sums

    z = latents({**FIRST, **OTHER}[name], points)
    for k in range(n_constants):
        (gradient,) = torch.autograd.grad(
            z, points, shared[:, k].repeat(n_points, 1), retain_graph=True
        )  # point by point
        for i in range(n_images):
            expected = sum(weights[s] * gradient[s * n_images + i] for s in range(n_points))
            assert torch.allclose(found[i, k], expected, atol=1e-5)


def test_the_convolution_is_passed_once_for_as_many_constants_as_points() -> None:
    points = torch.randn(4, 2, 5, 6).requires_grad_()
    z = latents(FIRST["convolution"], points)
    passes: list[int] = []
    through = first_layer._through

    def counted(layer: object, sums: Sequence[Tensor], points: Tensor) -> Tensor:
        passes.append(len(sums))
        return through(layer, sums, points)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_layer, "_through", counted)
        list(summed_gradients(z, points, torch.randn(1, 10, 3), torch.rand(4)))
    assert passes == [4, 4, 2]


def test_parameters_gather_no_gradient_and_the_maps_are_those_one_by_one() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3), nn.ReLU())
    pb = ParallelBackprop(LatentEncoder(model, "3").eval())
    pair, readouts = (torch.rand(2, 3, 9, 9), torch.rand(2, 3, 9, 9)), torch.randn(7, 5)
    together = pb.attribute_neurons(pair, readouts, n_steps=9)
    assert all(parameter.grad is None for parameter in model.parameters())
    for k, readout in enumerate(readouts):
        for some, alone in zip(together, pb.attribute(pair, readout=readout, n_steps=9), strict=True):
            assert torch.allclose(some[:, k], alone, atol=1e-6)


def test_an_edge_of_the_graph_gives_the_gradient_of_the_output() -> None:
    """What this rests on in PyTorch."""
    points = torch.randn(2, 2, 5, 6).requires_grad_()
    y = CONV(points)
    z = (y**2).sum((2, 3))
    node = first_convolution(z, points)
    (gradient,) = torch.autograd.grad(z, [GradientEdge(node, 0)], torch.ones_like(z), retain_graph=True)
    assert torch.allclose(gradient, 2 * y)
