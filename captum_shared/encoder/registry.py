"""`load_encoder`: encoders by name, from torchvision, timm, transformers, open_clip or the user's own module."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from captum_shared.checks import check_integer
from captum_shared.encoder.identity import ImageTransform, random_state_kept
from captum_shared.encoder.latents import LatentEncoder, Pool
from captum_shared.encoder.sources import hf, open_clip, own, timm, torchvision
from captum_shared.encoder.sources.wanted import Wanted


class Source(NamedTuple):
    """Where networks come from: two functions of a `Wanted` network."""

    check: Callable[[Wanted], None]
    load: Callable[[Wanted], tuple[nn.Module, ImageTransform]]


SOURCES = {
    "timm": Source(timm.check, timm.load),
    "hf": Source(hf.check, hf.load),
    "open_clip": Source(open_clip.check, open_clip.load),
}
"""By prefix. The prefixes are reserved: a module of the user's cannot have one of these names."""

TORCHVISION = Source(torchvision.check, torchvision.load)
OWN = Source(own.check, own.load)


def load_encoder(
    name: str,
    layer: str,
    pool: Pool = "avg",
    weights: str | Path | None = "DEFAULT",
    *,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
    seed: int | None = None,
) -> tuple[LatentEncoder, ImageTransform]:
    """Load an encoder, in evaluation mode, and the image transform that belongs to it.

    Parameters
    ----------
    name : str
        One of

        - a name in torchvision's registry, such as "resnet50",
        - "timm:NAME", with a name from ``timm.list_models()``; needs ``captum-shared[timm]``,
        - "hf:NAME", with an id on the Hugging Face Hub, a local folder such as ``save_pretrained`` writes, or a type
          such as "dinov2"; of a network with two towers, the one for images; needs ``captum-shared[hf]``,
        - "open_clip:NAME", with a name from ``open_clip.list_models()``: the tower for images; needs
          ``captum-shared[open-clip]``,
        - "module:callable" for a function or class that returns a network, imported from the working directory or the
          Python path. A module cannot be called timm, hf or open_clip.
    layer, pool, transform
        As in `LatentEncoder`.
    weights : str, Path or None, default "DEFAULT"
        The path of a state dict (``.pth``, ``.safetensors``), read without executing code; or "DEFAULT", which
        downloads; or None or "none" for random weights. Also the name of weights in torchvision's registry, a tag that
        open_clip has for `name`, and for "hf:NAME" the path of a folder with ``config.json``.
    image_size : int, optional
        Side in pixels of the square images given to the network. Default: the network's own, or 224.
    mean, std : sequences of float, optional
        Normalisation of the channels. Default: the network's own, or ImageNet's.
    seed : int, optional
        Of random weights. Default: the state of torch's generator.

    Returns
    -------
    encoder : LatentEncoder
    image_transform : callable
        PIL image or tensor in [0, 1], (C, H, W) -> (C, H', W').

    Raises
    ------
    ValueError
        If the name, the layer or the weights are unknown, or the weights do not fit the network.
    FileNotFoundError
        If there is no file at the path `weights`.
    ImportError
        If the package is not installed.

    Examples
    --------
    >>> encoder, transform = load_encoder("squeezenet1_1", layer="features.12", weights=None)
    >>> encoder(transform(torch.rand(3, 300, 400))[None]).shape
    torch.Size([1, 512])
    """
    model, image_transform = load_network(name, weights, image_size=image_size, mean=mean, std=std, seed=seed)
    return LatentEncoder(model, layer, pool, transform), image_transform


def load_network(
    name: str,
    weights: str | Path | None = "DEFAULT",
    *,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
) -> tuple[nn.Module, ImageTransform]:
    """Load a whole network, in evaluation mode, and its image transform; arguments and errors as for `load_encoder`.

    The convolutions of torchvision's networks are laid out with the channels last (`torch.channels_last`): this is
    faster on a CPU and changes the latents only by rounding.
    """
    if image_size is not None:
        check_integer("image_size", image_size)
    source, wanted = _find(name, weights)
    with _seeded(seed):
        model, transform = source.load(replace(wanted, image_size=image_size, mean=mean, std=std))
    return model.eval(), transform


def check_model(name: str, weights: str | Path | None) -> None:
    """Refuse a network or weights that do not exist; nothing is made or downloaded.

    Parameters
    ----------
    name, weights
        As for `load_encoder`.

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        If there is no such network, or no file of weights, or its package is not installed.
    """
    source, wanted = _find(name, weights)
    source.check(wanted)


def _find(name: str, weights: str | Path | None) -> tuple[Source, Wanted]:
    prefix, colon, rest = name.partition(":")
    weights = None if weights == "none" else weights
    if prefix in SOURCES and colon:
        return SOURCES[prefix], Wanted(rest, weights)
    return (OWN if colon else TORCHVISION), Wanted(name, weights)


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Random numbers from a seed, the state of the generators restored afterwards; without one, as they come."""
    if seed is None:
        yield
        return
    with random_state_kept(torch.device("cpu")):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield
