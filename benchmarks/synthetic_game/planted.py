"""A network with planted part detectors: no training, each latent stands for one kind of part by construction."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from captum_shared.synthetic.scene import Color

PLANTED_KINDS = ("ear", "drawer", "limb", "tail", "head", "wing", "gear", "bow")
"""Kinds with a detector, in the order of the latents. Their hues are spread evenly; the ear's and the drawer's agree
with the details of these parts that are painted in a colour of their own."""
PLANTED_LAYER = "features.5"
"""The last map: one channel for each kind, a quarter of the image's side."""
SATURATION = 0.45
"""Distance from grey of the hue that a kind is painted in."""
SELECTIVITY = 0.8
"""Share of a colour's saturation that is taken from every detector; a neighbouring hue excites one by 0.71."""
THRESHOLD = 0.02
"""What remains must exceed this: background and clutter do not."""


def _directions() -> Tensor:
    """Unit vectors of the hues in the plane orthogonal to grey, (8, 3)."""
    red, green = torch.tensor([2.0, -1.0, -1.0]) / math.sqrt(6), torch.tensor([0.0, 1.0, -1.0]) / math.sqrt(2)
    angles = 2 * math.pi * torch.arange(len(PLANTED_KINDS)) / len(PLANTED_KINDS)
    return angles.cos()[:, None] * red + angles.sin()[:, None] * green


def planted_colors() -> dict[str, Color]:
    """The colour that a scene must paint each kind of :data:`PLANTED_KINDS` in, for its detector to find it."""
    colors = (0.5 + SATURATION * _directions()).tolist()
    return {kind: (red, green, blue) for kind, (red, green, blue) in zip(PLANTED_KINDS, colors, strict=True)}


class PlantedNetwork(nn.Module):
    """Matched filters for hue: eight part detectors with fixed weights.

    Eight rectified filters measure the colour along each hue; each detector subtracts a share of their sum from its
    own, so that it answers to its own hue at any saturation, and to no other; a blur with stride 4 makes the map.
    Nothing is trained and no two detectors mix, so the latents are axis-aligned by construction. No module is used
    twice, so that every Captum method applies.

    ``forward`` takes images (n, 3, height, width) in [0, 1] and returns pooled detectors (n, 8). There are no biases
    in what follows the detectors: an image without parts gives (almost) zero.
    """

    def __init__(self) -> None:
        super().__init__()
        n = len(PLANTED_KINDS)
        hues, detectors = nn.Conv2d(3, n, 1, bias=False), nn.Conv2d(n, n, 1)
        blur = nn.Conv2d(n, n, 5, stride=4, padding=2, groups=n, bias=False)
        self.features = nn.Sequential(hues, nn.ReLU(), detectors, nn.ReLU(), blur, nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        total = 1 + math.sqrt(2)  # of the rectified filters' answers to any hue, over its saturation
        with torch.no_grad():
            hues.weight.copy_(_directions()[..., None, None])
            detectors.weight.copy_((torch.eye(n) - SELECTIVITY / total)[..., None, None])
            detectors.bias.fill_(-THRESHOLD)  # type: ignore[union-attr]
            blur.weight.copy_(torch.ones(n, 1, 5, 5))

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.flatten(self.pool(self.features(images)))
        return result


def planted_network() -> PlantedNetwork:
    """The network with planted part detectors, in evaluation mode."""
    return PlantedNetwork().eval()
