"""Bodies of objects that can be recognized at a glance: furniture, vehicles and tools, each of three styles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from captum_shared.synthetic.parts import (
    DARK,
    STEEL,
    WHITE,
    Array,
    Ink,
    Kind,
    box,
    circle,
    darker,
    ellipse,
    lighter,
    polygon,
    stroke,
)
from captum_shared.synthetic.scene import Color, Part

GLASS: Color = (0.62, 0.82, 0.93)
BOOKS: tuple[Color, ...] = ((0.78, 0.30, 0.28), (0.27, 0.45, 0.66), (0.86, 0.70, 0.33), (0.35, 0.56, 0.42))


# --- furniture -------------------------------------------------------------------------------------------------------


def _leg(ink: Ink, top: tuple[float, float], foot: tuple[float, float], radius: float, color: Color) -> None:
    ink.solid(stroke(ink.u, ink.v, [top, foot], [radius, 0.72 * radius]), color)


def _table(ink: Ink, part: Part, u: Array, v: Array) -> None:
    wood = part.color
    for side in (-1, 1):
        _leg(ink, (0.62 * side, -0.3), (0.66 * side, 0.66), 0.09, darker(wood, 0.62))
    for side in (-1, 1):
        _leg(ink, (1.0 * side, -0.3), (1.08 * side, 0.95), 0.12, wood)
    ink.solid(box(u, v, 0, -0.24, (1.04, 0.13)), darker(wood, 0.82))
    top = [(-1.0, -0.62), (1.0, -0.62), (1.26, -0.36), (-1.26, -0.36)]
    ink.solid(polygon(u, v, top, 0.06), lighter(wood, 0.22))
    _grain(ink, wood, (-0.56, -0.49, -0.42))


def _grain(ink: Ink, wood: Color, lines: tuple[float, ...]) -> None:
    """Faint wavy lines at these heights, on a top that tapers to the back."""
    for number, line in enumerate(lines):
        wave = np.abs(ink.v - line - 0.012 * np.sin(5 * ink.u + 2 * number)) - 0.008
        ink.detail(np.maximum(wave, np.abs(ink.u) - 1.06 - 0.06 * number), darker(wood, 0.8))


def _chair(ink: Ink, part: Part, u: Array, v: Array) -> None:
    wood = part.color
    for side in (-1, 1):
        _leg(ink, (0.48 * side, 0.1), (0.5 * side, 0.78), 0.085, darker(wood, 0.62))
    for height in (-0.86, -0.6, -0.34):
        ink.solid(box(u, v, 0, height, (0.56, 0.07), 0.03), lighter(wood, 0.15))
    for side in (-1, 1):
        ink.solid(stroke(u, v, [(0.56 * side, -1.12), (0.54 * side, 0.05)], [0.1, 0.1]), wood)
    ink.solid(box(u, v, 0, -1.12, (0.66, 0.13), 0.1), wood)
    for side in (-1, 1):
        _leg(ink, (0.7 * side, 0.2), (0.75 * side, 1.05), 0.11, wood)
    ink.solid(polygon(u, v, [(-0.56, -0.08), (0.56, -0.08), (0.78, 0.2), (-0.78, 0.2)], 0.05), darker(wood, 0.85))
    cushion = lighter((0.75, 0.42, 0.38) if wood[2] > wood[0] else (0.38, 0.5, 0.75), 0.25)
    ink.solid(polygon(u, v, [(-0.5, -0.12), (0.5, -0.12), (0.68, 0.08), (-0.68, 0.08)], 0.07), cushion)


def _shelf(ink: Ink, part: Part, u: Array, v: Array) -> None:
    wood = part.color
    for side in (-1, 1):
        ink.solid(box(u, v, 0.58 * side, 0.8, (0.11, 0.1), 0.03), darker(wood, 0.6))
    ink.solid(box(u, v, 0, -0.1, (0.82, 0.86), 0.04), wood)
    ink.detail(box(u, v, 0, -0.1, (0.69, 0.75)), darker(wood, 0.38))
    floors = (-0.85, -0.35, 0.15, 0.65)
    for row, (above, floor) in enumerate(pairwise(floors)):
        _books(ink, floor, floor - above, row, part.form)
        ink.detail(box(u, v, 0, floor, (0.69, 0.045)), lighter(wood, 0.1))
    ink.solid(box(u, v, 0, -0.97, (0.92, 0.09), 0.04), lighter(wood, 0.25))


def _books(ink: Ink, floor: float, room: float, row: int, form: float) -> None:
    """Books from left to right, with a gap: their colours and heights follow from the row and the form."""
    left, number = -0.66, round(7 * (form + 1)) + 3 * row
    while left < 0.5 - 0.22 * (row % 2):
        width, height = 0.14 + 0.03 * (number % 3), room * (0.62 + 0.08 * (number * 5 % 4))
        middle = left + width / 2
        ink.detail(box(ink.u, ink.v, middle, floor - height / 2, (width / 2 - 0.012, height / 2)), BOOKS[number % 4])
        ink.detail(box(ink.u, ink.v, middle, floor - 0.8 * height, (width / 2 - 0.012, 0.02)), WHITE, 0.8)
        left, number = left + width, number + 1


# --- vehicles --------------------------------------------------------------------------------------------------------


def _panes(ink: Ink, panes: tuple[tuple[tuple[float, float], ...], ...]) -> None:
    for pane in panes:
        ink.detail(polygon(ink.u, ink.v, pane, 0.05), darker(GLASS, 0.5))
        ink.detail(polygon(ink.u, ink.v, pane, 0.02), GLASS)


def _lights(ink: Ink, front: float, back: float, height: float) -> None:
    ink.detail(circle(ink.u, ink.v, front, height, 0.11), (1.0, 0.93, 0.6))
    ink.detail(box(ink.u, ink.v, back, height, (0.07, 0.09), 0.03), (0.86, 0.22, 0.2))


def _car(ink: Ink, part: Part, u: Array, v: Array) -> None:
    paint = part.color
    outline = [(-1.18, 0.34), (-1.18, -0.06), (-0.86, -0.12), (-0.52, -0.56), (0.3, -0.56), (0.66, -0.1), (1.14, 0.0),
               (1.2, 0.34)]  # fmt: skip
    ink.solid(polygon(u, v, outline, 0.08), paint)
    rear, front = ((-0.68, -0.13), (-0.44, -0.47), (-0.16, -0.47), (-0.16, -0.13)), (
        (-0.02, -0.13), (-0.02, -0.47), (0.25, -0.47), (0.5, -0.13))  # fmt: skip
    _panes(ink, (rear, front))
    for line in (-0.09, 0.55):
        ink.detail(np.maximum(np.abs(u - line) - 0.018, np.abs(v - 0.12) - 0.24), darker(paint, 0.6))
    ink.detail(box(u, v, 0.06, 0.03, (0.07, 0.025)), darker(paint, 0.5))
    ink.detail(box(u, v, 0, 0.4, (1.4, 0.05)), darker(paint, 0.55))
    _lights(ink, 1.12, -1.2, 0.12)


def _bus(ink: Ink, part: Part, u: Array, v: Array) -> None:
    paint = part.color
    ink.solid(box(u, v, 0, -0.16, (1.28, 0.6), 0.16), paint)
    panes = [(left, left + 0.36) for left in (-1.12, -0.68, -0.24, 0.2)]
    _panes(ink, tuple(((a, -0.55), (b, -0.55), (b, -0.17), (a, -0.17)) for a, b in panes))
    _panes(ink, (((0.7, -0.57), (1.12, -0.57), (1.2, -0.1), (0.7, -0.1)),))
    ink.detail(box(u, v, 0, 0.05, (1.3, 0.06)), lighter(paint, 0.65))
    ink.detail(box(u, v, 0, 0.42, (1.3, 0.06)), darker(paint, 0.55))
    _lights(ink, 1.16, -1.24, 0.24)


def _truck(ink: Ink, part: Part, u: Array, v: Array) -> None:
    paint = part.color
    ink.solid(box(u, v, 0, 0.36, (1.25, 0.1), 0.04), darker(STEEL, 0.55))
    ink.solid(box(u, v, -0.42, -0.2, (0.84, 0.52), 0.05), lighter(paint, 0.5))
    for line in (-0.84, -0.42, 0.0):
        ink.detail(np.maximum(np.abs(u - line) - 0.016, np.abs(v + 0.2) - 0.45), darker(paint, 0.75))
    cab = [(0.52, 0.3), (0.52, -0.42), (0.9, -0.42), (1.16, -0.04), (1.26, 0.3)]
    ink.solid(polygon(u, v, cab, 0.07), paint)
    _panes(ink, (((0.64, -0.34), (0.84, -0.34), (1.04, -0.04), (0.64, -0.04)),))
    ink.detail(circle(u, v, 1.22, 0.16, 0.1), (1.0, 0.93, 0.6))


# --- tools -----------------------------------------------------------------------------------------------------------


def _hammer(ink: Ink, part: Part, u: Array, v: Array) -> None:
    ink.solid(stroke(u, v, [(-1.3, 0.0), (-0.3, 0.0), (0.9, 0.0)], [0.2, 0.15, 0.13]), part.color)
    ink.detail(box(u, v, -1.0, 0, (0.45, 0.5)), darker(part.color, 0.62))
    for place in (-1.25, -1.05, -0.85, -0.65):
        ink.detail(np.abs(u - place) - 0.02, darker(part.color, 0.4))
    claw = [(0.72, -0.2), (1.12, -0.2), (1.16, -0.62), (0.98, -0.95), (0.84, -0.6)]
    ink.solid(polygon(u, v, claw, 0.03), STEEL)
    ink.solid(box(u, v, 0.92, 0.08, (0.2, 0.34), 0.04), STEEL)
    ink.solid(box(u, v, 0.92, 0.52, (0.28, 0.16), 0.05), lighter(STEEL, 0.3))


def _saw(ink: Ink, part: Part, u: Array, v: Array) -> None:
    teeth = 0.09 * (np.abs((5.0 * u) % 1.0 - 0.5) - 0.25) * (v > 0.1)
    ink.solid(polygon(u, v - teeth, [(-0.6, -0.34), (1.5, -0.12), (1.5, 0.14), (-0.6, 0.34)]), STEEL)
    ink.detail(np.abs(v + 0.16 - 0.1 * (u + 0.6) / 2.1) - 0.02, darker(STEEL, 0.7))
    ink.solid(_grip(u, v), part.color)
    for place in (-0.62, -0.45):
        ink.detail(circle(u, v, place, -0.1, 0.06), darker(STEEL, 0.7))


def _grip(u: Array, v: Array) -> Array:
    """A closed handle: a rounded shape with a hole for the hand."""
    outer = polygon(u, v, [(-1.25, -0.3), (-0.45, -0.32), (-0.35, 0.3), (-1.1, 0.42)], 0.14)
    hole = ellipse(u, v, -0.92, 0.03, 0.26, 0.2)
    handle: Array = np.maximum(outer, -hole)
    return handle


def _screwdriver(ink: Ink, part: Part, u: Array, v: Array) -> None:
    tip = [(1.3, -0.09), (1.55, -0.17), (1.62, -0.17), (1.62, 0.17), (1.55, 0.17), (1.3, 0.09)]
    ink.solid(np.minimum(box(u, v, 0.6, 0, (0.8, 0.09)), polygon(u, v, tip, 0.01)), STEEL)
    ink.solid(stroke(u, v, [(-1.15, 0.0), (-0.3, 0.0), (0.05, 0.0)], [0.27, 0.3, 0.17]), part.color)
    for line in (-0.15, 0.0, 0.15):
        ink.detail(np.maximum(np.abs(v - line) - 0.025, np.abs(u + 0.7) - 0.48), darker(part.color, 0.6))
    ink.detail(np.abs(u + 0.02) - 0.06, DARK, 0.75)


STYLES: dict[str, dict[str, Kind]] = {
    "cabinet": {
        "table": Kind(_table, "body", 1.7), "chair": Kind(_chair, "body", 1.6), "shelf": Kind(_shelf, "body", 1.6),
    },
    "chassis": {
        "car": Kind(_car, "body", 1.6), "bus": Kind(_bus, "body", 1.6), "truck": Kind(_truck, "body", 1.6),
    },
    "shaft": {
        "hammer": Kind(_hammer, "body", 1.7), "saw": Kind(_saw, "body", 1.8),
        "screwdriver": Kind(_screwdriver, "body", 1.9),
    },
}  # fmt: skip
"""Other ways to draw a kind of body, by the kind and the part's style."""
