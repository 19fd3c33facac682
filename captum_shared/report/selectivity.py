"""Index the selectivity of every unit of a network's layers, and report it."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

import numpy as np
import torch
from torch import Tensor, nn

from captum_shared.checks import check_integer
from captum_shared.encoder.identity import ImageTransform
from captum_shared.encoder.images import evaluating
from captum_shared.encoder.registry import load_network
from captum_shared.folders import report_folder
from captum_shared.labels import read_labels
from captum_shared.report.device import find_device
from captum_shared.report.selectivity_files import Choices, Layer, Said, SelectivitySummary, Shares, Study, write_report
from captum_shared.selectivity import (
    PixelSource,
    ReceptiveFields,
    TopActivations,
    base_rates,
    class_distribution,
    class_selectivity_index,
    color_selectivity_index,
    orientation_selectivity_index,
    population_code,
    receptive_fields,
    symmetry_selectivity_index,
    top_activations,
)
from captum_shared.selectivity.checkpoint import identify_maps
from captum_shared.selectivity.classes import warn_if_unequal
from captum_shared.selectivity.layers import LayerReader
from captum_shared.store import Identity, Store, tensor_bytes
from captum_shared.study.contents import describe_images, example_of

if TYPE_CHECKING:
    from typing_extensions import Required, Unpack

    class SelectivityArguments(TypedDict, total=False):
        """What `index_selectivity` takes by name, apart from the network and its layers."""

        images: Required[str | Path]
        labels: Required[str | Path]
        top: int
        crops: int
        sheets: int
        grey: str
        class_threshold: float
        rare: int
        seed: int
        batch_size: int
        progress: bool
        out: str | Path
        overwrite: bool


SHUFFLES = 20


class Common(TypedDict):
    """What every pass over the images takes."""

    transform: ImageTransform
    batch_size: int
    progress: bool


class OfLayer(Common):
    """The same, and what the units of a layer see."""

    fields: ReceptiveFields


def run_selectivity(
    *,
    model: str,
    layers: Sequence[str],
    weights: str | Path | None = "DEFAULT",
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | None = None,
    **options: Unpack[SelectivityArguments],
) -> SelectivitySummary:
    """`load_network`, then `index_selectivity` with the rest of the options."""
    network, transform = load_network(
        model, weights, image_size=image_size, mean=mean, std=std, seed=options.get("seed", 0)
    )
    network.to(find_device(device))
    about = {"model": model, "weights": str(weights)}
    return index_selectivity(network=network, transform=transform, layers=layers, about=about, **options)


def index_selectivity(
    images: str | Path,
    labels: str | Path,
    network: nn.Module,
    transform: ImageTransform,
    layers: Sequence[str],
    *,
    top: int = 100,
    crops: int = 10,
    sheets: int = 6,
    grey: str = "luminance",
    class_threshold: float = 0.8,
    rare: int = 10,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
    about: Mapping[str, object] | None = None,
    out: str | Path = "selectivity",
    overwrite: bool = False,
) -> SelectivitySummary:
    """Index every unit of some layers for colour, class, orientation and symmetry, and write a report.

    Parameters
    ----------
    images, labels : path
        A folder, and a CSV file with the columns `file` and `category`.
    network, transform
        As `load_network` returns them.
    layers : sequence of str
    top : int, default 100
        How many of the strongest images of each unit count, as in the paper.
    crops : int, default 10
        How many of them are turned and mirrored. Each costs up to two forward passes per unit, so the default is
        fewer than in the paper.
    sheets : int, default 6
        A sheet is drawn for this many units of each layer with the highest colour index, and as many with the highest
        class index by base rates.
    grey : {"luminance", "opponent"}, default "luminance"
    class_threshold : float, default 0.8
        For the class index by base rates, which at the paper's threshold of 1 does not differ from the plain one.
    rare : int, default 10
        Classes with fewer images are left out of everything that is divided by base rates: they would be mostly noise.
    seed : int, default 0
        For the shuffled labels that the class indices are compared with.
    batch_size, progress
        As in `top_activations`.
    about : dict, optional
        What to note about the network.
    out : path
        Gets ``units.csv``, figures, ``index.html``, ``summary.json``, ``manifest.json``, and ``.cache``, from which an
        interrupted run is resumed.
    overwrite : bool, default False
        Whether a report of another configuration in `out` is replaced.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If an argument is wrong, files are missing, the network or the transform is random, or `out` holds other files
        or a report of another configuration (the difference is shown).
    """
    _check_counts(top=top, crops=crops, sheets=sheets, rare=rare)
    labelled = LabelledImages(*read_labels(images, labels))
    settings: dict[str, object] = {
        **(about or {}), "layers": list(layers), "top": top, "crops": crops, "sheets": sheets, "grey": grey,
        "class_threshold": class_threshold, "rare": rare, "seed": seed,
    }  # fmt: skip
    identity = identity_of(network, transform, layers, labelled)
    manifest = selectivity_manifest(labelled, settings, identity)
    with report_folder(out, manifest, overwrite) as folder:
        if folder.finished:
            return cast(SelectivitySummary, folder.read_json("summary.json"))
        common: Common = {"transform": transform, "batch_size": batch_size, "progress": progress}
        tops = top_activations(network, list(layers), labelled.paths, top, checkpoint=folder / ".cache", **common)
        kept, chosen = _Kept(folder / ".cache", identity), cast(Choices, settings)
        return write_report(folder, _studied(tops, kept, network, labelled, chosen, common), sheets, progress)


def selectivity_manifest(
    labelled: LabelledImages, settings: Mapping[str, object], identity: Identity
) -> dict[str, object]:
    """Everything the findings depend on; `identity` is that of the network's maps, see `identity_of`."""
    return {
        "command": "selectivity",
        "configuration": {**settings, "network_and_transform_do": identity.as_json()},
        "images": describe_images(*labelled),
    }


