"""LatentEncoder: layers, layouts, pooling, truncation."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from captum_shared import LatentEncoder
from captum_shared.encoder.latents import find_layout, token_grid


class Untraceable(nn.Module):
    """Control flow that depends on values, which no tracer follows; and a try that swallows every Exception."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.net(x) if x.sum() > -1e9 else x
        except Exception:
            return x


class Unreached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("the network behind the layer ran")


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 8, 8, dtype=torch.float64)


NETWORKS = [
    ("resnet18", "layer2", 64),
    ("squeezenet1_0", "features.5", 64),
    ("vgg11", "features.5", 64),
    ("convnext_tiny", "features.3", 64),
    ("vit_b_16", "encoder.layers.encoder_layer_1", 64),
    ("swin_t", "features.3", 64),
]


@pytest.mark.parametrize(("name", "layer", "size"), NETWORKS)
def test_latents_are_those_of_a_hook(name: str, layer: str, size: int) -> None:
    options = {"image_size": size} if name == "vit_b_16" else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    images = torch.rand(2, 3, size, size)
    encoder = LatentEncoder(model, layer)
    outputs: list[Tensor] = []
    with torch.no_grad(), model.get_submodule(layer).register_forward_hook(lambda m, i, o: outputs.append(o.clone())):
        model(images)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(encoder.layer_output(images), outputs[0])


@pytest.mark.parametrize("wrap", [lambda net: net, Untraceable])
def test_nothing_behind_the_layer_runs(wrap: Any, net: nn.Module, x: Tensor) -> None:
    encoder = LatentEncoder(wrap(net), "relu2" if wrap(net) is net else "net.relu2")
    first = encoder(x)
    net.head = Unreached()
    assert torch.equal(encoder(x), first)
    assert not any(module._forward_hooks for module in net.modules())


def test_a_head_that_fails_does_not_matter(net: nn.Module, x: Tensor) -> None:
    net.head = nn.Linear(999, 4)
    assert LatentEncoder(net, "relu2")(x).shape == (2, 6)


def test_other_exceptions_are_passed_on(net: nn.Module, x: Tensor) -> None:
    net.conv2 = Unreached()
    with pytest.raises(AssertionError, match="behind the layer ran"):
        LatentEncoder(net, "relu2")(x)
    assert not net.relu2._forward_hooks


def test_a_layer_that_is_not_called(net: nn.Module, x: Tensor) -> None:
    net.spare = nn.ReLU()
    with pytest.raises(ValueError, match="'spare' was not called"):
        LatentEncoder(net, "spare")(x)


def test_one_network_inside_another(net: nn.Module, x: Tensor) -> None:
    inner = LatentEncoder(net, "relu1", lambda output: output.flatten(1))
    for layer in ("0.model.conv1", "0", "1"):
        outer = LatentEncoder(nn.Sequential(inner, nn.Unflatten(1, (5, 8, 8))), layer, lambda output: output.flatten(1))
        for _ in range(2):
            assert torch.equal(outer(x), net.conv1(x).flatten(1) if "conv1" in layer else inner(x))


def test_modes_are_untouched(net: nn.Module, x: Tensor) -> None:
    net.eval()
    net.bn.train()
    before = [m.training for m in net.modules()]
    LatentEncoder(net, "relu2")(x)
    assert [m.training for m in net.modules()] == before


def test_parameters_are_shared(net: nn.Module, x: Tensor) -> None:
    encoder = LatentEncoder(net, "relu2")
    before = encoder(x)
    with torch.no_grad():
        net.conv1.weight.mul_(2)
    assert not torch.equal(encoder(x), before)


@pytest.mark.parametrize("model", ["traced", "early exit"])
def test_pickle_and_deepcopy(model: str, net: nn.Module, x: Tensor) -> None:
    encoder = LatentEncoder(
        net if model == "traced" else Untraceable(net), "relu2" if model == "traced" else "net.relu2"
    )
    for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(twin(x), encoder(x))
        assert [m.training for m in twin.modules()] == [m.training for m in encoder.modules()]


