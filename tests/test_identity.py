"""Identity is what a thing does: no two networks or transforms that differ are taken for one another."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision import transforms as T

from captum_shared import LatentEncoder, encode_images
from captum_shared.identity import identify, identify_network, identify_transform
from captum_shared.networks.preprocessing import preprocessing
from captum_shared.store import Identity

IMAGE = Image.new("RGB", (40, 30), (10, 200, 30))
X = torch.zeros(3, 24, 24)
PASSES = 6  # of an identity, one image each: two for each of three probes


class Net(nn.Module):
    """A network whose forward pass depends on attributes that ``repr`` does not show."""

    def __init__(self, scale: float = 1.0, act: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("shift", torch.zeros(1), persistent=False)
        self.scale, self.act = scale, act

    def forward(self, x: Tensor) -> Tensor:
        return (self.act(self.conv(x)) * self.scale + self.shift).mean((2, 3))


class Scaled:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, image: Any) -> Tensor:
        return T.functional.to_tensor(image) * self.factor


def changed(network: nn.Module, change: Callable[[Any], Any]) -> nn.Module:
    with torch.no_grad():
        change(network)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": Net,
    "an attribute": lambda: Net(1.001),
    "a function": lambda: Net(act=nn.functional.gelu),
    "a weight": lambda: changed(Net(), lambda net: net.conv.weight[0, 0, 0, 0].add_(1e-7)),
    "a buffer that is not saved": lambda: changed(Net(), lambda net: net.shift.add_(1e-30)),
    "a hook": lambda: changed(Net(), lambda net: net.conv.register_forward_hook(lambda *a: a[2] + 1)),
    "a latent transform": lambda: nn.Sequential(Net(), nn.Softplus()),
    "a lambda of latents": lambda: LatentEncoder(Net(), "conv", transform=lambda z: z + 0.01),
    "a lambda that pools": lambda: LatentEncoder(Net(), "conv", pool=lambda output: output.mean((2, 3)) * 1.01),
    "a layer": lambda: LatentEncoder(Net(), "conv"),
    "a pool": lambda: LatentEncoder(Net(), "conv", pool="max"),
}
TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "scaled": Scaled(1.0),
    "scaled otherwise": Scaled(1.0001),
    "a lambda": lambda image: Scaled(1.0)(image) + 0.001,
    "resized": preprocessing(32),
    "resized otherwise": preprocessing(33),
    "the mean": preprocessing(32, mean=(0.485, 0.456, 0.4061)),
    "the deviation": preprocessing(32, std=(0.229, 0.224, 0.2251)),
    "mirrored": lambda image: Scaled(1.0)(image).flip(-1),
    "colours swapped": lambda image: Scaled(1.0)(image)[[2, 1, 0]],
    "blue only": lambda image: Scaled(1.0)(image) * torch.tensor([0.0, 0.0, 1.0])[:, None, None],
    "one pixel": lambda image: torch.index_fill(Scaled(1.0)(image), 2, torch.tensor([3]), 0.0),
    "crops": T.Compose([T.CenterCrop(24), T.ToTensor()]),
    "interpolation": T.Compose([T.Resize((32, 32), T.InterpolationMode.NEAREST), T.ToTensor()]),
    "bilinear": T.Compose([T.Resize((32, 32)), T.ToTensor()]),
    "large images only": lambda image: Scaled(1.0)(image) / (1 + (image.width > 300)),
}  # fmt: skip


def test_networks_are_told_apart_and_found_again() -> None:
    once, again = ([identify_network(make().eval(), X) for make in NETWORKS.values()] for _ in "12")
    same = np.array([[one.matches(other) for other in again] for one in once])
    assert np.array_equal(same, np.eye(len(NETWORKS)))


def test_transforms_are_told_apart_and_found_again() -> None:
    once, again = ([identify_transform(transform, IMAGE) for transform in (*TRANSFORMS.values(), None)] for _ in "12")
    same = np.array([[one.matches(other) for other in again] for one in once])
    assert np.array_equal(same, np.eye(len(same)))


def test_a_copy_in_another_layout_on_another_number_of_threads_is_the_same() -> None:
    network = nn.Sequential(*(nn.Sequential(nn.Conv2d(c, 32, 3), nn.ReLU()) for c in (3, 32, 32)), nn.Flatten()).eval()
    one = identify_network(network, X)
    copy = pickle.loads(pickle.dumps(network)).to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        other = identify_network(copy, X)
        with torch.backends.mkldnn.flags(enabled=False):
            third = identify_network(copy, X)
    finally:
        torch.set_num_threads(threads)
    assert one.matches(other)
    assert one.matches(third)
    assert not one.matches(identify_network(network.double(), X.double()))


@pytest.mark.slow  # starts a second Python, which imports torch
def test_another_process_finds_the_same(tmp_path: Path) -> None:
    code = (
        "import sys, json, torch; sys.path.insert(0, sys.argv[1])\n"
        "from test_identity import IMAGE, Net, TRANSFORMS; from captum_shared.identity import identify\n"
        "print(json.dumps(identify(Net().eval(), TRANSFORMS['the mean'], IMAGE).as_json()))"
    )
    words = [sys.executable, "-c", code, str(Path(__file__).parent)]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert identify(Net().eval(), TRANSFORMS["the mean"], IMAGE).matches(Identity.from_json(json.loads(printed)))


def test_shape_and_dtype_of_the_images_count() -> None:
    one = identify_network(Net(), X)
    assert not one.matches(identify_network(Net(), torch.zeros(3, 25, 24)))
    assert one.matches(identify_network(Net(), torch.rand(3, 24, 24)))  # what is in them does not


def test_tensors_and_arrays_are_probed_as_what_they_are() -> None:
    as_floats = T.ConvertImageDtype(torch.float32)
    for example in (torch.rand(3, 8, 8), torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)):
        plain, halved = (identify_transform(t, example) for t in (as_floats, lambda x: as_floats(x) / 2))
        assert not plain.matches(halved)
    array = np.zeros((8, 8, 3), dtype=np.uint8)
    assert not identify_transform(lambda x: x, array).matches(identify_transform(lambda x: x[::-1].copy(), array))
    assert identify_transform(lambda x: torch.tensor(x["a"]), {"a": [1.0]}).probe != ()


RANDOM = {
    "torch": T.Compose([T.RandomHorizontalFlip(), T.ToTensor()]),
    "random": lambda image: Scaled(1.0)(image) + random.random(),
    "numpy": lambda image: Scaled(1.0)(image) + float(np.random.rand()),
    "of its own": (lambda rng: lambda image: Scaled(1.0)(image) + float(rng.random()))(np.random.default_rng(0)),
}  # fmt: skip


@pytest.mark.parametrize("name", RANDOM)
def test_random_transforms_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match="`transform` gives a different result each time .* expected one without random steps"
    ):
        identify_transform(RANDOM[name], IMAGE)


def test_random_networks_are_refused() -> None:
    class Always(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x, training=True)

    with pytest.raises(ValueError, match="the network gives a different output each time"):
        identify_network(Always(), X)


def test_random_numbers_are_as_without_it() -> None:
    def draw() -> list[float]:
        return [float(torch.rand(())), random.random(), float(np.random.rand())]

    for one in (torch.manual_seed, random.seed, np.random.seed):
        one(0)
    expected = draw()
    network = Net()
    for one in (torch.manual_seed, random.seed, np.random.seed):
        one(0)
    for name in RANDOM:
        with pytest.raises(ValueError, match="random"):
            identify_transform(RANDOM[name], IMAGE)
    identify_network(network, X)
    assert draw() == expected


def test_a_transform_that_takes_no_probe() -> None:
    def picky(image: Image.Image) -> Tensor:
        if image.size != (40, 30):
            raise RuntimeError("40 x 30 please")
        return T.functional.to_tensor(image)

    assert identify_transform(picky, IMAGE).matches(identify_transform(picky, IMAGE))
    with pytest.raises(RuntimeError, match="40 x 30 please"):
        identify_transform(picky, Image.new("RGB", (9, 9)))


def test_gradients_and_modes_are_left_alone() -> None:
    network = Net().train()
    identify_network(network, X)
    assert network.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


# What it is for: latents that are kept.


def test_transforms_that_differ_in_an_attribute_share_no_latents(tmp_path: Path) -> None:
    """Failed before: both are `Scaled` without a ``repr`` of their own, or with the same."""
    images = []
    for k in range(3):
        images.append(tmp_path / f"{k}.png")
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(images[-1])
    for transform in (Scaled(1.0), Scaled(2.0), lambda image: Scaled(3.0)(image), Scaled(1.0)):
        kept = encode_images(Net(), images, transform, cache=tmp_path / "cache")
        assert torch.equal(kept, encode_images(Net(), images, transform))


def test_networks_that_differ_in_their_forward_pass_share_no_latents(tmp_path: Path) -> None:
    images = torch.rand(4, 3, 24, 24)
    for make in (Net, NETWORKS["an attribute"], NETWORKS["a hook"], Net):
        assert torch.equal(encode_images(make(), images, cache=tmp_path), encode_images(make(), images))


def test_every_kind_of_images_is_kept(tmp_path: Path) -> None:
    calls: list[int] = []
    network = Net()
    network.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    images = torch.rand(4, 3, 24, 24)
    for source in (images, TensorDataset(images)):
        for _ in range(2):
            encode_images(network, source, cache=tmp_path)
    assert sum(calls) == 4 + 4 * PASSES


def test_a_random_transform_cannot_be_kept(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 24, 24)
    with pytest.raises(ValueError, match="without random steps"):
        encode_images(Net(), images, T.RandomHorizontalFlip(), cache=tmp_path)
    encode_images(Net(), images, T.RandomHorizontalFlip())  # but used
