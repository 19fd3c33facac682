"""How the package is written, counted: few parameters, short functions, nothing private across modules.

What does not keep a rule yet is listed. A list may only shrink: a test fails as well when an entry is no longer needed.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import captum_shared

ROOT = Path(captum_shared.__file__).parent.parent
FILES = sorted((ROOT / "captum_shared").rglob("*.py"))
MOST_PARAMETERS, MOST_LINES = 6, 40
MOST_ANY = 100  # of the word, in the package and the benchmarks

# The order of its first seven is a promise to scripts outside the repository.
MANY_PARAMETERS = {"encoder/images.py:encode_images"}
LONG: set[str] = set()
PRIVATE_IMPORTS: set[str] = set()

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function of a module, also inside classes and functions, with its dotted name."""
    for node in ast.iter_child_nodes(tree):
        name = f"{prefix}{node.name}" if isinstance(node, Function | ast.ClassDef) else prefix.rstrip(".")
        if isinstance(node, Function):
            yield name, node
        yield from functions(node, f"{name}." if name else "")


def count_parameters(function: Function) -> int:
    """Parameters that may be given by place; `self` and `cls` are none, options by keyword only are the user's."""
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def count_lines(function: Function) -> int:
    """Lines from `def` to the end, without the docstring and without those of functions inside."""
    lines = set(range(function.lineno, (function.end_lineno or 0) + 1))
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        lines -= set(range(text.lineno, (text.end_lineno or 0) + 1))
    for _, inner in functions(function):
        lines -= set(range(inner.lineno, (inner.end_lineno or 0) + 1))
    return len(lines)


def private_imports(tree: ast.AST) -> Iterator[str]:
    """Private names and modules of this package that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("captum_shared"):
            for alias in node.names:
                path = f"{node.module}.{alias.name}"
                if any(part.startswith("_") and not part.startswith("__") for part in path.split(".")):
                    yield path


def parsed() -> Iterator[tuple[str, ast.Module]]:
    for path in FILES:
        yield path.relative_to(ROOT / "captum_shared").as_posix(), ast.parse(path.read_text())


def agrees(found: dict[str, int], listed: set[str], rule: str) -> None:
    new, gone = sorted(set(found) - listed), sorted(listed - set(found))
    assert not new, f"{rule}: {[f'{name} ({found[name]})' for name in new]}"
    assert not gone, f"no longer exceptions, take them off the list: {gone}"


def test_few_parameters() -> None:
    counts = {
        f"{file}:{name}": count_parameters(function) for file, tree in parsed() for name, function in functions(tree)
    }
    many = {name: count for name, count in counts.items() if count > MOST_PARAMETERS}
    agrees(many, MANY_PARAMETERS, f"more than {MOST_PARAMETERS} parameters besides those by keyword only")


def test_short_functions() -> None:
    counts = {f"{file}:{name}": count_lines(function) for file, tree in parsed() for name, function in functions(tree)}
    agrees({name: n for name, n in counts.items() if n > MOST_LINES}, LONG, f"longer than {MOST_LINES} lines")


def test_nothing_private_across_modules() -> None:
    found = {f"{file}: {path}": 1 for file, tree in parsed() for path in private_imports(tree)}
    agrees(found, PRIVATE_IMPORTS, "private names of another module")


def test_exceptions_of_the_linter_are_needed() -> None:
    """What `per-file-ignores` lists of single files of the package and the benchmarks is still found there."""
    toml = pytest.importorskip("tomllib")  # in Python from 3.11
    ignores = toml.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
    listed = {(file, rule) for file, rules in ignores.items() if file.endswith(".py") for rule in rules}
    command = [sys.executable, "-m", "ruff", "check", "captum_shared", "benchmarks", "--output-format", "json"]
    out = subprocess.run(
        [*command, "--config", "lint.per-file-ignores = {}"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    found = {(Path(one["filename"]).relative_to(ROOT).as_posix(), one["code"]) for one in json.loads(out)}
    assert listed <= found, f"no longer needed in pyproject.toml: {sorted(listed - found)}"


SAMPLE = '''
from captum_shared.metrics.localization import _checked, as_tensor
from captum_shared.readout._layer import Layer
from captum_shared import __version__

class A:
    def f(self, a, b, /, c, d, e, f, *args, g=1, h=2, **options):
        """Long.

        Text.
        """
        def inner(a, b, c, d, e, f, g):
            return 1
        return inner

    @classmethod
    def g(cls, a): ...
'''


def test_the_counts_are_right() -> None:
    found = dict(functions(ast.parse(SAMPLE)))
    assert {name: count_parameters(function) for name, function in found.items()} == {
        "A.f": 6,
        "A.f.inner": 7,
        "A.g": 1,
    }
    assert {name: count_lines(function) for name, function in found.items()} == {"A.f": 2, "A.f.inner": 2, "A.g": 1}
    assert list(private_imports(ast.parse(SAMPLE))) == ["captum_shared.metrics.localization._checked", "captum_shared.readout._layer.Layer"]  # fmt: skip


def test_lists_may_only_shrink() -> None:
    with pytest.raises(AssertionError, match=r"too many: \['new \(7\)'\]"):
        agrees({"new": 7}, set(), "too many")
    with pytest.raises(AssertionError, match=r"take them off the list: \['old'\]"):
        agrees({}, {"old"}, "too many")


def test_any_does_not_spread() -> None:
    """What is unknown is an `object`, which must be looked at; `Any` is left to what comes from argparse and JSON."""
    files = [*FILES, *sorted((ROOT / "benchmarks").rglob("*.py"))]
    count = sum(len(re.findall(r"\bAny\b", path.read_text())) for path in files)
    assert count <= MOST_ANY, f"{count} times, more than {MOST_ANY}"


def test_one_spelling() -> None:
    """As in Oxford's dictionary: standardize, normalize, summarize, with z."""
    texts = [
        *FILES,
        *sorted((ROOT / "benchmarks").rglob("*.py")),
        *sorted((ROOT / "docs").rglob("*.md")),
        ROOT / "README.md",
    ]
    other = re.compile(
        r"\b\w*(?:standard|normal|summar|random|recogn|visual|local|general|optim|regular)is(?:e|ing|ation)\w*", re.I
    )
    found = {f"{path.relative_to(ROOT)}: {word}" for path in texts for word in other.findall(path.read_text())}
    assert not found