def test_pooling_by_hand(net: nn.Module, x: Tensor) -> None:
    def at(pool: Any) -> Tensor:
        return LatentEncoder(net, "relu2", pool)(x)

    m = LatentEncoder(net, "relu2").feature_map(x)
    assert m.shape == (2, 6, 4, 4)
    assert torch.allclose(at("avg"), m.mean((2, 3)))
    assert torch.equal(at("max"), m.amax((2, 3)))
    assert torch.equal(at("flatten"), m.reshape(2, -1))
    assert torch.allclose(at(2), m.reshape(2, 6, 2, 2, 2, 2).mean((3, 5)).reshape(2, -1))
    assert torch.equal(at(lambda o: o[:, :, 0, 0]), m[:, :, 0, 0])


def test_tokens_of_a_vision_transformer() -> None:
    model = torchvision.models.vit_b_16(weights=None).eval()
    images = torch.rand(1, 3, 224, 224)
    encoder = LatentEncoder(model, "encoder.layers.encoder_layer_1", "cls")
    with torch.no_grad():
        tokens, feature_map = encoder.layer_output(images), encoder.feature_map(images)
        assert isinstance(tokens, Tensor)
        assert tokens.shape == (1, 197, 768)
        assert feature_map.shape == (1, 768, 14, 14)
        assert torch.equal(feature_map[0, :, 2, 3], tokens[0, 1 + 2 * 14 + 3])
        assert torch.equal(encoder(images), tokens[:, 0])
        encoder.pool = "avg"
        assert torch.allclose(encoder(images), tokens[:, 1:].mean(1), atol=1e-6)


def test_channels_last_map() -> None:
    model = torchvision.models.swin_t(weights=None).eval()
    images = torch.rand(1, 3, 64, 96)
    encoder = LatentEncoder(model, "features.3")
    with torch.no_grad():
        output = encoder.layer_output(images)
        assert isinstance(output, Tensor)
        assert output.shape == (1, 8, 12, 192)
        assert torch.equal(encoder.feature_map(images), output.permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("shape", "size", "layout"),
    [
        ((2, 512, 7, 7), (224, 224), "channels_first"),
        ((2, 7, 7, 512), (224, 224), "channels_last"),
        ((2, 8, 8, 8), (64, 64), "channels_first"),
        ((2, 16, 7, 14), (224, 448), "channels_first"),
        ((2, 7, 14, 16), (224, 448), "channels_last"),
        ((2, 512, 1, 1), (64, 64), "channels_first"),
        ((2, 197, 768), (224, 224), "tokens"),
        ((2, 768), (224, 224), "vector"),
    ],
)
def test_layouts(shape: Any, size: Any, layout: str) -> None:
    assert find_layout(torch.empty(shape), torch.Size(size)) == layout


@pytest.mark.parametrize(
    ("n", "size", "grid"),
    [
        (197, (224, 224), (1, 14, 14)),
        (196, (224, 224), (0, 14, 14)),
        (261, (224, 224), (5, 16, 16)),
        (393, (224, 448), (1, 14, 28)),
    ],
)
def test_token_grids(n: int, size: Any, grid: Any) -> None:
    assert token_grid(n, torch.Size(size)) == grid


def test_vectors_need_no_pooling(net: nn.Module, x: Tensor) -> None:
    assert torch.equal(LatentEncoder(net, "head")(x), net(x))


def test_transform_is_part_of_the_latents(net: nn.Module, x: Tensor) -> None:
    plain = LatentEncoder(net, "relu2")
    scaled = LatentEncoder(net, "relu2", transform=nn.Linear(6, 2).double())
    assert torch.equal(scaled(x), scaled.transform(plain(x)))


