"""The network of a dry run: nothing is downloaded for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from torchvision import models

T = TypeVar("T")


def load_offline(ask: Callable[..., T], options: Mapping[str, object]) -> tuple[T, list[str]]:
    """What `ask` loads by a command's options and, if weights would be downloaded, a note about this.

    Random weights take their place then, which take as long.

    Raises
    ------
    ValueError
        If the network itself would be downloaded.
    """
    model, weights = str(options["model"]), options.get("weights", "DEFAULT")
    unweighted = {**options, "weights": None}
    if _is_elsewhere(model, weights):
        return ask(**unweighted), [_note(model, weights)]
    with _offline():
        try:
            return ask(**options), []
        except URLError:
            try:
                return ask(**unweighted), [_note(model, weights)]
            except URLError as error:
                raise ValueError(f"{model} is not on this machine, and a dry run downloads nothing: {error}") from error


def _is_elsewhere(model: str, weights: object) -> bool:
    """Whether weights of torchvision's are not on this machine."""
    if ":" in model or not isinstance(weights, str):
        return False
    entries = models.get_model_weights(model).__members__
    if weights not in entries:
        return False
    name = Path(urlparse(entries[weights].url).path).name
    return not (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file()


def _note(model: str, weights: object) -> str:
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
