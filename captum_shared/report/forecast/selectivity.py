"""What ``captum-shared selectivity`` would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch import nn

from captum_shared.encoder.identity import ImageTransform
from captum_shared.encoder.images import evaluating
from captum_shared.encoder.registry import load_network
from captum_shared.folders import foresee
from captum_shared.labels import read_labels
from captum_shared.report.device import find_device
from captum_shared.report.forecast.forecast import FINISHED, Forecast, Nowhere, timed
from captum_shared.report.forecast.images import left_out, unreadable_images
from captum_shared.report.forecast.network import load_offline
from captum_shared.report.selectivity import Common, LabelledImages, identity_of, selectivity_manifest
from captum_shared.report.selectivity_files import COLUMNS, MORE_COLUMNS, Layer, Said, Shares, Study, write_report
from captum_shared.selectivity import (
    PixelSource,
    ReceptiveFields,
    TopActivations,
    class_distribution,
    color_selectivity_index,
    orientation_selectivity_index,
    top_activations,
)
from captum_shared.selectivity.layers import LayerReader
from captum_shared.selectivity.responses import count_views
from captum_shared.study.network import device_of
from captum_shared.tables import counted

if TYPE_CHECKING:
    from typing_extensions import Required, Unpack

    class SelectivityCommand(TypedDict, total=False):
        """What the command takes."""

        images: Required[str | Path]
        labels: Required[str | Path]
        layers: Required[Sequence[str]]
        top: Required[int]
        crops: Required[int]
        sheets: Required[int]
        grey: Required[str]
        class_threshold: Required[float]
        rare: Required[int]
        seed: Required[int]
        batch_size: Required[int]
        out: Required[str | Path]
        overwrite: bool
        image_size: int | None
        mean: Sequence[float] | None
        std: Sequence[float] | None


FEW, MORE = 2, 10
"""Units of a layer whose files are written for the measurement."""
BATCHES = 2


def forecast_selectivity(
    *, model: str, weights: str | Path | None = "DEFAULT", device: str | None = None,
    **options: Unpack[SelectivityCommand],
) -> Forecast:  # fmt: skip
    """What `run_selectivity` would do with the same options, how long it would take, and what it would write.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `run_selectivity` raises them before its work.
    """
    where, layers = find_device(device), list(options["layers"])

    def load(real: str | Path | None) -> tuple[nn.Module, ImageTransform]:
        size, mean, std = options.get("image_size"), options.get("mean"), options.get("std")
        return load_network(model, real, image_size=size, mean=mean, std=std, seed=options["seed"])

    (network, transform), notes = load_offline(load, model, weights)
    network.to(where)
    paths, categories = read_labels(options["images"], options["labels"])
    choices: dict[str, object] = {
        "layers": layers, "top": options["top"], "crops": options["crops"], "sheets": options["sheets"],
        "grey": options["grey"], "class_threshold": options["class_threshold"], "rare": options["rare"],
        "seed": options["seed"],
    }  # fmt: skip
    about = {"model": model, "weights": str(weights)}
    out, overwrite = options["out"], options.get("overwrite", False)
    labelled = LabelledImages(paths, categories)
    identity = identity_of(network, transform, layers, labelled)
    state = "new" if notes else foresee(out, selectivity_manifest(labelled, {**about, **choices}, identity), overwrite)
    failures = unreadable_images(paths)
    notes += left_out(failures)
    kept = [(path, name) for path, name in zip(paths, categories, strict=True) if path not in failures]
    if len(kept) < 2:
        raise ValueError(f"at least 2 images must be readable to compare units, got {len(kept)} of {len(paths)}")
    if state == FINISHED:
        return Forecast("", out, state)
    timing = _Timing(network, transform, [path for path, _ in kept], [name for _, name in kept])
    counts, stages, n_bytes = timing.measure(layers, options)
    task = f"index {counted(sum(counts), 'unit')} of {counted(len(layers), 'layer')} of {model}, by {len(kept)} images"
    return Forecast(task, out, state, where.type, stages, n_bytes, notes)


class _Timing:
    """What is measured with a few batches of the images."""

    def __init__(self, network: nn.Module, transform: ImageTransform, paths: list[Path], categories: list[str]) -> None:
        self.network, self.transform, self.paths, self.categories = network, transform, paths, categories

    def measure(self, layers: list[str], options: SelectivityCommand) -> tuple[list[int], list[tuple[str, float]], int]:
        """Units of each layer, stages with their seconds, and bytes."""
        n, size = len(self.paths), options["batch_size"]
        some, k = self.paths[: max(2, BATCHES * size)], min(options["top"], n)
        common: Common = {"transform": self.transform, "batch_size": size, "progress": False}
        top_activations(self.network, layers, some[:2], 2, transform=self.transform)  # the first pass is slower
        seconds, tops = timed(lambda: top_activations(self.network, layers, some, k, **common))
        per_image, counts = seconds / len(some), [top.n_units for top in tops.values()]
        grey = turns = writing = n_bytes = 0.0
        for top in tops.values():
            fields, crops = fields_like(self.network, top), min(options["crops"], k)
            more, few = some_units(top, MORE), some_units(top, FEW)
            seconds, _ = timed(partial(color_selectivity_index, self.network, more, some, fields=fields, **common))
            grey += seconds / len(more.images.unique()) * min(n, top.n_units * k)
            turn = partial(orientation_selectivity_index, self.network, few, some, n=crops, fields=fields, **common)
            seconds, _ = timed(turn)
            turns += 2 * seconds / count_views(few.strongest(crops), fields) * self._views(top, fields, crops)
            written = self._report(top, fields, k / few.k, options["sheets"])
            writing, n_bytes = writing + written[0], n_bytes + written[1]
        stages = [
            (f"rank {n} images", per_image * n),
            ("find receptive fields", per_image * sum(next(iter(tops.values())).image_size)),
            ("see images in grey", grey),
            ("turn and mirror crops", turns),
            ("draw and write the report", writing),
        ]
        return counts, stages, int(n_bytes)

    def _views(self, top: TopActivations, fields: ReceptiveFields, crops: int) -> int:
        """Passes for the crops of all units, if these are anywhere in any image."""
        generator = torch.Generator().manual_seed(0)
        shape, places = (top.n_units, crops), top.map_size[0] * top.map_size[1]
        images = torch.randint(len(self.paths), shape, generator=generator)
        positions = torch.randint(places, shape, generator=generator)
        anywhere = replace(top, activations=torch.ones(shape), images=images, positions=positions)
        return count_views(anywhere, fields)

    def _report(self, top: TopActivations, fields: ReceptiveFields, longer: float, sheets: int) -> tuple[float, float]:
        """Seconds and bytes of a layer's part of the report, from few units with `longer` times fewer crops each."""
        self._written(top, fields, FEW, 0)
        few, more = self._written(top, fields, FEW, 0), self._written(top, fields, MORE, 0)
        drawn = self._written(top, fields, FEW, 1) if sheets else few
        n_units, n_sheets, steps = top.n_units, min(2 * sheets, top.n_units), some_units(top, MORE).n_units - FEW
        total = [
            few[i] + max(0.0, more[i] - few[i]) / max(1, steps) * n_units * (longer if i == 0 else 1)
            + max(0.0, drawn[i] - few[i]) * n_sheets
            for i in (0, 1)
        ]  # fmt: skip
        return total[0], total[1]

    def _written(self, top: TopActivations, fields: ReceptiveFields, n_units: int, sheets: int) -> tuple[float, float]:
        """Seconds and bytes of a report on some units, with indices of which the first unit's are highest."""
        of = some_units(top, n_units)
        values = np.linspace(1, 0, of.n_units)
        indices = dict.fromkeys((*COLUMNS, *MORE_COLUMNS), values)
        shares = Shares(*class_distribution(of, self.categories[: of.n_images]))
        layer = Layer(of, fields, indices, shares, shares, {})
        said: Said = {
            "command": "selectivity", "layers": [top.layer], "top": top.k, "crops": 1, "grey": "luminance",
            "class_threshold": 0.8, "rare": 1, "seed": 0, "n_images": of.n_images, "base_rates": {"all": 1.0},
            "unreadable": [],
        }  # fmt: skip
        names = [path.name for path in self.paths]
        study, nowhere = Study({top.layer: layer}, PixelSource(self.paths, self.transform), names, said), Nowhere()
        seconds, _ = timed(lambda: write_report(nowhere, study, sheets, False))
        return seconds, float(sum(nowhere.sizes.values()))


