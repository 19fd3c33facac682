"""LayerParallelBackprop: coarse maps at the encoder's layer."""

from __future__ import annotations

from typing import Any

import captum.attr as ca
import pytest
import torch
import torchvision
from torch import Tensor, nn

from captum_shared import LatentEncoder, LayerParallelBackprop


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, 8, 8).double(), torch.randn(2, 3, 8, 8).double()


W = torch.linspace(-1, 1, 6).double()


class Scalar(nn.Module):
    def __init__(self, encoder: nn.Module, c: Tensor) -> None:
        super().__init__()
        self.encoder, self.c = encoder, c

    def forward(self, x: Tensor) -> Tensor:
        return (self.encoder(x) * self.c).sum(1, keepdim=True)


def test_with_average_pooling_it_is_captums_grad_cam_of_the_scalar(net: nn.Module, pair: Any) -> None:
    encoder = LatentEncoder(net, "relu2", "avg")
    lpb = LayerParallelBackprop(encoder)
    c = lpb.shared_weights(pair, W)
    for relu in (False, True):
        maps = lpb.attribute(pair, readout=W, relu_attributions=relu)
        for x, found in zip(pair, maps, strict=True):
            grad_cam = ca.LayerGradCam(Scalar(encoder, c), net.relu2)
            assert torch.allclose(found, grad_cam.attribute(x, target=0, relu_attributions=relu), atol=1e-12)
            assert found.shape == (2, 1, 4, 4)


@pytest.mark.parametrize("pool", ["avg", "max", "flatten", 2])
def test_map_sums_to_the_scalar(pool: Any, net: nn.Module, pair: Any) -> None:
    encoder = LatentEncoder(net, "relu2", pool)
    lpb = LayerParallelBackprop(encoder)
    w = torch.randn(encoder(pair[0]).shape[1]).double()
    maps = lpb.attribute(pair, readout=w)
    c = lpb.shared_weights(pair, w)
    assert torch.allclose(maps[0].sum((1, 2, 3)), (c * encoder(pair[0])).sum(1))


def test_spatial_pooling_keeps_positions_apart(net: nn.Module, pair: Any) -> None:
    encoder = LatentEncoder(net, "relu2", 2)
    lpb = LayerParallelBackprop(encoder)
    w = torch.zeros(6, 2, 2).double()
    w[:, 0, 1] = 1
    heat = lpb.attribute(pair, readout=w.flatten())[0]
    assert heat[..., :2, 2:].abs().min() > 0
    heat[..., :2, 2:] = 0
    assert not heat.any()


def test_swap_and_frozen_weights(net: nn.Module, pair: Any) -> None:
    lpb = LayerParallelBackprop(LatentEncoder(net, "relu2"))
    maps, swapped = lpb.attribute(pair, readout=W), lpb.attribute((pair[1], pair[0]), readout=W)
    assert torch.equal(maps[0], swapped[1])
    frozen = lpb.attribute(pair, additional_forward_args=(lpb.shared_weights(pair, W),))
    assert torch.equal(maps[1], frozen[1])


def test_interpolate_is_captums(net: nn.Module, pair: Any) -> None:
    coarse = LayerParallelBackprop(LatentEncoder(net, "relu2")).attribute(pair, readout=W)[0]
    assert LayerParallelBackprop.interpolate(coarse, (8, 8), "bilinear").shape == (2, 1, 8, 8)


def test_noise_tunnel_around(net: nn.Module, pair: Any) -> None:
    lpb = LayerParallelBackprop(LatentEncoder(net, "relu2"))
    maps = ca.NoiseTunnel(lpb).attribute(pair, nt_samples=3, stdevs=0.1, readout=W)
    assert maps[0].shape == (2, 1, 4, 4)


def test_tokens_and_channels_last() -> None:
    images = torch.rand(1, 3, 224, 224), torch.rand(1, 3, 224, 224)
    for name, layer, side, d in [
        ("vit_b_16", "encoder.layers.encoder_layer_0", 14, 768),
        ("swin_t", "features.1", 56, 96),
    ]:
        encoder = LatentEncoder(torchvision.models.get_model(name, weights=None).eval(), layer)
        maps = LayerParallelBackprop(encoder).attribute(images, readout=torch.randn(d))
        assert maps[0].shape == (1, 1, side, side)


def test_layers_without_positions(net: nn.Module, pair: Any) -> None:
    with pytest.raises(ValueError, match="gives vectors .* expected a layer with positions"):
        LayerParallelBackprop(LatentEncoder(net, "head")).attribute(pair, readout=W[:4])
    vit = torchvision.models.vit_b_16(weights=None).eval()
    encoder = LatentEncoder(vit, "encoder.layers.encoder_layer_0", "cls")
    images = torch.rand(1, 3, 224, 224), torch.rand(1, 3, 224, 224)
    with pytest.raises(ValueError, match="only tokens without a position, such as the class token"):
        LayerParallelBackprop(encoder).attribute(images, readout=torch.randn(768))


def test_zero_readout_gives_zero_maps(net: nn.Module, pair: Any) -> None:
    assert not LayerParallelBackprop(LatentEncoder(net, "relu2")).attribute(pair, readout=0 * W)[0].any()
