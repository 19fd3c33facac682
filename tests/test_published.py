"""Figures for a paper, from reports: widths, text that stays text, and errors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import views

from captum_shared import cli
from captum_shared.folders import report_folder
from captum_shared.report import viewer
from captum_shared.report.html import page
from captum_shared.report.published import open_report, report_figure


@pytest.fixture(params=["beside", "inside"])
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A report with its data beside the page, or in it."""
    neurons = list(views.neurons(2, 3, 2, 9, pixels=70))
    if request.param == "beside":
        with report_folder(tmp_path, {}) as folder:
            section = viewer.write_viewer(folder, views.images(9, folder=tmp_path), views.COLUMNS, neurons)
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


def test_text_is_text_in_every_format(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(report)
    for name in ("a.svg", "a.pdf", "a.png", "b.svg"):
        words = ["figure", "--report", str(report), "--neuron", "unit 0", "--pairs", "1,3", "--width", "single"]
        assert cli.main([*words, "--out", name]) == 0
    svg, pdf = Path("a.svg").read_text(), Path("a.pdf").read_bytes()
    assert re.search(r"<text[^>]*>reference</text>", svg)
    assert 'width="252pt"' in svg
    assert Path("b.svg").read_text() == svg
    assert b"/FontFile2" in pdf  # embedded as TrueType, not drawn as shapes
    assert b"/Type3" not in pdf
    assert re.search(rb"/MediaBox \[ ?0 0 252 ", pdf)


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
