"""Which neurons of a recording are meant, by name or by position."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

_SHOWN = 10


def find_neurons(known: Sequence[str], neurons: Sequence[str | int]) -> list[int]:
    """Positions of neurons that are given by name, or by position; see `Recording.select_neurons`.

    Parameters
    ----------
    known : sequence of K str
        The names of all neurons.
    neurons : sequence of str or int

    Raises
    ------
    TypeError, ValueError
        If there is no such neuron, none is given, or one is given twice.

    Examples
    --------
    >>> find_neurons(["10", "11"], ["11", 0]), find_neurons(["a", "b"], ["1", "a"])
    ([1, 0], [1, 0])
    """
    if isinstance(neurons, str) or not (isinstance(neurons, Sequence) or hasattr(neurons, "__array__")):
        raise TypeError(f"`neurons` must be a sequence of names or positions, got {neurons!r}")
    by_name = {name: k for k, name in enumerate(known)}
    numbered = any(name.isdecimal() for name in known)
    found = [_place(one, by_name, numbered) for one in neurons]
    unknown = [str(one) for one, place in zip(neurons, found, strict=True) if place is None]
    if unknown or not found:
        shown = ", ".join(known[:_SHOWN]) + (" ..." if len(known) > _SHOWN else "")
        places = "" if numbered else f" or positions from 0 to {len(known) - 1}"
        raise ValueError(
            f"`neurons` must be names of the recording's neurons ({shown}){places}, got {unknown or 'none'}"
        )
    index = [place for place in found if place is not None]
    twice = [known[k] for k in sorted(set(index)) if index.count(k) > 1]
    if twice:
        raise ValueError(f"`neurons` must be given once each, got twice: {', '.join(twice[:_SHOWN])}")
    return index


def _place(one: object, by_name: dict[str, int], numbered: bool) -> int | None:
    """The position of a neuron; None if there is no such neuron."""
    if isinstance(one, bool) or not isinstance(one, str | Integral):
        raise TypeError(f"`neurons` must be names or positions, got {one!r}")
    if isinstance(one, str) and (one in by_name or numbered or not one.isdecimal()):
        return by_name.get(one)
    return int(one) if 0 <= int(one) < len(by_name) else None
