"""A benchmark's long loop as jobs: on the workers that joblib's configuration names, and none of them repeated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from tqdm import tqdm

from benchmarks.common.results import Content, ResultStore
from captum_shared.workers import Task, Workers

_random = threading.Lock()


def kept_results(
    store: ResultStore,
    keys: Sequence[Content],
    function: Callable[..., Content],
    arguments: Sequence[tuple[object, ...]],
    noun: str,
    progress: bool = True,
) -> list[Content]:
    """The result of each job, in order: from the store, or computed and kept there.

    Parameters
    ----------
    store : ResultStore
    keys : sequence of dict
        What each job depends on, with the store's settings.
    function : callable
        From a job's arguments to its result, which must not depend on other jobs.
    arguments : sequence of tuple
    noun : str
        What a job is, for the progress bar.
    progress : bool, default True
    """
    found = [store.get(key) for key in keys]
    left = [number for number, result in enumerate(found) if result is None]
    tasks = [Task.of(f"{noun} {number}", _alone, function, arguments[number]) for number in left]
    bar = tqdm(total=len(keys), initial=len(keys) - len(left), desc=noun, disable=not progress)
    with bar, Workers() as workers:
        for place, result in workers.run(tasks):
            store.put(keys[left[place]], result)
            found[left[place]] = result
            bar.update()
    return [result for result in found if result is not None]


def _alone(function: Callable[..., Content], arguments: tuple[object, ...]) -> Content:
    """One job of a process at a time, since all threads of a process draw from torch's one random generator."""
    with _random:
        return function(*arguments)
