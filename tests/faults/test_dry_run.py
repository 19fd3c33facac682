"""``--dry-run``: everything is checked, what would be run is said with an estimate, and nothing is written."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captum_shared.report import run_category, run_recording, run_selectivity
from captum_shared.report.forecast import Forecast, forecast_category, forecast_recording, forecast_selectivity
from captum_shared.report.forecast.forecast import STATES
from faults import (
    test_fault_arguments,
    test_fault_images,
    test_fault_items,
    test_fault_labels,
    test_fault_responses,
    test_fault_system,
)
from faults.faulty import Fault, everything, run, words_of

MODULES = (
    test_fault_arguments, test_fault_images, test_fault_items, test_fault_labels, test_fault_responses,
    test_fault_system,
)  # fmt: skip
EARLY = [
    fault for module in MODULES for fault in module.FAULTS
    if fault.early and fault.status == 2 and fault.command != "demo"
]  # fmt: skip
SOME = 10  # of which one is tried by default

SAID = {
    "category": r"would explain 1 pair of disc among 24 images, at 1 of fault_network:make\n  read and encode 24 images ",
    "selectivity": r"would index 6 units of 1 layer of fault_network:make, by 24 images\n  rank 24 images ",
    "recording": r"would explain at most \d of 3 neurons in at most \d pairs?, from 24 stimuli, by 1 pooled layer of fault_network:make",
}


SLOW = {"selectivity": [pytest.mark.slow]}  # draws parts of the report several times


@pytest.mark.parametrize("command", [pytest.param(name, marks=SLOW.get(name, [])) for name in SAID])
def test_what_would_be_run(command: str, world: Path, capsys: Any) -> None:
    before = everything()
    assert run([*words_of(command, {}), "--dry-run"]) == 0
    assert everything() == before
    said = capsys.readouterr().out
    assert re.match(SAID[command], said), said
    assert re.search(r"\nabout .+ on cpu, and less than 1 MB in out, a new report: an estimate", said)
    assert said.endswith("nothing was written\n")


@pytest.mark.parametrize("fault", [
    pytest.param(fault, id=str(fault), marks=[pytest.mark.slow] if number % SOME else [])  # all of them take a minute
    for number, fault in enumerate(EARLY)
])  # fmt: skip
def test_a_mistake_gives_the_error_of_a_real_run(fault: Fault, world: Path, capsys: Any) -> None:
    if fault.change:
        fault.change()
    before, words = everything(), words_of(fault.command, fault.flags)
    capsys.readouterr()
    assert run([*words, "--dry-run"]) == 2
    assert everything() == before
    rehearsed = capsys.readouterr().err
    assert run(words) == 2
    said = capsys.readouterr().err
    errors = [re.findall(r"^captum-shared: error: .*$", text, re.MULTILINE) for text in (rehearsed, said)]
    assert len(errors[0]) == 1
    assert errors[0] == errors[1]


@pytest.mark.slow  # several runs of a command
def test_a_report_that_is_there_is_seen(world: Path, capsys: Any) -> None:
    words = words_of("category", {"--maps": "layer"})
    assert run(words) == 0
    before = everything()
    capsys.readouterr()
    assert run([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out == "nothing would be run: out holds this report, whole\n"
    other = [*words, "--rule", "centered", "--dry-run"]
    assert run(other) == 2
    assert "out holds a report of another configuration" in capsys.readouterr().err
    assert run([*other, "--overwrite"]) == 0
    assert STATES["replaced"] in capsys.readouterr().out
    Path("out/pairs.csv").unlink()
    before.pop("out/pairs.csv")
    assert run([*words, "--dry-run"]) == 0
    assert STATES["unfinished"] in capsys.readouterr().out
    assert everything() == before


def test_images_that_would_be_left_out_are_named(world: Path, capsys: Any) -> None:
    Path("images/03.png").write_text("no image")
    assert run([*words_of("category", {"--maps": "layer"}), "--dry-run"]) == 0
    assert "would be left out, for they cannot be read: images/03.png: " in capsys.readouterr().out


def test_nothing_is_downloaded(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("TORCH_HOME", str(world / "hub"))
    change = {
        "--model": "squeezenet1_1",
        "--layer": "features.3",
        "--weights": None,
        "--image-size": "32",
        "--maps": "layer",
    }
    before = everything()
    assert run([*words_of("category", change), "--dry-run"]) == 0
    assert everything() == before
    assert re.search(r"weights DEFAULT of squeezenet1_1, \d MB, would be downloaded", capsys.readouterr().out)


@pytest.mark.slow  # timm is imported, and tries
def test_a_network_of_the_hub_is_not_downloaded_either(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pytest.importorskip("timm")
    monkeypatch.setenv("HF_HOME", str(world / "hub"))
    change = {
        "--model": "timm:test_resnet",
        "--layer": "layer1",
        "--weights": None,
        "--image-size": "32",
        "--maps": "layer",
    }
    assert run([*words_of("category", change), "--dry-run"]) == 0
    assert "the weights DEFAULT of timm:test_resnet would be downloaded" in capsys.readouterr().out
    assert not Path("hub").exists()


@pytest.mark.slow  # transformers is imported, and tries
def test_what_must_be_downloaded_to_be_known(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HOME", str(world / "hub"))
    change = {"--model": "hf:nobody/no-such-network", "--layer": "x", "--weights": None, "--image-size": "32"}
    assert run([*words_of("category", change), "--dry-run"]) == 2
    assert (
        "hf:nobody/no-such-network is not on this machine, and a dry run downloads nothing" in capsys.readouterr().err
    )


def test_a_shard_makes_its_part(world: Path, capsys: Any) -> None:
    assert run([*words_of("recording", {"--shard": "2/3", "--maps": "layer"}), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "make part 2/3 of the maps" in said
    assert "in out.shard-2-of-3, a new report" in said
    assert "draw and write" not in said


def within_three(forecast: Forecast, work: Any) -> None:
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    assert seconds / 3 < forecast.seconds < 3 * seconds, (str(forecast), seconds)


@pytest.fixture
def photographs(data: Path, tmp_path: Path) -> dict[str, Any]:
    """A hundred of the photographs, dogs and others."""
    with (data / "imagenet_sample" / "labels.csv").open(newline="") as file:
        rows = [(row["file"], row["category"]) for row in csv.DictReader(file)]
    dogs, others = ([row for row in rows if (row[1] == "dog") == is_dog][:50] for is_dog in (True, False))
    labels = tmp_path / "labels.csv"
    labels.write_text("file,category\n" + "".join(f"{name},{category}\n" for name, category in [*dogs, *others]))
    return {
        "images": data / "imagenet_sample", "labels": labels, "model": "squeezenet1_0", "seed": 0, "batch_size": 16,
        "weights": data / "squeezenet1_0_imagenet.pth", "out": tmp_path / "out", "device": "cpu",
    }  # fmt: skip


@pytest.mark.real
@pytest.mark.slow  # a report of photographs, by a real network
def test_the_estimate_for_a_category(photographs: dict[str, Any]) -> None:
    options = {**photographs, "preferred": "dog", "layer": "features.12", "top": 4, "n_steps": 8}
    within_three(forecast_category(**options), lambda: run_category(**options, progress=False))


@pytest.mark.real
@pytest.mark.slow  # the same
def test_the_estimate_for_selectivity(photographs: dict[str, Any]) -> None:
    choices = {"top": 20, "crops": 2, "sheets": 2, "grey": "luminance", "class_threshold": 0.8, "rare": 1}
    options = {**photographs, "layers": ["features.3"], **choices}
    within_three(forecast_selectivity(**options), lambda: run_selectivity(**options, progress=False))


@pytest.mark.real
@pytest.mark.slow  # the same, of a recording
def test_the_estimate_for_a_recording(data: Path, tmp_path: Path) -> None:
    """Of three neurons and a quarter of the stimuli."""
    whole, part = data / "v4_recording", tmp_path / "recording"
    part.mkdir()
    np.save(part / "responses.npy", np.load(whole / "responses.npy")[:3, ::4])
    header, *lines = (whole / "stimuli.csv").read_text().splitlines(keepends=True)
    (part / "stimuli.csv").write_text("".join([header, *lines[::4]]))
    options: dict[str, Any] = {
        "recording": part, "stimuli": whole / "stimuli", "model": "squeezenet1_0",
        "weights": data / "squeezenet1_0_imagenet.pth", "layer": "features.8", "pool": "avg", "n_steps": 4,
        "drivers": 3, "out": tmp_path / "out", "device": "cpu", "progress": False,
    }  # fmt: skip
    within_three(forecast_recording(**options), lambda: run_recording(**options))
