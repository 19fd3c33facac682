"""The tutorials: committed without outputs, and they run from a fresh kernel without a warning."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

import captum_shared as cs

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tutorials"
NAMES = (
    "01_shared_features",
    "02_against_saliency_and_gradcam",
    "03_captum_workflows",
    "04_recordings",
    "05_selectivity",
    "06_synthetic_benchmark",
    "07_from_map_to_experiment",
)
MOST_SECONDS = 3 * 90  # they are meant to take at most 90 s on two idle cores; machines differ and are busy
WARNING = re.compile(r"\b\w*Warning\b|\bwarn(ing)?:", re.IGNORECASE)


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook: Any) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_there_are_no_others() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == list(NAMES)
    listed = (FOLDER / "README.md").read_text()
    assert all(f"]({name}.ipynb)" in listed for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_committed_clean(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in notebook.cells:
        assert not cell.metadata, cell.id
        if cell.cell_type == "code":
            assert cell.outputs == [], cell.id
            assert cell.execution_count is None, cell.id


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_package_exist(name: str) -> None:
    notebook = read(name)
    roots = {"cs": cs, "sel": cs.selectivity, "synthetic": cs.synthetic}
    chains = {chain for node in ast.walk(ast.parse(code_of(notebook))) if (chain := _chain(node))}
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    chains |= {tuple(match.split(".")) for match in re.findall(r"\bcs\.[\w.]*\w", prose)}
    used = [chain for chain in chains if chain[0] in roots]
    assert used
    for root, *attributes in used:
        value = roots[root]
        for attribute in attributes:
            if not (isinstance(value, type(cs)) or value is roots[root]):
                break  # an attribute of a result, not of the package
            assert hasattr(value, attribute), ".".join((root, *attributes))
            value = getattr(value, attribute)


def _chain(node: ast.AST) -> tuple[str, ...]:
    """`cs.metrics.leakage` as a tuple of its names; empty for anything else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) and names else ()


@pytest.mark.parametrize("name", NAMES)
def test_links_between_tutorials(name: str) -> None:
    prose = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", prose):
        assert (FOLDER / target).exists(), target
    headings = {
        re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", prose, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", prose)) <= headings


@pytest.mark.slow  # a whole notebook, in a kernel of its own; the site's build, if it came before, has done it
@pytest.mark.parametrize("name", NAMES)
def test_runs_from_a_fresh_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "making"))
    import notebooks

    notebook = nbformat.read(notebooks.executed(FOLDER / f"{name}.ipynb", ROOT / "out" / "tutorials"), as_version=4)
    assert notebook.metadata.seconds < MOST_SECONDS
    pictures = 0
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        for output in cell.outputs:
            assert output.get("name") != "stderr", f"{cell.id}: {output.text}"
            text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
            assert not WARNING.search(text), f"{cell.id}: {text}"
            pictures += "image/png" in output.get("data", {})
    assert pictures
