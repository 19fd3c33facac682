"""The data of the viewer: neurons, pairs, maps and correspondences, as scripts that a page opened from disk can load.

A page opened from disk may not read other files, but it may run them. So everything comes as JavaScript that calls one
function with JSON: ``data/index.js`` with what the tables need, and ``data/neuron_0.js``, ``data/neuron_1.js``, ...
with maps, each loaded when its neuron is looked at. A small report has them in the page itself.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
from markupsafe import Markup

from captum_shared.attribution.shares import overlaps
from captum_shared.report.html import Section
from captum_shared.visualization import display_heat
from captum_shared.visualization.canvas import heat_colours

MOST_CELLS, MOST_PLACES = 64, 8  # on a side, of a map and of each image of a correspondence
SHARE, OWN_SHARE = "share of the similarity", "share of the map's heat"


@dataclass(frozen=True)
class ImageView:
    """An image as the network sees it: a path relative to the page, or a data URL."""

    source: str
    name: str
    category: str
    width: int
    height: int


@dataclass(frozen=True)
class MapView:
    """One kind of map of a pair: signed, from the layer's grid or pixel by pixel; sizes may differ."""

    x: np.ndarray
    reference: np.ndarray
    unit: str = OWN_SHARE  # what values are a share of
    total: float | None = None  # the sum that is a share of 1; by default that of each map's positive part


@dataclass(frozen=True)
class ReferenceView:
    """A reference of a driver: its place in the list of images, and the neuron's response to it."""

    image: int
    similarity: float
    maps: Mapping[str, MapView]  # the first is shown first
    correspondence: np.ndarray | None = None  # (h, w, h', w'): how much each place of the driver shares with each of it
    response: float | None = None
    warnings: Sequence[str] = ()
    others: Mapping[str, MapView] = field(default_factory=dict)  # layer maps by other rules than the report's


@dataclass(frozen=True)
class PairView:
    """A driver, by its place in the list of images, with its references, the best first."""

    image: int
    response: float
    references: Sequence[ReferenceView]
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class ColumnView:
    """A column of the table of neurons: `kind` is "number", "choice" or "text"."""

    key: str
    name: str
    kind: str = "number"


@dataclass(frozen=True)
class NeuronView:
    """A neuron: its values by the keys of the columns, and its pairs, the strongest first."""

    name: str
    values: Mapping[str, float | str | None] = field(default_factory=dict)
    pairs: Sequence[PairView] = ()
    warnings: Sequence[str] = ()
    figure: str | None = None  # the path of a picture of everything
    thumbnail: tuple[str, int, int] | None = None  # the path, width and height of a small one


class NeuronEntry(TypedDict):
    """What the tables need to know of a neuron, as JSON holds it."""

    name: str
    values: dict[str, float | str | None]
    warnings: list[str]
    figure: str | None
    thumbnail: tuple[str, int, int] | None
    pairs: list[list[object]]


Packed = tuple[list[int], float, str]
"""An array as its shape, its largest value, and its bytes in base64."""


def inline_viewer(
    images: Sequence[ImageView], columns: Sequence[ColumnView], neurons: Sequence[NeuronView], rule: str = "product"
) -> Section:
    """The viewer with its data in the page itself: one file to send, for a few neurons."""
    scripts = [neuron_script(number, neuron) for number, neuron in enumerate(neurons)]
    return viewer_section([index_script(images, columns, [neuron_entry(n) for n in neurons], rule), *scripts])


def viewer_section(scripts: Sequence[str] = ()) -> Section:
    """The section of the viewer: with the scripts inside, or with ``data/index.js`` beside the page."""
    return Section("viewer.html", {"scripts": [Markup(script) for script in scripts]}, interactive=True)


def index_script(
    images: Sequence[ImageView],
    columns: Sequence[ColumnView],
    entries: Sequence[NeuronEntry],
    rule: str = "product",
) -> str:
    """What tables and the plot of neurons need, the name of the report's rule, and the colours of heat."""
    rgba = (heat_colours()(np.linspace(0, 1, 256)) * 255).round().astype(np.uint8)
    return data_script("index", 0, {
        "images": [[i.source, i.name, i.category, i.width, i.height] for i in images],
        "columns": [[c.key, c.name, c.kind] for c in columns],
        "neurons": entries,
        "rule": rule,
        "colours": base64.b64encode(rgba.tobytes()).decode(),
    })  # fmt: skip


