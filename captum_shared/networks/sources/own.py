"""The user's own networks: "module:callable"."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from torch import nn

from captum_shared.identity import ImageTransform
from captum_shared.networks.preprocessing import preprocessing
from captum_shared.networks.sources.wanted import Wanted
from captum_shared.networks.weights import fill_network, read_state, weights_file


def check(wanted: Wanted) -> None:
    """Import the module, and look for the file of weights."""
    _import_factory(wanted.name)
    if wanted.weights is not None:
        weights_file(wanted.weights, "the path of a state dict, or 'none'")


def load(wanted: Wanted) -> tuple[nn.Module, ImageTransform]:
    """What the callable returns, with the weights of the file."""
    factory = _import_factory(wanted.name)
    state = None if wanted.weights is None else read_state(wanted.weights)  # before any work
    try:
        model = factory()
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{wanted.name!r} does not return a network: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise TypeError(f"{wanted.name!r} must return an nn.Module, got {type(model).__name__}")
    if state is not None:
        fill_network(model, state, str(wanted.weights))
    return model, preprocessing(wanted.image_size or 224, wanted.mean, wanted.std)


def _import_factory(name: str) -> Callable[[], object]:
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)  # console scripts, unlike ``python -m``, do not have it there
    try:
        factory: object = getattr(import_module(module_name), attribute, None)
    except Exception as error:  # whatever the user's module does
        reason = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"cannot import {module_name!r} for model {name!r}: {reason}") from error
    finally:
        sys.path.remove(here)
    if not callable(factory):
        raise ValueError(f"{module_name!r} has no callable {attribute!r}; expected 'module:callable', got {name!r}")
    return factory
