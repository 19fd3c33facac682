"""Stimuli that are packed in a zip file, as Brain-Score distributes them."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path


def unpacked(archive: Path) -> Path:
    """The folder of a zip file's content: named like it, beside it; made once, and then left as it is.

    Raises
    ------
    ValueError
        If it is damaged, locked with a password, or cannot be unpacked there.
    """
    target = archive.with_suffix("")
    if target.is_dir():
        return target
    try:
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{target.name}.") as work:
            with zipfile.ZipFile(archive) as file:
                file.extractall(Path(work, target.name))  # names that lead outside are kept inside
            Path(work, target.name).replace(target)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise ValueError(f"{archive} cannot be unpacked into {target}: {error}") from error
    return target