def identity_of(
    network: nn.Module, transform: ImageTransform, layers: Sequence[str], labelled: LabelledImages
) -> Identity:
    """The identity of the maps of a network's layers, for such images."""
    with evaluating(network), torch.no_grad():
        return identify_maps(LayerReader(network, list(layers)), transform, example_of(labelled.paths))


class LabelledImages(NamedTuple):
    """Files and their categories."""

    paths: list[Path]
    categories: list[str]


class _Labels(NamedTuple):
    """The category of each image, and how class indices count them."""

    categories: Sequence[str]
    threshold: float
    rare: int

    def frequent(self) -> list[str | None]:
        """The categories, with None for those of fewer than `rare` images."""
        counts = Counter(self.categories)
        return [category if counts[category] >= self.rare else None for category in self.categories]


def _studied(
    tops: dict[str, TopActivations],
    kept: _Kept,
    network: nn.Module,
    images: LabelledImages,
    settings: Choices,
    common: Common,
) -> Study:
    """Compute the indices of every unit, and gather what the report says."""
    first = next(iter(tops.values()))
    _check_left(first)
    size = first.image_size
    fields = kept.fields(list(tops), size, lambda: receptive_fields(network, list(tops), size))
    rates = base_rates(first, images.categories)
    warn_if_unequal(rates)
    labels = _Labels(images.categories, settings["class_threshold"], settings["rare"])
    layers = {}
    for layer, top in tops.items():
        pixels = _pixel_indices(network, top, images.paths, settings, {**common, "fields": fields[layer]})
        indices = {name: kept.index(key, top, compute) for name, (key, compute) in pixels.items()}
        layers[layer] = _with_classes(top, fields[layer], indices, labels, settings["seed"])
    names = [path.name for path in images.paths]
    said: dict[str, object] = {
        "command": "selectivity", **{name: value for name, value in settings.items() if name != "sheets"},
        "n_images": len(names), "base_rates": rates, "unreadable": [names[i] for i in first.unreadable],
    }  # fmt: skip
    return Study(layers, PixelSource(images.paths, common["transform"]), names, cast(Said, said))


