"""Recordings in any file of arrays, with a mapping that says which array is what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from captum_shared.labels import places_of
from captum_shared.recording.arrays import ArrayFile, open_arrays
from captum_shared.recording.found import Found, Selection, by_stimulus, chosen, one_each

AXES = ("neuron", "stimulus", "repeat", "presentation")
SETS = ({"neuron", "stimulus"}, {"neuron", "stimulus", "repeat"}, {"neuron", "presentation"})
Names = str | list[str]


@dataclass(frozen=True)
class Layout:
    """Which array is what. `Names` are an array's name, in a group or a structure with slashes, or the list itself."""

    responses: str
    axes: Sequence[str]  # one of SETS, in NumPy's order, of .mat files in MATLAB's
    stimuli: Names  # the image file of each stimulus or presentation
    categories: Names | None = None  # likewise
    neurons: Names | None = None
    properties: Mapping[str, Names] = field(default_factory=dict)  # of neurons, to select them by: {"region": "areas"}


def read_mapped(
    path: Path, *, mapping: str | Path | Mapping[str, object] | None = None, select: Selection | None = None
) -> Found:
    """Responses, files, categories and neuron ids of a .mat, .h5, .hdf5 or .npz file.

    Parameters
    ----------
    path : Path
    mapping : path or mapping
        A JSON file, or its content: see `Layout`.
    select : mapping, optional
        Values of the properties, such as {"region": "IT"}. Default: all neurons.
    """
    if mapping is None:
        with open_arrays(path) as file:
            raise ValueError(f"`mapping` must say which array of {path} is what, in a JSON file; there are "
                             f"{', '.join(file.names())}")  # fmt: skip
    layout, source = _read_layout(mapping)
    with open_arrays(path) as file:
        return _read(file, layout, path, source, select)


def _read_layout(mapping: str | Path | Mapping[str, object]) -> tuple[Layout, str]:
    """A mapping, checked, and what to call it in messages."""
    if isinstance(mapping, Mapping):
        content, source = dict(mapping), "`mapping`"
    else:
        content, source = _read_json(Path(mapping)), str(mapping)
    known = [one.name for one in fields(Layout)]
    if not set(known[:3]) <= set(content) <= set(known):
        raise ValueError(f"{source} must have the entries responses, axes and stimuli, and may have categories, "
                         f"neurons and properties; got {', '.join(content) or 'none'}")  # fmt: skip
    axes = content["axes"]
    fitting = isinstance(axes, list | tuple) and any(sorted(map(str, axes)) == sorted(one) for one in SETS)
    if not fitting:
        raise ValueError(f"the entry axes of {source} must be neuron and stimulus, neuron, stimulus and repeat, or "
                         f"neuron and presentation, in the order of the array; got {axes!r}")  # fmt: skip
    properties = content.get("properties", {})
    if not isinstance(properties, dict):
        raise ValueError(f"the entry properties of {source} must be arrays by name, got {properties!r}")
    named = {name: content[name] for name in ("stimuli", "categories", "neurons") if content.get(name) is not None}
    for name, value in {**named, **properties}.items():
        if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            raise ValueError(
                f"the entry {name} of {source} must be the name of an array or a list of names, got {value!r}"
            )
    if not isinstance(content["responses"], str):
        raise ValueError(f"the entry responses of {source} must be the name of an array, got {content['responses']!r}")
    return Layout(**content), source  # type: ignore[arg-type]


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        raise FileNotFoundError(f"no mapping at {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a readable JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object in braces, got {type(content).__name__}")
    return content


def _read(file: ArrayFile, layout: Layout, path: Path, source: str, select: Selection | None) -> Found:
    array = _turned(file.numbers(layout.responses), layout, path)
    shown = "presentation" if "presentation" in layout.axes else "stimulus"
    names = {"neuron": len(array), shown: array.shape[1]}

    def texts(entry: str, given: Names, axis: str) -> list[str]:
        found = file.texts(given) if isinstance(given, str) else list(given)
        if len(found) != names[axis]:
            raise ValueError(f"the entry {entry} of {source} must be one for each {axis}, {names[axis]} of them in "
                             f"{layout.responses!r} of {path}, got {len(found)}")  # fmt: skip
        return found

    properties = {name: texts(name, given, "neuron") for name, given in layout.properties.items()}
    keep = chosen(properties, select, len(array), path)
    files = texts("stimuli", layout.stimuli, shown)
    kinds = None if layout.categories is None else texts("categories", layout.categories, shown)
    ids = None if layout.neurons is None else texts("neurons", layout.neurons, "neuron")
    array, ids = array[keep], ids and [ids[k] for k in keep]
    if shown == "stimulus":
        return Found(array, files, kinds, ids)
    places = places_of(files)
    return Found(by_stimulus(array, places), list(places), kinds and one_each(kinds, places, path), ids)


def _turned(array: np.ndarray, layout: Layout, path: Path) -> np.ndarray:
    """Responses with the axes neuron, stimulus (or presentation), repeat. MATLAB drops last axes of length 1."""
    if path.suffix == ".mat" and array.ndim < len(layout.axes):
        array = array.reshape(*array.shape, *[1] * (len(layout.axes) - array.ndim))
    if array.ndim != len(layout.axes):
        raise ValueError(f"{layout.responses!r} in {path} must have the axes {', '.join(layout.axes)}, got the shape "
                         f"{array.shape}")  # fmt: skip
    return np.transpose(array, [layout.axes.index(axis) for axis in AXES if axis in layout.axes])
