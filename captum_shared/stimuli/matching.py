"""Equal luminance and contrast: pictures whose brightness tells nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captum_shared.selectivity.changes import LUMA

TOLERANCE = 0.02
"""Of the contrast, in grey levels from 0 to 255; the mean is met to within one level of a single pixel."""
LEAST = 1.0
"""The lowest contrast, in grey levels, to which a group is brought down."""
_STEPS = 50
_SHRINK = 0.95


def luminance_and_contrast(picture: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation over pixels of the luminance of a picture (H, W, 3) in bytes, from 0 to 255.

    The luminance is 0.299 R + 0.587 G + 0.114 B of the pixel values, as in Pillow: in proportion to the light on a
    screen whose light is in proportion to pixel values.

    Parameters
    ----------
    picture : (H, W, 3) uint8 array
        In RGB.

    Returns
    -------
    (float, float)

    Raises
    ------
    ValueError
        If it is no such array.

    Examples
    --------
    >>> luminance_and_contrast(np.array([[[0, 0, 0], [200, 200, 200]]], dtype=np.uint8))
    (100.0, 100.0)
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"`picture` must be (H, W, 3) of bytes, got {picture.dtype} of shape {picture.shape}")
    values = picture.astype(np.float64) @ np.array(LUMA)
    return float(values.mean()), float(values.std())


def match_pictures(
    pictures: Sequence[np.ndarray],
    groups: Sequence[object],
    *,
    luminance: bool = True,
    contrast: bool = False,
    seed: int = 0,
) -> list[np.ndarray]:
    """Give pictures the same mean luminance, and those of a group the same contrast.

    Each picture is scaled and shifted by two numbers, the same for all its pixels and channels, so that its mean
    luminance is the mean of all pictures, and its contrast the mean of its group; where black and white do not leave
    room for that, the contrast of the whole group is lowered until they do.

    Parameters
    ----------
    pictures : sequence of (H, W, 3) uint8 arrays
        In RGB.
    groups : sequence of hashable
        The group of each picture.
    luminance, contrast : bool
        What is matched; the other is kept.
    seed : int, default 0
        Of the pixels that are set one level brighter or darker, so that rounding does not change the mean.

    Returns
    -------
    list of (H, W, 3) uint8 arrays

    Raises
    ------
    ValueError
        If the contrast of a picture of one colour is to be matched, or there is no room for it.

    Examples
    --------
    >>> dark, light = (np.array([[[a] * 3, [b] * 3]], np.uint8) for a, b in ((0, 40), (100, 200)))
    >>> [luminance_and_contrast(one) for one in match_pictures([dark, light], [0, 0], contrast=True)]
    [(85.0, 35.0), (85.0, 35.0)]
    """
    found = [luminance_and_contrast(picture) for picture in pictures]
    flat = [number for number, (_, spread) in enumerate(found) if spread == 0]
    if contrast and flat:
        raise ValueError(f"the contrast of a picture of one colour cannot be matched, got it in picture {flat[0]}")
    middle = float(np.mean([mean for mean, _ in found]))
    means = [middle if luminance else mean for mean, _ in found]
    if not contrast:
        spreads = [spread for _, spread in found]
        return [_adjusted(*one, seed) for one in zip(pictures, means, spreads, strict=True)]
    made: dict[int, np.ndarray] = {}
    for group in dict.fromkeys(groups):
        members = [number for number, name in enumerate(groups) if name == group]
        some, own = [pictures[number] for number in members], [means[number] for number in members]
        level = float(np.mean([found[number][1] for number in members]))
        made |= dict(zip(members, _equal_contrast(some, own, level, seed), strict=True))
    return [made[number] for number in range(len(pictures))]


def _equal_contrast(
    pictures: Sequence[np.ndarray], means: Sequence[float], level: float, seed: int
) -> list[np.ndarray]:
    """Pictures with these means and one contrast: the highest up to `level` that all of them can have, or nearly."""
    order = list(range(len(pictures)))
    made: dict[int, np.ndarray] = {}
    while len(made) < len(pictures):
        number = next(one for one in order if one not in made)
        one = _adjusted(pictures[number], means[number], level, seed)
        if abs(luminance_and_contrast(one)[1] - level) <= TOLERANCE:
            made[number] = one
            continue
        made, level = {}, level * _SHRINK
        order.remove(number)
        order.insert(0, number)  # what failed is tried first from now on
        if level < LEAST:
            raise ValueError("black and white leave no room for pictures of equal contrast")
    return [made[number] for number in range(len(pictures))]


def _adjusted(picture: np.ndarray, mean: float, spread: float, seed: int) -> np.ndarray:
    """The picture with this mean luminance, and as near as black and white allow with this contrast.

    Each value is rounded up or down by chance, in proportion to what is lost: plain rounding would shift all pixels of
    a uniform ground alike.
    """
    at, width = luminance_and_contrast(picture)
    if abs(at - mean) < 1e-9 and abs(width - spread) < 1e-9:
        same: np.ndarray = picture.copy()
        return same
    source = picture.astype(np.float64) - at
    chance = np.random.default_rng(seed).random((*picture.shape[:2], 1))
    gain, level = spread / width if width else 1.0, mean
    for _ in range(_STEPS):
        made: np.ndarray = np.floor(np.clip(gain * source + level, 0, 254.999) + chance).astype(np.uint8)
        middle, reached = luminance_and_contrast(made)
        if abs(middle - mean) < TOLERANCE / 2 and (not width or abs(reached - spread) < TOLERANCE / 2):
            break
        level += mean - middle
        gain *= min(spread / reached, 2.0) if reached and width else 1.0
    return _settled(made, mean, seed)


def _settled(picture: np.ndarray, mean: float, seed: int) -> np.ndarray:
    """The mean to within a level of one pixel: some pixels, drawn at random, become one level brighter or darker."""
    missing = mean - luminance_and_contrast(picture)[0]
    step = 1 if missing > 0 else -1
    flat = picture.reshape(-1, 3).astype(np.int16)
    free = np.flatnonzero((flat.max(1) < 255) if step > 0 else (flat.min(1) > 0))
    count = min(round(abs(missing) * len(flat)), len(free))
    chosen = np.random.default_rng(seed).permutation(free)[:count]
    flat[chosen] += step
    result: np.ndarray = flat.astype(np.uint8).reshape(picture.shape)
    return result