def _pixel_indices(
    network: nn.Module, top: TopActivations, paths: list[Path], settings: Choices, common: OfLayer
) -> dict[str, tuple[str, Callable[[], Tensor]]]:
    """What greying, turning and mirroring cost each unit of a layer: a key, and how it is computed."""
    grey, crops = settings["grey"], settings["crops"]
    of = (network, top, paths)
    turned = partial(orientation_selectivity_index, *of, n=crops, **common)
    mirrored = partial(symmetry_selectivity_index, *of, n=crops, **common)
    return {
        "color_selectivity": (f"color {grey}", partial(color_selectivity_index, *of, grey_version=grey, **common)),
        "orientation_selectivity": (f"orientation {crops}", turned),
        "symmetry_selectivity": (f"symmetry {crops}", mirrored),
    }


class _Kept:
    """Results on disk, each identified by what determines it."""

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.store = Store(folder)
        self.identity = identity

    def index(self, name: str, top: TopActivations, compute: Callable[[], Tensor]) -> np.ndarray:
        """An index (U,) of the units of a layer."""
        ranked = (tensor_bytes(part) for part in (top.activations, top.images, top.positions))
        identity = self.identity.extended(top.layer, name, *ranked)
        return self.store.tensors("index", identity, lambda: {"index": compute()})["index"].numpy()

    def fields(
        self, layers: list[str], size: tuple[int, int], compute: Callable[[], dict[str, ReceptiveFields]]
    ) -> dict[str, ReceptiveFields]:
        """The receptive fields of layers."""
        parts = ("top", "left", "height", "width")
        saved = self.store.tensors(
            "fields",
            self.identity.extended(json.dumps([layers, size])),
            lambda: {f"{la}/{part}": getattr(f, part) for la, f in compute().items() for part in parts},
        )
        return {
            layer: ReceptiveFields(**{part: saved[f"{layer}/{part}"] for part in parts}, image_size=size)
            for layer in layers
        }


def _with_classes(
    top: TopActivations, fields: ReceptiveFields, indices: dict[str, np.ndarray], labels: _Labels, seed: int
) -> Layer:
    """The layer with its class indices."""
    frequent = labels.frequent()
    by_class = {
        **_class_indices(top, labels),
        "population_code": population_code(top, labels.categories),
        "population_code_normalized": population_code(top, frequent, normalize=True),
    }
    everything = {**indices, **{name: index.numpy() for name, index in by_class.items()}}
    plain = Shares(*class_distribution(top, labels.categories))
    normalized = Shares(*class_distribution(top, frequent, normalize=True))
    return Layer(top, fields, everything, plain, normalized, _shuffled(top, labels, seed))


def _class_indices(top: TopActivations, labels: _Labels) -> dict[str, Tensor]:
    """The class index as in the paper, at another threshold, and there by base rates; the user has been warned."""
    categories, threshold = labels.categories, labels.threshold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "class_selectivity": class_selectivity_index(top, categories),
            "class_selectivity_at_threshold": class_selectivity_index(top, categories, threshold),
            "class_selectivity_normalized": class_selectivity_index(top, labels.frequent(), threshold, normalize=True),
        }


def _shuffled(top: TopActivations, labels: _Labels, seed: int) -> dict[str, float]:
    """Mean class indices over units with shuffled labels: what base rates alone give."""
    rng = np.random.default_rng(seed)
    readable = [i for i in range(top.n_images) if i not in top.unreadable]
    means: dict[str, list[float]] = {}
    for _ in range(SHUFFLES):
        dealt = np.array(labels.categories, dtype=object)
        dealt[readable] = dealt[rng.permutation(readable)]
        for name, index in _class_indices(top, labels._replace(categories=dealt.tolist())).items():
            means.setdefault(name, []).append(float(index.nanmean()))
    return {name: float(np.mean(some)) for name, some in means.items()}


def _check_left(top: TopActivations) -> None:
    left = top.n_images - len(top.unreadable)
    if left < 2:
        raise ValueError(f"at least 2 images must be readable to compare units, got {left} of {top.n_images}")


def _check_counts(**counts: object) -> None:
    for name, value in counts.items():
        least = 0 if name == "sheets" else 2 if name == "top" else 1
        check_integer(name, value, least)
