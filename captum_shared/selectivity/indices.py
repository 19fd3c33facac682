"""Indices of how much response a unit loses when the crops that drive it are changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from captum_shared.checks import check_number, check_tensor
from captum_shared.encoder.images import Images
from captum_shared.selectivity.changes import Change, grey, mirror, turn
from captum_shared.selectivity.ranking import TopActivations, check_top
from captum_shared.selectivity.responses import ChangeOptions, CropOptions, changed_responses

if TYPE_CHECKING:
    from typing_extensions import Unpack


def response_loss(activations: Tensor, changed: Tensor) -> Tensor:
    """Compute 1 - sum_j a'_j / sum_j a_j: 0 if no response is lost, 1 if all is lost, negative if it increases.

    Parameters
    ----------
    activations : Tensor (U, k)
        a_j, the responses to the unchanged crops.
    changed : Tensor (U, k)
        a'_j in the same places as a_j. In both, responses below zero count as zero.

    Returns
    -------
    Tensor (U,)
        In float64; NaN for units without a positive activation.

    Raises
    ------
    TypeError, ValueError
        If they are not tensors, or not both (U, k).

    References
    ----------
    Rafegas et al. (2020), equation 3.

    Examples
    --------
    >>> response_loss(torch.tensor([[4.0, 2.0]]), torch.tensor([[2.0, -1.0]]))
    tensor([0.6667], dtype=torch.float64)
    """
    check_tensor("activations", activations)
    check_tensor("changed", changed)
    if activations.shape != changed.shape or activations.ndim != 2:
        raise ValueError(
            "`activations` and `changed` must both be (U, k), got "
            f"{tuple(activations.shape)} and {tuple(changed.shape)}"
        )
    before, after = (values.double().clamp(min=0).sum(1) for values in (activations, changed))
    return torch.where(before > 0, 1 - after / before, torch.nan)


def transform_selectivity_index(
    model: nn.Module,
    top: TopActivations,
    images: Images,
    change: Change | Sequence[Change],
    **options: Unpack[ChangeOptions],
) -> Tensor:
    """Compute how selective units are for what a change of their crops removes.

    The index is 1 - sum_j a'_j / sum_j a_j over the strongest images, where a'_j is the response to the changed crop,
    put back where the receptive field sees it. Colour and orientation selectivity are examples, with greying and
    turning.

    Parameters
    ----------
    model, top, images
        As in `changed_responses`.
    change : callable or sequence of callables
        Crops (n, C, h, w), pictures in [0, 1], to crops of the same shape. For several changes, their mean index.
    **options
        As in `changed_responses`: transform, mean, std, fields, pixelwise, n, batch_size, device, progress.

    Returns
    -------
    Tensor (U,)
        At most 1; 0 for a unit that the change does not affect; negative for one that prefers the changed crops; NaN
        for a unit without a positive activation.

    Raises
    ------
    TypeError, ValueError
        As `changed_responses`; if `change` contains no callable.

    Examples
    --------
    >>> from torchvision.transforms.v2 import GaussianBlur
    >>> from captum_shared.selectivity import top_activations
    >>> model, images = torch.nn.Conv2d(3, 8, 5), torch.rand(20, 3, 32, 32)
    >>> top = top_activations(model, "", images, k=10)
    >>> transform_selectivity_index(model, top, images, GaussianBlur(5, sigma=2.0)).shape
    torch.Size([8])
    """
    changes = [change] if callable(change) else list(change) if isinstance(change, Iterable) else [change]
    if not changes:
        raise ValueError("`change` must be a callable or a sequence of at least one, got none")
    if not all(callable(one) for one in changes):
        raise TypeError(f"`change` must be a callable or a sequence of at least one, got {change!r}")
    activations = check_top(top).strongest(options.get("n")).activations
    losses = [response_loss(activations, changed_responses(model, top, images, one, **options)) for one in changes]
    return torch.stack(losses).mean(0)


def color_selectivity_index(
    model: nn.Module,
    top: TopActivations,
    images: Images,
    *,
    grey_version: str = "luminance",
    **options: Unpack[CropOptions],
) -> Tensor:
    """Compute colour selectivity: the share of the response that is lost in grey.

    Parameters
    ----------
    model, top, images, **options
        As in `transform_selectivity_index`.
    grey_version : {"luminance", "opponent"}, default "luminance"
        Which grey; see `grey`.

    Returns
    -------
    Tensor (U,)

    Raises
    ------
    TypeError, ValueError
        As `changed_responses`; if `grey_version` is unknown, or the images do not have three channels.

    References
    ----------
    Rafegas et al. (2020), equation 3. The default grey is our choice.

    Examples
    --------
    >>> from captum_shared.selectivity import top_activations
    >>> model = torch.nn.Conv2d(3, 1, 1, bias=False)
    >>> model.weight.data[:] = torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1)  # red against green
    >>> images = torch.rand(20, 3, 8, 8)
    >>> color_selectivity_index(model, top_activations(model, "", images, k=5), images)
    tensor([1.], dtype=torch.float64)
    """
    return transform_selectivity_index(model, top, images, grey(grey_version), pixelwise=True, **options)


def orientation_selectivity_index(
    model: nn.Module,
    top: TopActivations,
    images: Images,
    *,
    angles: Sequence[float] = (90,),
    **options: Unpack[ChangeOptions],
) -> Tensor:
    """Compute orientation selectivity: the share of the response that is lost when crops are turned.

    Parameters
    ----------
    model, top, images, **options
        As in `transform_selectivity_index`.
    angles : sequence of float, default (90,)
        In degrees; the index is the mean over them. The default, ours, compares with the orthogonal orientation, which
        needs no interpolation for square crops; the authors' program averages over many angles.

    Returns
    -------
    Tensor (U,)

    Raises
    ------
    TypeError, ValueError
        As `changed_responses`; if an angle is not a finite number.

    Examples
    --------
    >>> from captum_shared.selectivity import top_activations
    >>> model = torch.nn.Conv2d(3, 1, 3, bias=False)
    >>> model.weight.data[:] = torch.tensor([-1.0, 0.0, 1.0])  # vertical edges
    >>> images = torch.zeros(4, 3, 8, 8)
    >>> images[..., 4:] = torch.tensor([1.0, 0.9, 0.8, 0.7]).view(4, 1, 1, 1)
    >>> orientation_selectivity_index(model, top_activations(model, "", images, k=4), images).round(decimals=3)
    tensor([1.], dtype=torch.float64)
    """
    return transform_selectivity_index(
        model, top, images, [turn(angle) for angle in _degrees("angles", angles)], **options
    )


def symmetry_selectivity_index(
    model: nn.Module,
    top: TopActivations,
    images: Images,
    *,
    axes: Sequence[float] = (90,),
    **options: Unpack[ChangeOptions],
) -> Tensor:
    """Compute symmetry selectivity: the share of the response that is kept when crops are mirrored.

    The index is sum_j a'_j / sum_j a_j, as in the authors' program: 1 for a unit that responds alike to a crop and its
    mirror image, 0 for one that does not respond to mirrored crops.

    Parameters
    ----------
    model, top, images, **options
        As in `transform_selectivity_index`.
    axes : sequence of float, default (90,)
        Directions of the mirror axes in degrees; 90 is vertical and swaps left and right. The index is the mean over
        them. The authors' program uses 0, 45, 90 and 135.

    Returns
    -------
    Tensor (U,)

    Raises
    ------
    TypeError, ValueError
        As `changed_responses`; if an axis is not a finite number.

    Examples
    --------
    >>> from captum_shared.selectivity import top_activations
    >>> model, images = torch.nn.Conv2d(3, 1, 3), torch.rand(4, 3, 8, 8)
    >>> model.weight.data[:] = 1.0  # a blob is its own mirror image
    >>> model.bias.data[:] = 0.0
    >>> symmetry_selectivity_index(model, top_activations(model, "", images, k=4), images).round(decimals=3)
    tensor([1.], dtype=torch.float64)
    """
    return 1 - transform_selectivity_index(
        model, top, images, [mirror(axis) for axis in _degrees("axes", axes)], **options
    )


def _degrees(name: str, values: object) -> list[float]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"`{name}` must be a sequence of degrees, got {values!r}")
    return [check_number(name, value) for value in values]
