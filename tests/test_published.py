"""Figures for a paper, from reports: widths, text that stays text, and errors."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pypdf
import pytest
import torch
import views
from fontTools.ttLib import TTFont

from captum_shared import cli
from captum_shared.files import figure_bytes
from captum_shared.folders import report_folder
from captum_shared.report import viewer
from captum_shared.report.html import page
from captum_shared.report.published import open_report, report_figure
from captum_shared.report.recording.figures import NeuronPicture, neuron_figure


@pytest.fixture(params=["beside", "inside"])
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A report with its data beside the page, or in it."""
    neurons = list(views.neurons(2, 3, 2, 9, pixels=70))
    if request.param == "beside":
        with report_folder(tmp_path, {}) as folder:
            section = views.write_viewer(folder, views.images(9, folder=tmp_path), neurons)
    else:
        section = viewer.inline_viewer(views.images(9), views.COLUMNS, neurons)
    (tmp_path / "index.html").write_text(page("A report", [], [section]))
    return tmp_path


@pytest.mark.parametrize(("width", "inches"), [("single", 3.5), ("double", 7.2)])
def test_a_figure_has_a_row_for_each_pair(report: Path, width: str, inches: float) -> None:
    figure = report_figure(open_report(report), "unit 1", [1, 3], width=width)
    assert figure.get_figwidth() == inches
    assert len(figure.axes) == 2 * 5  # four panels and a scale
    boxes = [ax.get_position() for ax in figure.axes]
    assert all(box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1 for box in boxes)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for text in figure.texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


def test_the_heat_is_that_of_the_viewer(report: Path) -> None:
    figure = report_figure(open_report(report), "unit 1", [2], kind="pixels")
    heat = np.asarray(figure.axes[1].images[1].get_array())
    assert heat.shape == (48, 48)
    assert heat.max() > 0
    figure = report_figure(open_report(report), "unit 1", [2], kind="layer, matched")
    assert max(np.unravel_index(np.asarray(figure.axes[1].images[1].get_array()).argmax(), (48, 48))) < 8
    kinds = "'layer', 'pixels', 'control', 'layer, dot', 'layer, matched', 'layer, moments', got 'nonsense'"
    with pytest.raises(ValueError, match=f"`kind` must be one of {kinds}"):
        report_figure(open_report(report), "unit 1", [2], kind="nonsense")


@pytest.mark.parametrize(("width", "millimetres"), [("single", 89), ("double", 183)])
def test_a_figure_is_read_back_as_text_in_its_font_and_as_wide_as_a_column(
    report: Path, width: str, millimetres: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(report)
    for name in ("a.svg", "a.pdf", "b.svg"):
        words = ["figure", "--report", str(report), "--neuron", "unit 0", "--pairs", "1,3", "--width", width]
        assert cli.main([*words, "--out", name]) == 0
    assert Path("b.svg").read_bytes() == Path("a.svg").read_bytes()
    for text, wide in (svg_text(Path("a.svg")), pdf_text(Path("a.pdf"))):
        assert wide == pytest.approx(millimetres, abs=0.2)
        assert all(word in text for word in ("driver", "shared", "reference"))
        assert text.count("similarity") == 2  # below each pair


def test_the_figure_of_a_recorded_neuron_is_read_back_too(tmp_path: Path) -> None:
    names, few = [("face", 2.0, 0.1), ("chair", 1.0, 0.1)], np.linspace(0, 1, 4)
    images = [(torch.rand(3, 24, 24), torch.rand(3, 24, 24))]
    maps = [np.random.default_rng(0).normal(size=(1, 2, 24, 24))]
    picture = NeuronPicture("neuron 7", names, "face", few, few, few > 0.5, images, [("chair, 2.1", "face, 3.0")], maps)
    for suffix in ("svg", "pdf"):
        (tmp_path / f"a.{suffix}").write_bytes(figure_bytes(neuron_figure(picture), kind=suffix))
    for text, wide in (svg_text(tmp_path / "a.svg"), pdf_text(tmp_path / "a.pdf")):
        assert wide == pytest.approx(25.4 * neuron_figure(picture).get_figwidth(), abs=0.2)
        assert all(word in text for word in ("neuron 7", "driver", "reference", "chair, 2.1", "face"))


def svg_text(path: Path) -> tuple[str, float]:
    """The text of an SVG and its width in millimetres; its font must hold every letter of them."""
    root = ElementTree.parse(path).getroot()
    name = "{http://www.w3.org/2000/svg}"
    text = "\n".join("".join(line.itertext()) for line in root.iter(f"{name}text"))
    style = "".join(root.find(f"{name}defs/{name}style").itertext())
    family, code = re.findall(r"font-family: '([^']+)'; src: url\(data:font/woff;base64,([^)]+)\)", style)[0]
    assert all(f"'{family}'" in str(line.get("style")) for line in root.iter(f"{name}text"))
    with TTFont(BytesIO(base64.b64decode(code))) as font:
        assert {ord(letter) for letter in text if not letter.isspace()} <= font.getBestCmap().keys()
    assert str(root.get("width")).endswith("pt")
    return text, float(str(root.get("width")).removesuffix("pt")) / 72 * 25.4


def pdf_text(path: Path) -> tuple[str, float]:
    """The text of a PDF and its width in millimetres; every font must be inside, as TrueType."""
    page = pypdf.PdfReader(path).pages[0]
    fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        assert font["/Subtype"] == "/Type0"  # not Type 3, which is drawn and not set
        for inner in font["/DescendantFonts"]:
            assert "/FontFile2" in inner.get_object()["/FontDescriptor"].get_object()
    return page.extract_text(), float(page.mediabox.width) / 72 * 25.4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--neuron": "nobody"}, "--neuron must be one of the report's neurons (unit 0, unit 1), got 'nobody'"),
        ({"--pairs": "4"}, "--pairs must be from 1 to 3 for neuron unit 0, got [4]"),
        ({"--pairs": "one"}, "--pairs must be numbers separated by commas"),
        ({"--out": "a.gif"}, "--out must end in .pdf, .svg, .png, got 'a.gif'"),
        ({"--report": "nowhere"}, "no report at nowhere"),
    ],
)
def test_mistakes_are_named_in_one_line(
    report: Path, changes: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"--report": str(report), "--neuron": "unit 0", "--out": str(report / "a.pdf"), **changes}
    assert cli.main(["figure", *(word for pair in options.items() for word in pair)]) != 0
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_a_page_that_is_no_report_of_pairs_is_named(report: Path, tmp_path: Path) -> None:
    saved = open_report(report)
    with pytest.raises(ValueError, match="`width` must be one of single, double, got 'wide'"):
        report_figure(saved, "unit 0", [1], width="wide")
    (tmp_path / "index.html").write_text("<p>Nothing to see.</p>")
    (tmp_path / "data" / "index.js").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="shows no pairs"):
        open_report(tmp_path)
