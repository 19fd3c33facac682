"""`top_activations`: against a sort of all activations, ties, several layers, tokens, readouts, resuming, bad images."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import captum_shared as cs
from captum_shared.selectivity import TopActivations, checkpoint, top_activations
from captum_shared.selectivity.ranking import RunningTop

PARTS = ("activations", "images", "positions")
PASSES = 6  # of an identity, one image each: two for each of three probes


def brute_force(maps: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """All activations of each unit, sorted in Python: by activation, image, position."""
    found = []
    for unit in maps.flatten(2).transpose(0, 1):
        best = [min((-value, p) for p, value in enumerate(image)) for image in unit.tolist()]
        found.append(sorted((value, i, p) for i, (value, p) in enumerate(best))[:k])
    rows = torch.tensor(found, dtype=torch.float64)
    return -rows[..., 0], rows[..., 1].long(), rows[..., 2].long()


def same(a: TopActivations, b: TopActivations) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in PARTS)


class Steps(nn.Module):
    """Few different values, so that ties abound."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 3).floor()


@settings(max_examples=40)
@given(n=st.integers(1, 12), k=st.integers(1, 14), batch=st.integers(1, 5), seed=st.integers(0, 99))
def test_equals_a_sort_of_everything_ties_included(n: int, k: int, batch: int, seed: int) -> None:
    x = torch.rand(n, 3, 4, 5, generator=torch.Generator().manual_seed(seed)).double()
    found = top_activations(Steps(), "", x, k=k, batch_size=batch)
    for part, expected in zip(PARTS, brute_force(Steps()(x), k), strict=True):
        assert torch.equal(getattr(found, part), expected.to(getattr(found, part).dtype)), part
    assert (found.map_size, found.image_size, found.n_images) == ((4, 5), (4, 5), n)


def test_several_layers_in_one_pass(net: nn.Module) -> None:
    x = torch.rand(9, 3, 12, 12).double()
    found = top_activations(net, ["conv1", "relu1", "relu2", "head"], x, k=5, batch_size=4)
    for layer, one in found.items():
        encoder = cs.LatentEncoder(net, layer, pool="flatten")
        with torch.no_grad():
            maps = net(x)[:, :, None, None] if layer == "head" else encoder.feature_map(x)
        assert torch.equal(one.images, brute_force(maps, 5)[1]), layer
        assert torch.allclose(one.activations, brute_force(maps, 5)[0], rtol=1e-12), layer


def test_a_relu_in_place_behind_a_layer_does_not_change_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3)).eval()
    with torch.no_grad():
        model[0].bias.fill_(-10.0)  # all activations negative
    x = torch.rand(6, 3, 8, 8)
    found = top_activations(model, ["0", "2"], x, k=3)["0"]
    assert (found.activations < 0).all()
    assert torch.allclose(found.activations.double(), brute_force(model[0](x), 3)[0], atol=1e-6)


def test_nothing_runs_behind_the_last_layer_after_the_first_batch() -> None:
    calls = []
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
    model[1].register_forward_hook(lambda *_: calls.append(1))
    top_activations(model, "0", torch.rand(8, 3, 8, 8), k=3, batch_size=2)
    assert len(calls) == 1  # the first pass is whole, to see that the layer is called once


def test_a_head_for_other_images_does_not_matter() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 2))
    assert top_activations(model, "0", torch.rand(4, 3, 8, 8), k=2).n_units == 4


def test_tokens_of_a_transformer_lie_on_a_grid() -> None:
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(32, 8, 2, 2, 12, 24).eval()
    x = torch.rand(5, 3, 32, 32)
    layer = "encoder.layers.encoder_layer_0"
    found = top_activations(model, layer, x, k=4)
    with torch.no_grad():
        tokens = cs.LatentEncoder(model, layer).layer_output(x)
    assert found.map_size == (4, 4)
    assert torch.equal(found.images, brute_force(tokens[:, 1:].transpose(1, 2)[..., None], 4)[1])


def test_readout_neurons_are_units(net: nn.Module) -> None:
    encoder = cs.LatentEncoder(net, "relu2")
    readout = cs.LinearReadout(torch.randn(3, 6), torch.randn(3))
    x = torch.rand(10, 3, 12, 12).double()
    found = top_activations(nn.Sequential(encoder, readout), "", x, k=4)
    responses = readout(encoder(x))
    assert torch.equal(found.images, responses.argsort(0, descending=True)[:4].T)
    assert found.map_size == (1, 1)
    assert same(found, TopActivations.from_responses(responses.detach(), 4))


