"""How units respond when the crops that drive them are changed and put back into their images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple, TypedDict, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from captum_shared.checks import check_network
from captum_shared.encoder.images import Images, device_of, evaluating
from captum_shared.encoder.passes import ImagePass
from captum_shared.identity import ImageTransform
from captum_shared.selectivity.changes import Change
from captum_shared.selectivity.crops import cut, put_back
from captum_shared.selectivity.fields import ReceptiveFields, receptive_fields
from captum_shared.selectivity.layers import LayerReader
from captum_shared.selectivity.pixels import PixelSource
from captum_shared.selectivity.ranking import TopActivations, check_top

Box = tuple[int, int, int, int]


class _View(NamedTuple):
    """An image with boxes that do not overlap: one forward pass. Each has the (unit, rank) that look at it."""

    image: int
    boxes: dict[Box, list[tuple[int, int]]]


class CropOptions(TypedDict, total=False):
    """What `changed_responses` takes by name, apart from `pixelwise`."""

    transform: ImageTransform | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    fields: ReceptiveFields | None
    n: int | None
    batch_size: int
    device: str | torch.device | None
    progress: bool


class ChangeOptions(CropOptions, total=False):
    """What `changed_responses` takes by name."""

    pixelwise: bool


def changed_responses(
    model: nn.Module,
    top: TopActivations,
    images: Images,
    change: Change,
    *,
    transform: ImageTransform | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    fields: ReceptiveFields | None = None,
    pixelwise: bool = False,
    n: int | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> Tensor:
    """Compute the responses a'_j of every unit to its strongest crops after a change, each paired with its a_j.

    A crop is cut out of its image, changed, and put back; the image goes through the network again, and the unit is
    read where its activation was. Crops of an image whose receptive fields do not overlap share a forward pass, with
    the same result, because a unit sees only its field.

    Parameters
    ----------
    model, images, transform, batch_size, device, progress
        As in the call of `top_activations` that returned `top`.
    top : TopActivations
        Which images and positions to read.
    change : callable
        Crops to changed crops, (n, C, h, w) each; pictures in [0, 1], black at 0. Beyond the border of the image a crop
        repeats the nearest pixel.
    mean, std : sequence of float, optional
        The normalization in `transform`, if it cannot be determined from the transform; see `PixelSource`.
    fields : ReceptiveFields, optional
        Computed if not given.
    pixelwise : bool, default False
        Whether `change` treats each pixel separately, as greying does: then the whole image is changed at once, in one
        pass for all units, with the same responses.
    n : int, optional
        Use only the n strongest of the k images.

    Returns
    -------
    Tensor (U, n)
        On the CPU.

    Raises
    ------
    TypeError, ValueError
        If `top` is not of these images, or `change` alters the shape.

    Examples
    --------
    >>> from captum_shared.selectivity import top_activations
    >>> model, images = torch.nn.Conv2d(3, 2, 3), torch.rand(5, 3, 8, 8)
    >>> top = top_activations(model, "", images, k=4)
    >>> unchanged = changed_responses(model, top, images, lambda crops: crops)
    >>> torch.allclose(unchanged, top.activations, atol=1e-5)
    True
    """
    check_network(model)
    if not hasattr(images, "__len__"):
        raise TypeError(f"`images` must be a sequence of paths, a Dataset or a tensor, got {type(images).__name__}")
    if len(images) != check_top(top).n_images:
        raise ValueError(f"`images` must be the {top.n_images} that `top` was computed from, got {len(images)}")
    top = top.strongest(n)
    source = PixelSource(images, transform, mean, std)
    device = device_of(model, device)
    if fields is None and not pixelwise:
        channels = source.normalized([int(top.images[0, 0])]).shape[1]
        fields = receptive_fields(model, top.layer, top.image_size, channels, batch_size)
    views = _views(top, None if pixelwise else fields)
    read = partial(_changed_batch, LayerReader(model, [top.layer]), device, source, change, top)
    responses = torch.full_like(top.activations, torch.nan)
    with (
        evaluating(model),
        torch.no_grad(),
        closing(ImagePass(read, cast("Dataset[_View]", views), batch_size).results()) as results,
        tqdm(total=len(views), disable=not progress, unit="image") as bar,
    ):
        for units, ranks, found, n_views in results:
            responses[units, ranks] = found.to(responses)
            bar.update(n_views)
    return responses


def _changed_batch(
    reader: LayerReader,
    device: torch.device,
    source: PixelSource,
    change: Change,
    top: TopActivations,
    views: list[_View],
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Units, ranks of their images and responses to the changed images; and how many views they are of."""
    x = _changed_images(source, views, change).to(device)
    found = reader.read(x, lambda _, maps: _read_off(maps, views, top))[top.layer]
    return *found, len(views)


