"""Long work as independent tasks, wherever they run: in this process, in others, on a Dask cluster or on Ray."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import cloudpickle
import joblib

if TYPE_CHECKING:
    from distributed import Client
    from ray import ObjectRef

T = TypeVar("T")  # what a task returns

MOST_DEATHS = 3
_AHEAD = 2  # tasks per worker that are sent before a result is back
_MOST_HELD = 4  # objects that a worker keeps
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h
_MOST_KEPT = 2**30  # bytes
_held: OrderedDict[str, object] = OrderedDict()
_holding = threading.Lock()


@dataclass(frozen=True)
class Task(Generic[T]):
    """A function to be called with `arguments`, which are made when its turn comes, so that not all are in memory.

    Its result depends on the arguments alone. What is large and the same for many tasks is shared: see `Workers.share`.
    """

    name: str
    function: Callable[..., T]
    arguments: Callable[[], tuple[object, ...]]

    @classmethod
    def of(cls, name: str, function: Callable[..., T], *arguments: object) -> Task[T]:
        """A task whose arguments are small, and at hand."""
        return cls(name, function, lambda: arguments)


@dataclass(frozen=True)
class Shared:
    """Stands for an object among a task's arguments. The object is fetched once by each worker, which keeps it."""

    digest: str
    fetch: Callable[[], bytes]

    def get(self) -> object:
        """The object; the same one for all threads of a worker."""
        with _holding:
            if self.digest not in _held:
                _held[self.digest] = cloudpickle.loads(self.fetch())
            _held.move_to_end(self.digest)
            while len(_held) > _MOST_HELD:
                _held.popitem(last=False)
            return _held[self.digest]


class Workers:
    """Where tasks run, as ``joblib.parallel_config`` says: "loky", "threading", "dask" or "ray"; without it, here.

    Results do not depend on where a task runs, as long as every worker uses the same number of threads. If a worker
    dies, its tasks are run again on another.

    Parameters
    ----------
    n_jobs : int, optional
        Workers, as in joblib; -1 for one per core. Default: as in ``joblib.parallel_config``, else one. Clusters ignore
        it.

    Raises
    ------
    ValueError
        If joblib's backend is a different one.

    Examples
    --------
    >>> tasks = [Task(f"number {i}", pow, lambda i=i: (i, 2)) for i in range(3)]
    >>> with Workers() as workers:
    ...     dict(workers.run(tasks))
    {0: 0, 1: 1, 2: 4}
    """

    def __init__(self, n_jobs: int | None = None) -> None:
        self._place = _find_place(n_jobs)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._place.close(kind is not None)

    @property
    def alone(self) -> bool:
        """Whether there are none: tasks run in this thread."""
        return type(self._place) is _Here

    def share(self, value: object) -> object:
        """A stand-in that tasks get for a large object, such as a network, which is sent to each worker once."""
        return self._place.share(value)

    def in_order(self, tasks: Sequence[Task[T]]) -> Generator[T, None, None]:
        """Run tasks, and yield the result of each in the order of the tasks; see `run`."""
        finished: dict[int, T] = {}
        wanted = 0
        with closing(self.run(tasks)) as results:
            for number, result in results:
                finished[number] = result
                while wanted in finished:
                    yield finished.pop(wanted)
                    wanted += 1

    def run(self, tasks: Sequence[Task[T]]) -> Generator[tuple[int, T], None, None]:
        """Run tasks, and yield the number of each with its result, in the order in which they finish.

        Raises
        ------
        RuntimeError
            If three workers have died on a task; the message names it.
        """
        deaths: Counter[int] = Counter()
        left, suspects = list(range(len(tasks)))[::-1], list[int]()
        running: dict[Future[T], int] = {}
        try:
            while left or suspects or running:
                self._fill(tasks, left, suspects, running)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    if self._place.died(future):
                        deaths[number] += self._place.tries if number in deaths else 1  # the first time in company
                        _check_deaths(tasks[number].name, deaths[number], future)
                        suspects.append(number)
                    else:
                        yield number, future.result()
        finally:
            for future in running:
                future.cancel()

    def _fill(
        self, tasks: Sequence[Task[T]], left: list[int], suspects: list[int], running: dict[Future[T], int]
    ) -> None:
        """Send tasks. One that died goes last and alone, since a pool that breaks takes the innocent along."""
        while left and len(running) < self._place.capacity():
            self._send(tasks, left.pop(), running)
        if suspects and not left and not running:
            self._send(tasks, suspects.pop(), running)

    def _send(self, tasks: Sequence[Task[T]], number: int, running: dict[Future[T], int]) -> None:
        running[self._place.submit(_call, tasks[number].function, tasks[number].arguments())] = number


def _call(function: Callable[..., T], arguments: tuple[object, ...]) -> T:
    return function(*(value.get() if isinstance(value, Shared | _Wrapped) else value for value in arguments))


def _keeping_memory(function: Callable[..., T], *arguments: object) -> T:
    """Call a function on a worker of Dask; give memory back afterwards, not within the call.

    Dask tells the allocator of its worker processes to give back at once whatever is freed. A network's passes then
    fetch all their memory anew, page by page, which takes as long as the computing.
    """
    allocator = ctypes.CDLL(None) if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" in os.environ else None
    if allocator is None or not hasattr(allocator, "mallopt"):
        return function(*arguments)
    for threshold in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
        allocator.mallopt(threshold, _MOST_KEPT)
    try:
        return function(*arguments)
    finally:
        allocator.malloc_trim(0)


