"""Receptive fields, found by passing NaN through the network: what an input pixel touches turns into NaN."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import torch
from torch import Tensor, nn

from captum_shared.encoder.images import device_of, evaluating
from captum_shared.selectivity.layers import LayerReader


@dataclass(frozen=True)
class ReceptiveFields:
    """The receptive field of every unit of a layer at every position: a rectangle, whose size is fixed for each unit.

    Attributes
    ----------
    top : Tensor (U, h)
        First row that a unit sees from each row of the map. Negative where the field sticks out of the image.
    left : Tensor (U, w)
        First column, likewise.
    height, width : Tensor (U,)
        In pixels, including the part outside the image.
    image_size : (int, int)
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    image_size: tuple[int, int]

    def boxes(self, units: Tensor, positions: Tensor) -> Tensor:
        """Boxes (n, 4), as top, left, height, width in pixels, of units (n,) at positions (n,)."""
        row, column = positions // self.left.shape[1], positions % self.left.shape[1]
        return torch.stack(
            [self.top[units, row], self.left[units, column], self.height[units], self.width[units]], dim=1
        )


@overload
def receptive_fields(
    model: nn.Module, layers: str, image_size: Sequence[int], channels: int = ..., batch_size: int = ...
) -> ReceptiveFields: ...
@overload
def receptive_fields(
    model: nn.Module,
    layers: list[str] | tuple[str, ...],
    image_size: Sequence[int],
    channels: int = ...,
    batch_size: int = ...,
) -> dict[str, ReceptiveFields]: ...
def receptive_fields(
    model: nn.Module, layers: str | Sequence[str], image_size: Sequence[int], channels: int = 3, batch_size: int = 32
) -> ReceptiveFields | dict[str, ReceptiveFields]:
    """Find the receptive fields of all units of one or several layers, exactly, for any architecture.

    A row of pixels is set to NaN, and the positions whose units turn into NaN are those that see it; likewise for every
    row and every column, with one forward pass each (or four in all if every unit sees the whole image). A weight of
    zero counts as a connection. What a position at the border would see beyond the image is extrapolated from the
    others with the same stride. A field as large as the image, or larger, is taken to be the image.

    Parameters
    ----------
    model : nn.Module
        Any network, as in `top_activations`.
    layers : str or sequence of str
        As in `top_activations`.
    image_size : (int, int)
        Height and width in pixels, as in ``TopActivations.image_size``.
    channels : int, default 3
        Channels of the images.
    batch_size : int, default 32
        Images per forward pass.

    Returns
    -------
    ReceptiveFields, or dict of layer to ReceptiveFields if `layers` is a sequence

    Raises
    ------
    ValueError
        If the size is not two positive integers, or the network gives NaN for any image.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5, stride=2), torch.nn.MaxPool2d(2))
    >>> fields = receptive_fields(model, "1", image_size=(32, 32))
    >>> int(fields.height.max()), int(fields.width.max())
    (7, 7)
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    height, width = _check_size(image_size)
    reader = LayerReader(model, names)
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    # Noise, not zeros: a network that normalizes its input must not divide by nothing.
    noise = torch.rand(channels, height, width, generator=torch.Generator().manual_seed(0))
    image = noise.to(device_of(model, None), parameter.dtype)
    with evaluating(model), torch.no_grad(), _plain_convolutions():
        seen = _seen(reader, image, batch_size)
    fields = {}
    for name, (rows, columns) in seen.items():
        (top, heights), (left, widths) = _spans(rows), _spans(columns)
        fields[name] = ReceptiveFields(top, left, heights, widths, (height, width))
    return fields[names[0]] if isinstance(layers, str) else fields


def _seen(reader: LayerReader, image: Tensor, batch_size: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Which rows (H, U, h) and which columns (W, U, w) of the image each unit sees, layer by layer."""
    height, width = image.shape[1:]
    clean = reader.read(image[None], _touched)
    if any(rows.any() for rows, _ in clean.values()):
        raise ValueError("the network gives NaN for an image of noise; its receptive fields cannot be found")

    def all_see(axis: int, lines: list[int]) -> bool:
        return all(touched[axis].all() for touched in _of_lines(reader, image, axis, lines, batch_size).values())

    if all_see(0, [0, height - 1]) and all_see(1, [0, width - 1]):
        return {
            name: (torch.ones(height, *rows.shape[1:]).bool(), torch.ones(width, *columns.shape[1:]).bool())
            for name, (rows, columns) in clean.items()
        }
    by_row = _of_lines(reader, image, 0, range(height), batch_size)
    by_column = _of_lines(reader, image, 1, range(width), batch_size)
    return {name: (by_row[name][0], by_column[name][1]) for name in by_row}


