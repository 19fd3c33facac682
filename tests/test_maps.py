"""Maps cut by image: every row once, images together, few bits, and as few forward passes as images."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recordings import explain, files_of

from captum_shared.readout.nested import choose_candidates
from captum_shared.study.image_maps import pack
from captum_shared.study.maps import cut_by_image, load_maps, make_maps


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 20))
def test_every_row_is_in_one_group_and_images_stay_together(images: list[int], most: int) -> None:
    groups = cut_by_image(np.array(images, dtype=int), most)
    assert sorted(row for group in groups for row in group) == list(range(len(images)))
    for image in set(images):
        inside = [group for group in groups if image in {images[row] for row in group}]
        assert len(inside) == -(-images.count(image) // (4 * most))
    for group in groups:
        of = [images[row] for row in group]
        assert of == sorted(of)
        assert len(group) <= most or (len(set(of)) == 1 and len(group) <= 4 * most)
    assert [len(group) for group in groups] == sorted(map(len, groups), reverse=True)


@pytest.mark.parametrize(("bits", "error"), [(8, 0.5 / 127), (16, 2**-11), (32, 0)])
def test_packed_maps_are_within_half_a_step(bits: int, error: float) -> None:
    maps = np.random.default_rng(0).normal(size=(5, 7, 6)).astype(np.float32) * (
        10.0 ** np.arange(-12, 13, 6)[:, None, None]
    ).astype(np.float32)
    maps[2] = 0
    values, scale = pack(maps, bits)
    assert values.dtype.itemsize * 8 == bits
    back = (values * scale).astype(np.float32)
    largest = np.abs(maps).max(axis=(1, 2), keepdims=True)
    assert (np.abs(back - maps) <= error * largest * 1.0001).all()
    assert not back[2].any()


@pytest.mark.parametrize(("engine", "points"), [("Saliency", 1), ("IntegratedGradients", 6)])
def test_forward_passes_are_as_many_as_images_however_many_neurons(
    engine: str, points: int, recording: Path, tiny: torch.nn.Module, undrawn: None
) -> None:
    """One for each image that has a map, or for each of its steps of integrated gradients."""
    options = {"layers": "3", "pools": ("avg",), "engine": engine, "n_steps": 6, "drivers": 4, "min_d_prime": -9}
    explain(recording, tiny, Path("out"), **options)
    with Path("out/pairs.csv").open() as file:
        pairs = list(csv.DictReader(file))
    images = {row[side] for row in pairs for side in ("image", "reference")}
    for path in Path("out/maps").iterdir():
        path.unlink()
    seen: list[int] = []
    handle = tiny[2].register_forward_hook(lambda module, inputs, y: seen.append(len(y) if y.requires_grad else 0))
    explain(recording, tiny, Path("out"), **options)
    handle.remove()
    measured = engine == "IntegratedGradients"  # once in the one job: what an image keeps for the backward pass
    assert sum(seen) == points * len(images) + measured  # those with a graph; others are of encoding and of the viewer
    assert len(images) < 2 * len(pairs)


def test_one_forward_pass_of_an_image_serves_all_layers(
    recording: Path, tiny: torch.nn.Module, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neurons that read different layers: one pass of each image for its layer maps, and one for the looks."""

    def in_turn(*arguments: Any) -> Any:
        choice = choose_candidates(*arguments)
        return replace(choice, chosen=np.arange(len(choice.chosen)) % 2)

    def begun(*arguments: Any) -> None:
        passes.clear()
        make_maps(*arguments)
        passes.append(0)  # between maps and looks

    monkeypatch.setattr("captum_shared.study.encoding.choose_candidates", in_turn)
    monkeypatch.setattr("captum_shared.report.recording.explain.make_maps", begun)
    passes: list[int] = []
    handle = tiny[0].register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    options = {"drivers": 4, "min_d_prime": -9, "min_cv_r": -1, "threshold": 0.3, "maps": "layer"}
    explain(recording, tiny, Path("out"), layers=["1", "3"], pools=("avg",), **options)
    handle.remove()
    with Path("out/neurons.csv").open() as file:
        assert {row["layer"].split()[0] for row in csv.DictReader(file) if row["layer"]} == {"1", "3"}
    with Path("out/pairs.csv").open() as file:
        images = {row[side] for row in csv.DictReader(file) for side in ("image", "reference")}
    shown = len(list(Path("out/images").iterdir()))
    assert passes == [1] * len(images) + [0] + [1] * shown


@pytest.mark.usefixtures("undrawn")
def test_maps_in_few_bits_and_blocks(recording: Path, tiny: torch.nn.Module) -> None:
    explain(recording, tiny, Path("full"), map_bits=32)
    explain(recording, tiny, Path("small"), map_bits=8, map_reduction=2)
    for path in Path("full/maps").iterdir():
        full, small = (load_maps(Path(out, "maps", path.name), "pixel") for out in ("full", "small"))
        p, _, h, w = full.shape
        blocks = full.reshape(p, 2, h // 2, 2, w // 2, 2).sum((3, 5))
        assert np.abs(small - blocks).max() <= 0.51 / 127 * np.abs(blocks).max()
    assert (
        sum(map(len, files_of(Path("small/maps")).values())) < sum(map(len, files_of(Path("full/maps")).values())) / 5
    )


@pytest.mark.pictures
def test_figures_of_the_best_neurons_only(recording: Path, tiny: torch.nn.Module) -> None:
    explain(recording, tiny, Path("out"), figures=1)
    with Path("out/neurons.csv").open() as file:
        best = max(
            (row for row in csv.DictReader(file) if row["status"] == "explained"), key=lambda r: float(r["cv_r"])
        )
    assert [path.stem for path in Path("out/thumbnails").iterdir()] == [f"neuron_{best['neuron']}"]
    index = Path("out/data/index.js").read_text()
    assert index.count("thumbnails/") == 1
    assert all(Path(f"out/data/neuron_{k}.js").exists() for k in range(3))
