"""The command of `benchmarks.speed` on tiny problems: every path and floor give the same maps, and the files are whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import captum.attr as ca
import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from benchmarks.speed import alternatives, floors, growth, memory, paths, rules
from benchmarks.speed import command as speed
from benchmarks.speed.timing import Timing, compare, fastest
from captum_shared import LatentEncoder, encode_images


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max())


EQUAL = [name for name in paths.COMPARISONS if not name.startswith("gain of neurons")]


@pytest.mark.parametrize("name", EQUAL)
def test_a_path_and_its_floor_give_the_same_maps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "K", 2)
    monkeypatch.setattr(paths, "STEPS", {"squeezenet1_0": 4})
    path, floor = paths.COMPARISONS[name](paths.make_workload("squeezenet1_0", "features.5", size=48))
    for found, expected in zip(path(), floor(), strict=True):
        assert close(found, expected)


@pytest.mark.parametrize("name", [name for name in paths.COMPARISONS if name not in EQUAL])
def test_calls_one_by_one_give_the_same_maps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "K", 2)
    monkeypatch.setattr(paths, "NEURON_STEPS", 1)
    calls: Any
    together: Any
    calls, together = paths.COMPARISONS[name](paths.make_workload("squeezenet1_0", "features.5", size=48))
    for side, expected in enumerate(together()):
        assert close(torch.stack([maps[side] for maps in calls()], dim=1), expected)


def test_the_floor_of_a_recording_does_the_work() -> None:
    """Ridge regressions as scikit-learn's, latents as an encoder's."""
    random = np.random.default_rng(0)
    x, y, test = random.normal(size=(12, 30)), random.normal(size=(12, 3)), random.normal(size=(4, 30))
    fit = RidgeCV(floors.PENALTIES, alpha_per_target=True).fit(x, y)
    assert np.allclose(floors.ridge(x, y, test), fit.predict(test))
    workload = paths.make_workload("squeezenet1_0", "features.5", size=48)
    (latents,) = floors.latents_of_layers(workload.model, ["features.5"], [workload.x, workload.y])
    assert np.allclose(latents, encode_images(workload.encoder, torch.cat(workload.pair)), atol=1e-6)


def test_the_rounds_alternate() -> None:
    order: list[str] = []
    row = compare("a", "b", "c", lambda: order.append("path"), lambda: order.append("floor"), 3, seconds=1e9)
    assert order == ["path", "floor"] * 2 + ["floor", "path"] + ["path", "floor"]
    assert row.low <= row.ratio <= row.high


def test_every_job_has_a_row_and_bounds_have_jobs() -> None:
    full = {name for name, _, _ in paths.jobs(quick=False)}
    assert full == set(paths.COMPARISONS)
    assert {name for name, _, _ in paths.jobs(quick=True)} >= {"control", "pair gradient"}
    assert set(paths.COMPARISONS) - {"control"} <= set(speed.BOUNDS)


def test_files_and_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def fake(job: tuple[str, str, str], *rest: Any) -> Timing:
        measured.append(job[0])
        return Timing(*job, 1.2, 1.1, 1.3, 0.6, 0.5)

    monkeypatch.setattr(paths, "path_row", fake)
    monkeypatch.setattr(
        speed, "SECTIONS", {"more": lambda quick, device, rounds: [Timing("match", "", "", 1, 1, 1, 1, 1)]}
    )
    rows = speed.run(tmp_path, quick=True, progress=False)
    content = json.loads((tmp_path / "speed.json").read_text())
    assert {"name", "model", "layer", "ratio", "low", "high"} <= set(content["rows"][0])
    assert {"cpu", "cores", "threads", "torch", "captum", "date"} <= set(content["machine"])
    table = (tmp_path / "table.md").read_text()
    assert "**at most 1.10: missed**" in table  # pair gradient, at 1.2
    assert "| match |" in table
    assert len(measured) == len(rows) - 1
    speed.run(tmp_path, quick=True, progress=False)
    assert len(measured) == len(rows) - 1  # nothing is measured again


@pytest.mark.parametrize(("ratio", "name", "missed"), [(1.1, "pair gradient", False), (1.11, "pair gradient", True),
                                                       (1.5, "gain of truncation", False), (1.4, "gain of truncation", True)])  # fmt: skip
def test_verdict(ratio: float, name: str, missed: bool) -> None:
    assert ("missed" in speed.verdict(Timing(name, *speed.EARLY, ratio, ratio, ratio, 1, 1))) == missed


@pytest.mark.parametrize(("name", "low", "ratio", "high", "far"), [
    ("pair gradient", 1.2, 1.7, 2.0, False),  # noise: a quarter of the rounds is near the bound
    ("pair gradient", 1.7, 1.8, 1.9, True),
    ("gain of neurons gradient", 1.0, 1.1, 1.4, False),
    ("gain of neurons gradient", 1.0, 1.1, 1.2, True),
    ("control", 9.0, 9.0, 9.0, False),
])  # fmt: skip
def test_far_off_its_bound(
    name: str, low: float, ratio: float, high: float, far: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    row = Timing(name, "a", "b", ratio, low, high, 1, 1)
    assert speed.far_off([row], 1.5) == ([row] if far else [])
    monkeypatch.setattr(paths, "jobs", lambda quick: [])
    monkeypatch.setattr(speed, "SECTIONS", {"one": lambda quick, device, rounds: [row]})
    assert speed.main(["--check", "1.5", "--out", str(tmp_path / "a")]) == int(far)
    assert speed.main(["--out", str(tmp_path / "b")]) == 0
    assert (f"{name}, a b: {ratio:.2f} is far off" in capsys.readouterr().err) == far


def test_rows_of_the_rule_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"QUICK_SIZE": 64, "N_STEPS": 2, "QUICK": (300, 16)}.items():
        monkeypatch.setattr(rules, name, value)
    rows = rules.rule_rows(True, "cpu", 1)
    assert {(row.name, row.model) for row in rows} == {
        (f"moments {kind}", model) for kind in ("gradient", "integrated gradients") for model in rules.MODELS
    } | {("making moments", "300 images")}
    assert all(row.seconds > 0 and row.floor > 0 for row in rows)
    assert {row.name for row in rows} <= set(speed.BOUNDS)


@pytest.mark.parametrize(("engine", "options"), [(ca.Saliency, {}), (ca.IntegratedGradients, {"n_steps": 3})])
def test_a_pair_by_moments_has_as_many_images_go_through_the_network_as_one_by_the_product(
    engine: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = LatentEncoder.layer_output
    monkeypatch.setattr(LatentEncoder, "layer_output", lambda self, x: seen.append(len(x)) or original(self, x))
    counts = []
    for run in rules.pair_runs("squeezenet1_0", "features.12", engine, options, 64):
        seen.clear()
        run()
        counts.append(sum(seen))
    assert counts[0] == counts[1] > 0


def test_the_fastest_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one run each; the best of two decides, not the worst or the first."""
    now, calls = [0.0], {2: iter([9, 5, 4]), 4: iter([9, 8, 3]), 8: iter([1, 6, 7])}

    def run(choice: int) -> None:
        now[0] += next(calls[choice])

    monkeypatch.setattr("benchmarks.speed.timing.clock", lambda: now[0])
    assert fastest((2, 4, 8), run) == 4