def _of_lines(
    reader: LayerReader, image: Tensor, axis: int, lines: Sequence[int], batch_size: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """What each of these rows (axis 0) or columns (axis 1) touches."""
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in reader.layers}
    for start in range(0, len(lines), batch_size):
        batch = lines[start : start + batch_size]
        x = image.repeat(len(batch), 1, 1, 1)
        for i, line in enumerate(batch):
            x[i].select(axis + 1, line).fill_(torch.nan)
        for name, touched in reader.read(x, _touched).items():
            parts[name].append(touched)
    return {
        name: (torch.cat([rows for rows, _ in some]), torch.cat([columns for _, columns in some]))
        for name, some in parts.items()
    }


def _touched(layer: str, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows (N, U, h) and columns (N, U, w) of the maps hold NaN."""
    nan = maps.isnan()
    return nan.any(3).cpu(), nan.any(2).cpu()


def _spans(seen: Tensor) -> tuple[Tensor, Tensor]:
    """First line (U, h) and number of lines (U,) of the fields, from which line each unit sees, (length, U, h)."""
    length = len(seen)
    lines = torch.arange(length)[:, None, None]
    first = torch.where(seen, lines, length).amin(0)
    last = torch.where(seen, lines, -1).amax(0)
    patterns, which = torch.unique(torch.cat([first, last], 1), dim=0, return_inverse=True)
    continued = [_continue(begins, ends, length) for begins, ends in patterns.unflatten(1, (2, -1)).tolist()]
    starts = torch.stack([start for start, _ in continued])
    sizes = torch.tensor([size for _, size in continued])
    return starts[which], sizes[which]


def _continue(begins: list[int], ends: list[int], length: int) -> tuple[Tensor, int]:
    """Continue fields beyond the border: starts (h,), which may be negative, and one size for all.

    What is seen of a field begins where the field does, or later: at the border, or after a gap of a dilated one. So
    among lines of the right slope, the field starts at the lowest that is touched, and ends at the highest. Positions
    that see nothing (their end is -1), such as those on the padding alone, are ignored.
    """
    stride = _stride(begins, ends, length)
    start = min((begin - i * stride for i, begin in enumerate(begins) if ends[i] >= 0), default=0)
    size = max((end - i * stride for i, end in enumerate(ends) if end >= 0), default=length) - start + 1
    if size >= length:
        return torch.zeros(len(begins), dtype=torch.long), length
    return start + stride * torch.arange(len(begins)), size


def _stride(begins: list[int], ends: list[int], length: int) -> int:
    """Distance in pixels between the fields of neighbouring positions: the most frequent one inside the image."""
    steps = [b - a for a, b in pairwise(begins) if a > 0 and b < length]
    steps += [b - a for a, b in pairwise(ends) if a >= 0 and b < length - 1]
    return Counter(steps).most_common(1)[0][0] if steps else round(length / len(begins))


@contextmanager
def _plain_convolutions() -> Iterator[None]:
    """Winograd and Fourier convolutions mix neighbouring outputs, so that NaN spreads further than it should."""
    nnpack = torch.backends.nnpack.is_available() and torch.backends.nnpack.set_flags(False)
    try:
        with torch.backends.cudnn.flags(enabled=False):  # oneDNN, on the CPU, computes convolutions directly
            yield
    finally:
        if nnpack:
            torch.backends.nnpack.set_flags(*nnpack)


def _check_size(image_size: Sequence[int]) -> tuple[int, int]:
    size = tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"`image_size` must be two positive integers (H, W), got {size}")
    return size[0], size[1]
