"""Images with an area removed, kept alone, or moved into another image."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_shared.checks import check_finite, check_images, check_tensor, describe
from captum_shared.interventions.areas import check_mask
from captum_shared.interventions.fills import Fill, filled, mean_colour
from captum_shared.metrics.localization import ArrayLike


def remove(image: Tensor, mask: ArrayLike, fill: Fill = "blur") -> Tensor:
    """Replace an area of an image.

    Parameters
    ----------
    image : torch.Tensor
        (C, H, W) or (N, C, H, W), floating point, finite, normalized or not, on any device.
    mask : torch.Tensor or np.ndarray
        bool, (H, W), or (N, H, W) for a batch: the area, see `hottest_area`.
    fill : str, torch.Tensor or callable, default "blur"
        What takes its place: "blur", "mean" or "inpaint", as `FILLS` says; an image (C, H, W); or a callable, from an
        image (C, H, W) and its mask (H, W) to an image.

    Returns
    -------
    torch.Tensor
        Of the shape, dtype and device of the image. Pixels outside the area are as they were.

    Raises
    ------
    ImportError, TypeError, ValueError
        If image, mask or fill is not such a one, they do not fit each other, or "inpaint" lacks OpenCV.

    Examples
    --------
    >>> image = torch.tensor([[[4.0, 1.0], [1.0, 2.0]]])
    >>> remove(image, image[0] > 3, fill="mean")
    tensor([[[2., 1.],
             [1., 2.]]])
    """
    pictures = _batch("image", image)
    masks = _masks("mask", mask, pictures, empty=True)
    made = [filled(picture, area, fill) for picture, area in zip(pictures, masks, strict=True)]
    return torch.stack(made).reshape(image.shape)


def keep(image: Tensor, mask: ArrayLike, fill: Fill = "blur") -> Tensor:
    """Keep an area of an image, and replace everything else.

    Parameters
    ----------
    image, mask, fill
        As in `remove`; the fill takes the place of what is outside the area.

    Returns
    -------
    torch.Tensor
        Of the shape, dtype and device of the image. Pixels inside the area are as they were.

    Raises
    ------
    ImportError, TypeError, ValueError
        As `remove`.

    Examples
    --------
    >>> image = torch.tensor([[[4.0, 1.0], [1.0, 2.0]]])
    >>> keep(image, image[0] > 3, fill="mean")
    tensor([[[4., 2.],
             [2., 2.]]])
    """
    return remove(image, ~check_mask(mask), fill)


def neutral(image: Tensor) -> Tensor:
    """Make an image that is uniform, of an image's mean colour.

    Parameters
    ----------
    image : torch.Tensor
        (C, H, W) or (N, C, H, W), floating point, finite.

    Returns
    -------
    torch.Tensor
        Of the shape, dtype and device of the image.

    Raises
    ------
    TypeError, ValueError
        If it is not such an image.

    Examples
    --------
    >>> neutral(torch.tensor([[[4.0, 1.0], [1.0, 2.0]]]))
    tensor([[[2., 2.],
             [2., 2.]]])
    """
    pictures = _batch("image", image)
    return mean_colour(pictures).expand_as(pictures).reshape(image.shape).clone()


def transplant(
    source: Tensor, source_mask: ArrayLike, target: Tensor, target_mask: ArrayLike | None = None, *, fill: Fill = "blur"
) -> Tensor:
    """Put an area of one image into another.

    Parameters
    ----------
    source : torch.Tensor
        (C, H, W) or (N, C, H, W): such as a reference.
    source_mask : torch.Tensor or np.ndarray
        bool, (H, W) or (N, H, W), not empty: the part to take.
    target : torch.Tensor
        Of the shape of the source, on its device: where the part goes, such as `neutral` of the source.
    target_mask : torch.Tensor or np.ndarray, optional
        An area of the target that makes room: it is filled, and the part is moved so that the centres of the two areas
        lie on each other, to the nearest pixel. What would leave the image is cut off. Default: the part keeps its
        place, and nothing is filled.
    fill : str, torch.Tensor or callable, default "blur"
        As in `remove`.

    Returns
    -------
    torch.Tensor
        Of the shape, dtype and device of the target.

    Raises
    ------
    ImportError, TypeError, ValueError
        If the images and masks do not fit each other, or a mask is empty; and as `remove`.

    Examples
    --------
    >>> source, target = torch.tensor([[[4.0, 0.0, 0.0]]]), torch.tensor([[[1.0, 1.0, 7.0]]])
    >>> transplant(source, source[0] > 3, target)
    tensor([[[4., 1., 7.]]])
    >>> transplant(source, source[0] > 3, target, target[0] > 3)
    tensor([[[1., 1., 4.]]])
    """
    sources, targets = _batch("source", source), _batch("target", target)
    if source.shape != target.shape or source.device != target.device:
        raise ValueError(f"`target` must be of the shape and on the device of `source`, {tuple(source.shape)} on "
                         f"{source.device}, got {describe(target)} on {target.device}")  # fmt: skip
    parts = _masks("source_mask", source_mask, sources)
    if target_mask is None:
        return torch.where(parts[:, None], sources.to(targets), targets).reshape(target.shape)
    rooms = _masks("target_mask", target_mask, targets)
    made = [
        _pasted(y, part, filled(x, room, fill), room)
        for y, part, x, room in zip(sources.to(targets), parts, targets, rooms, strict=True)
    ]
    return torch.stack(made).reshape(target.shape)


def _pasted(source: Tensor, part: Tensor, target: Tensor, room: Tensor) -> Tensor:
    """The part of the source on the target, its centre on that of the room."""
    rows, columns = part.nonzero(as_tuple=True)
    down, right = (round(b - a) for a, b in zip(_centre(part), _centre(room), strict=True))
    there = (
        (rows + down >= 0) & (rows + down < part.shape[0]) & (columns + right >= 0) & (columns + right < part.shape[1])
    )
    rows, columns = rows[there], columns[there]
    made = target.clone()
    made[:, rows + down, columns + right] = source[:, rows, columns]
    return made


def _centre(mask: Tensor) -> tuple[float, float]:
    rows, columns = mask.nonzero(as_tuple=True)
    return float(rows.double().mean()), float(columns.double().mean())


def _batch(name: str, image: object) -> Tensor:
    """Images (N, C, H, W), detached."""
    values = check_tensor(name, image).detach()
    pictures = check_images(values[None] if values.ndim == 3 else values, name)
    if pictures.ndim != 4:
        raise ValueError(f"{name} must be (C, H, W) or (N, C, H, W), got {describe(image)}")
    return check_finite(name, pictures)


def _masks(name: str, mask: ArrayLike, pictures: Tensor, empty: bool = False) -> Tensor:
    """A mask (H, W) for each of the images (N, C, H, W), on their device."""
    masks = check_mask(mask)
    masks = masks[None] if masks.ndim == 2 else masks
    wanted = (len(pictures), *pictures.shape[2:])
    if tuple(masks.shape) != wanted:
        raise ValueError(f"`{name}` must be (N, H, W) = {wanted}, as the image, got {describe(mask)}")
    if not empty and not bool(masks.flatten(1).any(1).all()):
        raise ValueError(f"`{name}` must have at least one pixel per image, got none")
    return masks.to(pictures.device)
