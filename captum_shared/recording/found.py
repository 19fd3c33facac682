"""`Found`: what a reader returns; and how presentations become stimuli with repeats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Found:
    """What a reader returns: responses as in `Recording`, the names of the stimuli, and where they are, if it knows."""

    responses: np.ndarray
    files: Sequence[str]
    categories: Sequence[str] | None = None
    neuron_ids: Sequence[str] | None = None
    folder: Path | None = None


def places_of(names: Iterable[str]) -> dict[str, list[int]]:
    """For each stimulus, in the order of first presentation, the presentations in which it was shown."""
    places: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        places.setdefault(name, []).append(number)
    return places


def by_stimulus(values: np.ndarray, places: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Responses (K, n, R) from those to presentations (K, P): those of the same stimulus become its repeats."""
    responses = np.full((len(values), len(places), max(map(len, places.values()))), np.nan)
    for stimulus, shown in enumerate(places.values()):
        responses[:, stimulus, : len(shown)] = values[:, shown]
    return responses


def one_each(kinds: Sequence[str], places: Mapping[str, Sequence[int]], path: Path) -> list[str]:
    """The category of each stimulus, from those of its presentations (P,)."""
    mixed = [name for name, shown in places.items() if len({kinds[place] for place in shown}) > 1]
    if mixed:
        raise ValueError(f"{path} must give each image one category, got several for {', '.join(mixed[:10])}")
    return [kinds[shown[0]] for shown in places.values()]


def text_of(value: object) -> str:
    """A name as text: bytes are decoded, and whole numbers have no decimal point."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)
