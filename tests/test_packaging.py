"""What a release is made of: the version, and one address in every file that names the repository."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import captum_shared

ROOT = Path(__file__).parents[1]
HOME = "https://github.com/captum-shared/captum-shared"
SITE = "https://captum-shared.github.io/captum-shared/"


def test_version_is_the_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", {"captum-shared": "1.2.3"}.__getitem__)
    assert captum_shared.__version__ == "1.2.3"


def test_version_of_a_source_tree_that_nobody_installed() -> None:
    """Without site-packages, as in a copy of the folder."""
    command = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import captum_shared; print(captum_shared.__version__)"
    out = subprocess.run([sys.executable, "-I", "-S", "-c", command], capture_output=True, text=True, check=True)
    assert out.stdout == "0+unknown\n"


def test_no_file_holds_the_version() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'^dynamic = .*"version"', text, re.MULTILINE)
    assert not re.search(r"^version = ", text, re.MULTILINE)
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)


def test_one_address() -> None:
    """A person who gives the repository its home finds every place by the same two words."""
    files = ["pyproject.toml", "mkdocs.yml", "CITATION.cff", "README.md", "CONTRIBUTING.md", "docs/announcing.md"]
    files += [path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.*") if path.is_file()]
    for name in files:
        text = (ROOT / name).read_text()
        for address in re.findall(r"https://github\.com/captum[\w.-]*/[\w-]+", text):
            assert address == HOME, name
        for address in re.findall(r"https://captum-shared\.github\.io/[\w-]*/?", text):
            assert address == SITE, name
    for name in ("pyproject.toml", "mkdocs.yml", "CITATION.cff"):
        assert HOME in (ROOT / name).read_text(), name


def test_workflows_run_every_version_of_python_that_is_promised() -> None:
    promised = set(re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text()))
    matrix = re.findall(r"python: \[(.*)\]", (ROOT / ".github/workflows/tests.yml").read_text())[0]
    assert promised == set(re.findall(r"3\.\d+", matrix)) == {"3.10", "3.11", "3.12", "3.13"}


def test_the_citation_in_the_readme_is_that_of_the_file() -> None:
    readme = " ".join((ROOT / "README.md").read_text().replace("\n> ", " ").split())
    citation = (ROOT / "CITATION.cff").read_text()
    for name in re.findall(r"family-names: ([^}]+)\}", citation):
        assert name in readme
    for title in re.findall(r"^ +(?:- )?title: (.+)$", citation, re.MULTILINE):
        assert title in readme


def test_on_pypi_the_readme_links_to_the_repository() -> None:
    toml = pytest.importorskip("tomllib")  # in Python from 3.11
    settings = toml.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    text = (ROOT / "README.md").read_text()
    for one in settings["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    assert re.findall(r"\]\((?!https://)", text) == []
    assert "](https://raw.githubusercontent.com/captum-shared/captum-shared/main/docs/images/swap.jpg)" in text
    assert f"]({HOME}/blob/main/docs/quickstart.md)" in text
    assert "](https://captum.ai)" in text
