"""Factorial pairs: one image, two references, and the part that each shares with it, as data.

The image holds four parts. P drives the neuron and is shared with reference A; Q drives the neuron and is shared with
reference B only; D does not drive the neuron and is shared with both; N neither. Explained against A the heat must
lie on P, against B on Q. A map of the readout alone cannot know the reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from captum_shared.checks import check_integer
from captum_shared.synthetic.images import SIZE, footprint
from captum_shared.synthetic.layout import PALETTE, compose_scene, sample_background
from captum_shared.synthetic.parts import KINDS
from captum_shared.synthetic.scene import Color, Part, Scene

PART_KINDS = tuple(name for name, kind in KINDS.items() if kind.group != "body")
BODIES = tuple(name for name, kind in KINDS.items() if kind.group == "body")
POSITIONS = ("free", "same")
UNIT = 0.105
"""Scale of a part, in units of the image side: a part is about twice as long."""
GREY: Color = (0.52, 0.52, 0.52)
_PLACES = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))


@dataclass(frozen=True)
class PairCondition:
    """What varies between conditions; the defaults are the base condition.

    Attributes
    ----------
    size_ratio : float
        Length of Q over the length of P, in the image and in B.
    position : {"free", "same"}
        Whether each image draws its own places for its parts, or shared parts stay where they are.
    scale : float
        Length of the references' parts over that of the image's.
    occlusion : float
        In [0, 1): length of the grey boxes in front of P and Q, in the image, over the length of the parts.
    clutter : int
        Number of faint shapes in the background.
    """

    size_ratio: float = 1.0
    position: str = "free"
    scale: float = 1.0
    occlusion: float = 0.0
    clutter: int = 8

    def __post_init__(self) -> None:
        if not (self.size_ratio > 0 and self.scale > 0 and math.isfinite(self.size_ratio * self.scale)):
            raise ValueError(f"`size_ratio` and `scale` must be positive, got {self.size_ratio} and {self.scale}")
        if self.position not in POSITIONS:
            raise ValueError(f"`position` must be one of {', '.join(POSITIONS)}, got {self.position!r}")
        if not 0 <= self.occlusion < 1:
            raise ValueError(f"`occlusion` must be in [0, 1), got {self.occlusion}")
        if self.clutter < 0:
            raise ValueError(f"`clutter` must be at least 0, got {self.clutter}")


@dataclass(frozen=True)
class FactorialPair:
    """One image and two families of references.

    Attributes
    ----------
    p, q, d, n : str
        The kinds in the four roles.
    query : Scene
        Holds P, Q, D and N.
    references_a, references_b : tuple of Scene
        Each holds P (or Q), D, and a part of another kind that differs between them. The first is the one shown; the
        others are further images that share the same, for rules that average references.
    """

    p: str
    q: str
    d: str
    n: str
    query: Scene
    references_a: tuple[Scene, ...]
    references_b: tuple[Scene, ...]


def sample_pair(
    p: str,
    q: str,
    rng: np.random.Generator | int,
    *,
    condition: PairCondition | None = None,
    kinds: Sequence[str] = PART_KINDS,
    colors: Mapping[str, Color] | None = None,
    n_references: int = 5,
) -> FactorialPair:
    """Draw a factorial pair for a neuron that is driven by the kinds `p` and `q`.

    Parameters
    ----------
    p, q : str
        Two of `kinds`.
    rng : numpy.random.Generator or int
        Source of all randomness, or a seed for one.
    condition : PairCondition, optional
    kinds : sequence of str
        From which D, N and the references' other parts are drawn; at least five.
    colors : mapping of str to color, optional
        The colour of each kind, as `planted_colors` gives them; bodies and boxes are then grey. Default: each part
        of each image has a random colour, so that colour tells nothing.
    n_references : int
        References in each family.

    Raises
    ------
    ValueError
        If the kinds do not suffice or a number is out of range.
    """
    pen = _Pen(np.random.default_rng(rng), condition or PairCondition(), colors)
    d, n, *rest = _other_kinds(p, q, kinds, n_references, pen.rng)
    places = [_PLACES[k] for k in pen.rng.permutation(4)]
    home = dict(zip((p, q, d, n), places, strict=True))
    stretch = {q: pen.condition.size_ratio}
    query = pen.scene(home, stretch, boxes=(p, q))
    families = [
        tuple(pen.reference((own, d, str(pen.rng.choice(rest))), home, stretch) for _ in range(n_references))
        for own in (p, q)
    ]
    return FactorialPair(p, q, d, n, query, families[0], families[1])


def compose_pair(
    p: str,
    q: str,
    rng: np.random.Generator | int,
    *,
    kinds: Sequence[str] = PART_KINDS,
    n_references: int = 5,
) -> FactorialPair:
    """A factorial pair whose parts are attached to a body as in :func:`sample_scene`.

    For networks trained on such images, such as the demo network: parts that lie about alone are foreign to them.

    Parameters and errors are those of :func:`sample_pair`.
    """
    rng = np.random.default_rng(rng)
    d, n, *rest = _other_kinds(p, q, kinds, n_references, rng)
    families = [
        tuple(compose_scene((own, d, str(rng.choice(rest))), rng) for _ in range(n_references)) for own in (p, q)
    ]
    return FactorialPair(p, q, d, n, compose_scene((p, q, d, n), rng), families[0], families[1])


def sample_gallery(
    n: int,
    preferred: Sequence[str],
    rng: np.random.Generator | int,
    *,
    condition: PairCondition | None = None,
    kinds: Sequence[str] = PART_KINDS,
    colors: Mapping[str, Color] | None = None,
) -> list[Scene]:
    """Images with up to four parts, drawn like those of the pairs.

    Every other image has each preferred kind with probability 0.5. They serve to fit readouts, and to find the mean
    latents and the strongest drivers of a neuron.

    Raises
    ------
    ValueError
        If `n` is not positive.
    """
    pen = _Pen(np.random.default_rng(rng), condition or PairCondition(), colors)
    scenes = []
    for drawn in _draw_kinds(n, preferred, kinds, pen.rng):
        places = [_PLACES[k] for k in pen.rng.permutation(4)[: len(drawn)]]
        scenes.append(pen.scene(dict(zip(drawn, places, strict=True)), {}))
    return scenes


def compose_gallery(
    n: int, preferred: Sequence[str], rng: np.random.Generator | int, *, kinds: Sequence[str] = PART_KINDS
) -> list[Scene]:
    """As :func:`sample_gallery`, with the parts attached to a body as in :func:`compose_pair`."""
    rng = np.random.default_rng(rng)
    return [compose_scene(own, rng) for own in _draw_kinds(n, preferred, kinds, rng)]


def without_parts(scene: Scene) -> Scene:
    """The scene's body and background alone: the response to it is where drops are measured from."""
    return replace(scene, parts=tuple(part for part in scene.parts if part.kind in BODIES))


