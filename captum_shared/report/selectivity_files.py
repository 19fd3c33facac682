"""What is written about indexed units: a table, figures, a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from markupsafe import Markup
from torch import Tensor
from tqdm import tqdm

from captum_shared.folders import ReportFolder
from captum_shared.report.html import Picture, Section, data_url, gallery, page, settings_table
from captum_shared.report.pictures import jpeg
from captum_shared.report.unit_sheets import array_of, masked_array, sheet, strongest_tiles, tile
from captum_shared.report.viewer import data_script, plain
from captum_shared.selectivity import PixelSource, ReceptiveFields, TopActivations, neuron_features, top_crops
from captum_shared.visualization import distribution_figure, feature_grid, unit_sheet

COLUMNS = (
    "color_selectivity", "class_selectivity", "population_code", "orientation_selectivity", "symmetry_selectivity",
)  # fmt: skip
MORE_COLUMNS = ("class_selectivity_at_threshold", "class_selectivity_normalized", "population_code_normalized")
HEADER = (
    "layer", "unit", *COLUMNS, "top_class", "top_class_share", *MORE_COLUMNS, "top_class_normalized", "top_activation",
)  # fmt: skip
LISTED = (*COLUMNS, "class_selectivity_normalized")
RANKED = ("color_selectivity", "class_selectivity_normalized")
NAMES = {
    "color_selectivity": "colour", "class_selectivity": "class, plain", "population_code": "population code",
    "orientation_selectivity": "orientation", "symmetry_selectivity": "symmetry",
    "class_selectivity_at_threshold": "class, plain, at threshold",
    "class_selectivity_normalized": "class, by base rates",
    "population_code_normalized": "population code, by base rates",
}  # fmt: skip
IN_GRID, CROPS_ON_SHEET, SOUGHT, THUMBNAIL, SHEET_DPI = 12, 24, 10, 56, 110
DRIVING_SHARE = 0.1  # the least share of a class that drives a unit, as in the population code


class Shares:
    """Which classes drive the units of a layer: shares (U, C), NaN for units that respond to nothing."""

    def __init__(self, classes: list[str], values: Tensor) -> None:
        self.classes = classes
        self.values = np.nan_to_num(values.numpy())

    def of(self, unit: int) -> dict[str, float]:
        """The share of each class."""
        return dict(zip(self.classes, self.values[unit].tolist(), strict=True))

    def best(self, unit: int) -> tuple[str, float]:
        """The class with the largest share; no name for a unit that responds to nothing."""
        share = float(self.values[unit].max())
        return (self.classes[int(self.values[unit].argmax())], share) if share > 0 else ("", 0.0)


@dataclass(frozen=True)
class Layer:
    """Everything known about the units of a layer. Indices are arrays (U,)."""

    top: TopActivations
    fields: ReceptiveFields
    indices: dict[str, np.ndarray]
    shares: Shares
    normalized: Shares
    shuffled: dict[str, float]

    @property
    def name(self) -> str:
        """The layer's."""
        return self.top.layer


ClassUnit = TypedDict(
    "ClassUnit", {"unit": int, "class": str, "index": float, "share": float, "share_normalized": float}
)


class LayerSummary(TypedDict):
    """What ``summary.json`` says of a layer."""

    n_units: int
    n_dead: int
    field_size: list[tuple[int, int]]
    indices: dict[str, dict[str, float]]
    means_with_shuffled_labels: dict[str, float]
    most_color_selective: list[int]
    most_class_selective: list[ClassUnit]
    most_class_selective_of_each_class: dict[str, ClassUnit]


class SelectivitySummary(TypedDict):
    """The content of ``summary.json``, which has what was noted about the network, too."""

    command: str
    top: int
    crops: int
    grey: str
    class_threshold: float
    rare: int
    seed: int
    n_images: int
    base_rates: dict[str, float]
    unreadable: list[str]
    layers: dict[str, LayerSummary]


