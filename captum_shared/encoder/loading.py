"""Batches of images, read while the network is busy with those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Subset

T = TypeVar("T")
_AHEAD = 1  # batches


def batches(
    source: Dataset[T], batch_size: int, num_workers: int, ahead: bool, start: int = 0
) -> Generator[list[T], None, None]:
    """The items of `source` from `start` on, in order, in lists of `batch_size`.

    Parameters
    ----------
    source : Dataset
    batch_size : int
    num_workers : int
        Processes that read. With 0, this process does.
    ahead : bool
        Without processes, whether one thread reads the next batches meanwhile: Pillow and torch leave the interpreter
        to others while they compute. Items are read one after the other all the same.
    start : int, default 0
    """
    n = len(source)  # type: ignore[arg-type]
    if num_workers:
        yield from DataLoader(Subset(source, range(start, n)), batch_size, num_workers=num_workers, collate_fn=list)
        return
    parts = [range(first, min(first + batch_size, n)) for first in range(start, n, batch_size)]
    yield from _in_thread(source, parts) if ahead else (_read(source, part) for part in parts)


def _in_thread(source: Dataset[T], parts: list[range]) -> Iterator[list[T]]:
    thread = ThreadPoolExecutor(1, thread_name_prefix="images")
    waiting: deque[Future[list[T]]] = deque()
    try:
        for part in parts:
            waiting.append(thread.submit(_read, source, part))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also if the consumer stops: then what is not begun is not read
        thread.shutdown(cancel_futures=True)


def _read(source: Dataset[T], part: range) -> list[T]:
    with torch.no_grad():  # of which each thread has its own
        return [source[index] for index in part]
