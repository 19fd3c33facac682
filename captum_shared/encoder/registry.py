"""`load_encoder`: encoders from torchvision's registry or a user's own network."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.transforms import v2

from captum_shared.checks import check_integer
from captum_shared.encoder.identity import ImageTransform
from captum_shared.encoder.latents import LatentEncoder, Pool
from captum_shared.encoder.memory_format import channels_last

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
) -> tuple[LatentEncoder, ImageTransform]:
    """Load an encoder, in evaluation mode, and the image transform that belongs to it.

    Parameters
    ----------
    name : str
        A name in torchvision's registry, such as "resnet50", or "module:callable" for a function or class that
        returns a network, imported from the working directory or the Python path.
    layer, pool, transform
        As in `LatentEncoder`.
    weights : str, Path or None, default "DEFAULT"
        The path of a state dict (``.pth``, ``.safetensors``), read without executing code; or the name of weights in
        torchvision's registry, which are downloaded; or None for random weights.
    image_size : int, optional
        Side in pixels of the square images given to the network. Default: what torchvision uses for `name`, 224
        otherwise.
    mean, std : sequences of float
        Normalisation of the channels, for "module:callable" or with `image_size`; ImageNet's by default.

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

    Examples
    --------
    >>> encoder, transform = load_encoder("squeezenet1_1", layer="features.12", weights=None)
    >>> encoder(transform(torch.rand(3, 300, 400))[None]).shape
    torch.Size([1, 512])
    """
    model, image_transform = load_network(name, weights, image_size=image_size, mean=mean, std=std)
    return LatentEncoder(model, layer, pool, transform), image_transform


def load_network(
    name: str,
    weights: str | Path | None = "DEFAULT",
    *,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[nn.Module, ImageTransform]:
    """Load a whole network, in evaluation mode, and its image transform; arguments and errors as for `load_encoder`.

    The convolutions of torchvision's networks are laid out with the channels last (`torch.channels_last`): this is
    faster on a CPU and changes the latents only by rounding.
    """
    custom = ":" in name
    known = None if custom else _known_weights(name, weights)
    state = None if weights is None or known is not None else _read_state(Path(weights))  # before any work
    model = _call(name) if custom else models.get_model(name, weights=known)
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name!r} must return an nn.Module, got {type(model).__name__}")
    if state is not None:
        _fill(model, state, weights)
    if not custom:  # other networks may use `view` on what the layout makes non-contiguous
        channels_last(model)
    if custom or image_size is not None:
        return model.eval(), preprocessing(224 if image_size is None else image_size, mean, std)
    return model.eval(), (known or _default_weights(name)).transforms()


def check_model(name: str, weights: str | Path | None) -> None:
    """Refuse a network or weights that do not exist; nothing is made or downloaded.

    Parameters
    ----------
    name, weights
        As for `load_encoder`.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such network, or no file of weights.
    """
    custom = ":" in name
    if custom:
        _import_factory(name)
    known = None if custom else _known_weights(name, weights)
    if weights is not None and known is None:
        _weights_file(weights)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a state dict from `path` into `model`, without executing code.

    What training scripts wrap around it is removed: a "state_dict" or "model" entry, a "module." prefix.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file does not exist, holds no state dict, or does not fit the network.
    """
    _fill(model, _read_state(Path(path)), path)


def _fill(model: nn.Module, state: Mapping[str, Tensor], path: str | Path | None) -> None:
    try:
        model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit {type(model).__name__}: {error}") from error


def preprocessing(size: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> ImageTransform:
    """Resize the shorter side to `size`, crop the centre, scale to [0, 1], normalise: PIL image -> (3, size, size)."""
    check_integer("image_size", size)
    mean, std = IMAGENET_MEAN if mean is None else mean, IMAGENET_STD if std is None else std
    if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise ValueError(f"`mean` and `std` must be finite and `std` positive, got {mean} and {std}")
    result: ImageTransform = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(size, antialias=True),
            v2.CenterCrop(size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean), list(std)),
        ]
    )
    return result


def _known_weights(name: str, weights: str | Path | None) -> WeightsEnum | None:
    """The registry's entry for `weights`, or None if `weights` is None or a path."""
    if name not in models.list_models():
        near = get_close_matches(name, models.list_models(), n=3) or ["resnet50"]
        raise ValueError(f"unknown model {name!r}; expected a torchvision name such as {near} or 'module:callable'")
    entries = models.get_model_weights(name)
    if isinstance(weights, str) and weights in entries.__members__:
        return entries[weights]
    return None


def _default_weights(name: str) -> WeightsEnum:
    return models.get_model_weights(name)["DEFAULT"]


def _read_state(path: Path) -> dict[str, Tensor]:
    _weights_file(path)
    try:
        state = _read_file(path)
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
    return state


def _weights_file(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: expected the path of a state dict or a name such as 'DEFAULT'")
    return Path(path)


def _read_file(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _call(name: str) -> object:
    """What the user's own function returns."""
    factory = _import_factory(name)
    try:
        return factory()
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{name!r} does not return a network: {type(error).__name__}: {error}") from error


def _import_factory(name: str) -> Callable[[], object]:
    module_name, _, attribute = name.partition(":")
    with _working_directory_importable():
        try:
            factory: object = getattr(import_module(module_name), attribute, None)
        except Exception as error:  # whatever the user's module does
            reason = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            raise ValueError(f"cannot import {module_name!r} for model {name!r}: {reason}") from error
    if not callable(factory):
        raise ValueError(f"{module_name!r} has no callable {attribute!r}; expected 'module:callable', got {name!r}")
    return factory


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Console scripts, unlike ``python -m``, do not have the working directory on the path."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path.remove(str(Path.cwd()))
