"""Tasks give the same results wherever they run, and outlive their workers: real processes, a real Dask, a real Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import joblib
import pytest
from places import PLACES, PROCESSES, place

from captum_shared.workers import Task, Workers


class Heavy:
    """Notes in a file, with its process, that it was unpickled."""

    def __init__(self, diary: Path, value: int) -> None:
        self.diary, self.value = diary, value

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with self.diary.open("a") as file:
            file.write(f"{os.getpid()}\n")


def add(heavy: Heavy, number: int) -> int:
    return heavy.value + number


def die_once(number: int, mark: Path) -> int:
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    if number == 2:
        raise ValueError(f"number {number} is wrong")
    return number


def tasks(function: Any, *more: Any, n: int = 8) -> list[Task[Any]]:
    return [Task(f"number {i}", function, lambda i=i: (i, *more)) for i in range(n)]


@pytest.mark.parametrize("name", PLACES)
def test_what_is_shared_travels_once_to_each_worker(name: str, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.touch()
    with place(name), Workers() as workers:
        heavy = workers.share(Heavy(diary, 10))
        for _ in range(2):  # in a second run, too
            work = [Task(f"number {i}", add, lambda i=i: (heavy, i)) for i in range(8)]
            assert dict(workers.run(work)) == {i: 10 + i for i in range(8)}
    loads = diary.read_text().split()
    assert len(loads) == len(set(loads)) <= 2
    assert bool(loads) == (name not in ("here", "threading"))


@pytest.mark.parametrize("name", PROCESSES)
def test_a_worker_that_dies_is_survived(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "died"
    with place(name), Workers() as workers:
        assert dict(workers.run(tasks(die_once, mark))) == {i: i for i in range(8)}
    assert mark.exists()


@pytest.mark.parametrize("name", PROCESSES)
def test_a_task_that_kills_its_workers_is_named(name: str) -> None:
    with place(name), pytest.raises(RuntimeError, match=r"number 3: at least 3 workers died"), Workers() as workers:
        list(workers.run(tasks(die)))


@pytest.mark.parametrize("name", PLACES)
def test_an_exception_comes_through(name: str) -> None:
    with place(name), pytest.raises(ValueError, match="number 2 is wrong"), Workers() as workers:
        list(workers.run(tasks(fail)))


def test_arguments_are_made_when_their_turn_comes() -> None:
    made: list[int] = []

    def arguments(i: int) -> tuple[int]:
        made.append(i)
        return (i,)

    work = [Task(f"number {i}", fail, lambda i=i: arguments(i)) for i in (0, 1, 3, 4)]
    with Workers() as workers:
        results = workers.run(work)
        next(results)
        assert made == [0]


def test_threads_really_run_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=30)
    with place("threading"), Workers() as workers:
        assert len(dict(workers.run([Task(f"{i}", meeting.wait, tuple) for i in range(2)]))) == 2


def test_the_rest_is_dropped_when_the_caller_stops() -> None:
    begun: list[int] = []

    def slow(i: int) -> None:
        begun.append(i)
        time.sleep(0.01)

    with place("threading"), Workers() as workers:
        results = workers.run([Task(f"{i}", slow, lambda i=i: (i,)) for i in range(500)])
        next(results)
        results.close()
    assert len(begun) < 20


def test_an_unknown_backend_is_refused() -> None:
    from joblib.parallel import ParallelBackendBase

    class Other(ParallelBackendBase):
        def effective_n_jobs(self, n_jobs: int) -> int:
            return 2

    joblib.register_parallel_backend("other", Other)
    with (
        joblib.parallel_config(backend="other", n_jobs=2),
        pytest.raises(ValueError, match=r"'dask' or 'ray', got Other"),
    ):
        Workers()


def hook_tables(module: Any) -> str:
    module.register_forward_hook(lambda *_: None)
    return type(module._forward_hooks).__name__


@pytest.mark.parametrize("name", PLACES)
def test_a_network_arrives_as_it_is(name: str) -> None:
    """Dask's own way of sending a module turned its tables of hooks into plain dictionaries, which take no hooks."""
    import torch

    with place(name), Workers() as workers:
        network = workers.share(torch.nn.Sequential(torch.nn.Linear(2, 2)))
        work = [Task(f"number {i}", hook_tables, lambda: (network,)) for i in range(8)]
        assert set(dict(workers.run(work)).values()) == {"OrderedDict"}


FAULTS = """
import resource
import numpy as np
from captum_shared.workers import _keeping_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2**21)  # 16 MB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), _keeping_memory(faults), _keeping_memory(faults))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_memory_is_kept_within_a_task_on_a_worker_of_dask() -> None:
    """Whose allocator is told to give it back at once; the network's passes would fetch each page anew."""
    package = str(Path(__file__).parents[1])
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536", "PYTHONPATH": package}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    anew, first, second = map(int, done.stdout.split())
    assert anew > 5 * max(first, second)  # twenty times, and once
    assert second > first / 5  # since it is given back after each task
