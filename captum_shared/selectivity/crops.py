"""Crops of receptive fields: cut out, extended beyond the border, put back, averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from captum_shared.checks import check_tensor, describe
from captum_shared.selectivity.fields import ReceptiveFields
from captum_shared.selectivity.pixels import PixelSource
from captum_shared.selectivity.ranking import TopActivations

NUMBERS_AT_ONCE = 2**26  # running sums: 256 MB


def cut(images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a box out of each of n images; beyond the border, the nearest pixel is repeated.

    Boxes (n, 4) are top, left, height and width, the same for all. Returns crops (n, C, height, width) and which pixels
    are inside the image, (n, height, width).
    """
    if boxes.shape != (len(images), 4):
        raise ValueError(f"`boxes` must be (n, 4) with one box per image, n = {len(images)}, got {tuple(boxes.shape)}")
    if len(boxes[:, 2:].unique(dim=0)) != 1:
        raise ValueError(f"`boxes` must have one size, got {boxes[:, 2:].unique(dim=0).tolist()}")
    height, width = boxes[0, 2:].tolist()
    tops, lefts = boxes[:, :2].to(images.device).T
    rows, row_inside = _lines(tops, height, images.shape[2])
    columns, column_inside = _lines(lefts, width, images.shape[3])
    which = torch.arange(len(images), device=images.device)[:, None, None]
    crops = images.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return crops, row_inside[:, :, None] & column_inside[:, None, :]


def put_back(image: Tensor, crop: Tensor, box: Sequence[int]) -> None:
    """Write the part of `crop` (C, height, width) that lies in `image` (C, H, W) back to where `box` is, in place."""
    top, left, height, width = (int(side) for side in box)
    t, l = max(top, 0), max(left, 0)  # noqa: E741
    b, r = min(top + height, image.shape[1]), min(left + width, image.shape[2])
    image[:, t:b, l:r] = crop[:, t - top : b - top, l - left : r - left]


def top_crops(
    top: TopActivations, fields: ReceptiveFields, source: PixelSource, unit: int, n: int | None = None
) -> tuple[Tensor, Tensor]:
    """Cut the receptive-field crops out of a unit's strongest images.

    Parameters
    ----------
    top, fields
        Of the same layer.
    source : PixelSource
        The images that `top` was computed from.
    unit : int
        Index of the unit.
    n : int, optional
        How many crops; all k by default.

    Returns
    -------
    crops : Tensor (n, C, h, w)
        Pictures in [0, 1].
    inside : Tensor (n, h, w)
        True where a pixel is one of the image.

    Raises
    ------
    TypeError, ValueError
        If `n` is not a positive integer, or an image cannot be read.

    Examples
    --------
    >>> from captum_shared.selectivity import PixelSource, receptive_fields, top_activations
    >>> model, images = torch.nn.Conv2d(3, 2, 5), torch.rand(20, 3, 16, 16)
    >>> top, fields = top_activations(model, "", images, k=4), receptive_fields(model, "", (16, 16))
    >>> crops, inside = top_crops(top, fields, PixelSource(images), unit=0)
    >>> crops.shape, inside.shape
    (torch.Size([4, 3, 5, 5]), torch.Size([4, 5, 5]))
    """
    some = top.strongest(n)
    units = torch.full((some.k,), unit)
    images = source.pictures(source.normalized(some.images[unit].tolist()))
    return cut(images, fields.boxes(units, some.positions[unit]))


def neuron_feature(activations: Tensor, crops: Tensor, inside: Tensor | None = None) -> Tensor:
    """Compute the Neuron Feature of a unit: the mean of its crops, weighted by activation.

    Parameters
    ----------
    activations : Tensor (k,)
        Values below zero count as zero.
    crops : Tensor (k, C, h, w)
        Receptive-field crops, as from `top_crops`.
    inside : Tensor (k, h, w), optional
        Where a crop shows its image. What lies beyond the border is left out, from the weights as well.

    Returns
    -------
    Tensor (C, h, w)
        NaN where no crop with a positive activation shows an image.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    References
    ----------
    Rafegas et al. (2020), equation 2: sum_j w_j crop_j / sum_j w_j with w_j = a_j / a_1.

    Examples
    --------
    >>> crops = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    >>> neuron_feature(torch.tensor([3.0, 1.0]), crops).unique()
    tensor([0.2500])
    """
    check_tensor("activations", activations)
    if check_tensor("crops", crops).ndim != 4:
        raise ValueError(f"`crops` must be (k, C, h, w), got {describe(crops)}")
    shape = (len(crops), *crops.shape[2:])
    inside = torch.ones(shape, dtype=torch.bool) if inside is None else check_tensor("inside", inside)
    if activations.shape != crops.shape[:1] or inside.shape != shape:
        raise ValueError(
            "expected activations (k,), crops (k, C, h, w) and inside (k, h, w), got "
            f"{tuple(activations.shape)}, {tuple(crops.shape)} and {tuple(inside.shape)}"
        )
    rectified = activations.clamp(min=0)
    strongest = rectified.amax(0, keepdim=True).clamp(min=torch.finfo(rectified.dtype).tiny)
    relative = rectified / strongest  # w_j = a_j / a_1
    weights = relative.to(crops)[:, None, None] * inside
    return torch.einsum("khw,kchw->chw", weights, crops) / weights.sum(0)


def neuron_features(
    top: TopActivations, fields: ReceptiveFields, source: PixelSource, units: Sequence[int] | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Compute the Neuron Features of many units, reading each image once for as many units as fit into 256 MB.

    Parameters
    ----------
    top, fields, source
        As in `top_crops`.
    units : sequence of int, optional
        All units by default.

    Yields
    ------
    unit : int
    feature : Tensor (C, h, w)
        As `neuron_feature` of `top_crops`.

    Raises
    ------
    ValueError
        If an image cannot be read.

    Examples
    --------
    >>> from captum_shared.selectivity import PixelSource, receptive_fields, top_activations
    >>> model, images = torch.nn.Conv2d(3, 2, 5), torch.rand(20, 3, 16, 16)
    >>> top, fields = top_activations(model, "", images, k=4), receptive_fields(model, "", (16, 16))
    >>> [feature.shape for unit, feature in neuron_features(top, fields, PixelSource(images))]
    [torch.Size([3, 5, 5]), torch.Size([3, 5, 5])]
    """
    wanted = list(range(top.n_units)) if units is None else [int(unit) for unit in units]
    weights = top.weights().float()
    at_once = max(1, NUMBERS_AT_ONCE // (4 * int(fields.height.max()) * int(fields.width.max())))
    for start in range(0, len(wanted), at_once):
        some = torch.tensor(wanted[start : start + at_once])
        images = top.images[some]
        total: dict[int, Tensor] = {}
        weight: dict[int, Tensor] = {}
        for index in images.unique().tolist():
            who, rank = torch.nonzero(images == index, as_tuple=True)
            picture = source.pictures(source.normalized([index]))
            boxes = fields.boxes(some[who], top.positions[some[who], rank])
            for place, box, activation in zip(who.tolist(), boxes, weights[some[who], rank], strict=True):
                crop, inside = cut(picture, box[None])
                share = activation * inside
                total[place] = total.get(place, 0) + share * crop[0]
                weight[place] = weight.get(place, 0) + share[0]
        yield from ((unit, total[place] / weight[place]) for place, unit in enumerate(some.tolist()))


def _lines(starts: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
    """Lines (n, size) from each start, clamped at the border, and which of them are inside."""
    lines = starts[:, None] + torch.arange(size, device=starts.device)
    return lines.clamp(0, length - 1), (lines >= 0) & (lines < length)
