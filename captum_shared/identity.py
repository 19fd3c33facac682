"""What a network and an image transform do, so that results of one are never mistaken for those of another.

A description such as ``repr`` hides attributes, and a lambda has none. So they are identified by what they do:
parameters and buffers to the bit, and the output for a few fixed images, up to floating-point rounding.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torchvision.transforms.functional import to_tensor

from captum_shared.files import sha256
from captum_shared.manifests import versions
from captum_shared.store import Identity, close, tensor_bytes

ImageTransform = Callable[[Any], Tensor]
"""An image (PIL) -> what a network takes, a tensor (C, H, W)."""

_CALLS = 4  # of the transform for each probe image, to reveal random steps, such as mirroring half of the time
_SIZES = ((61, 47), (192, 256), (400, 300))
_DIRECTIONS = 8


def identify(
    network: nn.Module,
    transform: ImageTransform | None,
    example: object,
    forward: Callable[[Tensor], Tensor | Sequence[Tensor]] | None = None,
) -> Identity:
    """Identify a network together with its transform of images such as `example`; see the two functions below."""
    x = as_tensor(example if transform is None else transform(example))
    return identify_transform(transform, example).joined(identify_network(network, x, forward))


def identify_network(
    network: nn.Module, example: Tensor, forward: Callable[[Tensor], Tensor | Sequence[Tensor]] | None = None
) -> Identity:
    """Identify a network by what it does with images (C, H, W) of the shape and dtype of `example`.

    All of its parameters and buffers count, even those not saved with it, and its mode. Of an image (1, C, H, W),
    `forward` makes the outputs that count, one tensor or several; by default it is the network itself. An output that
    differs between two passes raises a ValueError.
    """
    device = next((tensor.device for tensor in _tensors(network).values()), torch.device("cpu"))
    images = [image.to(device, example.dtype) for image in _probe_tensors(tuple(example.shape))]
    with torch.no_grad(), random_state_kept(device):
        rows, again = (
            [_sketch(out) for x in images for out in tree_leaves((forward or network)(x[None]))] for _ in "12"
        )
    if not close(rows, again):
        raise ValueError(
            "the network gives a different output each time for the same image, so results computed with it cannot be "
            "kept or repeated; expected one without random steps, such as dropout, in evaluation mode"
        )
    places = [getattr(network, name, None) for name in ("layer", "layers", "pool", "pools")]
    names = [str(place) for place in places if isinstance(place, str | int | tuple) and " at 0x" not in str(place)]
    about = f"{tuple(example.shape)} {example.dtype} {names}"
    return Identity(_exact(network), tuple(rows)).extended(about, *_versions())


def identify_transform(transform: ImageTransform | None, example: object) -> Identity:
    """Identify an image transform by what it does to images like `example`: a PIL image, a tensor or an array.

    Only the example's type counts and, of tensors and arrays, its shape; anything else is itself the probe. A result
    that differs between calls raises a ValueError; a transform that accepts no probe, its own error.
    """
    if transform is None:
        return Identity(sha256(b"no transform"))
    results = [_transformed(transform, probe) for probe in _probe_images(example)]
    if isinstance(example, Image.Image) and all(isinstance(result, Exception) for result in results):
        results = [_transformed(transform, _probe_picture(*example.size).convert(example.mode))]
    rows = [result for result in results if not isinstance(result, Exception)]
    errors = {number: result for number, result in enumerate(results) if isinstance(result, Exception)}
    if not rows:
        raise errors[0]
    return Identity(_exact(transform), tuple(rows)).extended(f"{type(example).__name__} {list(errors)}", *_versions())


def _transformed(transform: ImageTransform, probe: object) -> tuple[float, ...] | Exception:
    """A transformed probe, or why it cannot be transformed: a transform that crops cannot take small images."""
    try:
        with random_state_kept():
            first, *others = (as_tensor(transform(probe)) for _ in range(_CALLS))
    except Exception as error:
        return error
    sketch = _sketch(first)
    if not all(torch.equal(first, other) or close([sketch], [_sketch(other)]) for other in others):
        raise ValueError(
            "`transform` gives a different result each time for the same image, so results computed with it cannot be "
            "kept or repeated; expected one without random steps, as for evaluation"
        )
    return sketch


def _probe_images(example: object) -> list[object]:
    """Fixed images of the kind of `example`: of several sizes and colours, if they are PIL images."""
    if isinstance(example, Image.Image):
        return [_probe_picture(*size).convert(example.mode) for size in _SIZES]
    if isinstance(example, Tensor):
        return [_in_range(x, example.dtype) for x in _probe_tensors(tuple(example.shape))]
    if isinstance(example, np.ndarray):
        return [np.asarray(x) for x in _probe_images(torch.from_numpy(example))]
    return [example]


def as_tensor(image: object) -> Tensor:
    """A transformed image as a tensor: PIL images and arrays are scaled to [0, 1]."""
    return image if isinstance(image, Tensor) else to_tensor(image)


def _exact(part: object) -> str:
    """Hash of parameters and buffers, by name, dtype, shape and value."""
    parts = []
    for name, value in sorted(_tensors(part).items()):
        parts += [f"{name} {value.dtype} {tuple(value.shape)}".encode(), sha256(tensor_bytes(value)).encode()]
    return sha256(*parts, b"")


def _tensors(part: object) -> dict[str, Tensor]:
    if not isinstance(part, nn.Module):
        return {}
    return dict(chain(part.named_parameters(remove_duplicate=False), part.named_buffers(remove_duplicate=False)))


def _sketch(output: Tensor) -> tuple[float, ...]:
    """An output as few numbers: its sums with fixed random signs, which change if any part of it does."""
    values = output.detach().flatten().cpu()
    values = torch.view_as_real(values).flatten() if values.is_complex() else values
    n = values.numel()
    bits = np.unpackbits(np.random.PCG64(0).random_raw(max(1, -(-n // 8))).view(np.uint8)).reshape(_DIRECTIONS, -1)
    values = values.double() / max(n, 1) ** 0.5
    return tuple(float((torch.from_numpy(row[:n]).double() * 2 - 1) @ values) for row in bits)


def _probe_picture(width: int, height: int) -> Image.Image:
    """A picture with flat areas, a gradient, edges and noise, in all colours."""
    y, x = np.mgrid[:height, :width]
    gradient = np.stack([255 * x / width, 255 * y / height, 255 * (x + y) / (width + height)], axis=-1)
    noise = np.random.PCG64(width).random_raw(height * width).view(np.uint8).reshape(height, width, 8)[..., :3]
    pixels = np.where((x > width // 2)[..., None], noise, gradient)
    for k, color in enumerate(((255, 0, 0), (0, 0, 0), (255, 255, 255), (20, 90, 200))):
        pixels[k * height // 8 : (k + 1) * height // 8, : width // 4] = color
    return Image.fromarray(pixels.astype(np.uint8))


def _probe_tensors(shape: tuple[int, ...]) -> list[Tensor]:
    """Noise around zero, the same three times as strong, and a smooth ramp with a step."""
    n = int(np.prod(shape))
    bits = np.random.PCG64(1).random_raw(n).view(np.uint8).reshape(n, 8)
    noise = torch.from_numpy((bits.sum(axis=1) - 1020.0) / 209.0).reshape(shape)  # of unit variance
    ramp = torch.linspace(-1, 1, n).double().reshape(shape) + (torch.arange(n).reshape(shape) % 7 > 3)
    return [noise, 3 * noise, ramp]


def _in_range(image: Tensor, dtype: torch.dtype) -> Tensor:
    """A probe with values as images have them: in [0, 1], or in whole numbers up to 255."""
    scaled = (image - image.min()) / (image.max() - image.min()).clamp(min=1e-9)
    return scaled.to(dtype) if dtype.is_floating_point else (scaled * 255 if dtype != torch.bool else scaled).to(dtype)


def _versions() -> list[str]:
    found = versions()
    return [f"{name} {found[name]}" for name in ("torch", "torchvision", "pillow")]


@contextmanager
def random_state_kept(device: torch.device | None = None, seed: int | None = None) -> Iterator[None]:
    """Restore the state of the random generators afterwards; if a seed is given, they start from it."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device and device.type == "cuda" else []):
        try:
            if seed is not None:
                torch.manual_seed(seed)
                np.random.seed(seed)
                random.seed(seed)
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
