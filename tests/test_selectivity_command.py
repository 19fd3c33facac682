"""The command `selectivity`: on images made here, and on real photographs."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import BROWSERS, address, complaints, open_browser, requests
from other_device import traffic
from PIL import Image

from captum_shared import cli
from captum_shared.report.html import page
from captum_shared.report.selectivity_files import unit_table
from captum_shared.report.unit_sheets import TILE, strongest_tiles, tile
from captum_shared.selectivity import PixelSource, receptive_fields, top_activations, top_crops

# A red, a luminance, a vertical-edge detector and a dead unit; then a unit that sees the whole image.
NETWORK = """
import torch

def make():
    conv = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)
    weight = torch.zeros(4, 3, 3, 3)
    weight[0, :, 1, 1] = torch.tensor([1.0, -0.5, -0.5])
    weight[1, :, 1, 1] = torch.tensor([0.299, 0.587, 0.114])
    weight[2] = torch.tensor([-1.0, 0.0, 1.0])
    conv.weight.data = weight
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(conv, torch.nn.ReLU(), head)
"""


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten red squares and ten grey ones, on black."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("planted_network.py").write_text(NETWORK)
    folder = tmp_path / "images"
    folder.mkdir()
    rows = []
    for k in range(20):
        red = k < 10
        pixels = np.zeros((24, 24, 3), dtype=np.uint8)
        pixels[6:18, 4 + k % 5 : 14 + k % 5] = (255 - 5 * k, 30, 30) if red else (200 - 5 * k,) * 3
        Image.fromarray(pixels).save(folder / f"{k:02d}.png")
        rows.append(f"{k:02d}.png,{'<red>' if red else 'grey'}")
    (folder / "labels.csv").write_text("file,category\n" + "\n".join(rows) + "\n")
    return folder


def run(folder: Path, out: str = "out", **changes: str) -> int:
    from planted_network import make  # type: ignore[import-not-found]

    torch.save(make().state_dict(), "planted.pth")
    options = {
        "--images": str(folder), "--labels": str(folder / "labels.csv"), "--model": "planted_network:make",
        "--weights": "planted.pth", "--image-size": "24", "--layers": "1,2", "--top": "10", "--sheets": "1", "--rare": "1", "--out": out,
        **{f"--{name.replace('_', '-')}": value for name, value in changes.items()},
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    return cli.main(["selectivity", *words, "--mean", "0", "0", "0", "--std", "1", "1", "1"])


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_of_the_command_and_planted_truth(photographs: Path, capsys: Any) -> None:
    assert run(photographs) == 0
    units = read(Path("out/units.csv"))
    first = "layer,unit,color_selectivity,class_selectivity,population_code,orientation_selectivity,symmetry_selectivity,top_class"
    assert ",".join(units[0]).startswith(first)
    assert [(unit["layer"], unit["unit"]) for unit in units] == [(la, str(u)) for la in "12" for u in range(4)]
    red, luminance, edge, dead = units[:4]
    assert (red["color_selectivity"], red["class_selectivity"], red["top_class"]) == ("1.0", "1.0", "<red>")
    assert abs(float(luminance["color_selectivity"])) < 1e-5
    assert luminance["top_class"] == "grey"
    assert float(edge["orientation_selectivity"]) > 0.99
    assert float(edge["symmetry_selectivity"]) < 0.01
    assert (dead["color_selectivity"], dead["class_selectivity"], dead["top_class"]) == ("", "", "")
    names = {path.name for path in Path("out").iterdir()}
    assert {"units.csv", "index.html", "summary.json", "distributions.png", "features_color_1.png"} <= names
    assert "unit_1_0000.png" in names
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["layers"]["1"]["most_color_selective"][0] == 0
    assert summary["layers"]["1"]["n_dead"] == 1
    assert summary["base_rates"] == {"<red>": 0.5, "grey": 0.5}
    assert "20/20" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_another_device_finds_the_same(photographs: Path, device: str) -> None:
    with traffic() as seen:
        assert run(photographs, "cpu", device="cpu") == 0
        assert seen.to_device == []
        assert run(photographs, "away", device=device) == 0
    assert device != "other" or {shape[1:] for shape in seen.to_device} >= {(3, 24, 24)}  # images went there
    expected, found = (read(Path(out, "units.csv")) for out in ("cpu", "away"))
    for name in expected[0]:
        values, own = ([row[name] for row in rows] for rows in (expected, found))
        if name.endswith("selectivity"):
            numbers, others = ([float(value or "nan") for value in some] for some in (values, own))
            assert others == pytest.approx(numbers, abs=1e-4, nan_ok=True)
        elif name in ("layer", "unit", "top_class", "population_code"):
            assert own == values


class Page(HTMLParser):
    """Finds what a page loads, and which tags have no end."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.alts: list[str | None] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        found = dict(attrs)
        self.sources += [found[name] for name in ("src", "href") if name in found]
        if tag == "img":
            self.alts.append(found.get("alt"))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_escaped_and_loads_nothing(photographs: Path) -> None:
    assert run(photographs) == 0
    text = Path("out/index.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert all(source.startswith("data:image/") for source in page.sources)
    rows = json.loads(text.split('.push(["units",0,')[1].split("]);\n")[0])["units"]
    assert [(row[0], row[1]) for row in rows] == [(la, u) for la in "12" for u in range(4)]
    assert all(Path("out", row[6]).stat().st_size > 500 for row in rows)
    assert rows[0][3] == [["<red>", 1.0]]
    assert rows[3][3] == []
    assert all(page.alts)
    assert "<red>" not in text


def test_a_unit_cannot_leave_its_script() -> None:
    evil = "</script><script>alert(1)</script>"
    text = page("x", [], [unit_table(["a"], [[evil, 0, [0.5], [[evil, 1.0]], [evil], "", evil, [[evil, 0.1]]]])])
    assert "alert(1)</script>" not in text


def test_crops_in_one_pass_are_those_of_each_unit(photographs: Path) -> None:
    images = torch.rand(12, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Conv2d(3, 5, 7, padding=3)
    top, fields = top_activations(model, "", images, k=4), receptive_fields(model, "", (20, 20))
    found = strongest_tiles(top, fields, PixelSource(images))
    for unit in range(5):
        crops, inside = top_crops(top, fields, PixelSource(images), unit)
        for rank in range(4):
            masked = crops[rank].masked_fill(~inside[rank], float("nan")).permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(found[unit][rank], tile(masked, TILE))


@pytest.mark.slow  # a browser starts
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", BROWSERS)
def test_the_table_of_units_in_a_browser(name: str, photographs: Path) -> None:
    assert run(photographs) == 0
    with open_browser(name) as browser:
        browser.get(address(Path("out/index.html")))
        count, box = (browser.find_element("css selector", f"#units {name}") for name in (".count", "input"))
        strongest = browser.execute_script("return window.eval('store.units.units.map((unit) => unit[4])')")
        with_image = sum("03" in names for names in strongest)
        assert 0 < with_image < 8
        for words, expected in (
            ("", 8),
            ("red", 2),
            ("unit 3", 2),
            ("image:03", with_image),
            ("red 1", 1),
            ("violet", 0),
        ):
            box.clear()
            box.send_keys(words or " ")
            assert count.text == f"{expected} of 8 units", words
        box.clear()
        box.send_keys("red 1")
        browser.find_element("css selector", "#units tbody .link").click()
        assert browser.find_element("id", "sheet-title").text == "1, unit 0"
        sheet = browser.find_element("css selector", "#sheet-content img")
        assert browser.execute_script("return arguments[0].complete && arguments[0].naturalWidth", sheet) == 796
        assert browser.current_url.endswith("#layer=1&unit=0")
        first, second = browser.execute_script(
            "return ['img', 'dl'].map((tag) => document.querySelector(`#sheet-content ${tag}`).getBoundingClientRect().top)"
        )
        assert first < second  # crops, then indices
        browser.find_element("css selector", "#sheet button").click()
        browser.find_element("css selector", "#units tbody td:nth-child(3)").click()  # anywhere on the row
        assert browser.find_element("id", "sheet-title").text == "1, unit 0"
        browser.get("about:blank")
        browser.get(address(Path("out/index.html"), "#layer=2&unit=1"))
        assert browser.find_element("id", "sheet-title").text == "2, unit 1"
        assert complaints(browser) == []
        assert requests(browser) == []


def test_same_seed_same_files_also_from_what_was_kept(photographs: Path) -> None:
    assert run(photographs, "a") == run(photographs, "b") == run(photographs, "a") == 0
    for name in ("units.csv", "summary.json", "index.html", "unit_1_0000.png"):
        assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_a_corrupt_image_is_reported_and_does_not_end_the_run(photographs: Path, capsys: Any) -> None:
    (photographs / "03.png").write_bytes(b"broken")
    assert run(photographs) == 0
    assert json.loads(Path("out/summary.json").read_text())["unreadable"] == ["03.png"]
    assert "1 of 20 images cannot be read" in capsys.readouterr().err
    assert "Unreadable and left out: 03.png" in Path("out/index.html").read_text()


def test_one_readable_image_is_too_few(photographs: Path, capsys: Any) -> None:
    for path in sorted(photographs.glob("*.png"))[1:]:
        path.write_bytes(b"broken")
    assert run(photographs) == 2
    assert "at least 2 images must be readable to compare units, got 1 of 20" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_unequal_base_rates_are_warned_about(photographs: Path, capsys: Any) -> None:
    labels = photographs / "labels.csv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:16]) + "\n")
    assert run(photographs) == 0
    assert "base rates are unequal" in capsys.readouterr().err


def test_mistakes_are_one_line(photographs: Path, capsys: Any) -> None:
    for changes, text in (
        ({"layers": "9"}, "unknown layer '9'"),
        ({"top": "1"}, "--top must be an integer of at least 2, got 1"),
        ({"crops": "0"}, "--crops must be a positive integer, got 0"),
        ({"class_threshold": "2"}, r"--class-threshold must be in \(0, 1\], got 2.0"),
        ({"device": "nonsense"}, "--device must be one that this machine has"),
    ):
        assert run(photographs, **changes) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
        assert len(error) == 1
        assert re.search(text, error[0])


@pytest.mark.real
@pytest.mark.slow  # a pass over photographs, and turned crops
def test_real_photographs(data: Path, tmp_path: Path) -> None:
    """Early units of a trained network: some are colour-selective, and their Neuron Features are coloured."""
    folder = data / "imagenet_sample"
    lines = (folder / "labels.csv").read_text().splitlines()
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join([lines[0], *lines[1::10]]) + "\n")
    code = cli.main([
        "selectivity", "--images", str(folder), "--labels", str(labels), "--model", "squeezenet1_0",
        "--weights", str(data / "squeezenet1_0_imagenet.pth"), "--layers", "features.0", "--top", "8",
        "--crops", "2", "--sheets", "1", "--out", str(tmp_path / "out"),
    ])  # fmt: skip
    assert code == 0
    units = read(tmp_path / "out" / "units.csv")
    assert len(units) == 96
    color = np.array([float(unit["color_selectivity"]) for unit in units if unit["color_selectivity"]])
    assert color.max() > 0.9
    assert color.min() < 0.1
