"""Checks of arguments: each returns what passes, or raises an error that says what was expected and what was received.

They import nothing from the package. `name` is always the name by which the user knows the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from numbers import Integral, Real
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

# What torch, torchvision and timm say when images and network do not fit each other.
_DTYPES = ("should be the same", "the same dtype", "expected scalar type", "mixed dtype")
_CHANNELS = re.compile(r"expected input\[.*\] to have (\d+) channels, but got (\d+) channels")
_TOO_SMALL = (
    "Kernel size can't be greater than actual input size",
    "Output size is too small",
    "Padding size should be less than",
    "pad should be at most half of",
    "to have non-zero size for non-batch dimensions",
    "Expected 3D or 4D (batch mode) tensor with optional 0 dim batch size",
)
_OTHER_SIZE = (
    "mat1 and mat2 shapes cannot be multiplied",
    "image height",
    "image width",
    "Input height",
    "Input width",
)

NO_GRADIENT_THROUGH_INFERENCE = (
    "the network was made in torch.inference_mode(), and no gradient passes its parameters; expected one that was made "
    "or loaded outside it"
)


def check_integer(name: str, value: object, least: int = 1, also: str = "") -> int:
    """An integer of at least `least`; `also` is what else the caller accepts. NumPy's integers count, True does not."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"`{name}` must be {wanted}{also and f' or {also}'}, got {value!r}")
    return int(value)


def check_number(name: str, value: object) -> float:
    """A finite real number; True is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite, got {value}")
    return float(value)


def check_share(name: str, value: object) -> float:
    """A number above 0 and below 1."""
    number = check_number(name, value)
    if not 0 < number < 1:
        raise ValueError(f"`{name}` must be above 0 and below 1, got {value}")
    return number


def check_choice(name: str, value: object, choices: Iterable[T]) -> T:
    """One of a few names or numbers."""
    names = tuple(choices)
    if isinstance(value, str | int) and not isinstance(value, bool):
        for choice in names:
            if choice == value:
                return choice
    raise ValueError(f"`{name}` must be one of {names}, got {value!r}")


def describe(value: object) -> str:
    """A value for a message: the shape of a tensor or an array, the type of anything else."""
    if hasattr(value, "shape"):
        return f"shape {tuple(value.shape)}"
    kind = type(value).__name__
    return "None" if value is None else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def check_tensor(name: str, value: object) -> Tensor:
    """A tensor; for an array, the error says how to convert it."""
    if not isinstance(value, Tensor):
        hint = "; use torch.as_tensor" if hasattr(value, "__array__") else ""
        raise TypeError(f"`{name}` must be a tensor, got {type(value).__name__}{hint}")
    return value


def check_latents(name: str, value: object, n: int | str = "N", d: int | str = "D") -> Tensor:
    """Latents, one row per image: `n` and `d` are sizes that the shape must have, or letters for them in the error."""
    latents = check_tensor(name, value)
    shape = latents.shape
    if len(shape) != 2 or any(isinstance(want, int) and want != got for want, got in zip((n, d), shape, strict=True)):
        raise ValueError(f"`{name}` must be ({n}, {d}), got {describe(value)}")
    return latents


def check_images(images: object, name: str = "images") -> Tensor:
    """A batch of images (N, C, H, W), or of whatever else a network takes, such as vectors (N, D) or videos."""
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} must be a tensor (N, C, H, W), got {type(images).__name__}")
    if images.ndim == 3:
        raise ValueError(f"{name} must be (N, C, H, W), got {describe(images)}; a batch of one image is image[None]")
    if images.ndim < 2 or images.numel() == 0:
        raise ValueError(f"{name} must be (N, C, H, W) with N >= 1, got {describe(images)}")
    if not images.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {images.dtype}; scale uint8 images to [0, 1] first")
    return images


def check_network(model: object) -> nn.Module:
    """A network that runs in Python, so that its layers can be read: none scripted or traced by `torch.jit`."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be an nn.Module, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"`model` must be a network that runs in Python, got a scripted or traced one ({type(model).__name__}), "
            "whose layers cannot be read; pass the module that it was made from"
        )
    return model


@contextmanager
def network_refusals(images: Tensor, network: nn.Module, where: str = "the network") -> Iterator[None]:
    """Run a network; if it fails because of the images, say what is wrong with them.

    Errors that do not concern the images are left as they are. `where` is how far the images had to get, such as
    "layer '3'".
    """
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        better = _refusal(str(error), images, network, where)
        if better is None:
            raise
        raise better from error


def _refusal(reason: str, images: Tensor, network: nn.Module, where: str) -> Exception | None:
    tensors = list(chain(network.parameters(), network.buffers()))
    dtypes = {value.dtype for value in tensors if value.is_floating_point()}
    if any(phrase in reason for phrase in _DTYPES) and dtypes and images.dtype not in dtypes:
        wanted = " and ".join(sorted(map(str, dtypes)))
        return TypeError(f"images are {images.dtype}, the network is {wanted}; expected one dtype: images.to({wanted})")
    if "Inference tensors cannot be saved" in reason and any(value.is_inference() for value in tensors):
        return ValueError(NO_GRADIENT_THROUGH_INFERENCE)
    channels = _CHANNELS.search(reason)
    if channels and int(channels[2]) == images.shape[1]:
        hint = "; grey images become RGB by images.expand(-1, 3, -1, -1)" if channels.groups() == ("3", "1") else ""
        return ValueError(f"images must have {channels[1]} channels for this network, got {describe(images)}{hint}")
    size = " x ".join(map(str, images.shape[2:]))
    if any(phrase in reason for phrase in _TOO_SMALL):
        return ValueError(f"images of {size} pixels are too small for {where}; expected larger ones ({reason})")
    if any(phrase in reason for phrase in _OTHER_SIZE):
        return ValueError(f"images of {size} pixels do not fit {where}; expected another size ({reason})")
    return None


def check_encoded(latents: object, n: int) -> Tensor:
    """What an encoder returned for n images, if it is latents (n, D)."""
    if not isinstance(latents, Tensor) or latents.ndim != 2 or len(latents) != n:
        raise ValueError(f"the encoder must return latents (N, D) = ({n}, D), got {describe(latents)}")
    return latents


def check_one_device(**tensors: Tensor | None) -> None:
    """Refuse tensors on several devices; None is ignored."""
    devices = {name: str(value.device) for name, value in tensors.items() if value is not None}
    if len(set(devices.values())) > 1:
        found = ", ".join(f"`{name}` on {device}" for name, device in devices.items())
        raise ValueError(f"expected one device, got {found}")


def check_one_dtype(**tensors: Tensor | None) -> None:
    """Refuse tensors of several dtypes; None is ignored."""
    dtypes = {name: value.dtype for name, value in tensors.items() if value is not None}
    if len(set(dtypes.values())) > 1:
        found = ", ".join(f"`{name}` of {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"expected one dtype, got {found}")


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite.

    A finite sum shows this in a twentieth of the time; it may overflow, so then each value is checked.
    """
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def check_finite(name: str, values: Tensor) -> Tensor:
    """A tensor that holds neither NaN nor infinity."""
    if not is_finite(values):
        raise ValueError(f"`{name}` must be finite, got NaN or infinity")
    return values
