"""Changes of crops, (n, C, h, w) pictures in [0, 1], that show what a response depends on."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from captum_shared.checks import check_number

Change = Callable[[Tensor], Tensor]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's convert("L")
GREYS = ("luminance", "opponent")


def grey(kind: str = "luminance") -> Change:
    """Make a change to grey, the same in all three channels.

    "luminance": 0.299 R + 0.587 G + 0.114 B. "opponent": what is left in the opponent space of Rafegas and Vanrell
    (2018) when both chromatic axes, (R - G) / sqrt 2 and (R + G - 2 B) / sqrt 6, are set to zero: the mean of R, G, B.

    Parameters
    ----------
    kind : {"luminance", "opponent"}, default "luminance"
        Which weights to give the channels.

    Returns
    -------
    callable
        Crops (n, 3, h, w) to grey ones of the same shape.

    Raises
    ------
    ValueError
        If the name is unknown; from the change itself, if there are not three channels.

    Examples
    --------
    >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    >>> grey()(red).flatten()
    tensor([0.2990, 0.2990, 0.2990])
    """
    if kind not in GREYS:
        raise ValueError(f"`grey` must be one of {GREYS}, got {kind!r}")
    weights = LUMA if kind == "luminance" else (1 / 3, 1 / 3, 1 / 3)

    def change(crops: Tensor) -> Tensor:
        if crops.shape[1] != 3:
            raise ValueError(f"grey needs three colour channels (n, 3, h, w), got shape {tuple(crops.shape)}")
        return torch.einsum("nchw,c->nhw", crops, crops.new_tensor(weights))[:, None].expand_as(crops)

    return change


def turn(degrees: float) -> Change:
    """Make a counter-clockwise turn about the centre; the corners are filled by reflection.

    Turning a square crop by a multiple of 90 degrees needs no interpolation.

    Parameters
    ----------
    degrees : float
        The angle.

    Returns
    -------
    callable
        Crops (n, C, h, w) to turned ones of the same shape.

    Raises
    ------
    TypeError, ValueError
        If the angle is not a finite number.

    Examples
    --------
    >>> turn(90)(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    tensor([[[[2., 4.],
              [1., 3.]]]])
    """
    check_number("degrees", degrees)

    def change(crops: Tensor) -> Tensor:
        if degrees % 90 == 0 and crops.shape[2] == crops.shape[3]:
            return crops.rot90(int(degrees // 90), (2, 3))
        height, width = crops.shape[2:]
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        # In a grid from -1 to 1 the two axes are in units of different length unless the crop is square.
        theta = crops.new_tensor([[c, -s * height / width, 0], [s * width / height, c, 0]])
        grid = affine_grid(theta.expand(len(crops), 2, 3), list(crops.shape), align_corners=False)
        return grid_sample(crops, grid, padding_mode="reflection", align_corners=False)

    return change


def mirror(axis: float) -> Change:
    """Make a reflection about an axis through the centre: 0 degrees is horizontal, 90 vertical (swaps left and right).

    Parameters
    ----------
    axis : float
        In degrees.

    Returns
    -------
    callable
        Crops (n, C, h, w) to mirrored ones of the same shape.

    Raises
    ------
    TypeError, ValueError
        If the angle is not a finite number.

    Examples
    --------
    >>> mirror(90)(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    tensor([[[[2., 1.],
              [4., 3.]]]])
    """
    turned = turn(2 * check_number("axis", axis))
    return lambda crops: turned(crops.flip(2))
