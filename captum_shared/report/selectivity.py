"""Index the selectivity of every unit of a network's layers, and report it."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
import torch
from torch import Tensor, nn

from captum_shared.checks import check_integer
from captum_shared.encoder.images import evaluating
from captum_shared.folders import report_folder
from captum_shared.identity import ImageTransform
from captum_shared.labels import read_labels
from captum_shared.networks.registry import load_network
from captum_shared.report.arguments import find_device
from captum_shared.report.selectivity_files import Choices, Layer, SelectivitySummary, Shares, Study, write_report
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

    from captum_shared.report.arguments import LabelledOptions, NetworkOptions

    class SelectivityArguments(LabelledOptions, total=False):
        """What `index_selectivity` takes by name, apart from the network and its layers."""

        top: int
        crops: int
        sheets: int
        grey: str
        class_threshold: float
        rare: int
        seed: int
        batch_size: int

    class SelectivityCommand(SelectivityArguments, NetworkOptions, total=False):
        """What `run_selectivity` takes by name."""

        layers: Required[Sequence[str]]

    class SelectivityAsked(SelectivityArguments):
        """What `index_selectivity` takes by name."""

        network: nn.Module
        transform: ImageTransform
        layers: Sequence[str]
        about: dict[str, object]


SHUFFLES = 20


class Common(TypedDict):
    """What every pass over the images takes."""

    transform: ImageTransform
    batch_size: int
    progress: bool


def run_selectivity(**options: Unpack[SelectivityCommand]) -> SelectivitySummary:
    """`load_network`, then `index_selectivity` with the rest of the options."""
    return index_selectivity(**ask_selectivity(**options))


def ask_selectivity(
    *,
    model: str,
    layers: Sequence[str],
    weights: str | Path | None = "DEFAULT",
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | None = None,
    **options: Unpack[SelectivityArguments],
) -> SelectivityAsked:
    """Load the network that `run_selectivity` is given, with the same options."""
    network, transform = load_network(
        model, weights, image_size=image_size, mean=mean, std=std, seed=options.get("seed", 0)
    )
    network.to(find_device(device))
    about: dict[str, object] = {"model": model, "weights": str(weights)}
    return {**options, "network": network, "transform": transform, "layers": layers, "about": about}


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
    choices = Choices(top, crops, sheets, grey, class_threshold, rare, seed)
    _check_counts(choices)
    labelled = read_labels(images, labels)
    identity = identity_of(network, transform, layers, labelled[0])
    about = dict(about or {})
    manifest = selectivity_manifest(labelled, {**about, "layers": list(layers), **asdict(choices)}, identity)
    with report_folder(out, manifest, overwrite) as folder:
        if folder.finished:
            return cast(SelectivitySummary, folder.read_json("summary.json"))
        common: Common = {"transform": transform, "batch_size": batch_size, "progress": progress}
        tops = top_activations(network, list(layers), labelled[0], top, checkpoint=folder / ".cache", **common)
        study = _studied(tops, _Kept(folder / ".cache", identity), network, labelled, choices, common)
        return write_report(folder, study, about, progress)


def selectivity_manifest(
    labelled: tuple[list[Path], list[str]], settings: Mapping[str, object], identity: Identity
) -> dict[str, object]:
    """Everything the findings depend on; `identity` is that of the network's maps, see `identity_of`."""
    return {
        "command": "selectivity",
        "configuration": {**settings, "network_and_transform_do": identity.as_json()},
        "images": describe_images(*labelled),
    }


def identity_of(
    network: nn.Module, transform: ImageTransform, layers: Sequence[str], paths: Sequence[Path]
) -> Identity:
    """The identity of the maps of a network's layers, for such images."""
    with evaluating(network), torch.no_grad():
        return identify_maps(LayerReader(network, list(layers)), transform, example_of(paths))


