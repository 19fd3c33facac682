"""torchvision's networks with random weights: batches, dtypes, grids, both methods."""

from __future__ import annotations

import copy
from functools import cache

import captum.attr as ca
import pytest
import torch
import torchvision
from torch import nn

from captum_shared import LatentEncoder, LayerParallelBackprop, ParallelBackprop

NETWORKS = [
    ("resnet18", "layer2", 64),
    ("squeezenet1_0", "features.5", 64),
    pytest.param("vgg11", "features.7", 64, marks=pytest.mark.slow),  # 120 million parameters are made first
    pytest.param("convnext_tiny", "features.3", 64, marks=pytest.mark.slow),  # wide, and slow in half precision
    pytest.param("vit_b_16", "encoder.layers.encoder_layer_1", 64, marks=pytest.mark.slow),  # 86 million
    pytest.param("swin_t", "features.3", 64, marks=pytest.mark.slow),
]


@cache
def make(name: str, size: int) -> nn.Module:
    """Of VGG without the head: 120 million parameters behind the layer."""
    model = torchvision.models.get_model(name, weights=None, **({"image_size": size} if name == "vit_b_16" else {}))
    if name == "vgg11":
        model.classifier = nn.Identity()
    return model.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("name", "layer", "size"), NETWORKS)
def test_a_batch_of_pairs(name: str, layer: str, size: int, dtype: torch.dtype) -> None:
    encoder = LatentEncoder(copy.deepcopy(make(name, size)).to(dtype), layer)
    pair = tuple(torch.randn(2, 3, size, size).to(dtype) for _ in range(2))
    with torch.no_grad():
        readouts = torch.randn(2, encoder(pair[0]).shape[1])
        maps = ParallelBackprop(encoder, engine=ca.Saliency).attribute(pair, readout=readouts)
        steps = ParallelBackprop(encoder).attribute(pair, readout=readouts[0], n_steps=2)
        coarse = LayerParallelBackprop(encoder).attribute(pair, readout=readouts)
    for heat in (*maps, *steps):
        assert heat.shape == pair[0].shape
        assert heat.dtype == dtype
        assert heat.isfinite().all()
        assert heat.any()
    assert coarse[0].shape[:2] == (2, 1)
    if dtype == torch.float64:
        alone = ParallelBackprop(encoder, engine=ca.Saliency).attribute(tuple(x[1:] for x in pair), readout=readouts[1])
        assert torch.allclose(maps[0][1:], alone[0], rtol=1e-6, atol=1e-9 * float(maps[0].abs().max()))


def test_a_rectangular_image_on_a_transformer_of_windows() -> None:
    encoder = LatentEncoder(torchvision.models.swin_t(weights=None).eval(), "features.1")
    pair = torch.randn(1, 3, 64, 96), torch.randn(1, 3, 96, 64)
    maps = ParallelBackprop(encoder, engine=ca.Saliency).attribute(pair, readout=torch.randn(96))
    assert [m.shape for m in maps] == [p.shape for p in pair]
