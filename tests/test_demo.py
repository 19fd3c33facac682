"""The demo: its files, its table, its ground truth."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captum_shared import cli
from captum_shared.report import demo
from captum_shared.report.published import open_report
from captum_shared.study.demo import DemoStudy, find_cases, find_swap, open_demo, share_of_heat
from captum_shared.synthetic import SharedParts, render

METHODS = ["ParallelBackprop", "Saliency", "IntegratedGradients", "GradCAM"]


@pytest.fixture(scope="module", autouse=True)
def _few_images() -> Iterator[None]:
    """The demo draws 220 images, tries 40 of them for a swap, and draws those that it shows larger: most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SHARP", 96)
        for name, n in (("N_GALLERY", 24), ("N_OTHERS", 50), ("N_SWAPPED", 10)):
            patch.setattr(f"captum_shared.study.demo.{name}", n)
        yield


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, demo.DemoSummary]:
    out = tmp_path_factory.mktemp("demo")
    return out, demo.run_demo(out=out, top=3, progress=False)


@pytest.fixture(scope="module")
def study() -> DemoStudy:
    return open_demo("creature", False, 0, torch.device("cpu"), progress=False)


def test_files(result: Any) -> None:
    out, summary = result
    pictures = [f"pair_{k:02d}.png" for k in (1, 2, 3)]
    assert sorted(p.name for p in out.iterdir()) == [
        "index.html",
        "manifest.json",
        *pictures,
        "shares.csv",
        "summary.json",
        "swap.png",
    ]
    assert json.loads((out / "summary.json").read_text()) == summary
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 4  # the swap first
    assert "not standardized" in page
    assert page.index("One image, two references") < page.index('id="viewer"')


def test_the_viewer_has_five_references_controls_and_other_rules(result: Any) -> None:
    report = open_report(result[0])
    assert len(report.index["neurons"][0]["pairs"]) == len(report.pairs(0)) == 3
    for best, *others in report.pairs(0):
        methods = [f"pixels, {name}" for name in METHODS[1:]]
        assert [name for name, *_ in best["maps"]] == ["layer", "pixels", "control: average partner", *methods]
        assert len(others) == 4
        for other in others:
            assert [name for name, *_ in other["maps"]] == ["layer", "control: average partner"]
        similarity = [reference["similarity"] for reference in (best, *others)]
        assert similarity == sorted(similarity, reverse=True)
        assert [name for name, *_ in best["others"]] == ["dot", "matched"]  # 74 images: too few for moments


def test_the_heat_moves_with_the_reference(study: DemoStudy) -> None:
    """Measured on masks of the two parts: each has more heat with the reference that shares it."""
    swap = find_swap(study)
    assert swap is not None
    (a, b), (c, d) = swap.shares
    assert a > b
    assert d > c
    one, two = swap.cases
    assert torch.equal(one.images[0], two.images[0])
    assert not torch.equal(one.images[1], two.images[1])
    assert len(one.shared.kinds) == len(two.shared.kinds) == 1
    assert one.shared.kinds != two.shared.kinds


def test_heat_is_on_the_shared_parts_and_more_so_than_the_readouts(result: Any) -> None:
    out, summary = result
    share = summary["mean_share"]
    assert list(share) == METHODS
    assert share["ParallelBackprop"] > 2 * summary["mean_area"]
    assert share["ParallelBackprop"] > max(share[name] for name in METHODS[1:])
    with (out / "shares.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in METHODS:
        assert np.isclose(np.mean([float(row[name]) for row in rows]), share[name])
    assert summary["cv_auc"] > 0.9


@pytest.mark.slow  # explains the demo's pairs twice: over 10 seconds
def test_same_seed_same_files(result: Any, tmp_path: Path) -> None:
    out, _ = result
    demo.run_demo(out=tmp_path, top=3, progress=False)
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


@pytest.mark.slow  # explains the demo's pairs twice: over 10 seconds
def test_another_device_finds_the_same(result: Any, tmp_path: Path, device: str) -> None:
    found = demo.run_demo(out=tmp_path, top=1, progress=False, device=device)
    assert found["cv_auc"] == pytest.approx(result[1]["cv_auc"], abs=1e-6)
    with (result[0] / "shares.csv").open(newline="") as file:
        expected = next(csv.DictReader(file))
    assert found["mean_share"] == pytest.approx({name: float(expected[name]) for name in METHODS}, abs=1e-3)


def test_share_by_hand() -> None:
    heat = torch.zeros(1, 16, 16)
    heat[0, 8, 8] = 1.0
    whole, none = np.ones((16, 16), dtype=bool), np.zeros((16, 16), dtype=bool)
    none[0, 0] = True
    share = share_of_heat([heat, heat], SharedParts(("head",), whole, none, {}, {}))
    assert share == pytest.approx(0.5, abs=1e-6)


def test_a_miss_says_where_the_heat_is(study: DemoStudy) -> None:
    """Where another method has more heat on the shared parts, the caption names the part that ours lies on."""
    (case,), _ = find_cases(study, 1)
    kinds = [next(kind for kind in render(scene)[1] if kind not in case.shared.kinds) for scene in case.scenes]
    heat = [
        torch.from_numpy(render(scene)[1][kind])[None].float() for scene, kind in zip(case.scenes, kinds, strict=True)
    ]
    assert demo._miss(case, heat, {"ParallelBackprop": 0.9, "Saliency": 0.2}) == ""
    said = demo._miss(case, heat, {"ParallelBackprop": 0.1, "Saliency": 0.2})
    assert said.startswith(". A miss: Saliency has 0.20 there. Of the heat here ")
    assert any(f"lies on the {kind}," in said for kind in kinds)


@pytest.mark.slow  # a demo of its own
def test_command(tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["demo", "--out", str(tmp_path), "--top", "1", "--preferred", "tool", "--standardize"]) == 0
    printed = capsys.readouterr()
    assert "Share of heat on the truly shared part" in printed.out
    assert all(name in printed.out for name in (*METHODS, "pair_01", "mean"))
    assert "74/74" in printed.err
    assert "standardized over all images" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--preferred", "dragon"], "--preferred must be one of creature, vehicle, furniture, tool, got 'dragon'"),
        (["--top", "0"], "--top must be a positive integer, got 0"),
        (["--batch-size", "0"], "--batch-size must be a positive integer, got 0"),
    ],
)
def test_mistakes(words: list[str], text: str, tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["demo", "--out", str(tmp_path / "out"), *words]) == 2
    assert text in capsys.readouterr().err
