"""Tutorials: executed once for each state of notebook and library, and turned into Markdown."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "captum_shared"
TIMEOUT = 600  # seconds for a cell


def executed(path: Path, folder: Path) -> Path:
    """The notebook with its outputs, in `folder`; executed unless that was done with this notebook and library.

    Its metadata say how many `seconds` that took.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    target = folder / path.name
    key = _key(path)
    if target.is_file() and nbformat.read(target, as_version=4).metadata.get("executed_from") == key:
        return target
    notebook = nbformat.read(path, as_version=4)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        client = NotebookClient(
            notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": scratch}}
        )
        client.execute(env=_environment(scratch))
    notebook.metadata.update(executed_from=key, seconds=time.monotonic() - start)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(target)
    return target


def _environment(scratch: str) -> dict[str, str]:
    """This library, not another that is installed; no weights that happen to be here, and none downloaded."""
    kept = {name: value for name, value in os.environ.items() if name != "CAPTUM_SHARED_DOWNLOAD"}
    # Small networks gain nothing from threads, and lose much on busy cores.
    return {**kept, "PYTHONPATH": str(ROOT), "TORCH_HOME": str(Path(scratch) / "torch"), "OMP_NUM_THREADS": "1"}


def to_markdown(path: Path) -> tuple[str, dict[str, bytes]]:
    """The page of an executed notebook, and its pictures by name."""
    exporter = MarkdownExporter()
    exporter.register_preprocessor(CoalesceStreamsPreprocessor(), enabled=True)  # lines printed apart are read together
    page, resources = exporter.from_filename(str(path), {"unique_key": path.stem, "output_files_dir": path.stem})
    page = re.sub(r"\]\(\.\./docs/", "](../", page)
    page = re.sub(r"\]\((?:\./)?([\w-]+)\.ipynb", r"](\1.md", page)
    page = re.sub(r"!\[png\](\([^)]+\))(\s+\*)([^*]+)\*$", r"![\3]\1\2\3*", page, flags=re.MULTILINE)  # caption as text
    return page, dict(resources["outputs"])


def title(path: Path) -> str:
    """The first heading, without its number."""
    notebook: Any = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        found = re.search(r"^# (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if found:
            return found[1].strip()
    raise ValueError(f"{path} must have a heading of the first level, got none")


def _key(path: Path) -> str:
    """Of everything that the outputs depend on."""
    sha = hashlib.sha256(path.read_bytes())
    for source in sorted([*LIBRARY.rglob("*.py"), *LIBRARY.rglob("*.safetensors")]):
        sha.update(source.read_bytes())
    return sha.hexdigest()