def test_responses_with_missing_rows_are_ranked_without_them() -> None:
    responses = torch.tensor([[1.0], [torch.nan], [3.0]])
    found = TopActivations.from_responses(responses, k=5)
    assert found.images.tolist() == [[2, 0]]
    assert found.unreadable == {1: "no response"}


def test_modes_and_hooks_are_as_before(net: nn.Module) -> None:
    net.train()
    net.bn.eval()
    top_activations(net, "relu2", torch.rand(3, 3, 8, 8).double(), k=2)
    assert net.training
    assert not net.bn.training
    assert not any(module._forward_hooks for module in net.modules())


def test_state_is_bounded() -> None:
    running = RunningTop(4)
    for start in range(0, 40, 8):
        running.update(torch.rand(8, 5), torch.zeros(8, 5, dtype=torch.long), torch.arange(start, start + 8))
        assert running.state is not None
        assert all(part.untyped_storage().nbytes() <= 5 * 12 * 8 for part in running.state)


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i:02d}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return paths


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)).eval()


def test_corrupt_images_are_named_at_the_end_and_left_out(photographs: list[Path]) -> None:
    photographs[3].write_bytes(b"broken")
    with pytest.warns(UserWarning, match=r"1 of 12 images cannot be read:\n.*03.png.*\nThey are left out"):
        found = top_activations(network(), "1", photographs, k=20, batch_size=5)
    assert found.k == 11
    assert 3 not in found.images
    assert list(found.unreadable) == [3]
    with pytest.raises(ValueError, match="03.png"):
        top_activations(network(), "1", photographs, k=20, unreadable="raise")


class Whole(nn.Module):
    """Pixels as whole numbers from 0 to 255."""

    def forward(self, x: Tensor) -> Tensor:
        return (255 * x).round()


