"""A pass over many images: a function of every batch, here or on the workers that joblib's configuration names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import Dataset, Subset

from captum_shared.encoder.loading import batches
from captum_shared.workers import Task, Workers

Item = TypeVar("Item")
Result = TypeVar("Result")
_BATCHES = 4  # of a task


@dataclass(frozen=True)
class ImagePass(Generic[Item, Result]):
    """What is done with every batch of some images.

    Attributes
    ----------
    function : callable
        From a batch, a list of items, to a result, without gradients. It depends on the batch alone.
    source : Dataset
    batch_size : int
    num_workers : int
        Processes that read images, as in `batches`, where the pass runs in this process.
    ahead : bool
        Whether a thread reads the next batches in the meantime.
    """

    function: Callable[[list[Item]], Result]
    source: Dataset[Item]
    batch_size: int
    num_workers: int = 0
    ahead: bool = False

    def results(self, start: int = 0) -> Generator[Result, None, None]:
        """The result of each batch from image `start` on, in order: the same wherever they are computed."""
        with Workers() as workers:
            if workers.alone:
                yield from self.of(self.source, self.num_workers, start)
                return
            shared, n = workers.share(self), len(self.source)  # type: ignore[arg-type]
            spans = [range(first, min(first + _BATCHES * self.batch_size, n))
                     for first in range(start, n, _BATCHES * self.batch_size)]  # fmt: skip
            tasks: list[Task[list[Result]]] = [
                Task.of(f"images {span[0]} to {span[-1]}", _of_span, shared, span) for span in spans
            ]
            with closing(workers.in_order(tasks)) as finished:
                for results in finished:
                    yield from results

    def of(self, source: Dataset[Item], num_workers: int = 0, start: int = 0) -> Generator[Result, None, None]:
        """The result of each batch of a source, in this process."""
        with torch.no_grad(), closing(batches(source, self.batch_size, num_workers, self.ahead, start)) as loader:
            for batch in loader:
                yield self.function(batch)


def _of_span(images: ImagePass[Item, Result], span: Sequence[int]) -> list[Result]:
    results = list(images.of(Subset(images.source, span)))
    return [tree_map(lambda part: part.cpu() if isinstance(part, Tensor) else part, result) for result in results]
