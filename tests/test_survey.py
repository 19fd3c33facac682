"""`captum-shared layers`: what each layer returns, and what it says matches what `LatentEncoder` does."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from captum_shared import LatentEncoder, cli
from captum_shared.encoder.layers import candidate_layers
from captum_shared.networks.survey import SurveyedLayer, survey_layers


class Odd(nn.Module):
    """A network whose modules return all that a layer may return."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(3, 4, 2, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.last = Returns(lambda h: h.movedim(1, -1) * 2)
        self.tokens = Returns(lambda h: torch.cat([h.flatten(2).mT, h.new_zeros(len(h), 1, 4)], 1).flip(1))
        self.attention = Returns(lambda h: h[:, None] @ h[:, None].mT[:, :, :, :3])
        self.pair = Returns(lambda h: (h, None))
        self.whole = Returns(lambda h: h.argmax(1))
        self.table = nn.Embedding(8, 4)
        self.windows = Returns(lambda h: h.reshape(2 * len(h), -1))
        self.cut = Returns(lambda h: h.detach())
        self.odd = Returns(lambda h: h[:, :, :, None, None])
        self.single = Returns(lambda h: h.mean(2, keepdim=True))
        self.prime = Returns(lambda h: torch.cat([h] * 6, 1)[:, :99])
        self.twice = nn.Tanh()
        self.vector = nn.Linear(4, 2)
        self.never = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.relu(self.map(x)))
        self.last(h)
        t = self.tokens(h)
        self.attention(t)
        self.pair(t)
        self.whole(t)
        self.table(torch.arange(8))
        self.windows(t)
        self.cut(t)
        self.odd(t)
        self.single(t)
        self.prime(t)
        return self.vector(self.twice(self.twice(t)).mean(1))


class Returns(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, h: Tensor) -> Any:
        return self.function(h)


def test_every_kind_of_layer() -> None:
    found = {layer.name: layer for layer in survey_layers(Odd().eval(), torch.rand(1, 3, 8, 8))}
    grid = ("avg", "max", "grid")
    fit = {
        "map": ((4, 4, 4), "map", grid),
        "relu": ((4, 4, 4), "map", grid),
        "last": ((4, 4, 4), "map", grid),
        "tokens": ((17, 4), "tokens", ("avg", "max", "cls", "grid")),
        "vector": ((2,), "vector", ()),
    }
    assert {name: (layer.shape, layer.form, layer.pools) for name, layer in found.items() if not layer.reason} == fit
    assert {name: layer.reason for name, layer in found.items() if layer.reason} == {
        "drop": "passes on its input",
        "attention": "its sides do not scale with those of the image",
        "pair": "returns a tuple, not a tensor",
        "whole": "returns int64",
        "table": "its first dimension is not that of the images",
        "windows": "its first dimension is not that of the images",
        "cut": "no gradient reaches the images from here",
        "odd": "has too many dimensions",
        "single": "has one number for each token",
        "prime": "its 99 tokens fit no grid",
        "twice": "called 2 times",
    }


def test_the_network_is_left_as_it_was() -> None:
    model = torchvision.models.squeezenet1_0().eval()
    model.features[0].requires_grad_(False)
    before = [parameter.requires_grad for parameter in model.parameters()]
    survey_layers(model, torch.rand(1, 3, 64, 64))
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ValueError, match="images of 4 x 4 pixels are too small"):
        survey_layers(model, torch.rand(1, 3, 4, 4))
    assert [parameter.requires_grad for parameter in model.parameters()] == before


def agrees(model: nn.Module, layer: SurveyedLayer, x: Tensor) -> bool:
    """What is listed as fit can be pooled as listed, with a gradient."""
    leaf = x.clone().requires_grad_()
    for pool in layer.pools or ("avg",):
        z = LatentEncoder(model, layer.name, 2 if pool == "grid" else pool)(leaf)
        if len(z) != len(x) or not z.requires_grad:
            return False
    return True


@pytest.mark.parametrize("name", ["odd", "swin"])
def test_what_is_listed_can_be_cut_and_pooled(name: str) -> None:
    make = {"odd": Odd, "swin": lambda: torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [1, 1], [4, 4])}
    model, x = make[name]().eval().requires_grad_(False), torch.rand(1, 3, 64, 64)
    layers = survey_layers(model, x)
    assert {layer.name for layer in layers if layer.block} == set(candidate_layers(model, x))
    assert all(agrees(model, layer, x) for layer in layers if not layer.reason)


def test_scripted_parts_are_passed_over() -> None:
    blocks = [nn.Sequential(nn.Conv2d(3, 3, 1), torch.jit.script(nn.Sequential(nn.ReLU()))) for _ in range(4)]
    model, x = nn.Sequential(*blocks).eval(), torch.rand(1, 3, 8, 8)
    assert candidate_layers(model, x) == ["0.0", "1.0", "2.0", "3.0"]
    assert [layer.name for layer in survey_layers(model, x)] == ["0.0", "0", "1.0", "1", "2.0", "2", "3.0", "3"]


def test_the_command(capsys: pytest.CaptureFixture[str], tiny: nn.Module) -> None:
    assert cli.main(["layers", "--model", "tiny_network:make", "--image-size", "32"]) == 0
    assert capsys.readouterr().out == (
        "   layer  module             output for one image  pool\n"
        "   0      Conv2d             8 x 14 x 14 map       avg, max, grid\n"
        "*  1      ReLU               8 x 14 x 14 map       avg, max, grid\n"
        "   2      Conv2d             12 x 12 x 12 map      avg, max, grid\n"
        "*  3      ReLU               12 x 12 x 12 map      avg, max, grid\n"
        "   4      AdaptiveAvgPool2d  12 x 1 x 1 map        avg\n"
        "   5      Flatten            12 vector             none needed\n"
        "   6      Linear             4 vector              none needed\n"
        "\n"
        "Images of 32 x 32 pixels. The network can be cut at 7 of the 7 modules.\n"
        "* tried by: captum-shared recording --layer auto (one is chosen for each neuron).\n"
        "grid: --pool N averages over a grid of N x N.\n"
    )
    assert cli.main(["layers", "--model", "tiny_network:make", "--weights", "no.pth"]) == 2
    assert (
        capsys.readouterr().err
        == "captum-shared: error: no weights at no.pth: expected the path of a state dict, or 'none'\n"
    )
    assert cli.main(["layers", "--model", "resnet18", "--image-size", "0"]) == 2
    assert capsys.readouterr().err == "captum-shared: error: --image-size must be a positive integer, got 0\n"


def test_all_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["layers", "--model", "squeezenet1_1", "--image-size", "64"]) == 0
    short = capsys.readouterr().out
    assert "classifier.0" not in short
    assert "--all lists the others, too, with the reason." in short
    assert cli.main(["layers", "--model", "squeezenet1_1", "--image-size", "64", "--all"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "classifier.0 Dropout 512 x 3 x 3 passes on its input" in lines


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert cli.main(["layers", "--model", "squeezenet1_1", "--image-size", "32"]) == 0
    assert cli.main(["layers", "--model", "squeezenet1_1", "--image-size", "32", "--weights", "DEFAULT"]) != 0
