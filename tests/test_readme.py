"""The README's commands and its Python, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image

import captum_shared

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_two_commands_of_one_line() -> None:
    blocks = re.findall(r"## ([^\n]+)\n\n```sh\n(.*?)```", README, flags=re.DOTALL)
    assert [heading for heading, _ in blocks] == ["Run it", "Test it"]
    assert all(block.count("\n") == 1 for _, block in blocks)
    assert README.count("```sh") == 2


def test_ten_lines_of_python_run(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    assert len(code.strip().splitlines()) <= 11
    paths = []
    for k in range(8):
        pixels = np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{k}.png")
        Image.fromarray(pixels).save(paths[-1])
    names: dict[str, Any] = {
        "paths": paths,
        "responses": np.arange(8.0),
        "within": torch.arange(5),
        "odd": 6,
        "Image": Image,
    }
    # Random weights and few steps: a download, and minutes, are not for tests.
    small = (
        code.replace('"resnet50"', '"squeezenet1_1"')
        .replace('"layer4"', '"features.6"')
        .replace("n_steps=32", "n_steps=2")
    )
    exec(small.replace('weights="DEFAULT"', "weights=None"), names)
    assert names["map_x"].shape == (1, 3, 224, 224)
    assert names["figure"].get_size_inches()[0] > 0


def test_an_index_of_your_own_in_three_lines() -> None:
    code = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[1]
    assert len(code.strip().splitlines()) == 3
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 11, bias=False), torch.nn.ReLU()).eval()
    model[0].weight.data[0] = 1 - 2 * (torch.arange(11.0) % 2)
    model[0].weight.data[1] = 1
    stripes = torch.zeros(4, 3, 40, 40)
    stripes[..., ::2] = torch.tensor([1.0, 0.9, 0.8, 0.7])[:, None, None, None]
    names = {"cs": captum_shared, "torchvision": torchvision, "model": model, "paths": stripes, "transform": None}
    exec(code.replace('"layer1"', '"1"').replace("k=100", "k=4"), names)
    fine, smooth = names["index"].tolist()
    assert fine > 0.7  # a detector of fine stripes loses its response; one of the mean keeps it
    assert abs(smooth) < 0.3


def test_the_first_screen_shows_heat() -> None:
    """A picture among the first lines, sharp, of which a part is as red and yellow as heat and as nothing grey is."""
    source = re.findall(r"!\[[^]]+\]\(([^)]+)\)", "\n".join(README.splitlines()[:40]))[0]
    pixels = np.asarray(Image.open(Path(__file__).parents[1] / source).convert("RGB")).astype(int)
    assert pixels.shape[1] >= 1200
    heat = pixels[:, pixels.shape[1] // 4 : 3 * pixels.shape[1] // 4]  # its middle: what is plain is at the sides
    assert 0.003 < ((heat[..., 0] > 180) & (heat[..., 2] < 80)).mean() < 0.1


def test_links_to_files_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
