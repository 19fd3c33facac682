"""The network of a dry run: nothing is downloaded for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from torchvision import models

T = TypeVar("T")


def load_offline(load: Callable[[str | Path | None], T], model: str, weights: str | Path | None) -> tuple[T, list[str]]:
    """What `load` returns for the weights or, if these would be downloaded, for random ones, which take as long.

    Parameters
    ----------
    load : callable
        Weights -> a network.
    model, weights
        As for `load_network`.

    Returns
    -------
    loaded
    notes : list of str
        That weights would be downloaded.

    Raises
    ------
    ValueError
        If the network itself would be downloaded.
    """
    if _is_elsewhere(model, weights):
        return load(None), [_note(model, weights)]
    with _offline():
        try:
            return load(weights), []
        except URLError:
            try:
                return load(None), [_note(model, weights)]
            except URLError as error:
                raise ValueError(f"{model} is not on this machine, and a dry run downloads nothing: {error}") from error


def _is_elsewhere(model: str, weights: str | Path | None) -> bool:
    """Whether weights of torchvision's are not on this machine."""
    if ":" in model or not isinstance(weights, str):
        return False
    entries = models.get_model_weights(model).__members__
    if weights not in entries:
        return False
    name = Path(urlparse(entries[weights].url).path).name
    return not (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file()


def _note(model: str, weights: str | Path | None) -> str:
    how_large = ""
    if ":" not in model:
        megabytes = models.get_model_weights(model)[str(weights)].meta.get("_file_size")
        how_large = f", {megabytes:.0f} MB," if megabytes else ""
    return (
        f"the weights {weights} of {model}{how_large} would be downloaded; random ones were timed in their place, and "
        "a report that may be in the folder was not compared"
    )


@contextmanager
def _offline() -> Iterator[None]:
    """Have the packages of the Hugging Face Hub read what is on this machine, and nothing else."""
    try:
        from huggingface_hub import constants
    except ImportError:  # no source that needs it
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
