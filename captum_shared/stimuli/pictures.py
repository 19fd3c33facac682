"""The pictures of a pair: part removed, part alone, part transplanted, each beside controls of the same area."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from captum_shared.interventions import hottest_area, keep, moved_area, neutral, remove, transplant
from captum_shared.stimuli.frames import Window
from captum_shared.visualization import display_heat

CANDIDATES = 64
"""Random places among which controls are chosen, those that overlap least with the part. Our choice."""


class NoHeat(ValueError):
    """A map says nothing of its image, so that there is no part to remove."""


@dataclass(frozen=True)
class Stimulus:
    """A picture (H, W, 3) in bytes for the experiment; `area` is its share that was changed, or that is left of it.

    Its kind is "image", "reference", "removed", "alone" or "transplant". Controls, numbered from 1, have a random part.
    """

    kind: str
    control: int
    picture: np.ndarray
    area: float = 0.0

    @property
    def name(self) -> str:
        """Such as "removed" and "removed_control_1"."""
        return self.kind if not self.control else f"{self.kind}_control_{self.control}"


@dataclass(frozen=True)
class Parts:
    """The hottest areas of a pair's pictures, (H, W) bool, and controls of the same shapes at random places."""

    image: Tensor
    reference: Tensor
    image_controls: tuple[Tensor, ...]
    reference_controls: tuple[Tensor, ...]


def find_parts(
    maps: np.ndarray, window: Window, size: tuple[int, int], *, area: float = 0.1, controls: int = 2, seed: int = 0
) -> Parts:
    """Mark the hottest share of the window where signed maps (2, h, w) lie, in pictures of this height and width.

    Raises
    ------
    NoHeat
        If a map has none.

    Examples
    --------
    >>> maps = np.zeros((2, 8, 8))
    >>> maps[:, 2:4, 2:4] = 1
    >>> parts = find_parts(maps, Window(0, 0, 8, 8), (8, 8), area=1 / 16, controls=1)
    >>> parts.image.nonzero().tolist()
    [[2, 2], [2, 3], [3, 2], [3, 3]]
    >>> int(parts.image_controls[0].sum()), int((parts.image & parts.image_controls[0]).sum())
    (4, 0)
    """
    heats = [_heat(np.asarray(one), window.size) for one in maps]
    if not all(heat.any() for heat in heats):
        raise NoHeat("a map has no heat, so there is no part to remove")
    hot = [hottest_area(heat, area, seed=seed) for heat in heats]
    places = [[window.place(mask, size) for mask in (one, *_controls(one, controls, seed))] for one in hot]
    return Parts(places[0][0], places[1][0], tuple(places[0][1:]), tuple(places[1][1:]))


def pair_stimuli(image: np.ndarray, reference: np.ndarray, parts: Parts, fill: str = "blur") -> list[Stimulus]:
    """Image and reference, (H, W, 3) in bytes, then for each kind the picture and its controls.

    A part alone is on the mean colour of its picture.
    """
    x, y = (torch.from_numpy(one.copy()).permute(2, 0, 1).double() for one in (image, reference))
    made = [Stimulus("image", 0, image), Stimulus("reference", 0, reference)]
    here = (parts.image, *parts.image_controls)
    there = (parts.reference, *parts.reference_controls)
    made += [_stimulus("removed", k, remove(x, mask, fill), mask) for k, mask in enumerate(here)]
    made += [_stimulus("alone", k, keep(x, mask, neutral(x)), mask) for k, mask in enumerate(here)]
    ones, zeros = torch.ones(1, *x.shape[1:]), torch.zeros(1, *x.shape[1:])
    for k, mask in enumerate(there):
        moved = transplant(ones, mask, zeros, parts.image, fill=zeros)[0] > 0
        made.append(_stimulus("transplant", k, transplant(y, mask, x, parts.image, fill=fill), moved))
    return made


def _stimulus(kind: str, control: int, picture: Tensor, mask: Tensor) -> Stimulus:
    pixels = picture.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return Stimulus(kind, control, pixels, float(mask.double().mean()))


def _heat(signed: np.ndarray, size: tuple[int, int]) -> Tensor:
    """The heat of a map on an area of this size, as it is drawn: resized, smoothed, positive."""
    values = torch.from_numpy(signed.astype(np.float64))[None, None]
    larger = interpolate(values, size, mode="bilinear", align_corners=False, antialias=True)
    return torch.from_numpy(display_heat(larger[0, 0].numpy()))


def _controls(part: Tensor, count: int, seed: int) -> list[Tensor]:
    """The same shape at random places that overlap least with the part and with each other, and are in one piece."""
    tried = [moved_area(part, seed=seed * CANDIDATES + number) for number in range(CANDIDATES)]
    width, taken = _width(part), part.clone()
    apart = [max(0.0, _width(mask) / width - 1) for mask in tried]  # a shape that crosses the border falls apart
    chosen: list[Tensor] = []
    for _ in range(count):
        cost = [float((mask & taken).sum() / part.sum()) + torn for mask, torn in zip(tried, apart, strict=True)]
        best = int(np.argmin(cost))
        chosen.append(tried[best])
        taken |= tried[best]
    return chosen


def _width(mask: Tensor) -> float:
    """How far the pixels of an area are from their centre, in the root mean square; at least half a pixel."""
    places = mask.nonzero().double()
    return max(float((places - places.mean(0)).square().sum(1).mean().sqrt()), 0.5)
