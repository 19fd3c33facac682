"""`benchmarks.steps`: its rules against closed forms, and its files from a small run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.quadrature import command as steps
from benchmarks.quadrature import rules as quadratures
from benchmarks.quadrature.rules import RULES, Recorded, bisected, graded, rescaled, trapezoid


@pytest.mark.parametrize("name", RULES)
def test_rules(name: str) -> None:
    make, sizes = RULES[name]
    for n in sizes:
        alphas, weights = make(n)
        assert alphas.shape == weights.shape == (n,)
        assert weights.sum() == pytest.approx(1)
        assert ((alphas >= 0) & (alphas <= 1)).all()
        assert (np.diff(alphas) > 0).all()
        assert weights @ alphas**2 == pytest.approx(1 / 3, abs=1.3 / n**2)
    if name in ("Gauss-Legendre", "Clenshaw-Curtis"):
        alphas, weights = make(9)
        assert weights @ alphas**8 == pytest.approx(1 / 9, rel=1e-12)


def test_the_graded_rule_is_that_of_auto() -> None:
    from captum_shared.attribution import quadrature

    class Cube(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x**4

    x = torch.ones(1, 1, dtype=torch.float64)
    found = quadrature.refine(Cube(), quadrature.Path(x, 0 * x, x[None]), None, tolerance=1e-9, max_steps=36)
    alphas, weights = graded(36)
    assert float(found.mean) == pytest.approx(weights @ (4 * alphas**3), rel=1e-12)


def recorded(jump: float) -> Recorded:
    """Two pixels whose gradients jump at different places."""
    alphas = (np.arange(513) / 512) ** 2
    maps = np.stack([np.where(alphas > place, 2.0, 1.0) for place in (jump, 0.9)], axis=1)[:, None]
    value = sum(alphas + np.maximum(alphas - place, 0) for place in (jump, 0.9))
    return Recorded(alphas, value, maps.sum((1, 2)), maps.astype(np.float32))


def test_local_rules() -> None:
    path = recorded(0.3)
    total, found = path.integral(trapezoid(path.alphas))
    assert total == pytest.approx(path.gain, rel=1e-3)
    assert found == pytest.approx(path.reference())
    assert path.reference() == pytest.approx(np.array([[1.7, 1.1]]), abs=2e-3)
    alphas, weights = rescaled(path, 9)
    assert path.integral((alphas, weights))[0] == pytest.approx(path.gain, rel=1e-12)
    for n, (alphas, weights) in bisected(path, (12, 18)).items():
        assert len(alphas) == n
        assert weights.sum() == pytest.approx(1)
    added = np.setdiff1d(alphas, (np.arange(9) / 8) ** 2)
    assert (np.minimum(abs(added - 0.3), abs(added - 0.9)) < 0.15).all()  # nowhere but where the gradients jump


def test_equal_error() -> None:
    def line(rule: str, n: float, error: float) -> dict[str, Any]:
        return {"rule": rule, "gradients": n, **{of: {"mean": error} for of in steps.MEASURES}}

    lines = [line("Gauss-Legendre", 50, 0.02), line("a", 10, 0.08), line("a", 20, 0.01), line("b", 10, 0.04),
             line("b", 40, 0.01), line("c", 10, 0.5)]  # fmt: skip
    found = steps.equal_error(lines)
    assert found["a"]["map"] == pytest.approx(10 * 2 ** (2 / 3))
    assert found["b"]["map"] == pytest.approx(20)
    assert found["c"]["map"] is None


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from torchvision.models import squeezenet1_1

    few = {name: (make, (9, 50) if name == "Gauss-Legendre" else (9,)) for name, (make, _) in RULES.items()}
    for module in (steps, quadratures):
        monkeypatch.setattr(module, "RULES", few)
        monkeypatch.setattr(module, "FINE", 64)
    monkeypatch.setattr(steps, "LOCAL", (12,))
    monkeypatch.setattr(steps, "TOLERANCES", (0.1, 0.01))
    torch.manual_seed(0)
    torch.save(squeezenet1_1().state_dict(), tmp_path / "w.pth")
    lines = ["file,category"]
    for k in range(18):
        pixels = np.random.default_rng(k).integers(0, 255, (32, 32, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{k}.png")
        lines.append(f"{k}.png,{'ab'[k % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    words = ["--images", str(tmp_path), "--labels", str(tmp_path / "labels.csv"), "--model", "squeezenet1_1",
             "--weights", str(tmp_path / "w.pth"), "--layer", "features.3", "--image-size", "32", "--pairs", "1", "--baseline", "0.5",
             "--out", str(tmp_path / "out")]  # fmt: skip
    assert steps.main([*words, "--categories", "a"]) == 0
    assert "for the mean error of 50 points of Gauss-Legendre" in capsys.readouterr().out
    with (tmp_path / "out" / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (len(RULES) + 1 + 1 + 1 + 2)  # the rules, Gauss twice, two local ones, two tolerances
    error = {(r["image"], r["rule"], r["gradients"]): float(r["map"]) for r in rows}
    for image in {r["image"] for r in rows}:
        assert error[image, "Gauss-Legendre", "50"] < error[image, "Gauss-Legendre", "9"] < 1
    assert all(float(r["completeness"]) < 1e-4 for r in rows if r["rule"] == "graded, rescaled")
    tight = [r for r in rows if r["tolerance"] == "0.01"]
    assert all(float(r["completeness"]) <= 0.0101 and float(r["map"]) < 0.03 for r in tight)
    summary = json.loads((tmp_path / "out" / "steps.json").read_text())
    assert summary["images"] == 2
    assert summary["equal"]["Gauss-Legendre"]["map"] == pytest.approx(50)
    assert (tmp_path / "out" / "steps.png").stat().st_size > 1000
    assert steps.main([*words, "--categories", "c"]) == 2
    assert "`categories` must be of the label file, got 'c'; expected some of ['a', 'b']" in capsys.readouterr().err