def count_views(top: TopActivations, fields: ReceptiveFields) -> int:
    """How many forward passes of one image `changed_responses` takes."""
    return len(_views(top, fields))


def _views(top: TopActivations, fields: ReceptiveFields | None) -> list[_View]:
    """All boxes, each of an image once, packed image by image; without fields, whole images."""
    seen: dict[int, dict[Box, list[tuple[int, int]]]] = defaultdict(dict)
    units = torch.arange(top.n_units)[:, None].expand_as(top.images).flatten()
    whole = torch.tensor([0, 0, *top.image_size]).expand(len(units), 4)
    boxes = fields.boxes(units, top.positions.flatten()) if fields else whole
    ranks = torch.arange(top.k).repeat(top.n_units)
    for unit, rank, image, box in zip(
        units.tolist(), ranks.tolist(), top.images.flatten().tolist(), map(tuple, boxes.tolist()), strict=True
    ):
        seen[image].setdefault(box, []).append((unit, rank))
    return [
        _View(image, {box: boxes[box] for box in group})
        for image, boxes in sorted(seen.items())
        for group in _packed(boxes)
    ]


def _packed(boxes: Iterable[Box]) -> list[list[Box]]:
    """Groups of boxes that do not overlap: each goes to the first group with room."""
    groups: list[list[Box]] = []
    for box in boxes:
        room = (group for group in groups if not any(_overlap(box, other) for other in group))
        group = next(room, None)
        if group is None:
            groups.append([box])
        else:
            group.append(box)
    return groups


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _changed_images(source: PixelSource, views: list[_View], change: Change) -> Tensor:
    x = source.normalized([view.image for view in views]).clone()
    by_size: dict[tuple[int, int], list[tuple[int, Box]]] = defaultdict(list)
    for i, view in enumerate(views):
        for box in view.boxes:
            by_size[box[2:]].append((i, box))
    changed = [(where, _changed(source, x, where, change)) for where in by_size.values()]
    for where, crops in changed:  # only now, so that no crop is cut out of an image that is changed already
        for (i, box), crop in zip(where, crops, strict=True):
            put_back(x[i], crop, box)
    return x


def _changed(source: PixelSource, x: Tensor, where: list[tuple[int, Box]], change: Change) -> Tensor:
    crops, _ = cut(x[[i for i, _ in where]], torch.tensor([box for _, box in where]))
    changed = change(source.pictures(crops))
    if not isinstance(changed, Tensor) or changed.shape != crops.shape:
        found = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
        raise ValueError(f"`change` must keep the shape of the crops, {tuple(crops.shape)}, got {found}")
    return source.unpictured(changed)


def _read_off(maps: Tensor, views: list[_View], top: TopActivations) -> tuple[Tensor, Tensor, Tensor]:
    """Units (m,), ranks of their images (m,), and what the units of each view respond at their positions (m,)."""
    places = [(i, unit, rank) for i, view in enumerate(views) for who in view.boxes.values() for unit, rank in who]
    i, units, ranks = torch.tensor(places).T
    where = torch.stack([i, units, top.positions[units, ranks]]).to(maps.device)
    return units, ranks, maps.flatten(2)[tuple(where)]  # the maps themselves stay where they are
