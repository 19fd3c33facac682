"""`Wanted`: a network as the user asked for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.error import URLError

Foreign = Any
"""What comes from a package that is imported only when it is needed, and has no types here."""


@dataclass(frozen=True)
class Wanted:
    """A network as the user asked for it."""

    name: str  # without the prefix of its source
    weights: str | Path | None  # None for random ones
    image_size: int | None = None  # None for the network's own, as of mean and std
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def normalization(self) -> dict[str, tuple[float, ...]]:
        """`mean` and `std`, as far as they are given."""
        given = {"mean": self.mean, "std": self.std}
        return {name: tuple(value) for name, value in given.items() if value is not None}


def unknown_name(name: str, known: Iterable[str], usual: str, expected: str) -> ValueError:
    """The error for a name that does not exist: it shows the most similar ones, or a usual one."""
    near = get_close_matches(name, list(known), n=3) or [usual]
    return ValueError(f"unknown model {name!r}; expected {expected} such as {near}")


class NotDownloaded(URLError):
    """What was to be downloaded was not; said without the words that `URLError` puts before it."""

    def __str__(self) -> str:
        """The reason alone, on one line."""
        return " ".join(str(self.reason).split())


@contextmanager
def downloading(name: str) -> Iterator[None]:
    """Raise `NotDownloaded` for the many errors by which libraries report that they could not download."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise NotDownloaded(f"{name!r}: {error}") from error
