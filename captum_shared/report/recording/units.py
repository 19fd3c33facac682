"""Units of work: independent, each ending in files that are there whole or not at all, so that a run can go on."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from captum_shared.folders import ReportFolder


@dataclass(frozen=True)
class Unit:
    """A function whose results are the contents of files: as many bytes objects as there are paths.

    It depends on its arguments alone and may run in any process, on any machine that can read the stimuli. `arguments`
    gives them when the unit's turn comes, so that they need not all be in memory.
    """

    paths: tuple[Path, ...]
    function: Callable[..., Sequence[bytes]]
    arguments: Callable[[], tuple[Any, ...]]

    def done(self, folder: ReportFolder) -> bool:
        """Whether the files are in the report's folder as they were written."""
        return all(folder.holds(path) for path in self.paths)


def run_units(units: Sequence[Unit], noun: str, folder: ReportFolder, n_jobs: int | None, progress: bool) -> None:
    """Run what is not done yet through `joblib.Parallel`, and write each result as it comes.

    Results are written here, in the parent, so that workers need no common disk for them.
    """
    from joblib import Parallel, delayed

    left = [unit for unit in units if not unit.done(folder)]
    if not left:
        return
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    results = parallel(delayed(_numbered)(number, unit.function, unit.arguments()) for number, unit in enumerate(left))
    with tqdm(total=len(units), initial=len(units) - len(left), disable=not progress, desc=noun, unit="unit") as bar:
        for number, contents in results:
            for path, content in zip(left[number].paths, contents, strict=True):
                folder.write(path, content)
            bar.update()


def array_bytes(array: np.ndarray) -> bytes:
    """The content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _numbered(number: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, Any]:
    return number, function(*arguments)