def test_train_and_eval_follow_the_encoder(net: nn.Module) -> None:
    encoder = LatentEncoder(net.train(), "relu2")
    assert encoder.training
    encoder.eval()
    assert not net.bn.training


class Pairs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Branches(nn.Module):
    """Several modules, and a tuple: the tracer sees only the last of its operations as the layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.conv(x)
        return h, 0 * h


def test_a_block_that_returns_a_tuple_is_refused_not_read_in_part(x: Tensor) -> None:
    class Joined(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            a, b = self[0](x)
            return a + b

    with pytest.raises(TypeError, match="layer '0' returned a tuple; expected a tensor"):
        LatentEncoder(Joined(Branches()).to(x), "0")(x)


def test_mistakes(net: nn.Module, x: Tensor) -> None:
    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()
            self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.block(self.block(self.relu(x))))

    cases: list[tuple[type[Exception], str, Any]] = [
        (ValueError, r"unknown layer 'relu3'; expected a name .*'relu2'", lambda: LatentEncoder(net, "relu3")),
        (TypeError, "`layer` must be the name of a module, got ReLU", lambda: LatentEncoder(net, net.relu1)),
        (ValueError, r"'relu' is called 2 times .* expected a layer that is called once", lambda: LatentEncoder(Reused(), "relu")(x.float())),
        (ValueError, "'block' is called 2 times", lambda: LatentEncoder(Reused(), "block")(x.float())),
        (TypeError, "`model` must be an nn.Module, got function", lambda: LatentEncoder(lambda x: x, "a")),
        (ValueError, r"`pool` must be a positive integer or one of \('avg'.* got 'mean'", lambda: LatentEncoder(net, "relu2", "mean")),
        (ValueError, "`pool` must be a positive integer .* got 0", lambda: LatentEncoder(net, "relu2", 0)),
        (ValueError, "`pool` must be a positive integer or .* got True", lambda: LatentEncoder(net, "relu2", True)),
        (ValueError, r"pooled latents must be a tensor \(N, D\), got shape \(2, 6, 4\)", lambda: LatentEncoder(net, "relu2", lambda o: o[..., 0])(x)),
        (TypeError, "`transform` must be a module or callable on latents, got int", lambda: LatentEncoder(net, "relu2", transform=3)),
        (ValueError, r"`layout` must be one of .* got 'nchw'", lambda: LatentEncoder(net, "relu2", layout="nchw")),
        (ValueError, r"gives vectors \(2, 4\); expected a layer with positions", lambda: LatentEncoder(net, "head").feature_map(x)),
        (ValueError, "pool=2 needs a layer with positions, got vectors", lambda: LatentEncoder(net, "head", 2)(x)),
        (ValueError, "pool='cls' needs a layer with a class token, got channels_first", lambda: LatentEncoder(net, "relu2", "cls")(x)),
        (TypeError, "layer '0' returned a tuple; expected a tensor", lambda: LatentEncoder(nn.Sequential(Pairs()), "0")(x)),
        (TypeError, r"images must be floating point, got torch.uint8", lambda: LatentEncoder(net, "relu2")(x.byte())),
        (TypeError, r"images must be a tensor \(N, C, H, W\), got list", lambda: LatentEncoder(net, "relu2")([x])),
        (ValueError, r"with N >= 1, got shape \(0, 3, 8, 8\)", lambda: LatentEncoder(net, "relu2")(x[:0])),
        (ValueError, r"expected a layer output of 2, 3 or 4 dimensions, got shape \(1, 2, 3, 4, 5\)", lambda: find_layout(torch.ones(1, 2, 3, 4, 5), torch.Size((8, 8)))),
        (ValueError, "199 tokens fit no grid with the aspect ratio of a 8 x 300 image", lambda: token_grid(199, torch.Size((8, 300)))),
    ]  # fmt: skip
    for error, text, mistake in cases:
        with pytest.raises(error, match=text):
            mistake()
