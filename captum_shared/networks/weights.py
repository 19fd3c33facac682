"""Weights of a network: read without executing code, and loaded into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def fill_network(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Load the state that was read from `path`; refuse one that does not fit."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(misfit(path, model, str(error))) from error


def misfit(path: str | Path, model: nn.Module, why: str) -> str:
    """What to say about weights that do not fit."""
    return f"the weights in {path} do not fit {type(model).__name__}: {why}"


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file, without executing code.

    What training scripts wrap around it is removed: a "state_dict" or "model" entry, a "module." prefix.
    """
    path = weights_file(path)
    try:
        is_safe = path.suffix == ".safetensors"
        state = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a readable state dict (.pth or .safetensors): {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds a {type(state).__name__}, expected a state dict of tensors")
    if not all(isinstance(key, str) for key in state):
        keys = [key for key in state if not isinstance(key, str)][:3]
        raise ValueError(f"{path} must hold tensors by the names of a network's parameters, got keys such as {keys}")
    return {key.removeprefix("module."): value for key, value in state.items()}


def weights_file(path: str | Path, expected: str = "the path of a state dict") -> Path:
    """The path of a file of weights; if there is none, the error says what was `expected`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: expected {expected}")
    return Path(path)
