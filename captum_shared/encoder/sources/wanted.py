"""`Wanted`: a network as the user asked for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

Foreign = Any
"""What comes from a package that is imported only when it is needed, and has no types here."""


@dataclass(frozen=True)
class Wanted:
    """A network as the user asked for it.

    Attributes
    ----------
    name : str
        Without the prefix of its source.
    weights : str, Path or None
        None for random ones.
    image_size : int or None
        None for the network's own.
    mean, std : sequences of float or None
        None for the network's own.
    """

    name: str
    weights: str | Path | None
    image_size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


def optional_package(package: str, extra: str) -> ModuleType:
    """A package that only one source of networks needs.

    Raises
    ------
    ImportError
        If it is missing; the message says how to install it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        name = extra.replace("_", "-")  # as pip before 23.3 wants it; later ones take both
        raise ImportError(
            f'networks named {extra}:NAME need {package}: pip install "captum-shared[{name}]" ({error})'
        ) from error


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
    """Say what failed, for the many ways in which libraries report that they could not download.

    Raises
    ------
    NotDownloaded
        Instead of any `OSError` or `RuntimeError`.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise NotDownloaded(f"{name!r}: {error}") from error