@dataclass(frozen=True)
class Choices:
    """What was chosen; see `index_selectivity`."""

    top: int
    crops: int
    sheets: int
    grey: str
    class_threshold: float
    rare: int
    seed: int


@dataclass(frozen=True)
class Study:
    """What was indexed, and how; names are those of all images."""

    layers: list[Layer]
    source: PixelSource
    names: list[str]
    choices: Choices
    base_rates: dict[str, float]
    unreadable: list[str]


def write_report(folder: ReportFolder, study: Study, about: Mapping[str, object], progress: bool) -> SelectivitySummary:
    """Write everything into `folder`; returns what is in ``summary.json``. `about` is what to note of the network."""
    layers = study.layers
    folder.write_csv("units.csv", HEADER, [row for layer in layers for row in _rows(layer)])
    features = {layer.name: _features(layer, study.source, progress) for layer in layers}
    pictures = [_grid(folder, layer, features[layer.name], index) for layer in layers for index in RANKED]
    chosen = tqdm(_chosen(study), disable=not progress, unit="sheet")
    drawn = [_sheet(folder, study, layer, unit, features[layer.name][unit]) for layer, unit in chosen]
    said = {
        "command": "selectivity", **about, "layers": [layer.name for layer in layers], **asdict(study.choices),
        "n_images": len(study.names), "base_rates": study.base_rates, "unreadable": study.unreadable,
    }  # fmt: skip
    del said["sheets"]
    units = [row for layer in layers for row in _listed(folder, study, layer, features[layer.name], progress)]
    sections = [
        gallery("Distributions over the units of each layer", [_distributions(folder, layers)], wide=True),
        gallery("Neuron Features of the most selective units", pictures),
        unit_table([NAMES[column] for column in LISTED], units),
        *([gallery("Sheets of the most selective units", drawn)] if drawn else []),
        settings_table(said),
    ]
    folder.write_text("index.html", page("What the units are selective for", _methods(study), sections))
    summary = cast(SelectivitySummary, {**said, "layers": {layer.name: _summary(layer) for layer in layers}})
    folder.write_json("summary.json", summary)
    return summary


def unit_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Section:
    """A table of units that is searched, filtered and sorted in the browser; a row opens its unit's sheet."""
    data = {"columns": list(columns), "units": rows}
    return Section("units.html", {"script": Markup(data_script("units", 0, data))}, interactive=True)


def ranking(layer: Layer, index: str) -> list[int]:
    """Units with this index, the highest first; equal ones by the largest share of a class."""
    values = layer.indices[index]
    order = np.lexsort((-layer.normalized.values.max(1), -np.nan_to_num(values, nan=-np.inf)))
    return [int(unit) for unit in order if not np.isnan(values[unit])]


def _rows(layer: Layer) -> list[tuple[float | str, ...]]:
    rows = []
    for unit in range(layer.top.n_units):
        value = {column: _number(layer.indices[column][unit]) for column in (*COLUMNS, *MORE_COLUMNS)}
        top_class, share = layer.shares.best(unit)
        rows.append((
            layer.name, unit, *(value[column] for column in COLUMNS), top_class, round(share, 4),
            *(value[column] for column in MORE_COLUMNS), layer.normalized.best(unit)[0],
            float(layer.top.activations[unit, 0]),
        ))  # fmt: skip
    return rows


def _number(value: np.generic) -> float | str:
    """An empty field for NaN; integers as such."""
    if isinstance(value, np.integer):
        return int(value)
    return "" if math.isnan(value) else round(float(value), 6)


def _features(layer: Layer, source: PixelSource, progress: bool) -> list[np.ndarray]:
    """Neuron Features (h, w, 3) of all units."""
    found = neuron_features(layer.top, layer.fields, source)
    bar = tqdm(found, total=layer.top.n_units, disable=not progress, unit="feature", desc=layer.name)
    return [array_of(feature) for _, feature in bar]