def neuron_entry(neuron: NeuronView) -> NeuronEntry:
    """What the tables need to know of a neuron."""
    best = [(pair, pair.references[0]) for pair in neuron.pairs]
    return {
        "name": neuron.name,
        "values": {key: plain(value) for key, value in neuron.values.items()},
        "warnings": list(neuron.warnings),
        "figure": neuron.figure,
        "thumbnail": neuron.thumbnail,
        "pairs": [
            [p.image, r.image, plain(r.similarity), plain(p.response), [*p.warnings, *r.warnings]] for p, r in best
        ],
    }


def neuron_script(number: int, neuron: NeuronView) -> str:
    """The maps and correspondences of a neuron's pairs."""
    pairs = [[_reference(reference) for reference in pair.references] for pair in neuron.pairs]
    return data_script("neuron", number, {"pairs": pairs})


def quantized(values: np.ndarray) -> Packed:
    """An array as its shape, its largest value, and 8 bits per entry: ``top * (byte / 255)**2``.

    The square keeps small values distinct; those below a 65,000th of the largest become 0.
    """
    positive = np.maximum(np.asarray(values, dtype=np.float64), 0)
    top = float(positive.max())
    levels = np.sqrt(positive / (top or 1.0)) * 255
    code = base64.b64encode(levels.round().astype(np.uint8).tobytes()).decode()
    return list(positive.shape), float(f"{top:.5g}"), code


def restored(packed: Packed) -> np.ndarray:
    """The array that `quantized` packed, to the precision of 8 bits."""
    shape, top, code = packed
    levels = np.frombuffer(base64.b64decode(code), np.uint8).astype(np.float64)
    return top * (levels / 255).reshape(shape) ** 2


def from_data_url(url: str) -> bytes:
    """The content of a data URL in base64."""
    return base64.b64decode(url.split(",", 1)[1])


def density(values: np.ndarray, total: float | None = None) -> np.ndarray:
    """The heat of a signed map (h, w) relative to an even spread, which would be 1 everywhere.

    Maps of pixels are smoothed, as in every picture, and made smaller. Without a `total`, the whole is the sum of the
    positive part, since a signed map may sum to nearly nothing.
    """
    signed = np.asarray(values, dtype=np.float64)
    heat = np.maximum(signed, 0)
    if max(signed.shape) > MOST_CELLS:
        heat = _mean_of_bins(display_heat(signed).astype(np.float64), MOST_CELLS)
        heat *= signed.size / heat.size
    whole = total if total is not None and total > 0 else float(heat.sum())
    return heat * heat.size / whole if whole > 0 else heat


def binned(part: np.ndarray, most: int = MOST_PLACES) -> np.ndarray:
    """A correspondence (h, w, h', w') on at most `most` places a side, with the same sums."""
    for axis, size in enumerate(part.shape):
        if size > most:
            part = np.moveaxis(np.tensordot(overlaps(size, most).numpy(), part, (1, axis)), 0, axis)
    return part


def _reference(view: ReferenceView) -> dict[str, object]:
    maps, others = (
        [
            [name, m.unit, quantized(density(m.x, m.total)), quantized(density(m.reference, m.total))]
            for name, m in each.items()
        ]
        for each in (view.maps, view.others)
    )
    part = view.correspondence
    return {
        "image": view.image, "similarity": plain(view.similarity), "response": plain(view.response),
        "warnings": list(view.warnings), "maps": maps, "others": others,
        "correspondence": None if part is None else quantized(binned(np.asarray(part, dtype=np.float64))),
    }  # fmt: skip


def _mean_of_bins(heat: np.ndarray, most: int) -> np.ndarray:
    sizes = [min(most, max(1, round(size * most / max(heat.shape)))) for size in heat.shape]
    rows, columns = (overlaps(n, m).numpy() * m / n for n, m in zip(heat.shape, sizes, strict=True))
    result: np.ndarray = rows @ heat @ columns.T
    return result


def data_script(kind: str, key: int, value: object) -> str:
    """A call of the page's function; safe inside a page too, where "<" could end a script."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'(window.captumShared=window.captumShared||[]).push(["{kind}",{key},{text}]);\n'


def read_data(text: str, kind: str, key: int) -> Any:
    """The value of a call that `data_script` wrote, from a page or a script that holds it."""
    start = f'["{kind}",{key},'
    place = text.find(start)
    if place < 0:
        raise ValueError(f"the report holds no data of {start}...")
    return json.JSONDecoder().raw_decode(text, place + len(start))[0]


def plain(value: float | str | None) -> float | str | None:
    """A number to five digits, None for NaN, text as it is."""
    if value is None or isinstance(value, str):
        return value
    return float(f"{float(value):.5g}") if math.isfinite(value) else None