def _check_deaths(name: str, deaths: int, future: Future[T]) -> None:
    if deaths >= MOST_DEATHS:
        raise RuntimeError(
            f"{name}: at least {MOST_DEATHS} workers died at this task; it may need more memory than a worker has"
        ) from future.exception()


class _Here:
    """The process itself: one task after the other."""

    tries = 1  # workers that have died when this place says that one did

    def capacity(self) -> int:
        """How many tasks to send before a result is back."""
        return 1

    def share(self, value: object) -> object:
        return value

    def submit(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(function(*arguments))  # an exception goes through, with its own traceback
        return future

    def died(self, future: Future[T]) -> bool:
        return False

    def close(self, failed: bool) -> None:
        pass


class _Threads(_Here):
    """Threads of this process."""

    def __init__(self, n_workers: int) -> None:
        self._n_workers = n_workers
        self._executor: Executor = ThreadPoolExecutor(n_workers, thread_name_prefix="captum-shared")

    def capacity(self) -> int:
        return _AHEAD * self._n_workers

    def submit(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        return self._executor.submit(function, *arguments)

    def close(self, failed: bool) -> None:
        self._executor.shutdown(cancel_futures=failed)


class _Processes(_Here):
    """Processes of this machine, by loky, which keeps them for the next run."""

    def __init__(self, n_workers: int) -> None:
        self._n_workers = n_workers
        self._folder = tempfile.TemporaryDirectory(prefix="captum-shared-")

    def capacity(self) -> int:
        return _AHEAD * self._n_workers

    def share(self, value: object) -> Shared:
        content = cloudpickle.dumps(value)
        path = Path(self._folder.name) / _digest(content)
        if not path.exists():
            path.write_bytes(content)
        return Shared(path.name, path.read_bytes)

    def submit(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        from joblib.externals.loky import get_reusable_executor

        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, joblib.cpu_count() // self._n_workers)))
        executor = get_reusable_executor(self._n_workers, env={"OMP_NUM_THREADS": threads})  # a new one if it broke
        future: Future[T] = executor.submit(function, *arguments)
        return future

    def died(self, future: Future[T]) -> bool:
        from joblib.externals.loky.process_executor import BrokenProcessPool

        return isinstance(future.exception(), BrokenProcessPool)

    def close(self, failed: bool) -> None:
        if failed:
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor().shutdown(wait=True, kill_workers=True)
        self._folder.cleanup()


class _Dask(_Here):
    """The workers of a Dask client, which tries a task on others by itself when one dies."""

    tries = MOST_DEATHS

    def __init__(self, client: Client) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)
        self._kept: list[object] = []  # futures: Dask drops what is not referenced

    def capacity(self) -> int:
        threads = self._client.nthreads().values()  # now: workers may come and go
        return int(_AHEAD * max(1, sum(threads)))

    def share(self, value: object) -> object:
        import warnings

        content = cloudpickle.dumps(value)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            # Its recipe stays with the scheduler, so that it outlives every worker that holds it.
            future = self._client.submit(_Wrapped.load, content, key=f"captum-shared-{_digest(content)}")
        self._kept.append(future)
        return future

    def submit(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        future: Future[T] = self._executor.submit(_keeping_memory, function, *arguments)
        return future

    def died(self, future: Future[T]) -> bool:
        from distributed.scheduler import KilledWorker

        return future.cancelled() or isinstance(future.exception(), KilledWorker)

    def close(self, failed: bool) -> None:
        self._kept.clear()


class _Wrapped:
    """An object on its way between Dask's workers. Bare, a network would get dictionaries of another type from Dask."""

    def __init__(self, value: object) -> None:
        self.value = value

    @classmethod
    def load(cls, content: bytes) -> _Wrapped:
        return cls(cloudpickle.loads(content))

    def get(self) -> object:
        return self.value


class _Ray(_Here):
    """The workers of Ray, which tries a task on others by itself when one dies."""

    tries = MOST_DEATHS

    def __init__(self) -> None:
        import ray

        self._ray = ray
        self._remote = ray.remote(max_retries=MOST_DEATHS - 1)(_call)

    def capacity(self) -> int:
        return _AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def share(self, value: object) -> Shared:
        content = cloudpickle.dumps(value)
        return Shared(_digest(content), partial(_from_ray, self._ray.put(content)))

    def submit(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        future: Future[T] = self._remote.remote(*arguments).future()
        return future

    def died(self, future: Future[T]) -> bool:
        return isinstance(future.exception(), self._ray.exceptions.WorkerCrashedError)


def _from_ray(reference: ObjectRef[bytes]) -> bytes:
    import ray

    content: bytes = ray.get(reference)
    return content


def _find_place(n_jobs: int | None) -> _Here:
    """What joblib's configuration names."""
    backend, configured = joblib.parallel.get_active_backend()
    name = type(backend).__name__
    if name == "DaskDistributedBackend":
        return _Dask(backend.client)
    if name == "RayBackend":
        return _Ray()
    n_workers = backend.effective_n_jobs(configured if n_jobs is None else n_jobs)
    if n_workers == 1 or name == "SequentialBackend":
        return _Here()
    if name == "ThreadingBackend":
        return _Threads(n_workers)
    if name in ("LokyBackend", "MultiprocessingBackend"):
        return _Processes(n_workers)
    raise ValueError(f"joblib's backend must be 'loky', 'threading', 'dask' or 'ray', got {name}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