def _distributions(folder: ReportFolder, layers: Sequence[Layer]) -> Picture:
    values = {layer.name: {NAMES[column]: layer.indices[column].astype(float) for column in LISTED} for layer in layers}
    chance = {layer.name: {NAMES[column]: value for column, value in layer.shuffled.items()} for layer in layers}
    png = folder.write_figure("distributions.png", distribution_figure(values, chance))
    caption = "The line is the mean; dashed, the mean when labels are shuffled among the images."
    means = "; ".join(
        f"{name}: " + ", ".join(f"{column} {np.nanmean(index):.2f}" for column, index in one.items())
        for name, one in values.items()
    )
    return Picture(png, caption, f"Histograms of six indices for each layer. Means: {means}")


def _grid(folder: ReportFolder, layer: Layer, features: list[np.ndarray], index: str) -> Picture:
    units = ranking(layer, index)[:IN_GRID]
    titles = [f"unit {unit}: {layer.indices[index][unit]:.3f}" for unit in units]
    if index != "color_selectivity":
        titles = [f"{title}\n{layer.normalized.best(unit)[0]}" for title, unit in zip(titles, units, strict=True)]
    heading = f"{layer.name}: Neuron Features of the units highest in {NAMES[index]}"
    figure = feature_grid([features[unit] for unit in units], titles, heading)
    kind = "color" if index == "color_selectivity" else "class"
    png = folder.write_figure(f"features_{kind}_{file_name(layer.name)}.png", figure)
    return Picture(png, heading + ".", f"{heading}: {', '.join(title.replace(chr(10), ', ') for title in titles)}")


def _chosen(study: Study) -> list[tuple[Layer, int]]:
    """Layers and units that get a sheet, each once."""
    chosen = []
    for layer in study.layers:
        units = [unit for index in RANKED for unit in ranking(layer, index)[: study.choices.sheets]]
        chosen += [(layer, unit) for unit in dict.fromkeys(units)]
    return chosen


def _sheet(folder: ReportFolder, study: Study, layer: Layer, unit: int, feature: np.ndarray) -> Picture:
    crops, inside = top_crops(layer.top, layer.fields, study.source, unit, CROPS_ON_SHEET)
    arrays = [masked_array(*one) for one in zip(crops, inside, strict=True)]
    facts = {NAMES[c]: f"{layer.indices[c][unit]:.3f}".rstrip("0").rstrip(".") for c in (*COLUMNS, *MORE_COLUMNS)}
    plain_shares, normalized = layer.shares.of(unit), layer.normalized.of(unit)
    shares = {label: (share, normalized.get(label, 0.0)) for label, share in plain_shares.items()}
    heading = f"{layer.name}, unit {unit}: Neuron Feature and strongest crops"
    figure = unit_sheet(heading, feature, arrays, facts, shares)
    png = folder.write_figure(f"unit_{file_name(layer.name)}_{unit:04d}.png", figure, SHEET_DPI)
    files = ", ".join(study.names[i] for i in layer.top.images[unit, :5].tolist())
    caption = f"{layer.name}, unit {unit}. Strongest images: {files}."
    alt = f"{heading}. " + ", ".join(f"{key} {value}" for key, value in facts.items())
    return Picture(png, caption, alt)


def file_name(layer: str) -> str:
    """A layer's name as part of a file's name."""
    return "".join(c if c.isalnum() else "_" for c in layer) or "output"


def _listed(
    folder: ReportFolder, study: Study, layer: Layer, features: list[np.ndarray], progress: bool
) -> list[list[object]]:
    """The rows of the table, as the page's script reads them, and a picture of each unit in ``units``."""
    crops, rows = strongest_tiles(layer.top, layer.fields, study.source), []
    for unit, feature in enumerate(tqdm(features, disable=not progress, unit="unit", desc=layer.name)):
        value = {column: plain(float(layer.indices[column][unit])) for column in (*COLUMNS, *MORE_COLUMNS)}
        shares = {label: share for label, share in layer.normalized.of(unit).items() if share >= DRIVING_SHARE}
        path = folder / "units" / f"{file_name(layer.name)}_{unit:04d}.jpg"
        folder.write(path, sheet(feature, crops[unit]))
        rows.append(
            [
                layer.name,
                unit,
                [value[column] for column in LISTED],
                [[label, plain(shares[label])] for label in sorted(shares, key=lambda label: -shares[label])],
                [Path(study.names[i]).stem for i in layer.top.images[unit, :SOUGHT].tolist()],
                data_url(jpeg(tile(feature, THUMBNAIL)), "image/jpeg"),
                f"units/{path.name}",
                [[NAMES[column], one] for column, one in value.items()],
            ]
        )
    return rows


