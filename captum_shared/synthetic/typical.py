"""Scenes whose category is seen at a glance: a table, a bus or a saw, each with a part or two of an animal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from captum_shared.synthetic.layout import DOWN, LEFT, OWN_BODY, Composer, check_scene, compose_creature
from captum_shared.synthetic.parts import SHARED_KINDS
from captum_shared.synthetic.scene import Scene
from captum_shared.synthetic.styles import STYLES

Place = tuple[float, float]
N_ANIMAL_PARTS = (0.1, 0.5, 0.4)
"""Probabilities that an object has no, one and two kinds of parts of an animal."""


class _Anchors(NamedTuple):
    """Where parts of an animal are attached to a body, in its own units: x to the front, y down."""

    head: Place
    ears: Place
    tail: Place
    wing: Place
    limbs: tuple[Place, Place]


_ANCHORS = {
    "table": _Anchors((1.08, -0.86), (0.5, -0.6), (-1.2, -0.42), (-0.1, -0.5), ((-0.42, -0.16), (0.34, -0.16))),
    "chair": _Anchors((0.0, -1.42), (0.0, -1.2), (-0.72, 0.08), (0.34, -0.7), ((-0.3, 0.22), (0.26, 0.22))),
    "shelf": _Anchors((0.3, -1.3), (0.1, -0.98), (-0.8, 0.1), (-0.5, -0.5), ((-0.4, 0.72), (0.34, 0.72))),
    "car": _Anchors((1.0, -0.46), (-0.08, -0.58), (-1.2, 0.02), (-0.3, -0.3), ((-0.24, 0.4), (0.18, 0.4))),
    "bus": _Anchors((0.86, -1.02), (0.2, -0.76), (-1.26, -0.1), (-0.4, -0.5), ((-0.24, 0.44), (0.18, 0.44))),
    "truck": _Anchors((0.86, -0.82), (0.72, -0.45), (-1.24, -0.1), (-0.4, -0.5), ((-0.24, 0.42), (0.18, 0.42))),
    "hammer": _Anchors((-0.62, -0.44), (-0.3, -0.1), (-1.36, 0.0), (0.36, -0.05), ((-0.62, 0.12), (0.2, 0.1))),
    "saw": _Anchors((0.12, -0.58), (-0.8, -0.4), (-1.36, 0.05), (0.9, -0.16), ((-0.95, 0.42), (0.3, 0.24))),
    "screwdriver": _Anchors((-0.62, -0.62), (-0.5, -0.25), (-1.4, 0.0), (0.36, -0.05), ((-0.9, 0.24), (-0.2, 0.2))),
}


def typical_scene(category: str, rng: np.random.Generator | int, *, clutter: int = 4) -> Scene:
    """Draw a scene that a person names at once: an object of one of three styles, or a creature.

    Objects have no, one or two kinds of parts of an animal. Unlike in :func:`sample_scene` the body tells the category.

    Parameters
    ----------
    category, rng, clutter
        As in :func:`sample_scene`, with less clutter by default.

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        As `sample_scene`.

    Examples
    --------
    >>> scene = typical_scene("furniture", 0)
    >>> scene.category, "cabinet" in scene.kinds
    ('furniture', True)
    """
    check_scene(category, clutter)
    rng = np.random.default_rng(rng)
    pen = Composer(rng, scale=(0.22, 0.25), turn=0.1)
    if category == "creature":
        compose_creature(pen)
    else:
        count = int(rng.choice(len(N_ANIMAL_PARTS), p=N_ANIMAL_PARTS))
        _compose_object(pen, OWN_BODY[category], set(rng.choice(SHARED_KINDS, count, replace=False)))
    return pen.scene(category, clutter)


def _compose_object(pen: Composer, body: str, kinds: set[str]) -> None:
    """Place the body and its parts from back to front."""
    style = str(pen.rng.choice(list(STYLES[body])))
    anchors = _ANCHORS[style]
    if "tail" in kinds:
        pen.place("tail", *anchors.tail, 0.54, LEFT + 0.35, jitter=0.5)
    if "limb" in kinds:
        pen.pair("limb", anchors.limbs, 0.46, [DOWN] * 2)
    if "ear" in kinds:
        pen.ears(anchors.head if "head" in kinds else None, anchors.ears)
    pen.place(body, 0.0, 0.0, 1.0, jitter=0.2, style=style)
    if body == "chassis":
        pen.pair("wheel", [(-0.7, 0.44), (0.72, 0.44)], 0.37, [0.0] * 2)
    if "wing" in kinds:
        pen.place("wing", *anchors.wing, 0.54, LEFT + 0.75, jitter=0.5)
    if "head" in kinds:
        pen.place("head", *anchors.head, 0.46, jitter=0.5)
