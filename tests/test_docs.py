"""The documentation: every block of Python runs, links lead somewhere, and the command line reference is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

import captum_shared

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ROOT_PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLOW = {
    "quickstart.md",
    "limits.md",
    "mathematics.md",
    "howto/memory.md",
    "howto/layer.md",
    "howto/cluster.md",
    "howto/clients.md",  # imports Quantus
    "howto/networks.md",  # imports timm and transformers
    "howto/selectivity.md",
    "howto/categories.md",
}  # maps and fits

sys.path.insert(0, str(DOCS / "making"))
import commands  # noqa: E402
import links  # noqa: E402
import notebooks  # noqa: E402


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def code_of(page: Path) -> str:
    """The Python of a page, top to bottom; weights that would be downloaded are random."""
    blocks = [code for kind, code in FENCE.findall(page.read_text()) if kind == "python"]
    return "\n".join(blocks).replace('weights="DEFAULT"', "weights=None")


def with_code() -> list[object]:
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param(page, id=name_of(page), marks=marks[name_of(page) in SLOW]) for page in PAGES if code_of(page)]


def output_of(page: Path) -> list[str]:
    """The lines that a page says its code prints: blocks of text that follow a block of Python at once."""
    return "".join(re.findall(r"^```\n\n```text\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)).splitlines()


@pytest.mark.parametrize("page", with_code())
def test_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And prints what the page says."""
    monkeypatch.chdir(tmp_path)
    exec(compile(code_of(page), str(page), "exec"), {"__name__": "page"})
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in output_of(page) if line not in printed] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_of_a_page(page: Path) -> None:
    """Blocks are Python, which is run, or text, which is not; lines fit the width of the page."""
    for kind, code in FENCE.findall(page.read_text()):
        assert kind in ("python", "text")
        assert max(map(len, code.splitlines())) <= 98


def test_an_index_of_your_own_in_three_lines() -> None:
    code = [code for kind, code in FENCE.findall((DOCS / "howto" / "selectivity.md").read_text()) if kind == "python"][
        1
    ]
    assert len(code.strip().splitlines()) == 3
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 11, bias=False), torch.nn.ReLU()).eval()
    model[0].weight.data[0] = 1 - 2 * (torch.arange(11.0) % 2)
    model[0].weight.data[1] = 1
    stripes = torch.zeros(4, 3, 40, 40)
    stripes[..., ::2] = torch.tensor([1.0, 0.9, 0.8, 0.7])[:, None, None, None]
    names = {"cs": captum_shared, "torchvision": torchvision, "model": model, "images": stripes, "transform": None}
    exec(code.replace('"features.17"', '"1"').replace("k=100", "k=4"), names)
    fine, smooth = names["index"].tolist()
    assert fine > 0.7  # a detector of fine stripes loses its response; one of the mean keeps it
    assert abs(smooth) < 0.3


def anchors_of(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ROOT_PAGES, ids=lambda page: page.name)
def test_links_of_root_pages(page: Path) -> None:
    """The site's own links are checked when it is built; these are read in the repository, too."""
    for target in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked.read_text()), target


def test_every_command_has_its_help_in_the_reference() -> None:
    page = (DOCS / "cli.md").read_text()
    assert sorted(commands.MARK.findall(page)) == sorted(commands.helps())
    filled = commands.filled(page)
    shown = subprocess.run(
        [sys.executable, "-m", "captum_shared", "category", "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "88", "NO_COLOR": "1"},
    ).stdout  # fmt: skip
    for line in shown.split("examples:")[0].splitlines():
        assert line in filled


def test_every_public_name_is_in_the_reference() -> None:
    import captum_shared as cs

    listed = set(re.findall(r"^::: captum_shared\.(.+)$", "\n".join(p.read_text() for p in PAGES), re.MULTILINE))
    names = set(cs.__all__) - {
        "interventions",
        "metrics",
        "selectivity",
        "stimuli",
        "synthetic",
        "RULES",
        "SIMILARITIES",
    }
    names |= {f"interventions.{name}" for name in cs.interventions.__all__ if not name.isupper()}
    names |= {f"metrics.{name}" for name in cs.metrics.__all__}
    names |= {f"selectivity.{name}" for name in cs.selectivity.__all__}
    names |= {f"stimuli.{name}" for name in cs.stimuli.__all__}
    names |= {f"synthetic.{name}" for name in cs.synthetic.__all__ if not name.isupper()}
    assert names <= listed
    for name in listed:
        thing: object = cs
        for part in name.split("."):
            thing = getattr(thing, part)
        assert thing.__doc__


def test_faults_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a id="here"></a><a href="b.html#there">fine</a><a href="#here">fine</a><a href="https://captum.ai">fine</a>'
        '<a href="c.html">no page</a><a href="b.html#nowhere">no anchor</a><img src="no.png">'
        '<script src="https://elsewhere.org/script.js"></script>'
    )
    (tmp_path / "b.html").write_text('<h2 id="there">There</h2>')
    assert links.faults(tmp_path) == [
        "a.html fetches https://elsewhere.org/script.js from elsewhere",
        "a.html links to c.html, which does not exist",
        "a.html links to b.html#nowhere, which does not exist",
        "a.html links to no.png, which does not exist",
    ]


def test_a_notebook_is_executed_once_and_again_when_it_changes(tmp_path: Path) -> None:
    from nbformat import v4, write

    source, out, count = tmp_path / "01_a.ipynb", tmp_path / "out", tmp_path / "count"
    code = f"open({str(count)!r}, 'a').write('x')\nprint('seen')"
    cells = [v4.new_markdown_cell("# A title\n[next](02_b.ipynb), [why](../docs/limits.md#a)"), v4.new_code_cell(code)]
    write(v4.new_notebook(cells=cells), source)
    for _ in range(2):
        page, _ = notebooks.to_markdown(notebooks.executed(source, out))
    assert count.read_text() == "x"
    assert "seen" in page
    assert "[next](02_b.md), [why](../limits.md#a)" in page
    assert notebooks.title(source) == "A title"

    cells[1].source += "\nprint('again')"
    write(v4.new_notebook(cells=cells), source)
    assert "again" in notebooks.to_markdown(notebooks.executed(source, out))[0]
    assert count.read_text() == "xx"


def test_what_a_cell_prints_in_two_writes_is_read_together(tmp_path: Path) -> None:
    from nbformat import v4, write

    outputs = [v4.new_output("stream", name="stdout", text=text) for text in ("a  1\n", "b  2\n")]
    write(v4.new_notebook(cells=[v4.new_code_cell("...", outputs=outputs)]), tmp_path / "n.ipynb")
    assert "    a  1\n    b  2\n" in notebooks.to_markdown(tmp_path / "n.ipynb")[0]


def test_parameters_described_together_are_read_one_by_one() -> None:
    pytest.importorskip("griffe", reason="of the extra 'docs'")
    import docstrings

    text = "Do.\n\nParameters\n----------\nx : int\na, **b\n    As in `c`.\n\n    And more.\n\nRaises\n------\nTypeError, ValueError\n    If.\n"
    both = "a\n    As in `c`.\n\n    And more.\n**b\n    As in `c`.\n\n    And more.\n"
    assert docstrings.separated(text) == text.replace("a, **b\n    As in `c`.\n\n    And more.\n", both)
