"""A scene as data: a background and a list of placed parts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """One placed part.

    Attributes
    ----------
    kind : str
        A name in :data:`captum_shared.synthetic.KINDS`.
    position : (float, float)
        The part's root (x, y) in units of the image side; (0, 0) is the upper left corner.
    scale : float
        Length of one unit of the part's own frame, in units of the image side; a part is about two units long.
    rotation : float
        Radians, clockwise on the screen.
    color : (float, float, float)
        RGB in [0, 1].
    form : float
        In [-1, 1]: varies the shape within the kind (curl of a tail, bend of a knee ...).
    mirror : bool
        Whether the rotated part is flipped left to right.
    style : str
        Another way to draw a body, such as "table" or "chair" for a cabinet; by default the plain one.
    """

    kind: str
    position: tuple[float, float]
    scale: float
    rotation: float = 0.0
    color: Color = (0.5, 0.5, 0.5)
    form: float = 0.0
    mirror: bool = False
    style: str = ""

    def __post_init__(self) -> None:
        numbers = (*self.position, self.scale, self.rotation, *self.color, self.form)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"a part's numbers must be finite, got {self!r}")
        if self.scale <= 0:
            raise ValueError(f"`scale` must be positive, got {self.scale}")


@dataclass(frozen=True)
class Background:
    """Two colours that run into each other, with noise and `clutter` faint shapes drawn from `seed`.

    Attributes
    ----------
    colors : pair of (float, float, float)
        Red, green and blue in [0, 1].
    seed : int
    clutter : int, default 8
    """

    colors: tuple[Color, Color]
    seed: int
    clutter: int = 8


@dataclass(frozen=True)
class Scene:
    """A category's name, parts from back to front, and a background.

    Attributes
    ----------
    category : str
    parts : tuple of Part
        From back to front.
    background : Background
    """

    category: str
    parts: tuple[Part, ...]
    background: Background

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the parts, sorted, each once."""
        return tuple(sorted({part.kind for part in self.parts}))

    def without(self, *kinds: str) -> Scene:
        """The scene without the parts of these kinds; nothing else changes.

        Raises
        ------
        ValueError
            If the scene has no part of one of the kinds.
        """
        for kind in kinds:
            if kind not in self.kinds:
                raise ValueError(f"the scene has no part of kind {kind!r}; it has {', '.join(self.kinds)}")
        return replace(self, parts=tuple(part for part in self.parts if part.kind not in kinds))

    def with_parts(self, *parts: Part) -> Scene:
        """The scene with more parts, in front of the others."""
        return replace(self, parts=self.parts + parts)
