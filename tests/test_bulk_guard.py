"""Bulk paths do no more work than they need: counted, not timed; and fast equals slow."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import TensorDataset

from captum_shared import LatentEncoder, ReferenceMatcher, encode_images, matcher, neuron_similarity
from captum_shared.selectivity import top_activations


class Watch(TorchDispatchMode):
    """Counts matrix products, and notes the most numbers in one result."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.products += func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm)
        for value in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(value, Tensor):
                self.largest = max(self.largest, value.numel())
        return found


# The matcher


@pytest.mark.parametrize(("kind", "per_block"), [("dot", 1), ("cosine", 3)])
def test_one_product_per_block_for_all_neurons(kind: str, per_block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "_BLOCK", 10)
    searcher = ReferenceMatcher(torch.randn(95, 6), kind)
    with Watch() as watch:
        searcher.match(torch.randn(7, 6), torch.randn(12, 6), 3)
    assert watch.products == 10 * per_block


def test_memory_does_not_grow_with_neurons_queries_and_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "_ROWS", 20)
    monkeypatch.setattr(matcher, "_BLOCK", 50)
    for kind in ("dot", "cosine"):
        for n_neurons, n_queries, n_gallery in ((4, 5, 200), (40, 5, 200), (4, 90, 200), (4, 5, 2000)):
            searcher = ReferenceMatcher(torch.randn(n_gallery, 3), kind)
            query, weight = torch.randn(n_queries, 3), torch.randn(n_neurons, 3)
            with Watch() as watch:
                searcher.match(query, weight)
            given_and_found = max(n_gallery * 3, n_neurons * n_queries, query.numel(), weight.numel())
            assert 20 * 50 <= watch.largest <= max(20 * 50, given_and_found)


@st.composite
def problems(draw: Any) -> tuple[Tensor, Tensor, Tensor, int, Tensor | None, tuple[int, int]]:
    """Small integers, so that ties abound and similarities are exact; and what to exclude, in every form."""
    d, q, g, n, seed = (draw(st.integers(1, high)) for high in (3, 5, 12, 4, 10_000))
    random = torch.Generator().manual_seed(seed)
    query, gallery, weight = (
        torch.randint(-2, 3, shape, generator=random).double() for shape in ((q, d), (g, d), (n, d))
    )
    form = draw(st.sampled_from(["none", "indices", "mask"]))
    exclude = None
    if form == "mask":
        exclude = torch.rand(q, g, generator=random) < 0.4
        exclude[:, 0] = False
    elif form == "indices":
        exclude = torch.randint(-1, g, (q, min(2, g - 1)), generator=random)
    left = g if exclude is None else min(g - len(banned) for banned in banned_of(exclude))
    blocks = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    return query, gallery, weight, draw(st.integers(1, left)), exclude, blocks


def banned_of(exclude: Tensor) -> list[set[int]]:
    if exclude.dtype == torch.bool:
        return [set(torch.nonzero(row)[:, 0].tolist()) for row in exclude]
    return [{place for place in row if place >= 0} for row in exclude.tolist()]


@given(problem=problems(), kind=st.sampled_from(["dot", "cosine"]))
def test_match_of_many_neurons_is_the_sort_of_all(problem: Any, kind: str) -> None:
    query, gallery, weights, k, exclude, blocks = problem
    before = matcher._ROWS, matcher._BLOCK
    matcher._ROWS, matcher._BLOCK = blocks
    try:
        match = ReferenceMatcher(gallery, kind).match(query, weights, k, exclude)
    finally:
        matcher._ROWS, matcher._BLOCK = before
    banned = [set() for _ in query] if exclude is None else banned_of(exclude)
    for n, weight in enumerate(weights):
        s = neuron_similarity(query, gallery, weight, kind)
        for i, out in enumerate(banned):
            places = [j for j in range(len(gallery)) if j not in out]
            if kind == "dot":  # cosines of parallel latents are equal but for rounding
                assert match.index[n, i].tolist() == sorted(places, key=lambda j, i=i, s=s: (-s[i, j], j))[:k]
            assert not set(match.index[n, i].tolist()) & out
            expected = s[i, places].sort(descending=True).values[:k]
            assert torch.allclose(match.similarity[n, i], expected, atol=1e-12)
            assert torch.allclose(s[i, match.index[n, i]], expected, atol=1e-12)
    assert int(match.counts.sum()) == match.index.numel()


