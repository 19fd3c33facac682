"""The import rule of the layout, and what importing the package must not do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import captum_shared

PACKAGE = Path(captum_shared.__file__).parent

# The ground floor: all above may import it, and it imports nothing of the package.
GROUND = {"checks", "files", "folders", "identity", "images", "manifests", "store", "tables", "turns", "workers"}

# What each unit, a module or a folder, may import of the package besides itself and the ground floor.
BELOW_STUDY = (
    "encoder", "networks", "readout", "similarity", "metrics", "matcher", "attribution", "selection", "recording", "synthetic",
    "workers", "images", "labels", "files", "folders", "visualization", "interventions",
)  # fmt: skip
ALLOWED = {
    "checks": set(),
    "turns": set(),
    "workers": set(),
    "images": set(),
    "tables": set(),
    "labels": set(),
    "files": set(),
    "folders": {"files", "manifests"},
    "manifests": {"store"},
    "store": {"files"},
    "identity": {"files", "manifests", "store"},
    "encoder": set(),
    "networks": {"encoder"},
    "readout": set(),
    "similarity": set(),
    "metrics": set(),
    "interventions": {"metrics"},
    "recording": {"labels"},
    "visualization": set(),
    "matcher": {"similarity"},
    "attribution": {"similarity", "encoder"},
    "selection": {"matcher", "similarity"},
    "selectivity": {"encoder", "selection"},
    "synthetic": {"encoder"},
    "stimuli": {"encoder", "interventions", "readout", "selectivity", "visualization"},
    "study": set(BELOW_STUDY),
    "report": None,  # everything below
    "console": set(),
    "cli": {"__version__", "console", "report", "study"},
    "__main__": {"cli"},
}


def units() -> list[str]:
    return sorted(
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    )


def files(unit: str) -> list[Path]:
    folder = PACKAGE / unit
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{unit}.py"]


def imported_units(path: Path) -> set[str]:
    """Units of the package that the file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [
                f"{node.module}.{alias.name}" if node.module == "captum_shared" else str(node.module)
                for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("captum_shared.")}
        assert "captum_shared" not in names, f"{path}: imports the package's face"
    return found


def test_every_unit_has_a_rule() -> None:
    assert set(units()) <= set(ALLOWED)


@pytest.mark.parametrize("unit", units())
def test_imports_run_one_way(unit: str) -> None:
    allowed = ALLOWED[unit]
    for path in files(unit):
        others = imported_units(path) - {unit} - (set() if unit in GROUND else GROUND)
        assert allowed is None or others <= allowed, f"{path} imports {others - allowed}"
        assert "cli" not in others or unit == "__main__"


def test_rule_would_catch_a_breach(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from captum_shared.report import html\n    import captum_shared.cli\n")
    assert imported_units(file) == {"report", "cli"}


def test_import_is_light() -> None:
    code = "import sys, captum_shared; print([m for m in ('matplotlib', 'sklearn', 'scipy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_no_module_imports_sklearn_or_pyplot_at_the_top() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("sklearn", "matplotlib") for name in names), path


def test_public_names_exist() -> None:
    for name in captum_shared.__all__:
        assert getattr(captum_shared, name) is not None
    assert set(captum_shared.__all__) <= set(dir(captum_shared))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        captum_shared.nonsense  # noqa: B018
