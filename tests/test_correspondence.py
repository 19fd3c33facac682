"""LayerCorrespondence and the positions' shares, against loops over positions and the slow product of Jacobians."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from captum_shared import LatentEncoder, LayerCorrespondence, LayerParallelBackprop, latent_transform, moment_rule
from captum_shared import neuron_similarity as similarity

pytestmark = pytest.mark.filterwarnings("ignore:the third moments of")


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, 10, 8).double(), torch.randn(2, 3, 10, 8).double()


def fitted(kind: str, encoder: LatentEncoder, images: Tensor) -> Any:
    z = encoder(images).detach().numpy()
    scaler = StandardScaler().fit(z)
    if kind == "scaler":
        return latent_transform(scaler)
    if kind == "pca":
        return latent_transform(PCA(3).fit(z))
    if kind == "scaler and pca":
        return latent_transform(scaler, PCA(4).fit(scaler.transform(z)))
    if kind == "linear":
        return nn.Linear(z.shape[1], 7).double()
    return None


KINDS = ["none", "scaler", "pca", "scaler and pca", "linear"]


def encoder_of(net: nn.Module, pool: Any, kind: str) -> LatentEncoder:
    plain = LatentEncoder(net, "relu2", pool)
    images = torch.randn(40, 3, 10, 8).double()
    return LatentEncoder(net, "relu2", pool, transform=fitted(kind, plain, images))


def pooled_grid(features: Tensor, pool: Any) -> Tensor:
    return {"avg": lambda f: f.mean((2, 3)), "flatten": lambda f: f.flatten(1)}.get(
        pool, lambda f: torch.nn.functional.adaptive_avg_pool2d(f, pool).flatten(1)
    )(features)


def slow_interactions(encoder: LatentEncoder, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """BiLRP's and exCLIP's product at the layer: R(p, q) = sum_d w_d J_d,p . A_p J'_d,q . A'_q, latent by latent.

    J, J' are Jacobians of the pooled and transformed latents with respect to the layer's outputs A, A'. Exact where
    latents are linear in A; without an offset.
    """
    maps = [encoder.feature_map(v[None]).detach() for v in (x, y)]

    def parts(features: Tensor) -> Tensor:
        def latents(f: Tensor) -> Tensor:
            z = pooled_grid(f, encoder.pool)
            return (z if encoder.transform is None else encoder.transform(z))[0]

        jacobian = torch.autograd.functional.jacobian(latents, features)[:, 0]
        return (jacobian * features[0]).sum(1)  # (D, h, w)

    first, second = (parts(features) for features in maps)
    out = torch.zeros(*first.shape[1:], *second.shape[1:]).double()
    for d in range(len(w)):
        out += w[d] * first[d][:, :, None, None] * second[d]
    return out


@pytest.mark.parametrize("pool", ["avg", "flatten", 2, 3])
def test_dot_is_the_slow_product_of_jacobians(pool: Any, net: nn.Module, pair: Any) -> None:
    encoder = LatentEncoder(net, "relu2", pool)
    w = torch.randn(encoder(pair[0]).shape[1]).double()
    found = LayerCorrespondence(encoder).attribute(pair, readout=w)
    for n in range(2):
        expected = slow_interactions(encoder, pair[0][n], pair[1][n], w)
        assert (found[n] - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pool", ["avg", "flatten", 2, 3])
def test_sums_and_marginals(pool: Any, kind: str, net: nn.Module, pair: Any) -> None:
    encoder = encoder_of(net, pool, kind)
    gallery = encoder(torch.randn(40, 3, 10, 8).double()).detach()
    d = gallery.shape[1]
    w = torch.randn(2, d).double()
    z, z_ref = (encoder(x).detach() for x in pair)
    center = gallery.mean(0)
    cells = 4 if pool == 2 and d == 24 else 1
    rule = moment_rule(gallery, contrast=0.5, cells=cells)
    for options, rule_options, total in [
        ({}, {"rule": "dot"}, lambda n: similarity(z[n : n + 1], z_ref[n : n + 1], w[n])),
        (
            {"center": center},
            {"rule": "dot", "center": center},
            lambda n: similarity(z[n : n + 1] - center, z_ref[n : n + 1] - center, w[n]),
        ),
        ({"similarity": rule}, {"rule": rule}, lambda n: rule.similarity(z[n : n + 1], z_ref[n : n + 1], w[n])),
    ]:
        part = LayerCorrespondence(encoder, **options).attribute(pair, readout=w)
        assert part.shape == (2, 5, 4, 5, 4)
        scale = part.abs().sum()
        expected = torch.stack([total(n)[0, 0] for n in range(2)])
        assert (part.sum((1, 2, 3, 4)) - expected).abs().max() <= 1e-9 * scale
        maps = LayerParallelBackprop(encoder, constants="crossed", **rule_options).attribute(pair, readout=w)
        assert (part.sum((3, 4)) - maps[0].squeeze(1)).abs().max() <= 1e-9 * scale
        assert (part.sum((1, 2)) - maps[1].squeeze(1)).abs().max() <= 1e-9 * scale


@pytest.mark.parametrize("pool", ["avg", 2, "flatten"])
def test_each_pair_of_positions_is_that_of_the_shares(pool: Any, net: nn.Module, pair: Any) -> None:
    """Shares of a standardized grid, written out: what a position has above the mean of its cell, times its weight."""
    encoder = encoder_of(net, pool, "scaler")
    step = encoder.transform[0]
    features = [encoder.feature_map(x).detach() for x in pair]
    w = torch.randn(encoder(pair[0]).shape[1]).double()
    found = LayerCorrespondence(encoder).attribute(pair, readout=w)

    def share(f: Tensor, i: int, j: int) -> Tensor:
        alone = torch.zeros_like(f)
        alone[:, i, j] = f[:, i, j]
        one = torch.zeros_like(f)
        one[:, i, j] = 1
        pooled, weight = (pooled_grid(m[None], pool)[0] for m in (alone, one))
        return (pooled - weight * step.shift) * step.scale

    for i, j, k, m in [(0, 0, 0, 0), (4, 3, 2, 1), (2, 2, 2, 2)]:
        expected = (w * share(features[0][1], i, j) * share(features[1][1], k, m)).sum()
        assert torch.allclose(found[1, i, j, k, m], expected, rtol=1e-9)


def test_references_of_another_size_and_blocks(net: nn.Module, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of(net, 2, "scaler")
    wide = torch.randn(2, 3, 10, 14).double()
    w = torch.randn(24).double()
    whole = LayerCorrespondence(encoder).attribute((pair[0], wide), readout=w)
    assert whole.shape == (2, 5, 4, 5, 7)
    monkeypatch.setattr("captum_shared.attribution.correspondence._MOST_VALUES", 24 * 3)
    assert torch.allclose(LayerCorrespondence(encoder).attribute((pair[0], wide), readout=w), whole)


def test_tokens() -> None:
    vit = torchvision.models.VisionTransformer(32, 8, 1, 2, 12, 24).eval()
    images = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    encoder = LatentEncoder(vit, "encoder.layers.encoder_layer_0")
    w = torch.randn(12)
    part = LayerCorrespondence(encoder).attribute(images, readout=w)
    assert part.shape == (1, 4, 4, 4, 4)
    assert torch.allclose(part.sum(), similarity(encoder(images[0]), encoder(images[1]), w)[0, 0], atol=1e-5)


def test_images_pass_the_network_once_and_nothing_comes_back(net: nn.Module, pair: Any) -> None:
    encoder = encoder_of(net, 2, "scaler")
    w = torch.randn(24).double()
    passes = []
    net.conv1.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    for method in (LayerCorrespondence(encoder), LayerParallelBackprop(encoder)):
        passes.clear()
        method.attribute(pair, readout=w)
        assert passes == [False, False]


def test_what_is_no_sum_over_positions(net: nn.Module, pair: Any) -> None:
    class Squared(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.square()

    cases: list[tuple[dict[str, Any], str]] = [
        ({"pool": "max"}, "latents with pool='max' are not sums over the positions"),
        ({"pool": lambda a: a.mean((2, 3))}, "latents with pool=a callable are not sums"),
        (
            {"pool": "avg", "transform": Squared()},
            "the encoder's transform, Squared, is not affine; expected pool='avg'",
        ),
    ]
    for options, text in cases:
        with pytest.raises(ValueError, match=text):
            LayerCorrespondence(LatentEncoder(net, "relu2", **options)).attribute(pair, readout=torch.ones(6))
    with pytest.raises(ValueError, match="gives vectors"):
        LayerCorrespondence(LatentEncoder(net, "head")).attribute(pair, readout=torch.ones(4))
    encoder = LatentEncoder(net, "relu2")
    with pytest.raises(ValueError, match="`similarity` must be 'dot' or a rule of moment_rule, got 'cosine'"):
        LayerCorrespondence(encoder, similarity="cosine")
    with pytest.raises(ValueError, match="its own gallery; expected no `center`"):
        LayerCorrespondence(encoder, moment_rule(torch.rand(20, 6)), center=torch.ones(6))
    with pytest.raises(TypeError, match="whose layer has a map, got Sequential"):
        LayerCorrespondence(nn.Sequential())
    with pytest.raises(ValueError, match="`readout` is missing"):
        LayerCorrespondence(encoder).attribute(pair)


def test_inference_mode_and_gradients_of_the_user(net: nn.Module, pair: Any) -> None:
    encoder = LatentEncoder(net, "relu2")
    w = torch.from_numpy(np.linspace(-1, 1, 6))
    expected = LayerCorrespondence(encoder).attribute(pair, readout=w)
    with torch.inference_mode():
        found = LayerCorrespondence(encoder).attribute(pair, readout=w)
    assert torch.equal(found, expected)
    assert not found.requires_grad