@pytest.mark.parametrize("name", alternatives.ALTERNATIVES)
@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_alternatives_give_the_same_maps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alternatives, "N_STEPS", 3)
    other, own = alternatives.ALTERNATIVES[name](paths.make_workload("resnet18", "layer1", size=32))
    for found, expected in zip(own(), other(), strict=True):
        assert close(found, expected)


def test_pytorch_grad_cam_draws_the_same_coarse_map() -> None:
    """Ours, positive part and scaled to [0, 1] as grad-cam does, at its own resolution."""
    pytest.importorskip("pytorch_grad_cam")
    other, own = alternatives.grad_cam(paths.make_workload("resnet18", "layer1", size=32))
    for cam, coarse in zip(other(), own(), strict=True):
        positive = coarse.relu()
        enlarged = torch.nn.functional.interpolate(positive / positive.max(), (32, 32), mode="bilinear")[0, 0]
        assert float(torch.corrcoef(torch.stack([torch.from_numpy(cam[0]).flatten(), enlarged.flatten()]))[0, 1]) > 0.99


@pytest.mark.slow  # two fresh processes import torch
def test_peaks_of_fresh_processes() -> None:
    """More pixels take more memory."""
    small, large = (memory.peak("floor", "squeezenet1_0", "features.3", "cpu", size, 4) for size in (48, 144))
    assert 0 <= small < large


@pytest.mark.parametrize(("n_steps", "images"), [(3, 3), (10, 8)])
def test_images_in_a_pass_of_the_path(n_steps: int, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps of an image where they are few."""
    monkeypatch.setattr(memory, "SIZE", 32)
    monkeypatch.setattr(memory, "N_STEPS", n_steps)
    assert memory.images_in_a_pass("squeezenet1_0", "features.3", "cpu") == images


def test_a_row_of_memory_is_a_median(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([3, 2, 5, 5, 4, 2])
    monkeypatch.setattr(memory, "peak", lambda *rest: next(peaks))
    assert memory.memory_row("a", "b", "cpu", rounds=3, chunk=4) == Timing("peak memory", "a", "b", 1.5, 1.0, 2.0, 3, 2)


def test_growth_measures_points_in_fresh_processes_and_how_straight_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [growth.Point("steps", value, seconds, 2) for value, seconds in ((1, 1.0), (2, 2.0), (3, 3.6))]
    assert growth.straightness(points[:2]) == pytest.approx(0, abs=1e-12)
    # The line through (1, 1), (2, 2), (3, 3.6) is 1.3 x - 0.4: off by 0.1, 0.2 and 0.1.
    assert growth.straightness(points) == pytest.approx(0.2 / 3.6)
    assert growth.straightness(points, "mb") == pytest.approx(0, abs=1e-12)
    monkeypatch.setattr(growth, "_point", lambda axis, value: growth.Point(axis, value, value / 7, 5))
    found = growth.run(tmp_path, quick=True, progress=False)
    assert len(found) == 3 * len(growth.AXES)
    assert (tmp_path / "growth.png").stat().st_size > 1000
    assert (tmp_path / "growth.csv").read_text().splitlines()[:2] == [
        "axis,value,seconds,mb",
        f"pairs of images,1,{1 / 7},5",
    ]


def test_a_point_of_growth(capsys: pytest.CaptureFixture[str]) -> None:
    growth.measure("images in the gallery", 100)
    assert set(json.loads(capsys.readouterr().out)) == {"seconds", "mb"}


@pytest.mark.slow  # a fresh process imports torch
def test_the_peak_of_a_new_process_is_its_own() -> None:
    """Not that of the process that started it, at which `ru_maxrss` begins."""
    held = np.ones(3 * 10**8)
    code = "from benchmarks.speed.memory import peak_so_far; print(peak_so_far('cpu'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 100 < int(done.stdout) < held.nbytes / 2**20 / 2
