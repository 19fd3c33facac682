"""`load_encoder`: encoders by name, from torchvision, timm, transformers, open_clip or the user's own module."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from captum_shared.checks import check_integer
from captum_shared.encoder.latents import LatentEncoder, Pool
from captum_shared.identity import ImageTransform, random_state_kept
from captum_shared.networks.sources import own, torchvision
from captum_shared.networks.sources.wanted import Wanted

SOURCES = {"timm": "timm", "hf": "transformers", "open_clip": "open_clip"}
"""The package that a prefix needs. The prefixes are reserved: a module of the user's cannot have one of these names."""


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
        Normalization of the channels. Default: the network's own, or ImageNet's.
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
    >>> import torch
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
    if not all(math.isfinite(value) for value in (*(mean or ()), *(std or ()))) or min(std or (1.0,)) <= 0:
        raise ValueError(f"`mean` and `std` must be finite and `std` positive, got {mean} and {std}")
    with nullcontext() if seed is None else random_state_kept(seed=seed):
        source, wanted = _find(name, weights)
        model, transform = source.load(replace(wanted, image_size=image_size, mean=mean, std=std))
    return model.eval(), transform


def check_model(name: str, weights: str | Path | None) -> None:
    """Refuse a network or weights that do not exist, as `load_network` does; nothing is made or downloaded."""
    _find(name, weights)


def _find(name: str, weights: str | Path | None) -> tuple[ModuleType, Wanted]:
    """The source of a network, and the network as it is called there, if there is one."""
    prefix, colon, rest = name.partition(":")
    if prefix in SOURCES and colon:
        source, name = _source_of(prefix), rest
    else:
        source = own if colon else torchvision
    wanted = Wanted(name, None if weights == "none" else weights)
    source.check(wanted)
    return source, wanted


def _source_of(prefix: str) -> ModuleType:
    """The module in `sources` that is called like the prefix; it imports a package that nothing else needs."""
    try:
        import_module(SOURCES[prefix])
        return import_module(f"captum_shared.networks.sources.{prefix}")
    except ImportError as error:
        extra = prefix.replace("_", "-")  # as pip before 23.3 wants it; later ones take both
        raise ImportError(
            f'networks named {prefix}:NAME need {SOURCES[prefix]}: pip install "captum-shared[{extra}]" ({error})'
        ) from error
