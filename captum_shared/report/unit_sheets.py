"""A picture of every unit: its Neuron Feature, large, and its strongest crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_shared.report.pictures import jpeg
from captum_shared.selectivity import PixelSource, ReceptiveFields, TopActivations
from captum_shared.selectivity.crops import cut

TILE, GAP, ROWS, COLUMNS = 96, 4, 2, 6  # pixels; crops beside the feature
LIGHT = 0.93  # where there is no image
SHOWN = ROWS * COLUMNS


def strongest_tiles(top: TopActivations, fields: ReceptiveFields, source: PixelSource) -> list[list[np.ndarray]]:
    """For each unit its strongest crops, small, (TILE, TILE, 3) bytes, reading each image once."""
    some = top.strongest(min(SHOWN, top.k))
    tiles: list[list[np.ndarray]] = [[np.empty(0)] * some.k for _ in range(top.n_units)]
    for index in some.images.unique().tolist():
        units, ranks = torch.nonzero(some.images == index, as_tuple=True)
        picture = source.pictures(source.normalized([index]))
        boxes = fields.boxes(units, some.positions[units, ranks])
        for unit, rank, box in zip(units.tolist(), ranks.tolist(), boxes, strict=True):
            crop, inside = cut(picture, box[None])
            tiles[unit][rank] = tile(masked_array(crop[0], inside[0]), TILE)
    return tiles


def sheet(feature: np.ndarray, crops: Sequence[np.ndarray]) -> bytes:
    """The feature (h, w, 3) as large as two rows of crops, then the crops, as JPEG."""
    pitch, large = TILE + GAP, 2 * TILE + GAP
    picture = np.full((large, large + COLUMNS * pitch, 3), 255, np.uint8)
    picture[:, :large] = tile(feature, large)
    for i, crop in enumerate(crops[:SHOWN]):
        row, left = i // COLUMNS * pitch, large + GAP + i % COLUMNS * pitch
        picture[row : row + TILE, left : left + TILE] = crop
    return jpeg(picture, 88)


def tile(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture (h, w, 3), NaN where there is none, as bytes, in the middle of a square with this side."""
    pixels = (np.where(np.isnan(picture), LIGHT, picture).clip(0, 1) * 255).round().astype(np.uint8)
    longer = max(pixels.shape[:2])
    height, width = (max(1, round(n * side / longer)) for n in pixels.shape[:2])
    resample = Image.Resampling.NEAREST if longer < side else Image.Resampling.LANCZOS
    square = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = np.asarray(
        Image.fromarray(pixels).resize((width, height), resample)
    )
    return square


def masked_array(crop: Tensor, inside: Tensor) -> np.ndarray:
    """A crop (C, h, w) as (h, w, 3), NaN where there is no image."""
    return array_of(crop.masked_fill(~inside[None], float("nan")))


def array_of(picture: Tensor) -> np.ndarray:
    """A picture (C, h, w) as (h, w, 3)."""
    return picture.permute(1, 2, 0).expand(-1, -1, 3).numpy()
