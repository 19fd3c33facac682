"""Properties of neurons, such as their region, and the choice of neurons by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

MOST_SHOWN = 12
Selection = Mapping[str, "str | Sequence[str]"]
"""Values, or lists of values, by the name of a property: {"region": "IT"}."""


def chosen(properties: Mapping[str, Sequence[str]], select: Selection | None, n_neurons: int, path: Path) -> np.ndarray:
    """Which neurons have all the properties asked for, (n_neurons,) bool.

    Raises
    ------
    TypeError, ValueError
        If a property is unknown, or no neuron has its value.
    """
    keep = np.ones(n_neurons, dtype=bool)
    if select is None:
        return keep
    if not isinstance(select, Mapping):
        raise TypeError(f"`select` must be a mapping such as {{'region': 'IT'}}, got {type(select).__name__}")
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
    return keep


def _some(values: Sequence[str]) -> str:
    names = sorted(set(values))
    return ", ".join(names[:MOST_SHOWN]) + (f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else "")