def test_all_equal_gives_the_first_ones() -> None:
    gallery = torch.zeros(10_000, 4, dtype=torch.float16).float()
    match = ReferenceMatcher(gallery).match(torch.randn(3, 4), torch.randn(2, 4), 4, exclude=torch.tensor([0, 2, -1]))
    assert match.index[1].tolist() == [[1, 2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 3]]


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_mapped_file_of_any_mode_and_what_is_changed_in_memory(mode: Any, tmp_path: Path) -> None:
    gallery = np.random.default_rng(0).normal(size=(300, 8)).astype("float32")
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode=mode)
    if mode != "r":
        mapped[7], gallery[7] = 100.0, 100.0
    query, weight = torch.rand(4, 8), torch.rand(3, 8)
    for part in (slice(None), slice(5, 200)):
        found = ReferenceMatcher(mapped[part]).match(query, weight, 3)
        assert torch.equal(found.index, ReferenceMatcher(gallery[part]).match(query, weight, 3).index)
    assert np.array_equal(mapped, gallery)


@pytest.mark.slow  # writes 400 MB and starts a process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_mapped_gallery_does_not_come_into_memory(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    code = "from benchmarks.speed.bulk import mapped_match_peak as p; import sys; print(p(sys.argv[1], 200_000))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, cwd=root)
    assert float(done.stdout) < 300  # MB above what it was before; the file has 410


# Encoding


class Counting(nn.Module):
    """Two halves that count the images they have seen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.seen = {"first": 0, "second": 0}
        for name in self.seen:
            getattr(self, name).register_forward_hook(lambda m, x, y, name=name: self._count(name, x[0]))

    def _count(self, name: str, x: Tensor) -> None:
        self.seen[name] += len(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.jpg" for i in range(9)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    return paths


def test_each_image_passes_once_and_stops_at_the_layer(files: list[Path]) -> None:
    for images in (torch.rand(9, 3, 12, 12), files):
        network = Counting().eval()
        encode_images(LatentEncoder(network, "first"), images, batch_size=4)
        assert network.seen["first"] == 9
        assert network.seen["second"] == 4  # of the first batch, which goes to the end so that calls are counted


class Noted:
    """A transform that notes its images and the thread that it runs in, and may fail."""

    def __init__(self, fail_at: int = -1) -> None:
        self.sizes: list[float] = []
        self.threads: set[int] = set()
        self.fail_at = fail_at

    def __call__(self, image: Any) -> Tensor:
        if len(self.sizes) == self.fail_at:
            raise RuntimeError("a transform that fails")
        tensor = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()
        self.sizes.append(float(tensor.mean()))
        self.threads.add(threading.get_ident())
        return tensor


def test_files_are_read_in_order_in_one_other_thread_and_datasets_in_this_one(files: list[Path]) -> None:
    noted = Noted()
    encode_images(LatentEncoder(Counting(), "first"), files, noted, batch_size=2)
    means = [np.asarray(Image.open(path)).mean() for path in files]
    assert np.allclose(noted.sizes, means, rtol=1e-5)
    assert len(set(means)) == len(files)
    assert len(noted.threads) == 1
    assert threading.get_ident() not in noted.threads

    own: set[int] = set()
    dataset = TensorDataset(torch.rand(5, 3, 12, 12))
    encode_images(
        LatentEncoder(Counting(), "first"), dataset, lambda x: (own.add(threading.get_ident()), x)[1], batch_size=2
    )
    assert own == {threading.get_ident()}


@pytest.mark.parametrize("run", [
    lambda net, files, t: encode_images(LatentEncoder(net, "first"), files, t, batch_size=2),
    lambda net, files, t: top_activations(net, "first", files, 3, transform=t, batch_size=2),
])  # fmt: skip
def test_errors_come_through_and_no_thread_stays(run: Any, files: list[Path]) -> None:
    with pytest.raises(RuntimeError, match="a transform that fails"):
        run(Counting(), files, Noted(fail_at=5))
    network, noted = Counting(), Noted()

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    network.first.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        run(network, files, noted)
    assert len(noted.sizes) < len(files)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


def test_transforms_with_weights_keep_no_graph(files: list[Path]) -> None:
    scale = nn.Conv2d(3, 3, 1)
    kept: list[Tensor] = []

    def transform(image: Any) -> Tensor:
        kept.append(scale(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()[None])[0])
        return kept[-1]

    encode_images(LatentEncoder(Counting(), "first"), files, transform)
    assert not any(tensor.requires_grad for tensor in kept)
