"""A pass over many images: a function of every batch, here or on the workers that joblib's configuration names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset, Subset

from captum_shared.workers import Task, Workers

Item = TypeVar("Item")
Result = TypeVar("Result")
_BATCHES = 4  # of a task


@dataclass(frozen=True)
class ImagePass(Generic[Item, Result]):
    """What is done with every batch of some images.

    The function takes a batch, a list of items, without gradients; what it returns depends on the batch alone. Where
    the pass runs in this process, images are read by `num_workers` processes or, with 0, by this one. If `ahead`, one
    of its threads reads the next batch in the meantime: Pillow and torch leave the interpreter to others while they
    compute. Items are read one after the other all the same.
    """

    function: Callable[[list[Item]], Result]
    source: Dataset[Item]
    batch_size: int
    num_workers: int = 0
    ahead: bool = False

    def results(self, start: int = 0) -> Generator[Result, None, None]:
        """The result of each batch from image `start` on, in order: the same wherever they are computed."""
        n = len(self.source)  # type: ignore[arg-type]
        with Workers() as workers:
            if workers.alone:
                yield from self.of(range(start, n), self.num_workers)
                return
            shared = workers.share(self)
            tasks: list[Task[list[Result]]] = [
                Task.of(f"images {span[0]} to {span[-1]}", _of_span, shared, span)
                for span in _parts(range(start, n), _BATCHES * self.batch_size)
            ]
            with closing(workers.in_order(tasks)) as finished:
                for results in finished:
                    yield from results

    def of(self, span: range, num_workers: int = 0) -> Generator[Result, None, None]:
        """The result of each batch of a part of the images, in this process."""
        with torch.no_grad(), closing(self._batches(span, num_workers)) as batches:
            for batch in batches:
                yield self.function(batch)

    def _batches(self, span: range, num_workers: int) -> Generator[list[Item], None, None]:
        if num_workers:
            part = Subset(self.source, span)
            yield from DataLoader(part, self.batch_size, num_workers=num_workers, collate_fn=list)
        elif self.ahead:
            yield from self._read_ahead(_parts(span, self.batch_size))
        else:
            yield from map(self._read, _parts(span, self.batch_size))

    def _read_ahead(self, parts: Sequence[range]) -> Iterator[list[Item]]:
        thread = ThreadPoolExecutor(1, thread_name_prefix="images")
        try:
            waiting = [thread.submit(self._read, part) for part in parts[:1]]
            for part in parts[1:]:
                waiting.append(thread.submit(self._read, part))
                yield waiting.pop(0).result()
            yield from (batch.result() for batch in waiting)
        finally:  # also if the consumer stops: then what is not begun is not read
            thread.shutdown(cancel_futures=True)

    def _read(self, part: range) -> list[Item]:
        with torch.no_grad():  # of which each thread has its own
            return [self.source[index] for index in part]


def _parts(span: range, size: int) -> list[range]:
    return [span[first : first + size] for first in range(0, len(span), size)]


def _of_span(images: ImagePass[Item, Result], span: range) -> list[Result]:
    results = list(images.of(span))
    return [tree_map(lambda part: part.cpu() if isinstance(part, Tensor) else part, result) for result in results]