def _summary(layer: Layer) -> LayerSummary:
    color, by_class = (ranking(layer, index) for index in RANKED)
    return {
        "n_units": layer.top.n_units,
        "n_dead": int(np.isnan(layer.indices["class_selectivity"]).sum()),
        "field_size": sorted({(int(h), int(w)) for h, w in zip(layer.fields.height, layer.fields.width, strict=True)}),
        "indices": {column: _spread(layer.indices[column]) for column in (*COLUMNS, *MORE_COLUMNS)},
        "means_with_shuffled_labels": layer.shuffled,
        "most_color_selective": color[:10],
        "most_class_selective": [_class_unit(layer, unit) for unit in by_class[:10]],
        "most_class_selective_of_each_class": _best_of_classes(layer, by_class),
    }


def _best_of_classes(layer: Layer, ranked: list[int]) -> dict[str, ClassUnit]:
    """For each class that some unit prefers by base rates, the most class-selective of these units."""
    best: dict[str, ClassUnit] = {}
    for unit in ranked:
        best.setdefault(layer.normalized.best(unit)[0], _class_unit(layer, unit))
    return dict(sorted(best.items()))


def _class_unit(layer: Layer, unit: int) -> ClassUnit:
    label, normalized = layer.normalized.best(unit)
    index = float(layer.indices["class_selectivity_normalized"][unit])
    share = layer.shares.of(unit).get(label, 0.0)
    return {
        "unit": unit, "class": label, "index": round(index, 4), "share": round(share, 4),
        "share_normalized": round(normalized, 4),
    }  # fmt: skip


def _spread(values: np.ndarray) -> dict[str, float]:
    known = values[~np.isnan(values)]
    if known.size == 0:
        return {}
    low, median, high = np.quantile(known, (0.1, 0.5, 0.9))
    spread = {"mean": known.mean(), "sd": known.std(), "q10": low, "median": median, "q90": high, "max": known.max()}
    return {name: round(float(value), 4) for name, value in spread.items()}


def _methods(study: Study) -> list[str]:
    s, unreadable = study.choices, study.unreadable
    rates = sorted(study.base_rates.items(), key=lambda item: -item[1])
    frequent = ", ".join(f"{name} {rate:.0%}" for name, rate in rates[:4])
    lost = [f"Unreadable and left out: {', '.join(unreadable)}."] if unreadable else []
    return [
        f"For each unit, the {s.top} images with the largest activation (one position per image, of {len(study.names)} "
        "images) and the crops its receptive field sees there. The Neuron Feature is their mean, weighted by "
        "activation; what lies beyond an image's border is left out (Rafegas et al., Pattern Recognition "
        "Letters 2020).",
        f"Colour: the share of the response that is lost in grey ({s.grey}). Orientation: the share that is lost "
        "when crops are turned by 90 degrees. Symmetry: the share that is kept when they are mirrored left to right. "
        f"The latter two over the {s.crops} strongest crops. A negative value means more response after the change.",
        "Class, plain: (N - M) / (N - 1), M the number of classes among the N strongest images. Population code: "
        "classes with at least a tenth of the weight.",
        f"Base rates: {frequent} ... of {len(rates)} classes. Where they are unequal, the plain class index reflects "
        "how frequent classes are. By base rates: shares are divided by the class's share of all images, and M is the "
        f"fewest classes that reach {s.class_threshold:g} of the total. Classes with fewer than {s.rare} "
        "images, whose shares would be noise, are left out.",
        *lost,
    ]
