"""The benchmark of pairs without categories and of both poles: its truth, its scores, and a part that silences."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.driver_pairs import planted as module
from benchmarks.driver_pairs.choices import CHOICES, readout_alone
from benchmarks.driver_pairs.command import METRICS, Scored, main, summary, table
from benchmarks.driver_pairs.planted import EXCITE, LEAST, SUPPRESS, Planted, plant
from benchmarks.synthetic_game import PLANTED_KINDS, PLANTED_LAYER, planted_colors, planted_network, sample_gallery
from captum_shared import LatentEncoder, Recording, encode_images, explain_recording
from captum_shared.metrics import pointing_game
from captum_shared.study.maps import load_maps
from captum_shared.synthetic import KINDS, render, render_scenes


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NOISE", 0.1)
        return plant(tmp_path_factory.mktemp("planted"), n_neurons=3, n_images=40, seed=7)


def test_neurons_read_kinds_that_excite_and_kinds_that_silence(planted: Planted) -> None:
    """Weights are on the detectors of five kinds; with such a kind responses are higher, or lower, by about 1."""
    per_kind = planted.weights.reshape(len(KINDS), -1, 3).sum(1)
    assert ((per_kind > 0).sum(0) == EXCITE).all()
    assert ((per_kind < 0).sum(0) == SUPPRESS).all()
    present = planted.images.presence() > 0
    signal = planted.latents @ planted.weights
    for k in range(3):
        alone = torch.stack([present[:, i] * per_kind[i, k].sign() for i in range(len(KINDS))]).sum(0)
        assert float(torch.corrcoef(torch.stack([alone, signal[:, k]]))[0, 1]) > 0.6
    noise = planted.recording.responses - signal.T.double().numpy()[:, :, None]
    assert noise.std(axis=(1, 2)) == pytest.approx(0.1 * signal.std(0, correction=0).numpy(), rel=0.2)


def test_the_truth_is_what_removal_changes(planted: Planted) -> None:
    one, other = 0, 4
    for k in range(3):
        for sign in (1.0, -1.0):
            expected = []
            for kind in planted.images.masks[one]:
                falls = []
                for place in (one, other):
                    if kind in planted.images.masks[place]:
                        without, _ = render(planted.images.scenes[place].without(kind))
                        z = encode_images(planted.encoder, without[None])[0]
                        falls.append(sign * float((planted.latents[place] - z) @ planted.weights[:, k]))
                if len(falls) == 2 and min(falls) >= LEAST:
                    expected.append(kind)
            assert list(planted.truth(k, (one, other), sign)) == expected


def test_means_are_over_neurons_and_a_row_for_each_choice() -> None:
    def scored(choice: str, neuron: int, hit: float) -> Scored:
        return Scored(0, "excite", choice, neuron, 0, 1, (), dict.fromkeys(METRICS, 0.5) | {"pixel_hit": hit})

    pairs = [scored(CHOICES[0], 0, hit) for hit in (1.0, 1.0, 0.0)] + [scored(CHOICES[0], 1, 0.0)]
    pairs += [scored(choice, 0, 1.0) for choice in CHOICES[1:]]
    mean, low, high, n = summary(pairs, "excite", CHOICES[0])["pixel_hit"]
    assert mean == pytest.approx(1 / 3)
    assert n == 2
    assert low <= mean <= high
    assert summary(pairs, "suppress", CHOICES[0]) == {}
    text = table(pairs)
    assert "| `--pairs drivers` | 2 | 4 | 0.50" in text
    assert text.count("| drivers at random |") == 2


def test_the_readout_alone_knows_no_reference() -> None:
    z, w = torch.randn(4, 3), torch.randn(3)
    assert torch.equal(readout_alone(z, torch.randn(4, 3), w), w.expand(4, 3))


@pytest.mark.slow  # 20 s: a population is rendered, fitted and explained for both poles
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "What silences the neurons" in said
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["choice"] for row in rows} == set(CHOICES)
    assert all(row["truth"] or float(row["pixel_hit"]) == 0 for row in rows)


@pytest.mark.slow  # 8 s: 120 images are rendered, and two reports made
def test_a_part_that_silences_is_where_the_heat_is(tmp_path: Path) -> None:
    """A neuron that gears silence and heads excite: heat on the gears with `suppress`, on the heads with `excite`."""
    scenes = sample_gallery(120, ("gear", "head"), 0, kinds=PLANTED_KINDS, colors=planted_colors())
    images = render_scenes(scenes)
    paths = [tmp_path / f"{k:03d}.png" for k in range(len(images))]
    for path, image in zip(paths, images.images, strict=True):
        Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)
    encoder = LatentEncoder(planted_network(), PLANTED_LAYER)
    z = encode_images(encoder, images.images).double().numpy()
    z /= z.std(0)
    signal = z[:, PLANTED_KINDS.index("head")] - z[:, PLANTED_KINDS.index("gear")]
    noise = 0.2 * np.random.default_rng(0).normal(size=(1, len(paths), 4))
    recording = Recording(signal[None, :, None] + noise, paths)
    for pole, kind in (("excite", "head"), ("suppress", "gear")):
        out = tmp_path / pole
        explain_recording(recording, encoder, out=out, pairs="drivers", pole=pole, maps="layer", figures=0,
                          standardize=False, progress=False)  # fmt: skip
        maps = torch.from_numpy(load_maps(out / "maps" / "neuron_0.npz", "layer")).clamp(min=0)
        maps = torch.nn.functional.interpolate(maps, images.images.shape[-2:], mode="bilinear")
        with (out / "pairs.csv").open(newline="") as file:
            pairs = list(csv.DictReader(file))
        assert len(pairs) == 5
        for row, both in zip(pairs, maps, strict=True):
            for side, heat in zip(("image", "reference"), both, strict=True):
                mask = images.masks[int(row[side].removesuffix(".png"))][kind]
                assert float(pointing_game(heat, mask, tolerance=2)) == 1.0
