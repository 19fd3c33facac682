"""Checks of arguments: each says what was expected and what was received. They know no other module of the package."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from torch import Tensor


def check_integer(name: str, value: Any, least: int = 1, also: str = "") -> int:
    """An integer of at least `least`, as an int; NumPy's integers are integers, True is none.

    Parameters
    ----------
    name : str
        What the caller's user knows the value as.
    value : object
    least : int, default 1
    also : str, optional
        What else the caller takes, such as "None", for the message.

    Raises
    ------
    ValueError
        If it is anything else.

    Examples
    --------
    >>> check_integer("folds", 1, least=2)
    Traceback (most recent call last):
    ValueError: `folds` must be an integer of at least 2, got 1
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"`{name}` must be {wanted}{also and f' or {also}'}, got {value!r}")
    return int(value)


def check_number(name: str, value: Any) -> float:
    """A finite real number, as a float.

    Raises
    ------
    TypeError, ValueError
        If it is no number (True is none), or not finite.

    Examples
    --------
    >>> check_number("level", "0.9")
    Traceback (most recent call last):
    TypeError: `level` must be a number, got '0.9'
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite, got {value}")
    return float(value)


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of a few names.

    Raises
    ------
    ValueError
        Listing them, if the value is none of them.

    Examples
    --------
    >>> check_choice("unreadable", "skip", ("warn", "raise"))
    Traceback (most recent call last):
    ValueError: `unreadable` must be one of ('warn', 'raise'), got 'skip'
    """
    names = tuple(choices)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"`{name}` must be one of {names}, got {value!r}")
    return value


def describe(value: Any) -> str:
    """What a message says was received: the shape of a tensor or an array, the type of anything else.

    Examples
    --------
    >>> describe(torch.zeros(2, 3)), describe([1, 2])
    ('shape (2, 3)', 'a list')
    """
    if hasattr(value, "shape"):
        return f"shape {tuple(value.shape)}"
    kind = type(value).__name__
    return "None" if value is None else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def check_tensor(name: str, value: Any) -> Tensor:
    """A tensor.

    Raises
    ------
    TypeError
        If it is anything else; an array is told how to become one.
    """
    if not isinstance(value, Tensor):
        hint = "; use torch.as_tensor" if hasattr(value, "__array__") else ""
        raise TypeError(f"`{name}` must be a tensor, got {type(value).__name__}{hint}")
    return value


def check_latents(name: str, value: Any, n: int | str = "N", d: int | str = "D") -> Tensor:
    """Latents (n, d): one row per image.

    Parameters
    ----------
    name : str
    value : object
    n, d : int or str
        A number that the shape must have, or the letter that the message calls it by.

    Raises
    ------
    TypeError, ValueError
        If it is no tensor, or of another shape.

    Examples
    --------
    >>> check_latents("gallery", torch.zeros(3), n="G", d=8)
    Traceback (most recent call last):
    ValueError: `gallery` must be (G, 8), got shape (3,)
    """
    shape = check_tensor(name, value).shape
    if len(shape) != 2 or any(isinstance(want, int) and want != got for want, got in zip((n, d), shape, strict=True)):
        raise ValueError(f"`{name}` must be ({n}, {d}), got {describe(value)}")
    return value


def check_encoded(latents: Any, n: int) -> Tensor:
    """What an encoder returned for n images, if it is latents (n, D).

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if not isinstance(latents, Tensor) or latents.ndim != 2 or len(latents) != n:
        raise ValueError(f"the encoder must return latents (N, D) = ({n}, D), got {describe(latents)}")
    return latents


def check_one_device(**tensors: Tensor | None) -> None:
    """Tensors on one device; None is passed over.

    Raises
    ------
    ValueError
        Naming the device of each, if there are several.
    """
    devices = {name: str(value.device) for name, value in tensors.items() if value is not None}
    if len(set(devices.values())) > 1:
        found = ", ".join(f"`{name}` on {device}" for name, device in devices.items())
        raise ValueError(f"expected one device, got {found}")


def check_one_dtype(**tensors: Tensor | None) -> None:
    """Tensors of one dtype; None is passed over.

    Raises
    ------
    TypeError
        Naming the dtype of each, if there are several.

    Examples
    --------
    >>> check_one_dtype(query=torch.zeros(1), weight=torch.zeros(1).double())
    Traceback (most recent call last):
    TypeError: expected one dtype, got `query` of torch.float32, `weight` of torch.float64
    """
    dtypes = {name: value.dtype for name, value in tensors.items() if value is not None}
    if len(set(dtypes.values())) > 1:
        found = ", ".join(f"`{name}` of {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"expected one dtype, got {found}")


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite.

    So is then their sum, which takes a twentieth of the time, unless it overflows.
    """
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def check_finite(name: str, values: Tensor) -> Tensor:
    """A tensor without NaN and infinity.

    Raises
    ------
    ValueError
        Otherwise.
    """
    if not is_finite(values):
        raise ValueError(f"`{name}` must be finite, got NaN or infinity")
    return values