def some_units(top: TopActivations, n_units: int) -> TopActivations:
    """The first units of a layer."""
    parts = {name: getattr(top, name)[:n_units] for name in ("activations", "images", "positions")}
    return replace(top, **parts)


def fields_like(network: nn.Module, top: TopActivations) -> ReceptiveFields:
    """Fields of about the right size at about the right places, from one gradient: where the middle of a map looks."""
    height, width = top.image_size
    device = device_of(network)
    x = torch.rand(1, 3, height, width, device=device, requires_grad=True)
    reader = LayerReader(network, [top.layer])
    with evaluating(network), torch.enable_grad():
        maps = reader.read(x, lambda _, found: found.clone())[top.layer]
        middle = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2].sum()
        seen = torch.autograd.grad(middle, x)[0][0].abs().sum(0) > 0
    extent = [int(seen.any(axis).sum()) or side for axis, side in ((1, height), (0, width))]
    starts = [
        (torch.arange(count) + 0.5) * side / count - size / 2
        for count, side, size in zip(top.map_size, (height, width), extent, strict=True)
    ]
    tops, lefts = (start.round().long().expand(top.n_units, -1).contiguous() for start in starts)
    sizes = [torch.full((top.n_units,), size) for size in extent]
    return ReceptiveFields(tops, lefts, sizes[0], sizes[1], top.image_size)
