"""Which layers are tried, and that one pass gives what an encoder of each would."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from captum_shared import LatentEncoder
from captum_shared.encoder.layers import LayerScan, candidate_layers
from captum_shared.study.network import Network

BLOCKS = {
    "squeezenet1_0": ["features.3", "features.4", "features.5", "features.7", "features.8", "features.9", "features.10",
                      "features.12"],
    "resnet18": [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)],
    "vit_b_32": [f"encoder.layers.encoder_layer_{i}" for i in range(12)],
    "alexnet": ["features.1", "features.2", "features.4", "features.5", "features.7", "features.9", "features.11",
                "features.12"],
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_known_networks(name: str) -> None:
    model = torchvision.models.get_model(name).eval()
    assert candidate_layers(model, torch.zeros(1, 3, 224, 224)) == BLOCKS[name]


def test_many_blocks_are_thinned_evenly_with_the_last() -> None:
    stack = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(20)))
    found = candidate_layers(stack, torch.zeros(1, 3, 8, 8), most=5)
    assert len(found) == 5
    assert found[-1].startswith("19")


def test_one_pass_gives_what_the_encoders_give(net: nn.Module) -> None:
    layers, pools = ["relu1", "relu2"], ("avg", "max", 2, 3)
    scan = LayerScan(net, layers, pools)
    x = torch.randn(4, 3, 12, 12, dtype=torch.float64)
    calls = []
    handle = net.conv1.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        found = scan(x).split(scan.widths(x[:1]), dim=1)
        calls.clear()
        scan(x)
        assert len(calls) == 1
        for z, (layer, pool) in zip(found, scan.candidates, strict=True):
            assert torch.allclose(z, LatentEncoder(net, layer, pool)(x))
    handle.remove()
    assert not any(module._forward_hooks for module in net.modules())


def test_an_inplace_activation_behind_a_layer_does_not_change_it() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True))
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(LayerScan(net, ["0"], ["avg"])(x), net[0](x).mean((2, 3)))


def test_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torchvision.models.VisionTransformer(32, 8, 4, 2, 16, 32).eval()
    layers = candidate_layers(model, torch.zeros(1, 3, 32, 32))
    assert [name.split(".")[-1] for name in layers] == [f"encoder_layer_{i}" for i in range(4)]
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(LayerScan(model, layers[:1], [2])(x), LatentEncoder(model, layers[0], 2)(x), atol=1e-6)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Named(nn.Module):
    """Its first block has another name, which comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Module()
        self.stem.block = Block()
        self.blocks = nn.ModuleList([self.stem.block, *(Block() for _ in range(3))])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_of_two_names_the_one_in_the_container_counts() -> None:
    assert candidate_layers(Named(), torch.zeros(1, 3, 4, 4)) == [f"blocks.{i}" for i in range(4)]


def test_no_layer_with_positions() -> None:
    with pytest.raises(ValueError, match="found no block with positions in Sequential"):
        candidate_layers(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.zeros(1, 3, 2, 2))


def test_a_transform_of_ones_own_comes_before_that_of_the_study(net: nn.Module) -> None:
    """A `LatentEncoder` with a transform, studied: its latents are transformed once more, in this order."""
    scale, shift = nn.Linear(6, 6).double(), nn.Linear(6, 6).double()
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    plain, own = (LatentEncoder(net, "relu2", transform=one) for one in (None, scale))
    for encoder, expected in ((plain, shift(plain(x))), (own, shift(scale(plain(x))))):
        network = Network(encoder, [("relu2", "avg")], [6], torch.Tensor)
        assert torch.equal(network.encoder(0, shift)(x), expected)
        assert torch.equal(encoder(x), plain(x) if encoder is plain else scale(plain(x)))  # it is as it was
