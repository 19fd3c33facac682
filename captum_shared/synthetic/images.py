"""From scenes to images with an exact mask for every part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from captum_shared.checks import check_integer
from captum_shared.synthetic.layout import CATEGORIES, sample_scene
from captum_shared.synthetic.parts import KINDS, Ink, Kind, circle, polygon, stroke
from captum_shared.synthetic.scene import Background, Part, Scene
from captum_shared.synthetic.styles import STYLES
from captum_shared.synthetic.typical import typical_scene

SIZE = 96
_LIGHT = (-0.55, -0.85)


def render(scene: Scene, size: int = SIZE) -> tuple[Tensor, dict[str, np.ndarray]]:
    """Draw a scene.

    Parts are painted from back to front with anti-aliased edges. A pixel belongs to the frontmost part that covers at
    least half of it, so the masks are disjoint. Removing a part changes pixels only inside that part's
    :func:`footprint`, and gives its pixels to the parts behind it; every other pixel and mask is the same to the bit.

    Parameters
    ----------
    scene : Scene
        What to draw.
    size : int
        Side of the image in pixels, at least 16.

    Returns
    -------
    image : torch.Tensor
        (3, size, size) float32, multiples of 1/255 in [0, 1].
    masks : dict of str to numpy.ndarray
        For each kind with a visible pixel: (size, size) bool, the pixels of all parts of this kind.

    Raises
    ------
    ValueError
        If `size` is too small or a part's kind is unknown.

    Examples
    --------
    >>> from captum_shared.synthetic import sample_scene
    >>> scene = sample_scene("creature", 0)
    >>> image, masks = render(scene)
    >>> image.shape, set(masks) <= set(scene.kinds)
    (torch.Size([3, 96, 96]), True)
    """
    image, owner = _composite(scene, size)
    masks = {}
    for kind in scene.kinds:
        indices = [index for index, part in enumerate(scene.parts) if part.kind == kind]
        mask = np.isin(owner, indices)
        if mask.any():
            masks[kind] = mask
    levels = np.rint(255 * np.clip(image, 0, 1)).astype(np.float32) / np.float32(255)
    return torch.from_numpy(np.ascontiguousarray(levels.transpose(2, 0, 1))), masks


def footprint(part: Part, size: int = SIZE) -> np.ndarray:
    """Find every pixel that the part touches when nothing hides it, (size, size) bool: its mask and the soft edge.

    Parameters
    ----------
    part : Part
        In units of the image.
    size : int, default 96
        Side of the image in pixels.

    Returns
    -------
    (size, size) bool array

    Raises
    ------
    ValueError
        If the part's kind is unknown.

    Examples
    --------
    >>> from captum_shared.synthetic import sample_scene
    >>> scene = sample_scene("creature", 0)
    >>> footprint(scene.parts[0]).shape
    (96, 96)
    """
    touched = np.zeros((size, size), dtype=bool)
    window, ink = _paint(part, size)
    touched[window] = ink.alpha > 0
    return touched


def _composite(scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The image (size, size, 3) and the index of the part that owns each pixel, -1 for the background."""
    if size < 16:
        raise ValueError(f"`size` must be at least 16 pixels, got {size}")
    image = _draw_background(scene.background, size).copy()  # kept: scenes with a part removed share the rest
    owner = np.full((size, size), -1)
    for index, part in enumerate(scene.parts):
        window, ink = _paint(part, size)
        image[window] = image[window] * (1.0 - ink.alpha[..., None]) + ink.rgb
        owner[window][ink.alpha >= 0.5] = index
    return image, owner


@lru_cache(maxsize=64)
def _paint(part: Part, size: int) -> tuple[tuple[slice, slice], Ink]:
    """The part's paint and the window of the image that it falls in."""
    kind = _kind(part)
    unit = part.scale * size
    x, y = part.position[0] * size, part.position[1] * size
    reach = kind.reach * unit + 1
    columns = slice(*np.clip((int(x - reach), int(x + reach) + 2), 0, size))
    rows = slice(*np.clip((int(y - reach), int(y + reach) + 2), 0, size))
    dy, dx = np.mgrid[rows, columns] + 0.5 - np.asarray((y, x))[:, None, None]
    u, v = _to_part_frame(dx, dy, part)
    light = _to_part_frame(*_LIGHT, part)
    ink = Ink(u / unit, v / unit, unit, size, light)
    kind.paint(ink, part, ink.u, ink.v)
    return (rows, columns), ink


def _kind(part: Part) -> Kind:
    if part.kind not in KINDS:
        raise ValueError(f"a part's kind must be one of {', '.join(KINDS)}, got {part.kind!r}")
    if not part.style:
        return KINDS[part.kind]
    styles = STYLES.get(part.kind, {})
    if part.style not in styles:
        known = ", ".join(map(repr, styles)) or "''"
        raise ValueError(f"the style of a {part.kind} must be one of {known}, got {part.style!r}")
    return styles[part.style]


def _to_part_frame(dx, dy, part: Part):  # type: ignore[no-untyped-def]
    cos, sin = np.cos(part.rotation), np.sin(part.rotation)
    if part.mirror:
        dx = -dx
    return cos * dx + sin * dy, cos * dy - sin * dx


