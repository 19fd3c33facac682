"""The README's commands and its Python, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def share_of_heat(path: Path) -> float:
    """Of the middle of a figure, since what is plain is at the sides: pixels as red and yellow as nothing grey is."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    middle = pixels[:, pixels.shape[1] // 4 : 3 * pixels.shape[1] // 4]
    return float(((middle[..., 0] > 180) & (middle[..., 2] < 80)).mean())


def test_two_commands_of_one_line() -> None:
    blocks = re.findall(r"## ([^\n]+)\n\n```sh\n(.*?)```", README, flags=re.DOTALL)
    assert [heading for heading, _ in blocks] == ["Run it", "Test it"]
    assert all(block.count("\n") == 1 for _, block in blocks)
    assert README.count("```sh") == 2


def test_at_most_a_thousand_words() -> None:
    assert len(README.split()) <= 1000


def test_ten_lines_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, and the figure that they write has heat."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line and not line.startswith("import ")]) == 10
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert 0.003 < share_of_heat(tmp_path / "pair.png") < 0.1


def test_what_a_pair_costs_is_the_range_of_the_table() -> None:
    rows = re.findall(r"^\| (.+?) \| (.*) \|$", (ROOT / "docs" / "speed.md").read_text(), re.MULTILINE)
    ratios = [
        float(ratio) for ratio in re.findall(r"\d\.\d\d", dict(rows)["pair gradient"])[:-1]
    ]  # the last is the bound
    assert f"takes {min(ratios)} to {max(ratios)} times as long" in " ".join(README.split())


def test_figures_are_those_of_the_benchmark() -> None:
    """Every interval in the README is one of the benchmark's table."""
    table = (ROOT / "docs" / "benchmark.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) \| (.*) \|$", table, re.MULTILINE)[::-1])  # of the first table
    found = re.findall(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", " ".join(README.split()))
    assert found == [
        cell for rule in ("`product`, the paper's", "`moments`, contrast 0.5") for cell in rows[rule].split(" | ")[:2]
    ]


def test_the_first_screen_shows_heat() -> None:
    """A picture among the first lines, sharp, of which a part is as red and yellow as heat and as nothing grey is."""
    source = re.findall(r"!\[[^]]+\]\((?!http)([^)]+)\)", "\n".join(README.splitlines()[:40]))[0]
    assert Image.open(ROOT / source).width >= 1200
    assert 0.003 < share_of_heat(ROOT / source) < 0.1


def test_links_to_files_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
