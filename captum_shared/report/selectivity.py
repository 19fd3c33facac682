"""Index the selectivity of every unit of a network's layers, and report it."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

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
    network, transform = load_network(model, weights, image_size=image_size, mean=mean, std=std)
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
        Classes of fewer images take no part in what is divided by base rates, where they would be mostly noise.
    seed : int, default 0
        Of the shuffled labels that the class indices are compared with.
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
    paths, categories = read_labels(images, labels)
    settings: dict[str, object] = {
        **(about or {}), "layers": list(layers), "top": top, "crops": crops, "sheets": sheets, "grey": grey,
        "class_threshold": class_threshold, "rare": rare, "seed": seed,
    }  # fmt: skip
    with evaluating(network), torch.no_grad():
        identity = identify_maps(LayerReader(network, list(layers)), transform, example_of(paths))
    manifest = {
        "command": "selectivity",
        "configuration": {**settings, "network_and_transform_do": identity.as_json()},
        "images": describe_images(paths, categories),
    }
    with report_folder(out, manifest, overwrite) as folder:
        if folder.finished:
            return cast(SelectivitySummary, folder.read_json("summary.json"))
        cache = folder / ".cache"
        common: Common = {"transform": transform, "batch_size": batch_size, "progress": progress}
        tops = top_activations(network, list(layers), paths, top, checkpoint=cache, **common)
        study = _studied(tops, _Kept(cache, identity), network, (paths, categories), cast(Choices, settings), common)
        return write_report(folder, study, sheets, progress)


def _studied(
    tops: dict[str, TopActivations],
    kept: _Kept,
    network: nn.Module,
    images: tuple[list[Path], list[str]],
    settings: Choices,
    common: Common,
) -> Study:
    """The indices of every unit, and what the report says of them."""
    (paths, categories), first = images, next(iter(tops.values()))
    _check_left(first)
    size = first.image_size
    fields = kept.fields(list(tops), size, lambda: receptive_fields(network, list(tops), size))
    rates = base_rates(first, categories)
    warn_if_unequal(rates)
    studied = {}
    for layer, top in tops.items():
        options: OfLayer = {**common, "fields": fields[layer]}
        indices = _kept_indices(kept, network, top, paths, options, settings["crops"], settings["grey"])
        of_classes = (settings["class_threshold"], settings["rare"], settings["seed"])
        studied[layer] = _with_classes(top, fields[layer], categories, indices, *of_classes)
    said: dict[str, object] = {
        "command": "selectivity", **{name: value for name, value in settings.items() if name != "sheets"},
        "n_images": len(paths), "base_rates": rates, "unreadable": [paths[i].name for i in first.unreadable],
    }  # fmt: skip
    return Study(studied, PixelSource(paths, common["transform"]), [path.name for path in paths], cast(Said, said))


def _kept_indices(
    kept: _Kept,
    network: nn.Module,
    top: TopActivations,
    paths: list[Path],
    common: OfLayer,
    crops: int,
    grey: str,
) -> dict[str, np.ndarray]:
    """What greying, turning and mirroring cost each unit of a layer."""

    def color() -> Tensor:
        return color_selectivity_index(network, top, paths, grey_version=grey, **common)

    def orientation() -> Tensor:
        return orientation_selectivity_index(network, top, paths, n=crops, **common)

    def symmetry() -> Tensor:
        return symmetry_selectivity_index(network, top, paths, n=crops, **common)

    return {
        "color_selectivity": kept.index(f"color {grey}", top, color),
        "orientation_selectivity": kept.index(f"orientation {crops}", top, orientation),
        "symmetry_selectivity": kept.index(f"symmetry {crops}", top, symmetry),
    }


class _Kept:
    """Results on disk, each under what determines it."""

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
    top: TopActivations,
    fields: ReceptiveFields,
    categories: Sequence[str],
    indices: dict[str, np.ndarray],
    threshold: float,
    rare: int,
    seed: int,
) -> Layer:
    """The layer with its class indices."""
    frequent = without_rare(categories, rare)
    by_class = {
        **_class_indices(top, categories, threshold, rare),
        "population_code": population_code(top, categories),
        "population_code_normalized": population_code(top, frequent, normalize=True),
    }
    everything = {**indices, **{name: index.numpy() for name, index in by_class.items()}}
    shares, normalized = (
        Shares(*class_distribution(top, labels, normalize=normalize))
        for labels, normalize in ((categories, False), (frequent, True))
    )
    return Layer(top, fields, everything, shares, normalized, _shuffled(top, categories, threshold, rare, seed))


def without_rare(categories: Sequence[str], rare: int) -> list[str | None]:
    """The categories, with None for those of fewer than `rare` images."""
    counts = Counter(categories)
    return [category if counts[category] >= rare else None for category in categories]


def _class_indices(top: TopActivations, categories: Sequence[str], threshold: float, rare: int) -> dict[str, Tensor]:
    """The class index as in the paper, at another threshold, and there by base rates; the warning was given before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "class_selectivity": class_selectivity_index(top, categories),
            "class_selectivity_at_threshold": class_selectivity_index(top, categories, threshold),
            "class_selectivity_normalized": class_selectivity_index(
                top, without_rare(categories, rare), threshold, normalize=True
            ),
        }


def _shuffled(
    top: TopActivations, categories: Sequence[str], threshold: float, rare: int, seed: int
) -> dict[str, float]:
    """Mean class indices over units when labels are dealt out at random: what base rates alone give."""
    rng = np.random.default_rng(seed)
    readable = [i for i in range(top.n_images) if i not in top.unreadable]
    means: dict[str, list[float]] = {}
    for _ in range(SHUFFLES):
        dealt = np.array(categories, dtype=object)
        dealt[readable] = dealt[rng.permutation(readable)]
        for name, index in _class_indices(top, dealt.tolist(), threshold, rare).items():
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