@lru_cache(maxsize=16)
def _draw_background(background: Background, size: int) -> np.ndarray:
    rng = np.random.default_rng(background.seed)
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + 0.6 * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)), 0, 1)
    first, second = np.asarray(background.colors)
    image: np.ndarray = first + ramp[..., None] * (second - first)
    for _ in range(background.clutter):
        image += _clutter(x, y, size, rng)[..., None] * rng.uniform(-0.11, 0.11, 3)
    for cells, strength in ((4, 0.035), (24, 0.012), (48, 0.016)):
        image += strength * _smooth_noise(rng.uniform(-1, 1, (cells, cells)), x, y)[..., None]
    return image


def _clutter(x: np.ndarray, y: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Coverage of one random shape, (size, size)."""
    cx, cy, radius, turn = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.04, 0.13), rng.uniform(0, 2 * np.pi)
    end = (cx + 2 * radius * np.cos(turn), cy + 2 * radius * np.sin(turn))
    side = (cx + 1.6 * radius * np.cos(turn + 1), cy + 1.6 * radius * np.sin(turn + 1))
    shape = rng.integers(4)
    if shape == 0:
        distance = circle(x, y, cx, cy, radius)
    elif shape == 1:
        distance = np.abs(circle(x, y, cx, cy, radius)) - 0.012
    elif shape == 2:
        distance = stroke(x, y, [(cx, cy), end], [0.014, 0.014])
    else:
        distance = polygon(x, y, [(cx, cy), end, side], 0.01)
    return np.clip(0.5 - distance * size / 1.5, 0, 1)


def _smooth_noise(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A grid of values (g, g) interpolated smoothly at (x, y) in [0, 1]."""
    cells = len(values) - 1
    column, row = np.minimum((x * cells).astype(int), cells - 1), np.minimum((y * cells).astype(int), cells - 1)
    fx, fy = (3 * t**2 - 2 * t**3 for t in (x * cells - column, y * cells - row))
    upper = values[row, column] * (1 - fx) + values[row, column + 1] * fx
    lower = values[row + 1, column] * (1 - fx) + values[row + 1, column + 1] * fx
    result: np.ndarray = upper * (1 - fy) + lower * fy
    return result


@dataclass(frozen=True)
class SyntheticImages:
    """Rendered scenes.

    Attributes
    ----------
    images : torch.Tensor
        (n, 3, size, size) float32 in [0, 1].
    categories : list of str
        One per image.
    scenes : list of Scene
    masks : list of dict
        Per image: kind -> (size, size) bool.
    """

    images: Tensor
    categories: list[str]
    scenes: list[Scene]
    masks: list[dict[str, np.ndarray]]

    def __len__(self) -> int:
        return len(self.scenes)

    def presence(self) -> Tensor:
        """Which kinds are visible, (n, number of kinds) float32 of 0 and 1, in the order of ``KINDS``."""
        return torch.tensor([[float(kind in masks) for kind in KINDS] for masks in self.masks])


def render_scenes(scenes: Sequence[Scene], size: int = SIZE) -> SyntheticImages:
    """Render several scenes (at least one); see :func:`render`.

    Parameters
    ----------
    scenes : sequence of Scene
        What to draw.
    size : int, default 96
        Side of the images in pixels.

    Returns
    -------
    SyntheticImages

    Raises
    ------
    ValueError
        If there are no scenes; and as `render`.

    Examples
    --------
    >>> from captum_shared.synthetic import sample_scene
    >>> scene = sample_scene("creature", 0)
    >>> len(render_scenes([scene, scene]))
    2
    """
    if len(scenes) == 0:
        raise ValueError("`scenes` must hold at least one scene, got none")
    images, masks = zip(*(render(scene, size) for scene in scenes), strict=True)
    return SyntheticImages(torch.stack(images), [scene.category for scene in scenes], list(scenes), list(masks))


def make_images(
    n: int, categories: str | Sequence[str] = CATEGORIES, *, seed: int = 0, size: int = SIZE, clutter: int = 8,
    typical: bool = False,
) -> SyntheticImages:  # fmt: skip
    """Sample and render `n` scenes, the categories taking turns.

    Image `i` depends on `(seed, i)` only, so a longer set starts with the shorter one.

    Parameters
    ----------
    n : int
        How many scenes.
    categories : str or sequence of str, default all
        Which take turns.
    seed : int, default 0
        For the scenes.
    size : int, default 96
        Side of the images in pixels.
    clutter : int, default 8
        Faint shapes in the background.
    typical : bool, default False
        Whether scenes come from :func:`typical_scene`, not :func:`sample_scene`.

    Returns
    -------
    SyntheticImages

    Raises
    ------
    ValueError
        If `n` is not positive, a category is unknown or `size` is too small.

    Examples
    --------
    >>> made = make_images(3, "creature", seed=0)
    >>> made.images.shape, made.categories
    (torch.Size([3, 3, 96, 96]), ['creature', 'creature', 'creature'])
    """
    check_integer("n", n)
    names = [categories] if isinstance(categories, str) else list(categories)
    if not names:
        raise ValueError("`categories` must name at least one category, got none")
    sample = typical_scene if typical else sample_scene
    scenes = [sample(names[i % len(names)], np.random.default_rng([seed, i]), clutter=clutter) for i in range(n)]
    return render_scenes(scenes, size)
