"""Passes over images give the same bits wherever they run: here, in threads, in processes, on Dask and on Ray."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from places import PLACES, place
from torch import Tensor, nn

from benchmarks.common.jobs import kept_results
from benchmarks.common.results import ResultStore
from captum_shared import LatentEncoder, encode_images
from captum_shared.encoder import passes
from captum_shared.encoder.passes import ImagePass
from captum_shared.selectivity import changed_responses, grey, top_activations

ELSEWHERE = [where for where in PLACES if where != "here"]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Twenty-two images, one of which is none: three batches of eight."""
    paths = [tmp_path / f"{i:02}.png" for i in range(22)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    paths[5].write_bytes(b"no image")
    return paths


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3), nn.ReLU())


def to_tensor(image: Any) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def everything(network: nn.Module, files: list[Path], cache: Path) -> list[Tensor]:
    """Latents, first without and then with a cache, top activations of two layers, and responses to grey crops."""
    encoder = LatentEncoder(network, "3", pool=2)
    found = []
    for folder in (None, cache, cache):
        with pytest.warns(UserWarning, match=r"1 of 22 images cannot be read"):
            found.append(encode_images(encoder, files, to_tensor, batch_size=4, cache=folder))
    tops = top_activations(network, ["1", "4"], files[6:], 5, transform=to_tensor, batch_size=3)
    for top in tops.values():
        found += [top.activations, top.images, top.positions]
        found.append(changed_responses(network, top, files[6:], grey(), transform=to_tensor, batch_size=4))
    images = torch.stack([to_tensor(Image.open(path)) for path in files[6:]])
    return [*found, encode_images(encoder, images, batch_size=4)]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_every_pass_has_the_bits_of_one_process(
    name: str, network: nn.Module, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    monkeypatch.setattr(passes, "_BATCHES", 2)  # of a task: so that there are several
    expected = everything(network, files, tmp_path / "here")
    with place(name):
        found = everything(network, files, tmp_path / "elsewhere")
    assert len(found) == len(expected)
    assert all(torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in zip(found, expected, strict=True))
    assert network.training  # as before


def test_batches_go_to_the_workers_and_results_come_in_order() -> None:
    threads: set[int] = set()

    def noted(batch: list[int]) -> list[int]:
        threads.add(threading.get_ident())
        return batch

    class Numbers(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return 50

        def __getitem__(self, index: int) -> int:
            return index

    images = ImagePass(noted, Numbers(), batch_size=3)
    assert [i for batch in images.results(7) for i in batch] == list(range(7, 50))
    assert threads == {threading.get_ident()}
    with place("threading"):
        assert [i for batch in images.results(7) for i in batch] == list(range(7, 50))
    assert len(threads) > 1


def test_an_error_on_a_worker_comes_through(network: nn.Module, files: list[Path]) -> None:
    network[3].weight.data[:] = torch.nan
    with place("threading"), pytest.raises(ValueError, match="NaN or infinite latents for .*00.png"):
        encode_images(LatentEncoder(network, "3"), files, to_tensor, batch_size=4)
    assert network.training


def drawn(number: int) -> dict[str, Any]:
    """From torch's one random generator, as a benchmark's rows do."""
    torch.manual_seed(number)
    return {"values": [float(torch.rand(())) for _ in range(200)]}


@pytest.mark.parametrize("name", ["threading", pytest.param("loky", marks=pytest.mark.slow)])  # loky: two processes
def test_a_benchmarks_jobs_are_those_of_one_process_and_kept(name: str, tmp_path: Path) -> None:
    keys = [{"number": number} for number in range(9)]
    store = ResultStore(tmp_path, {})
    store.put(keys[4], {"values": "known"})
    with place(name):
        found = kept_results(store, keys, drawn, [(number,) for number in range(9)], "numbers", progress=False)
    assert found == [{"values": "known"} if number == 4 else drawn(number) for number in range(9)]
    assert [store.get(key) for key in keys] == found
