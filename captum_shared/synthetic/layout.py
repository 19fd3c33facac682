"""Which parts a creature, a vehicle, a piece of furniture or a tool has, and where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from captum_shared.synthetic.parts import NEUTRAL_KINDS, SHARED_KINDS
from captum_shared.synthetic.scene import Background, Color, Part, Scene

PALETTE: tuple[Color, ...] = (
    (0.87, 0.42, 0.32), (0.93, 0.64, 0.29), (0.80, 0.72, 0.34), (0.49, 0.70, 0.38), (0.30, 0.63, 0.58),
    (0.36, 0.58, 0.80), (0.50, 0.48, 0.78), (0.74, 0.45, 0.68), (0.68, 0.50, 0.38), (0.56, 0.60, 0.65),
)  # fmt: skip
CREATURE_PROBABILITY = 0.65
"""Probability that a creature has a shared kind."""
OBJECT_PROBABILITY = 0.25
"""Probability that an object has a shared kind."""
NEUTRAL_PROBABILITY = 0.3
"""Probability that an image of any category has a neutral kind."""
OWN_PROBABILITY = 0.7
"""Probability that an object has a kind that belongs to its category."""
FOREIGN_PROBABILITY = 0.06
"""Probability that anything has a kind that belongs to another category."""
OWN_BODY_PROBABILITY = 0.65
"""Probability that the body is that of the category; otherwise it is any other."""
UP, DOWN, LEFT, RIGHT = -math.pi / 2, math.pi / 2, math.pi, 0.0


class Composer:
    """Places parts in the frame of a body: x to the front, y down, one unit = half the body's length.

    The unit is drawn from the range `scale`, in units of the image side; the whole is turned by at most `turn` radians.
    """

    def __init__(self, rng: np.random.Generator, scale: tuple[float, float], turn: float):
        self.rng = rng
        self.scale = float(rng.uniform(*scale))
        self.turn = float(rng.uniform(-turn, turn))
        self.center = rng.uniform(0.45, 0.55, 2) + np.array([0.0, 0.02])
        self.mirror = bool(rng.random() < 0.5)
        self.parts: list[Part] = []

    def color(self) -> Color:
        """A colour near one of the palette."""
        base = np.asarray(PALETTE[self.rng.integers(len(PALETTE))])
        return _color(np.clip(base + self.rng.uniform(-0.07, 0.07, 3), 0.05, 0.95))

    def place(self, kind: str, x: float, y: float, scale: float, angle: float = 0.0, *, color: Color | None = None,
              form: float | None = None, jitter: float = 1.0, style: str = "") -> None:  # fmt: skip
        """Add a part with its root at (x, y), a unit of `scale`, turned by `angle`, all shaken by `jitter`."""
        x, y = np.asarray((x, y)) + jitter * self.rng.uniform(-0.06, 0.06, 2)
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        dx, dy = self.scale * (cos * x - sin * y), self.scale * (sin * x + cos * y)
        self.parts.append(
            Part(
                kind,
                (float(self.center[0] + (-dx if self.mirror else dx)), float(self.center[1] + dy)),
                float(self.scale * scale * (1 + jitter * self.rng.uniform(-0.15, 0.15))),
                float(self.turn + angle + jitter * self.rng.uniform(-0.2, 0.2)),
                color if color is not None else self.color(),
                float(self.rng.uniform(-1, 1)) if form is None else form,
                self.mirror,
                style,
            )
        )

    def pair(self, kind: str, places: Sequence[tuple[float, float]], scale: float, angles: Sequence[float]) -> None:
        """Several parts of one kind in one colour and form."""
        color, form = self.color(), float(self.rng.uniform(-1, 1))
        for (x, y), angle in zip(places, angles, strict=True):
            self.place(kind, x, y, scale, angle, color=color, form=form, jitter=0.6)

    def ears(self, head: tuple[float, float] | None, otherwise: tuple[float, float]) -> None:
        """Two ears: on the head, or about another place if there is none."""
        x, y = otherwise if head is None else (head[0] - 0.02, head[1] - 0.3)
        self.pair("ear", [(x - 0.24, y), (x + 0.24, y)], 0.45, [UP - 0.33, UP + 0.33])

    def scene(self, category: str, clutter: int) -> Scene:
        """The parts placed so far, before a light background."""
        return Scene(category, tuple(self.parts), sample_background(self.rng, clutter))


class _Body(NamedTuple):
    """Where a body ends, in its own units."""

    top: float
    bottom: float
    front: float


_BODIES = {
    "torso": _Body(-0.52, 0.45, 0.92),
    "chassis": _Body(-0.45, 0.42, 1.05),
    "cabinet": _Body(-0.58, 0.45, 1.0),
    "shaft": _Body(-0.16, 0.16, 1.05),
}
_BEHIND = ("tail", "blade", "limb", "post", "lamp", "ear")
_IN_FRONT = ("wheel", "window", "drawer", "gear", "wing", "head", "bow", "star")


def _compose(pen: Composer, body: str, kinds: set[str]) -> None:
    """Place a body and its parts from back to front."""
    for kind in _BEHIND:
        if kind in kinds:
            _place(pen, kind, _BODIES[body], kinds)
    pen.place(body, 0.0, 0.0, 1.0, jitter=0.3)
    for kind in _IN_FRONT:
        if kind in kinds:
            _place(pen, kind, _BODIES[body], kinds)


def _place(pen: Composer, kind: str, shape: _Body, kinds: set[str]) -> None:
    """Place the part or parts of one of the kinds."""
    head = (-0.85 if "blade" in kinds else shape.front - 0.05, shape.top - 0.1)
    single = {  # x, y, scale and angle
        "tail": (-0.95, 0.3 * shape.top + 0.1, 0.54, LEFT + 0.35),
        "blade": (shape.front - 0.15, 0.0, 0.46, RIGHT),
        "lamp": (0.1, shape.top + 0.02, 0.47, UP),
        "head": (*head, 0.5, 0.0),
        "window": (0.12, 0.5 * shape.top, 0.3, 0.0),
        "drawer": (0.3, 0.1, 0.4, 0.0),
        "gear": (0.5, 0.5 * shape.bottom, 0.42, 0.0),
        "wing": (-0.05, 0.2 * shape.top, 0.54, LEFT + 0.75),
        "bow": (0.8, 0.25, 0.33, 0.0),
        "star": (-0.35, 0.1, 0.29, 0.0),
    }
    if kind in single:
        pen.place(kind, *single[kind])
    elif kind == "ear":
        pen.ears(head if "head" in kinds else None, (-0.6, shape.top + 0.08))
    elif kind == "limb":
        keep = sorted(pen.rng.choice(4, int(pen.rng.integers(2, 5)), replace=False))
        places = [((-0.66, -0.24, 0.26, 0.64)[slot], shape.bottom) for slot in keep]
        pen.pair("limb", places, 0.46, [DOWN] * len(places))
    elif kind == "post":
        pen.pair("post", [(-0.84, shape.bottom - 0.02), (0.84, shape.bottom - 0.02)], 0.46, [DOWN] * 2)
    elif kind == "wheel":
        pen.pair("wheel", [(-0.68, shape.bottom + 0.08), (0.7, shape.bottom + 0.08)], 0.37, [0.0] * 2)


_OWN_KINDS = {
    "creature": (),
    "vehicle": ("wheel", "window"),
    "furniture": ("post", "drawer", "lamp"),
    "tool": ("blade", "gear"),
}
OWN_BODY = {"creature": "torso", "vehicle": "chassis", "furniture": "cabinet", "tool": "shaft"}
CATEGORIES = tuple(_OWN_KINDS)
"""Names of the categories: one of creatures, three of objects."""


def sample_scene(category: str, rng: np.random.Generator | int, *, clutter: int = 8) -> Scene:
    """Draw a scene: a body and a random subset of the parts its category can have.

    No part decides the category: the kinds that creatures are made of occur in objects too, only less often, and any
    category can have any body. Any part may be missing, so that removing one stays within what a network trained on
    such scenes has seen. The probabilities are constants of this module.

    Parameters
    ----------
    category : str
        One of :data:`CATEGORIES`.
    rng : numpy.random.Generator or int
        Source of all randomness, or a seed for one.
    clutter : int
        Number of faint shapes in the background.

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        If the category is unknown or `clutter` is negative.

    Examples
    --------
    >>> scene = sample_scene("creature", 0)
    >>> scene.category, scene == sample_scene("creature", 0)
    ('creature', True)
    """
    check_scene(category, clutter)
    rng = np.random.default_rng(rng)
    pen = Composer(rng, scale=(0.21, 0.26), turn=0.25)
    _compose(pen, _sample_body(category, rng), _sample_kinds(category, rng))
    return pen.scene(category, clutter)


def check_scene(category: str, clutter: int) -> None:
    """Refuse an unknown category, or a negative number of faint shapes."""
    if category not in CATEGORIES:
        raise ValueError(f"`category` must be one of {', '.join(CATEGORIES)}, got {category!r}")
    if clutter < 0:
        raise ValueError(f"`clutter` must be at least 0, got {clutter}")


def _sample_body(category: str, rng: np.random.Generator) -> str:
    own = OWN_BODY[category]
    if rng.random() < OWN_BODY_PROBABILITY:
        return own
    return str(rng.choice([body for body in _BODIES if body != own]))


def _sample_kinds(category: str, rng: np.random.Generator) -> set[str]:
    object_kinds = [kind for own in _OWN_KINDS.values() for kind in own]
    chances = dict.fromkeys(SHARED_KINDS, CREATURE_PROBABILITY if category == "creature" else OBJECT_PROBABILITY)
    chances |= dict.fromkeys(NEUTRAL_KINDS, NEUTRAL_PROBABILITY)
    chances |= dict.fromkeys(object_kinds, FOREIGN_PROBABILITY)
    chances |= dict.fromkeys(_OWN_KINDS[category], OWN_PROBABILITY)
    return {kind for kind, chance in chances.items() if rng.random() < chance}


def compose_creature(pen: Composer) -> None:
    """A torso with a head and any of the other parts of an animal."""
    chances = dict.fromkeys(SHARED_KINDS, CREATURE_PROBABILITY) | {"head": 0.9}
    _compose(pen, "torso", {kind for kind, chance in chances.items() if pen.rng.random() < chance})


def compose_scene(kinds: Sequence[str], rng: np.random.Generator | int, *, clutter: int = 8) -> Scene:
    """Draw a scene with exactly these kinds on any body, placed as :func:`sample_scene` places them."""
    known = (*_BEHIND, *_IN_FRONT)
    unknown = [kind for kind in kinds if kind not in known]
    if unknown:
        raise ValueError(f"`kinds` must be among {', '.join(known)}, got {unknown[0]!r}")
    rng = np.random.default_rng(rng)
    pen = Composer(rng, scale=(0.21, 0.26), turn=0.25)
    _compose(pen, str(rng.choice(list(_BODIES))), set(kinds))
    return pen.scene("composed", clutter)


def sample_background(rng: np.random.Generator, clutter: int) -> Background:
    """A light background of two colours."""
    tint = rng.uniform(0.0, 1.0, 3)
    light = rng.uniform(0.72, 0.88)
    first, second = (np.clip(light + shift + 0.12 * (tint - tint.mean()), 0, 1) for shift in (0.06, -0.06))
    return Background((_color(first), _color(second)), int(rng.integers(2**31)), clutter)


def _color(values: np.ndarray) -> Color:
    return (float(values[0]), float(values[1]), float(values[2]))
