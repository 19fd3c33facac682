"""What readers share: what they return, presentations as repeats of stimuli, and neurons chosen by their properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_MOST_SHOWN = 12
Selection = Mapping[str, "str | Sequence[str]"]
"""Values, or lists of values, by the name of a property of neurons: {"region": "IT"}."""


@dataclass(frozen=True)
class Found:
    """What a reader returns: responses as in `Recording`, the names of the stimuli, and where they are, if it knows."""

    responses: np.ndarray
    files: Sequence[str]
    categories: Sequence[str] | None = None
    neuron_ids: Sequence[str] | None = None
    folder: Path | None = None


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


def chosen(properties: Mapping[str, Sequence[str]], select: Selection | None, n_neurons: int, path: Path) -> np.ndarray:
    """The positions of the neurons that have all the properties asked for."""
    if select is None:
        return np.arange(n_neurons)
    if not isinstance(select, Mapping):
        raise TypeError(f"`select` must be a mapping such as {{'region': 'IT'}}, got {type(select).__name__}")
    keep = np.ones(n_neurons, dtype=bool)
    for name, wanted in select.items():
        if name not in properties:
            known = ", ".join(sorted(properties)) or "none"
            raise ValueError(f"`select` must name a property of the neurons of {path}: {known}; got {name!r}")
        values = {wanted} if isinstance(wanted, str) else {str(value) for value in wanted}
        unknown = sorted(values - set(properties[name]))
        if unknown:
            raise ValueError(f"no neuron of {path} has {name} {unknown[0]!r}; there are {_some(properties[name])}")
        keep &= np.array([value in values for value in properties[name]])
    if not keep.any():
        asked = " and ".join(f"{name} {value}" for name, value in select.items())
        raise ValueError(f"no neuron of {path} has {asked}")
    return np.flatnonzero(keep)


def _some(values: Sequence[str]) -> str:
    names = sorted(set(values))
    return ", ".join(names[:_MOST_SHOWN]) + (
        f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    )
