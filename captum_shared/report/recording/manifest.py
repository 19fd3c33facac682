"""``manifest.json``: what a report was made of and with, and what it consists of."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from captum_shared import __version__
from captum_shared.images import decode_rgb
from captum_shared.recording import Recording
from captum_shared.report.files import write_json

NAME = "manifest.json"
WORK = ".work"
PACKAGES = ("torch", "torchvision", "captum", "numpy", "scipy", "scikit-learn", "matplotlib", "pillow")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers and pictures depend on."""
    return {
        "captum-shared": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def inspect_stimuli(recording: Recording) -> tuple[dict[str, str], dict[str, str]]:
    """Hash of each stimulus file by name, and what is wrong with those that cannot be read as images.

    Raises
    ------
    FileNotFoundError
        If files are missing.
    """
    hashes, failures = {}, {}
    missing = [str(path) for path in recording.stimuli if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {recording.n_stimuli} stimuli are missing: {', '.join(missing[:20])}"
        )
    for name, path in zip(recording.stimulus_names, recording.stimuli, strict=True):
        content = path.read_bytes()
        hashes[name] = sha256(content)
        try:
            decode_rgb(content)
        except ValueError as error:
            failures[name] = str(error)
    return hashes, failures


def describe_recording(recording: Recording, stimulus_hashes: dict[str, str]) -> dict[str, Any]:
    """Hashes of everything in a recording."""
    responses = np.ascontiguousarray(recording.responses)
    names = json.dumps([recording.categories, recording.neuron_ids])
    return {
        "shape": list(responses.shape),
        "responses": sha256(responses.tobytes()),
        "categories_and_neurons": sha256(names.encode()),
        "stimuli": stimulus_hashes,
    }


def open_report(folder: Path, manifest: dict[str, Any]) -> bool:
    """Begin a report in `folder`, or go on with one of the same configuration; whether it is finished and whole.

    Raises
    ------
    ValueError
        If the folder holds a report of another configuration, with the difference; or other files.
    """
    path = folder / NAME
    for leftover in folder.rglob(".*.tmp"):  # of a process that was killed while writing
        leftover.unlink()
    if not path.exists():
        foreign = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
        if foreign:
            raise ValueError(f"`out` must be an empty folder or hold a report of this kind, {folder} holds "
                             f"{', '.join(foreign[:5])}")  # fmt: skip
        write_json(path, {**manifest, "complete": False})
        return False
    before = json.loads(path.read_text(encoding="utf-8"))
    difference = differences(before, manifest)
    if difference:
        raise ValueError(
            f"{folder} holds a report of another configuration; choose another folder, or delete it. "
            f"Different (there -> now): {'; '.join(difference[:12])}"
            + (f"; and {len(difference) - 12} more" if len(difference) > 12 else "")
        )
    return bool(before.get("complete")) and _drop_changed(folder, before["files"])


def close_report(folder: Path, manifest: dict[str, Any]) -> None:
    """Note the files with their hashes, and remove what was kept for going on."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _belongs(path, folder))
    hashes = {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in files}
    write_json(folder / NAME, {**manifest, "complete": True, "files": hashes})
    shutil.rmtree(folder / WORK, ignore_errors=True)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is different, one "key: before -> now" each, in everything but the list of files."""
    old, new = (_flat({k: v for k, v in each.items() if k not in ("complete", "files")}) for each in (before, now))
    nothing = "(none)"
    return [
        f"{key}: {_short(old.get(key, nothing))} -> {_short(new.get(key, nothing))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key, nothing) != new.get(key, nothing)
    ]


def _drop_changed(folder: Path, files: dict[str, str]) -> bool:
    """Remove files that are not what was written; whether all are."""
    changed = [
        folder / name
        for name, digest in files.items()
        if not (folder / name).exists() or sha256((folder / name).read_bytes()) != digest
    ]
    for path in changed:
        path.unlink(missing_ok=True)
    return not changed


def _belongs(path: Path, folder: Path) -> bool:
    return path.name != NAME and WORK not in path.relative_to(folder).parts


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _short(value: Any) -> Any:
    """For people: hashes shortened, lists as text."""
    if isinstance(value, str) and len(value) == 64:
        return value[:12]
    return value if isinstance(value, str) else json.dumps(value)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
