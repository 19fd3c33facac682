"""The device on which a command computes."""

from __future__ import annotations

import torch


def find_device(name: str | None) -> torch.device:
    """The device of this name; without one, a CUDA device if there is one, else the CPU.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device.type == "meta":
            raise RuntimeError("it has shapes, but no values")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"`device` must be one that this machine has, such as 'cpu', got {name!r}: {error}") from error
    return device