def _other_kinds(p: str, q: str, kinds: Sequence[str], n_references: int, rng: np.random.Generator) -> list[str]:
    """All kinds but P and Q in random order: D, N, and those for the references' other parts."""
    others = [kind for kind in kinds if kind not in (p, q)]
    if p == q or not {p, q} <= set(kinds) or len(others) < 3:
        raise ValueError(f"`p` and `q` must be two of at least five `kinds`, got {p!r}, {q!r} of {list(kinds)}")
    check_integer("n_references", n_references)
    return [str(kind) for kind in rng.permutation(others)]


def _draw_kinds(n: int, preferred: Sequence[str], kinds: Sequence[str], rng: np.random.Generator) -> list[list[str]]:
    """Up to four kinds for each of `n` images."""
    check_integer("n", n)
    if len(preferred) > 4:
        raise ValueError(f"`preferred` must be at most four kinds, the parts of an image, got {len(preferred)}")
    others = [kind for kind in kinds if kind not in preferred]
    drawn = []
    for index in range(n):
        chosen = [kind for kind in preferred if rng.random() < 0.5 * (index % 2 == 0)]
        filler = rng.permutation(others)[: max(0, int(rng.integers(2, 5)) - len(chosen))]
        drawn.append([*chosen, *(str(kind) for kind in filler)])
    return drawn


class _Pen:
    """Draws scenes of one condition."""

    def __init__(self, rng: np.random.Generator, condition: PairCondition, colors: Mapping[str, Color] | None) -> None:
        self.rng, self.condition, self.colors = rng, condition, colors

    def reference(
        self, kinds: tuple[str, str, str], home: Mapping[str, tuple[float, float]], stretch: Mapping[str, float]
    ) -> Scene:
        """A reference with these kinds: where the image has them, or anywhere."""
        if self.condition.position == "same":
            taken = [home[kind] for kind in kinds if kind in home]
            free = [place for place in _PLACES if place not in taken]
            places = {kind: home.get(kind, free[0]) for kind in kinds}
        else:
            places = dict(zip(kinds, (_PLACES[k] for k in self.rng.permutation(4)[: len(kinds)]), strict=True))
        scale = self.condition.scale
        return self.scene(places, {kind: scale * stretch.get(kind, 1.0) for kind in kinds})

    def scene(
        self,
        places: Mapping[str, tuple[float, float]],
        stretch: Mapping[str, float],
        boxes: Sequence[str] = (),
    ) -> Scene:
        body = Part(str(self.rng.choice(BODIES)), self._near((0.5, 0.5)), 0.1, self._turn(), self._color(None))
        parts = [self._part(kind, self._near(place), stretch.get(kind, 1.0)) for kind, place in places.items()]
        hidden = [self._box(part) for part in parts if part.kind in boxes] if self.condition.occlusion else []
        return Scene("factorial", (body, *parts, *hidden), sample_background(self.rng, self.condition.clutter))

    def _part(self, kind: str, center: tuple[float, float], stretch: float) -> Part:
        """A part whose visible middle lies at `center`."""
        scale = UNIT * stretch * float(self.rng.uniform(0.9, 1.1))
        form, mirror = float(self.rng.uniform(-1, 1)), bool(self.rng.random() < 0.5)
        part = Part(kind, (0.5, 0.5), scale, 2 * self._turn(), self._color(kind), form, mirror)
        x, y = _middle(part)
        return replace(part, position=(center[0] - x + 0.5, center[1] - y + 0.5))

    def _box(self, part: Part) -> Part:
        x, y = _middle(part)
        return Part("cabinet", (x, y), part.scale * self.condition.occlusion, self._turn(), GREY)

    def _near(self, place: tuple[float, float]) -> tuple[float, float]:
        dx, dy = self.rng.uniform(-0.03, 0.03, 2)
        return (place[0] + float(dx), place[1] + float(dy))

    def _turn(self) -> float:
        return float(self.rng.uniform(-0.4, 0.4))

    def _color(self, kind: str | None) -> Color:
        if self.colors is not None:
            return GREY if kind is None else self.colors[kind]
        return PALETTE[int(self.rng.integers(len(PALETTE)))]


def _middle(part: Part) -> tuple[float, float]:
    """Mean position of the pixels that a part touches, in units of the image side."""
    y, x = np.nonzero(footprint(part))
    return float(x.mean() + 0.5) / SIZE, float(y.mean() + 0.5) / SIZE
