"""A run: where a study's results go, its workers, and its jobs, which are not repeated after an interruption."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from captum_shared.folders import ReportFolder
from captum_shared.workers import Task, Workers

Share = Callable[[object], object]


@dataclass(frozen=True)
class Job:
    """A piece of work that writes files, each of which is complete or absent."""

    paths: tuple[Path, ...]
    # Returns the content of each file. It depends on its arguments alone, and may run in any process on any machine
    # that can read the stimuli.
    function: Callable[..., Sequence[bytes]]
    # Returns the arguments when the job's turn comes, so that those of all jobs are never in memory at once. It
    # receives `share`, for large objects that many jobs have in common, such as a network.
    arguments: Callable[[Share], tuple[object, ...]]


@dataclass(frozen=True)
class Run:
    """Where and how a study is carried out."""

    folder: ReportFolder
    n_jobs: int | None = None  # as in joblib; None to follow ``joblib.parallel_config``
    progress: bool = True

    def carry_out(self, jobs: Sequence[Job], noun: str) -> None:
        """Do the jobs that are not done yet, and write each result as it arrives.

        Results are written here, in the parent process, so that workers need not share a disk for them.
        """
        left = [job for job in jobs if not self._holds(job)]
        if not left:
            return
        bar = tqdm(total=len(jobs), initial=len(jobs) - len(left), disable=not self.progress, desc=noun, unit="job")
        with bar, Workers(self.n_jobs) as workers:
            share = _once(workers.share)
            tasks = [Task(job.paths[0].name, job.function, partial(job.arguments, share)) for job in left]
            for number, contents in workers.run(tasks):
                for path, content in zip(left[number].paths, contents, strict=True):
                    self.folder.write(path, content)
                bar.update()

    def _holds(self, job: Job) -> bool:
        """Whether all of a job's files exist, and are as the folder noted them."""
        there = [self.folder.holds(path) for path in job.paths]
        return all(there)


def array_bytes(array: np.ndarray) -> bytes:
    """The content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _once(share: Share) -> Share:
    """`share`, called once for each object."""
    shared: dict[int, tuple[object, object]] = {}  # the object beside its stand-in, so that no other gets its id

    def get(value: object) -> object:
        if id(value) not in shared:
            shared[id(value)] = (value, share(value))
        return shared[id(value)][1]

    return get