def _studied(
    tops: dict[str, TopActivations],
    kept: _Kept,
    network: nn.Module,
    labelled: tuple[list[Path], list[str]],
    choices: Choices,
    common: Common,
) -> Study:
    """Compute the indices of every unit."""
    (paths, categories), first = labelled, next(iter(tops.values()))
    check_readable(first.n_images - len(first.unreadable), first.n_images)
    size = first.image_size
    fields = kept.fields(list(tops), size, lambda: receptive_fields(network, list(tops), size))
    rates = base_rates(first, categories)
    warn_if_unequal(rates)
    layers = []
    for layer, top in tops.items():
        changes = _changes(network, top, fields[layer], paths, choices, common)
        indices = {name: kept.index(key, top, compute) for name, (key, compute) in changes.items()}
        layers.append(_with_classes(top, fields[layer], indices, categories, choices))
    names = [path.name for path in paths]
    source = PixelSource(paths, common["transform"])
    return Study(layers, source, names, choices, rates, [names[i] for i in first.unreadable])


def _changes(
    network: nn.Module,
    top: TopActivations,
    fields: ReceptiveFields,
    paths: list[Path],
    choices: Choices,
    common: Common,
) -> dict[str, tuple[str, Callable[[], Tensor]]]:
    """What greying, turning and mirroring cost each unit of a layer: a key, and how it is computed."""
    grey, crops, of = choices.grey, choices.crops, (network, top, paths)
    color = partial(color_selectivity_index, *of, grey_version=grey, fields=fields, **common)
    turned = partial(orientation_selectivity_index, *of, n=crops, fields=fields, **common)
    mirrored = partial(symmetry_selectivity_index, *of, n=crops, fields=fields, **common)
    return {
        "color_selectivity": (f"color {grey}", color),
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
    top: TopActivations,
    fields: ReceptiveFields,
    indices: dict[str, np.ndarray],
    categories: Sequence[str],
    choices: Choices,
) -> Layer:
    """The layer with its class indices."""
    frequent = _frequent(categories, choices.rare)
    by_class = {
        **_class_indices(top, categories, choices),
        "population_code": population_code(top, categories),
        "population_code_normalized": population_code(top, frequent, normalize=True),
    }
    everything = {**indices, **{name: index.numpy() for name, index in by_class.items()}}
    plain = Shares(*class_distribution(top, categories))
    normalized = Shares(*class_distribution(top, frequent, normalize=True))
    return Layer(top, fields, everything, plain, normalized, _shuffled(top, categories, choices))


def _frequent(categories: Sequence[str], rare: int) -> list[str | None]:
    """The categories, with None for those of fewer than `rare` images."""
    counts = Counter(categories)
    return [category if counts[category] >= rare else None for category in categories]


def _class_indices(top: TopActivations, categories: Sequence[str], choices: Choices) -> dict[str, Tensor]:
    """The class index as in the paper, at another threshold, and there by base rates; the user has been warned."""
    threshold, frequent = choices.class_threshold, _frequent(categories, choices.rare)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "class_selectivity": class_selectivity_index(top, categories),
            "class_selectivity_at_threshold": class_selectivity_index(top, categories, threshold),
            "class_selectivity_normalized": class_selectivity_index(top, frequent, threshold, normalize=True),
        }


def _shuffled(top: TopActivations, categories: Sequence[str], choices: Choices) -> dict[str, float]:
    """Mean class indices over units with shuffled labels: what base rates alone give."""
    rng = np.random.default_rng(choices.seed)
    readable = [i for i in range(top.n_images) if i not in top.unreadable]
    means: dict[str, list[float]] = {}
    for _ in range(SHUFFLES):
        dealt = np.array(categories, dtype=object)
        dealt[readable] = dealt[rng.permutation(readable)]
        for name, index in _class_indices(top, dealt.tolist(), choices).items():
            means.setdefault(name, []).append(float(index.nanmean()))
    return {name: float(np.mean(some)) for name, some in means.items()}


def check_readable(n: int, of: int) -> None:
    """Refuse too few images that can be read."""
    if n < 2:
        raise ValueError(f"at least 2 images must be readable to compare units, got {n} of {of}")


def _check_counts(choices: Choices) -> None:
    for name, least in (("top", 2), ("crops", 1), ("sheets", 0), ("rare", 1)):
        check_integer(name, getattr(choices, name), least)