def exact_network() -> nn.Module:
    """Whole numbers throughout: sums are exact, so that another process or number of threads changes no bit."""
    torch.manual_seed(0)
    model = nn.Sequential(Whole(), nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(8).round_()
    return model


KILLED = """
    import os, sys, torch
    from pathlib import Path
    from captum_shared.selectivity import checkpoint, top_activations
    sys.path.insert(0, {tests!r})
    from test_selectivity_top import PASSES, exact_network
    checkpoint.SECONDS_BETWEEN, checkpoint.SHARE = 0, float("inf")
    calls = []
    def stop(*_):
        calls.append(1)
        if len(calls) == PASSES + 4:
            os.kill(os.getpid(), 9)
    model = exact_network()
    model[2].register_forward_hook(stop)
    top_activations(model, ["1", "2"], sorted(Path({images!r}).glob("*.png")), k=5, batch_size=2, checkpoint={folder!r})
"""


@pytest.mark.slow  # starts a second Python
def test_killed_and_resumed_gives_the_same(photographs: list[Path], tmp_path: Path) -> None:
    photographs[1].write_bytes(b"broken")
    folder = tmp_path / "checkpoint"
    code = textwrap.dedent(KILLED).format(tests=str(Path(__file__).parent), images=str(tmp_path), folder=str(folder))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert len(list(folder.iterdir())) == 1
    calls: list[int] = []
    model = exact_network()
    model[2].register_forward_hook(lambda *_: calls.append(1))
    with pytest.warns(UserWarning, match="01.png"):
        resumed = top_activations(model, ["1", "2"], photographs, k=5, batch_size=2, checkpoint=folder)
    assert len(calls) == PASSES + 3  # of six batches, three were done before the kill
    with pytest.warns(UserWarning, match="01.png"):
        whole = top_activations(exact_network(), ["1", "2"], photographs, k=5, batch_size=2)
    assert all(same(resumed[layer], whole[layer]) for layer in whole)
    assert resumed["1"].unreadable == whole["1"].unreadable


def interrupted(model: nn.Module, after: int) -> nn.Module:
    calls: list[int] = []

    def stop(*_: Any) -> None:
        calls.append(1)
        if len(calls) > PASSES + after:
            raise KeyboardInterrupt

    model[0].register_forward_hook(stop)
    return model


def test_interrupted_at_any_batch_and_resumed(
    photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0)
    monkeypatch.setattr(checkpoint, "SHARE", float("inf"))
    whole = top_activations(network(), "2", photographs, k=5, batch_size=2)
    for after in range(6):
        folder = tmp_path / f"after{after}"
        with pytest.raises(KeyboardInterrupt):
            top_activations(interrupted(network(), after), "2", photographs, k=5, batch_size=2, checkpoint=folder)
        assert same(top_activations(network(), "2", photographs, k=5, batch_size=2, checkpoint=folder), whole)


@pytest.mark.parametrize(("cost", "written_at"), [(0.0, [2, 4, 6, 8, 10, 12]), (0.009, [2, 6, 10, 12]), (1.0, [2, 12])])
def test_checkpoints_are_as_frequent_as_they_are_cheap(
    cost: float, written_at: list[int], photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 0.25 seconds per batch: every fifth of a second, or such that they take a fiftieth of the time."""
    clock, writes = [0.0], []
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    model = network()
    model[0].register_forward_hook(lambda *_: clock.__setitem__(0, clock[0] + 0.25))

    def write(*arguments: Any) -> None:
        writes.append(arguments[-1]["next"])
        clock[0] += cost

    monkeypatch.setattr("captum_shared.selectivity.checkpoint.Store.write", write)
    top_activations(model, "1", photographs, k=5, batch_size=2, checkpoint=tmp_path / "checkpoint")
    assert writes == written_at


def test_another_network_or_image_starts_over(photographs: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    top_activations(network(), "1", photographs, k=5, checkpoint=folder)
    other = network()
    with torch.no_grad():
        other[0].weight.neg_()
    found = top_activations(other, "1", photographs, k=5, checkpoint=folder)
    assert same(found, top_activations(other, "1", photographs, k=5))
    Image.new("RGB", (16, 16), "white").save(photographs[0])
    found = top_activations(other, "1", photographs, k=5, checkpoint=folder)
    assert same(found, top_activations(other, "1", photographs, k=5))
    assert len(list(folder.iterdir())) == 3


def test_a_damaged_checkpoint_is_named_and_the_pass_starts_over(photographs: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    whole = top_activations(network(), "1", photographs, k=5, checkpoint=folder)
    path = next(folder.iterdir())
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # a bit of an activation or a position, which was taken for true before
    for damaged in (b"half", b"", bytes(content)):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match=f"{path.name} is damaged and will be remade"):
            assert same(top_activations(network(), "1", photographs, k=5, checkpoint=folder), whole)


def test_an_image_replaced_with_the_same_size_and_time_is_noticed(photographs: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    stat = photographs[0].stat()
    pixels = np.array(Image.open(photographs[0]))
    bitmap = photographs[0].with_suffix(".bmp")
    for image in (pixels, pixels[::-1]):
        Image.fromarray(image).save(bitmap)
        os.utime(bitmap, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        images = [bitmap, *photographs[1:]]
        found = top_activations(network(), "2", images, k=5, checkpoint=folder)
        assert same(found, top_activations(network(), "2", images, k=5))


def test_two_datasets_of_one_length_are_told_apart(tmp_path: Path) -> None:
    for _ in range(2):
        data = TensorDataset(torch.rand(20, 3, 16, 16))
        found = top_activations(network(), "1", data, k=5, checkpoint=tmp_path)
        assert same(found, top_activations(network(), "1", data, k=5))


def test_progress_goes_to_the_end(capsys: Any) -> None:
    top_activations(network(), "1", torch.rand(5, 3, 8, 8), k=2, batch_size=2, progress=True)
    assert "5/5" in capsys.readouterr().err


X = torch.rand(4, 3, 8, 8)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


MISTAKES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"layers": "9"}, ValueError, "unknown layer '9'; expected a name of model.named_modules"),
    ({"layers": []}, TypeError, "`layers` must be a name or a sequence of names"),
    ({"layers": ["0", "0"]}, ValueError, "must name each layer once"),
    ({"model": "net"}, TypeError, "`model` must be an nn.Module, got str"),
    ({"model": Twice(), "layers": "conv"}, ValueError, "'conv' is called 2 times"),
    ({"k": 0}, ValueError, "`k` must be a positive integer, got 0"),
    ({"k": 2.5}, ValueError, "`k` must be a positive integer, got 2.5"),
    ({"images": X[:0]}, ValueError, "`images` is empty"),
    ({"images": X * torch.nan}, ValueError, "layer '0' gives NaN or infinite activations for image 0"),
    (
        {"images": [torch.rand(3, 8, 8), torch.rand(3, 9, 9)], "batch_size": 1},
        ValueError,
        r"one size, got \(8, 8\) and \(9, 9\)",
    ),
    ({"batch_size": 0}, ValueError, "`batch_size` must be a positive integer"),
    ({"transform": lambda x: x + torch.rand(()), "checkpoint": "no"}, ValueError, "expected one without random steps"),
]


@pytest.mark.parametrize(("changes", "error", "text"), MISTAKES)
def test_mistakes(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments: dict[str, Any] = {"model": network(), "layers": "0", "images": X, **changes}
    with pytest.raises(error, match=text):
        top_activations(**arguments)
