"""``manifest.json``: what a report was made of and with, and the files it consists of."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict, cast

_OPTION = re.compile(r"^configuration\.(?:settings\.|network\.)?(\w+)$")
PACKAGES = ("torch", "torchvision", "captum", "numpy", "scipy", "scikit-learn", "matplotlib", "pillow")


class Manifest(TypedDict):
    """What every manifest holds, beside what its report depends on."""

    complete: bool
    files: dict[str, str]
    versions: dict[str, str]


def read_manifest(path: Path) -> Manifest:
    """A report's manifest.

    Raises
    ------
    ValueError
        If it is not one of this program's, or damaged.
    """
    advice = "restore it, or choose another folder"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); {advice}") from error
    expected = {"complete": bool, "files": dict, "versions": dict}
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a manifest of this program: it holds {_short(content)}; {advice}")
    for key, kind in expected.items():
        if not isinstance(content.get(key), kind):
            raise ValueError(f"{path} is not a manifest of this program: it lacks {key!r}; {advice}")
    if not all(isinstance(digest, str) for digest in content["files"].values()):
        raise ValueError(f"{path} is not a manifest of this program: 'files' must give hashes; {advice}")
    return cast(Manifest, content)


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What is different between two manifests, one "key: before -> now" each, in everything but the files.

    Options are named as in other messages, such as `seed`.
    """
    old, new = (_flat({k: v for k, v in each.items() if k not in ("complete", "files")}) for each in (before, now))
    nothing = "(none)"
    return [
        f"{_named(key)}: {_short(old.get(key, nothing))} -> {_short(new.get(key, nothing))}"
        for key in dict.fromkeys([*old, *new])
        if not _same(key, old.get(key, nothing), new.get(key, nothing))
    ]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers and pictures depend on."""
    found = {"captum-shared": "", "python": platform.python_version()}
    for name in ("captum-shared", *PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def _flat(content: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[str, object] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _named(key: str) -> str:
    """An option of the user's as in other messages, such as `seed`; other keys as they are."""
    return _OPTION.sub(r"`\1`", key)


def _same(key: str, old: object, new: object) -> bool:
    """Whether two values say the same; what was computed for fixed inputs need not agree to the bit."""
    if key.split(".")[-1] == "probe" and isinstance(old, list) and isinstance(new, list):
        from captum_shared.store import close  # which needs torch, as nothing else here does

        with suppress(TypeError, ValueError):  # not rows of numbers
            return close(old, new)
    return bool(old == new)


def _short(value: object) -> str:
    """For people: hashes and long lists shortened."""
    if isinstance(value, str):
        return value[:12] if len(value) == 64 else value
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."
