"""Sanity checks: ParallelBackprop passes them; an edge detector and GuidedBackprop fail, as is known."""

from __future__ import annotations

from collections.abc import Callable

import captum.attr as ca
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from captum_shared import LatentEncoder, ParallelBackprop
from captum_shared.metrics import (
    bootstrap_interval,
    cascading_randomization,
    rank_correlation,
    readout_randomization,
    reference_swap,
)
from captum_shared.synthetic import DEMO_LAYER, demo_network, make_images, planted_neuron

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return demo_network()


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, ...]:
    return tuple(
        make_images(2, own, seed=s, size=64).images for own, s in (("tool", 5), ("creature", 6), ("creature", 7))
    )


@pytest.fixture(scope="module")
def weight(network: nn.Module) -> Tensor:
    return planted_neuron(network, {"head": 1.0, "wing": 1.0}).weight


def parallel(x: Tensor, ref: Tensor, w: Tensor) -> Callable[[nn.Module], Tensor]:
    def explain(model: nn.Module) -> Tensor:
        method = ParallelBackprop(LatentEncoder(model, DEMO_LAYER))
        return method.attribute((x, ref), readout=w, n_steps=4, baselines=0.8)[0].sum(1)

    return explain


def test_parallel_backprop_depends_on_the_network(
    network: nn.Module, images: tuple[Tensor, ...], weight: Tensor
) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, ref, _ = images
    found = cascading_randomization(network, parallel(x, ref, weight))
    assert abs(list(found.values())[-1]) < 0.2
    assert next(iter(found)) == "classifier"
    assert list(found)[-1] == "features.0"
    assert found["classifier"] == pytest.approx(1)  # the encoder is cut below it
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_guided_backprop_and_edges_do_not(network: nn.Module, images: tuple[Tensor, ...]) -> None:
    x = images[0]

    def guided(model: nn.Module) -> Tensor:
        return ca.GuidedBackprop(model).attribute(x.clone().requires_grad_(), target=0).abs().sum(1)

    found = cascading_randomization(network, guided)
    assert list(found.values())[-1] > 0.2
    assert found["features.6"] > 0.4  # all but two of the convolutions are random
    edges = x.mean(1).diff(dim=1)
    assert min(cascading_randomization(network, lambda model: edges).values()) == pytest.approx(1)


def test_readout_and_reference(network: nn.Module, images: tuple[Tensor, ...], weight: Tensor) -> None:
    x, ref, other = images
    assert readout_randomization(weight, lambda w: parallel(x, ref, w)(network), repeats=1) < 0.5
    assert readout_randomization(weight, lambda w: x, repeats=2) == pytest.approx(1)
    assert reference_swap(ref, other, lambda r: parallel(x, r, weight)(network)) < 0.95
    assert reference_swap(ref, other, lambda r: x) == pytest.approx(1)


def test_rank_correlation_is_scipys() -> None:
    a, b = torch.randint(0, 4, (3, 5, 5)).double(), torch.randn(3, 5, 5).double()
    expected = [spearmanr(p.flatten(), q.flatten()).statistic for p, q in zip(a, b, strict=True)]
    assert np.allclose(rank_correlation(a, b), expected)


def test_degenerate_maps() -> None:
    constant, any_map = torch.ones(2, 3, 3), torch.randn(2, 3, 3)
    assert rank_correlation(constant, any_map).tolist() == [0, 0]
    assert rank_correlation(torch.zeros(1, 1), torch.ones(1, 1)).tolist() == [0]
    assert torch.allclose(rank_correlation(any_map, -any_map), -torch.ones(2).double())
    with pytest.raises(ValueError, match="maps must be finite, got NaN"):
        rank_correlation(constant, constant / 0 * 0)
    with pytest.raises(ValueError, match=r"of the same shape, got \(2, 3, 3\) and \(1, 3, 3\)"):
        rank_correlation(constant, any_map[:1])


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="ReLU has no module with reset_parameters"):
        cascading_randomization(nn.ReLU(), lambda model: torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"`weight` must be \(D,\), got shape \(2, 2\)"):
        readout_randomization(torch.ones(2, 2), lambda w: w[None])
    with pytest.raises(ValueError, match="`repeats` must be a positive integer, got 0"):
        readout_randomization(torch.ones(2), lambda w: w[None], repeats=0)


def test_bootstrap() -> None:
    assert bootstrap_interval([0.3]) == (0.3, 0.3)
    low, high = bootstrap_interval([0.0, 1.0])
    assert (low, high) == (0, 1)
    sample = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(sample, repeats=4000)
    half = 1.96 * sample.std() / 20
    assert np.allclose((low, high), (sample.mean() - half, sample.mean() + half), atol=0.01)
    assert bootstrap_interval(sample) == bootstrap_interval(sample)
    for values, level, text in (([], 0.95, "n >= 1"), ([np.nan], 0.95, "finite"), ([1.0], 1.0, "between 0 and 1")):
        with pytest.raises(ValueError, match=text):
            bootstrap_interval(values, level=level)
