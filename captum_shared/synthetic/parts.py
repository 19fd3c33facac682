"""The vocabulary: how each kind of part is drawn.

Shapes are signed distances (negative inside) in the part's own frame, after the formulas collected by Inigo Quilez
(https://iquilezles.org/articles/distfunctions2d). The root of a part is at (0, 0); parts that stick out point along +u.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from captum_shared.synthetic.scene import Color, Part

Array = np.ndarray
DARK: Color = (0.13, 0.12, 0.15)
WHITE: Color = (0.97, 0.97, 0.95)
STEEL: Color = (0.76, 0.79, 0.83)
OUTLINE = 0.011
"""Width of a dark outline, in units of the image side."""


class Ink:
    """Layers of paint for one part on a patch of pixels: colour times coverage (h, w, 3) and coverage (h, w)."""

    def __init__(self, u: Array, v: Array, unit: float, side: float, light: tuple[float, float]):
        self.u, self.v = u, v
        self.pixel = 1.0 / unit
        self.line = OUTLINE * side / unit
        self.light = light
        self.rgb = np.zeros((*u.shape, 3))
        self.alpha = np.zeros(u.shape)

    def cover(self, distance: Array) -> Array:
        """Share of each pixel that lies inside, (h, w) in [0, 1]."""
        return np.clip(0.5 - distance / self.pixel, 0.0, 1.0)

    def solid(self, distance: Array, color: Color) -> None:
        """Paint a lit shape with a dark outline over what is there."""
        cover = self.cover(distance)
        self.rgb = self.rgb * (1.0 - cover[..., None]) + cover[..., None] * np.asarray(darker(color, 0.42))
        self.alpha = cover + self.alpha * (1.0 - cover)
        glow = self.light[0] * self.u + self.light[1] * self.v
        shine = np.clip(1.0 + 0.17 * glow, 0.72, 1.3)[..., None]
        inner = self.cover(distance + self.line)[..., None]
        self.rgb = self.rgb * (1.0 - inner) + inner * np.clip(np.asarray(color) * shine, 0.0, 1.0)

    def detail(self, distance: Array, color: Color, opacity: float = 1.0) -> None:
        """Paint only where the part already is, so that its outline stays as it was."""
        cover = (opacity * self.cover(distance) * self.alpha)[..., None]
        self.rgb = self.rgb * (1.0 - cover) + cover * np.asarray(color) * self.alpha[..., None]


def darker(color: Color, factor: float) -> Color:
    """The colour, closer to black the smaller the factor."""
    return (color[0] * factor, color[1] * factor, color[2] * factor)


def lighter(color: Color, amount: float) -> Color:
    """The colour, closer to white by a fraction of the way."""
    return (color[0] + amount * (1 - color[0]), color[1] + amount * (1 - color[1]), color[2] + amount * (1 - color[2]))


# --- signed distances ------------------------------------------------------------------------------------------------


def circle(u: Array, v: Array, cu: float, cv: float, radius: float) -> Array:
    """Distance to a circle about (cu, cv)."""
    return np.hypot(u - cu, v - cv) - radius


def ellipse(u: Array, v: Array, cu: float, cv: float, ru: float, rv: float) -> Array:
    """First-order distance: the implicit function over the length of its gradient."""
    a, b = (u - cu) / ru, (v - cv) / rv
    level = np.hypot(a, b)
    return level * (level - 1.0) / np.maximum(np.hypot(a / ru, b / rv), 1e-9)


def box(u: Array, v: Array, cu: float, cv: float, half: tuple[float, float], corner: float = 0.0) -> Array:
    """Distance to a box of this half width and half height, its corners rounded inwards."""
    hu, hv = half
    du, dv = np.abs(u - cu) - hu + corner, np.abs(v - cv) - hv + corner
    return np.hypot(np.maximum(du, 0), np.maximum(dv, 0)) + np.minimum(np.maximum(du, dv), 0) - corner


def polygon(u: Array, v: Array, points: Sequence[tuple[float, float]], corner: float = 0.0) -> Array:
    """Distance to a simple polygon, rounded outwards by `corner`."""
    square = np.full(u.shape, np.inf)
    inside = np.zeros(u.shape, dtype=bool)
    for (au, av), (bu, bv) in zip(points, [*points[1:], points[0]], strict=True):
        eu, ev = bu - au, bv - av
        along = np.clip(((u - au) * eu + (v - av) * ev) / (eu * eu + ev * ev), 0, 1)
        square = np.minimum(square, (u - au - along * eu) ** 2 + (v - av - along * ev) ** 2)
        if av != bv:
            inside ^= ((av > v) != (bv > v)) & (u < au + eu * (v - av) / ev)
    result: Array = np.where(inside, -1.0, 1.0) * np.sqrt(square) - corner
    return result


def stroke(u: Array, v: Array, points: Sequence[tuple[float, float]], radii: Sequence[float]) -> Array:
    """Distance to a polyline of varying thickness."""
    best = np.full(u.shape, np.inf)
    for (au, av), (bu, bv), ra, rb in zip(points, points[1:], radii, radii[1:], strict=False):
        eu, ev = bu - au, bv - av
        along = np.clip(((u - au) * eu + (v - av) * ev) / (eu * eu + ev * ev), 0, 1)
        best = np.minimum(best, np.hypot(u - au - along * eu, v - av - along * ev) - ra - along * (rb - ra))
    return best


def leaf(u: Array, v: Array, length: float, width: float) -> Array:
    """Two circular arcs that meet in points at (0, 0) and (length, 0)."""
    half = length / 2
    radius = (half**2 + width**2) / (2 * width)
    lower = np.hypot(u - half, v + radius - width) - radius
    upper = np.hypot(u - half, v - radius + width) - radius
    return np.maximum(lower, upper)


# --- parts that creatures and objects share --------------------------------------------------------------------------


def _head(ink: Ink, part: Part, u: Array, v: Array) -> None:
    ink.solid(ellipse(u, v, 0, 0, 1.0, 0.92 + 0.08 * part.form), part.color)
    for side in (-1, 1):
        ink.detail(circle(u, v, 0.12 + 0.40 * side, -0.14, 0.31), WHITE)
        ink.detail(circle(u, v, 0.17 + 0.40 * side, -0.11, 0.19), DARK)
        ink.detail(circle(u, v, 0.10 + 0.40 * side, -0.19, 0.075), WHITE)
    smile = np.maximum(np.abs(circle(u, v, 0.14, 0.22, 0.30)) - 0.05, 0.34 - v)
    ink.detail(smile, darker(part.color, 0.35))


def _ear(ink: Ink, part: Part, u: Array, v: Array) -> None:
    width = 0.50 + 0.08 * part.form
    ink.solid(leaf(u + 0.15, v, 2.0, width), part.color)
    ink.detail(leaf(u - 0.12, v, 1.35, 0.5 * width), lighter((0.93, 0.55, 0.55), 0.15))


def _limb(ink: Ink, part: Part, u: Array, v: Array) -> None:
    knee = (0.85, 0.22 + 0.12 * part.form)
    ankle = (1.7, 0.0)
    ink.solid(stroke(u, v, [(0.0, 0.0), knee, ankle], [0.36, 0.27, 0.20]), part.color)
    ink.solid(ellipse(u, v, 1.78, -0.17, 0.24, 0.46), darker(part.color, 0.72))


def _curl(form: float) -> list[tuple[float, float]]:
    """Points of a curve that turns ever faster, two units long."""
    points = [(0.0, 0.0)]
    for step in range(18):
        heading = -0.5 + (4.6 + 0.7 * form) * ((step + 0.5) / 18) ** 1.5
        u, v = points[-1]
        points.append((u + 2.6 / 18 * math.cos(heading), v + 2.6 / 18 * math.sin(heading)))
    return points


def _tail(ink: Ink, part: Part, u: Array, v: Array) -> None:
    points = _curl(part.form)
    radii = [0.25 - 0.11 * index / (len(points) - 1) for index in range(len(points))]
    ink.solid(stroke(u, v, points, radii), part.color)
    for index in (4, 8, 12, 16):
        (au, av), (bu, bv) = points[index], points[index + 1]
        ink.detail(stroke(u, v, [(au, av), (bu, bv)], [0.0, 0.0]) - 0.13, lighter(part.color, 0.62), 0.9)


def _wing(ink: Ink, part: Part, u: Array, v: Array) -> None:
    for angle, length in zip((1.15, 0.72, 0.30, -0.12), (1.15, 1.5, 1.8, 2.0), strict=True):
        angle *= 1.0 + 0.15 * part.form
        tip = (length * math.cos(angle), length * math.sin(angle))
        shade = lighter(part.color, 0.10 + 0.28 * (angle > 0.5) + 0.14 * (0 < angle <= 0.5))
        ink.solid(stroke(u, v, [(0.0, 0.0), tip], [0.16, 0.27]), shade)


# --- parts of objects only -------------------------------------------------------------------------------------------


def _wheel(ink: Ink, part: Part, u: Array, v: Array) -> None:
    ink.solid(circle(u, v, 0, 0, 1.0), (0.22, 0.22, 0.25))
    ink.detail(circle(u, v, 0, 0, 0.62), STEEL)
    for turn in range(5):
        angle = 2 * math.pi * turn / 5 + part.form
        tip = (0.6 * math.cos(angle), 0.6 * math.sin(angle))
        ink.detail(stroke(u, v, [(0.0, 0.0), tip], [0.09, 0.09]), darker(STEEL, 0.5))
    ink.detail(circle(u, v, 0, 0, 0.2), part.color)


def _window(ink: Ink, part: Part, u: Array, v: Array) -> None:
    width = 1.0 + 0.15 * part.form
    ink.solid(box(u, v, 0, 0, (width, 0.75), 0.2), WHITE)
    ink.detail(box(u, v, 0, 0, (width - 0.17, 0.58), 0.1), (0.50, 0.74, 0.88))
    ink.detail(stroke(u, v, [(-0.55, 0.35), (-0.1, -0.45)], [0.10, 0.10]), WHITE, 0.75)
    ink.detail(box(u, v, 0.2, 0, (0.07, 0.75)), WHITE)


def _blade(ink: Ink, part: Part, u: Array, v: Array) -> None:
    bend = 0.15 * part.form
    outline = [(-0.2, -0.32), (1.5, -0.36), (2.3, 0.34 + bend), (-0.2, 0.34)]
    ink.solid(polygon(u, v, outline, 0.05), STEEL)
    ink.detail(np.abs(v - 0.10) - 0.05, darker(STEEL, 0.62))
    for place in (0.1, 0.55, 1.0):
        ink.detail(circle(u, v, place, -0.12, 0.1), darker(STEEL, 0.45))


def _lamp(ink: Ink, part: Part, u: Array, v: Array) -> None:
    flare = 0.08 * part.form
    ink.solid(box(u, v, 1.45, 0, (0.24, 0.30), 0.2), (1.0, 0.93, 0.62))
    ink.solid(stroke(u, v, [(0.0, 0.0), (0.75, 0.0)], [0.11, 0.11]), darker(STEEL, 0.6))
    ink.solid(polygon(u, v, [(0.65, -0.85 - flare), (0.65, 0.85 + flare), (1.7, 0.42), (1.7, -0.42)], 0.07), part.color)
    ink.detail(np.abs(u - 0.85) - 0.08, lighter(part.color, 0.6))


def _drawer(ink: Ink, part: Part, u: Array, v: Array) -> None:
    width = 1.1 + 0.15 * part.form
    ink.solid(box(u, v, 0, 0, (width, 0.52), 0.08), part.color)
    ink.detail(np.abs(box(u, v, 0, 0, (width - 0.24, 0.30), 0.05)) - 0.045, darker(part.color, 0.5))
    ink.detail(box(u, v, 0, 0, (0.32, 0.11), 0.1), (0.93, 0.80, 0.42))


def _gear(ink: Ink, part: Part, u: Array, v: Array) -> None:
    angle = np.arctan2(v, u) + part.form
    teeth = 0.11 * np.clip(3.0 * np.cos(9 * angle), -1, 1)
    ink.solid((np.hypot(u, v) - 0.86 - teeth) * 0.8, part.color)
    ink.detail(np.abs(circle(u, v, 0, 0, 0.56)) - 0.06, darker(part.color, 0.55))
    ink.detail(circle(u, v, 0, 0, 0.25), DARK)


def _post(ink: Ink, part: Part, u: Array, v: Array) -> None:
    ink.solid(box(u, v, 0.85, 0, (1.0, 0.20), 0.06), part.color)
    for place in (0.45, 0.95, 1.45):
        ink.solid(box(u, v, place, 0, (0.12, 0.30), 0.1), lighter(part.color, 0.35))


# --- parts of everything: they drive no category ---------------------------------------------------------------------


def _star(ink: Ink, part: Part, u: Array, v: Array) -> None:
    points = []
    for corner in range(10):
        radius = (1.0, 0.46 + 0.05 * part.form)[corner % 2]
        points.append((radius * math.sin(math.pi * corner / 5), -radius * math.cos(math.pi * corner / 5)))
    ink.solid(polygon(u, v, points, 0.06), (0.98, 0.80, 0.22))


def _bow(ink: Ink, part: Part, u: Array, v: Array) -> None:
    spread = 0.58 + 0.08 * part.form
    for side in (-1.0, 1.0):
        ink.solid(polygon(u, v, [(0.1 * side, 0.0), (0.95 * side, -spread), (0.95 * side, spread)], 0.1), part.color)
        for dot in (-0.25, 0.22):
            ink.detail(circle(u, v, 0.72 * side, dot, 0.12), WHITE)
    ink.solid(box(u, v, 0, 0, (0.24, 0.28), 0.12), darker(part.color, 0.75))


# --- bodies ----------------------------------------------------------------------------------------------------------


def _torso(ink: Ink, part: Part, u: Array, v: Array) -> None:
    bean = np.minimum(ellipse(u, v, -0.12, 0.06, 0.92, 0.66 + 0.06 * part.form), ellipse(u, v, 0.4, -0.1, 0.62, 0.56))
    ink.solid(bean, part.color)
    ink.detail(ellipse(u, v, 0.05, 0.44, 0.62, 0.26), lighter(part.color, 0.45), 0.9)
    for place, height in ((-0.62, -0.12), (-0.30, -0.34), (0.06, -0.38), (-0.40, 0.06)):
        ink.detail(circle(u, v, place, height, 0.09), darker(part.color, 0.7))


def _chassis(ink: Ink, part: Part, u: Array, v: Array) -> None:
    roof = -0.62 - 0.08 * part.form
    hood, back = [(-1.1, 0.42), (-1.1, -0.08), (-0.72, -0.12)], [(0.7, -0.1), (1.12, 0.0), (1.12, 0.42)]
    outline = [*hood, (-0.48, roof), (0.42, roof), *back]
    ink.solid(polygon(u, v, outline, 0.08), part.color)
    ink.detail(box(u, v, 0, 0.2, (1.3, 0.05)), lighter(part.color, 0.55))
    ink.detail(box(u, v, 0.0, 0.44, (1.3, 0.10)), darker(part.color, 0.6))


def _cabinet(ink: Ink, part: Part, u: Array, v: Array) -> None:
    height = 0.52 + 0.06 * part.form
    ink.solid(box(u, v, 0, 0, (1.0, height), 0.06), part.color)
    for line in (-0.28, -0.04, 0.18, 0.36):
        ink.detail(np.abs(v - line - 0.03 * np.sin(3.2 * u + 9 * line)) - 0.018, darker(part.color, 0.75))
    ink.solid(box(u, v, 0, -height, (1.14, 0.12), 0.06), lighter(part.color, 0.25))


def _shaft(ink: Ink, part: Part, u: Array, v: Array) -> None:
    ink.solid(box(u, v, 0, 0, (1.15, 0.25 + 0.03 * part.form), 0.2), part.color)
    for place in (-0.75, -0.5, -0.25):
        ink.detail(box(u, v, place, 0, (0.055, 0.4)), darker(part.color, 0.6))
    ink.detail(circle(u, v, 0.8, 0, 0.11), WHITE)


# --- the vocabulary --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """How a kind of part is drawn, its group, and a radius about its root (part units) that holds all of it."""

    paint: Callable[[Ink, Part, Array, Array], None]
    group: str
    reach: float


KINDS: dict[str, Kind] = {
    "head": Kind(_head, "shared", 1.1),
    "ear": Kind(_ear, "shared", 2.0),
    "limb": Kind(_limb, "shared", 2.3),
    "tail": Kind(_tail, "shared", 2.5),
    "wing": Kind(_wing, "shared", 2.4),
    "wheel": Kind(_wheel, "object", 1.1),
    "window": Kind(_window, "object", 1.5),
    "blade": Kind(_blade, "object", 2.6),
    "lamp": Kind(_lamp, "object", 2.1),
    "drawer": Kind(_drawer, "object", 1.5),
    "gear": Kind(_gear, "object", 1.3),
    "post": Kind(_post, "object", 2.0),
    "star": Kind(_star, "neutral", 1.2),
    "bow": Kind(_bow, "neutral", 1.4),
    "torso": Kind(_torso, "body", 1.2),
    "chassis": Kind(_chassis, "body", 1.4),
    "cabinet": Kind(_cabinet, "body", 1.5),
    "shaft": Kind(_shaft, "body", 1.4),
}
"""Every kind of part, in the order of the demo network's outputs."""

SHARED_KINDS = tuple(name for name, kind in KINDS.items() if kind.group == "shared")
NEUTRAL_KINDS = tuple(name for name, kind in KINDS.items() if kind.group == "neutral")
