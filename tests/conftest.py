"""What the tests share: a small network with an exact oracle, and the developers' data folder."""

from __future__ import annotations

import gc
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks: threads that wait for each other cost more than they do

import other_device
import pytest
import torch
from hypothesis import settings
from torch import nn

from captum_shared import LatentEncoder

torch.set_num_threads(1)
settings.register_profile("noisy machine", deadline=None)  # a slow example is no fault
settings.load_profile("noisy machine")


# What is imported and collected stays to the end: half a second for each time that the garbage collector looks at it.
gc.disable()


def pytest_collection_finish() -> None:
    """Leave the 600,000 objects that are there now out of every later collection."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The developers' data folder; the test is skipped where it is absent."""
    folder = Path(os.environ.get("CAPTUM_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set CAPTUM_SHARED_DATA")
    return folder


DEVICES = {"other": other_device.AVAILABLE, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


@pytest.fixture(params=[name for name, there in DEVICES.items() if there] or ["none"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A device other than the CPU: the stand-in of these tests, and CUDA and MPS where the machine has them."""
    if request.param == "none":
        pytest.skip(f"none of the devices {list(DEVICES)} here")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # 10 bits of mantissa, where the CPU has 23
    return str(request.param)


class SmallNet(nn.Module):
    """A convolutional network whose modules are each called once, as DeepLift and LRP demand."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.bn = nn.BatchNorm2d(5)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(5, channels, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.head = nn.Linear(channels, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu1(self.bn(self.conv1(x))))
        x = self.relu2(self.conv2(x))
        return self.head(x.mean(dim=(2, 3)))


@pytest.fixture
def net() -> SmallNet:
    """A small network in float64 and evaluation mode, with batch statistics that are not trivial."""
    model = SmallNet().double().eval()
    model.bn.running_mean.uniform_(-0.5, 0.5)
    model.bn.running_var.uniform_(0.5, 2.0)
    return model


@pytest.fixture
def encoder(net: SmallNet) -> LatentEncoder:
    """The small network up to its last map, with 6 latents."""
    return LatentEncoder(net, layer="relu2", pool="avg")


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Three images with their references."""
    return torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.randn(3, 3, 8, 8, dtype=torch.float64)


@pytest.fixture
def w() -> torch.Tensor:
    """A readout of the encoder's latents."""
    return torch.randn(6, dtype=torch.float64)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """The tiny network of synthetic recordings, as ``tiny_network:make`` in the working directory, ``tmp_path``."""
    from recordings import make_network

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return make_network(tmp_path)


@pytest.fixture
def recording(tmp_path: Path, tiny: torch.nn.Module) -> Path:
    """The folder of a synthetic recording."""
    from recordings import make_recording

    return make_recording(tmp_path, tiny)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports whose pictures are not rendered."""
    from recordings import undraw

    undraw(monkeypatch)
