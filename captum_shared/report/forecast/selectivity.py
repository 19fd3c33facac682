"""What ``captum-shared selectivity`` would do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from captum_shared.encoder.images import evaluating
from captum_shared.folders import foresee
from captum_shared.identity import ImageTransform
from captum_shared.labels import read_labels
from captum_shared.report.forecast.forecast import FINISHED, Forecast, bytes_of, scratch, timed
from captum_shared.report.forecast.images import readable_images
from captum_shared.report.forecast.network import load_offline
from captum_shared.report.selectivity import (
    Common,
    ask_selectivity,
    check_readable,
    identity_of,
    selectivity_manifest,
)
from captum_shared.report.selectivity_files import COLUMNS, MORE_COLUMNS, Choices, Layer, Shares, Study, write_report
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
    from typing_extensions import Unpack

    from captum_shared.report.selectivity import SelectivityAsked, SelectivityCommand


FEW, MORE = 2, 10
"""Units of a layer whose files are written for the measurement."""
BATCHES = 2


def forecast_selectivity(**options: Unpack[SelectivityCommand]) -> Forecast:
    """What `run_selectivity` would do with the same options, how long it would take, and what it would write.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `run_selectivity` raises them before its work.
    """
    asked, notes = load_offline(ask_selectivity, options)
    network, transform, layers, out = asked["network"], asked["transform"], list(asked["layers"]), asked["out"]
    labelled = read_labels(asked["images"], asked["labels"])
    identity = identity_of(network, transform, layers, labelled[0])
    choices: dict[str, object] = {name: value for name, value in asked.items() if name in Choices.__annotations__}
    settings = {**asked["about"], "layers": layers, **choices}
    manifest = selectivity_manifest(labelled, settings, identity)
    state = "new" if notes else foresee(out, manifest, asked.get("overwrite", False))
    paths, categories, unread = readable_images(*labelled)
    check_readable(len(paths), len(labelled[0]))
    if state == FINISHED:
        return Forecast("", out, state)
    counts, stages, n_bytes = _Timing(network, transform, paths, categories).measure(layers, asked)
    units, where = counted(sum(counts), "unit"), counted(len(layers), "layer")
    task = f"index {units} of {where} of {asked['about']['model']}, by {len(paths)} images"
    return Forecast(task, out, state, device_of(network).type, stages, n_bytes, [*notes, *unread])


class _Timing:
    """What is measured with a few batches of the images."""

    def __init__(self, network: nn.Module, transform: ImageTransform, paths: list[Path], categories: list[str]) -> None:
        self.network, self.transform, self.paths, self.categories = network, transform, paths, categories

    def measure(self, layers: list[str], asked: SelectivityAsked) -> tuple[list[int], list[tuple[str, float]], int]:
        """Units of each layer, stages with their seconds, and bytes."""
        n, size = len(self.paths), asked["batch_size"]
        some, k = self.paths[: max(2, BATCHES * size)], min(asked["top"], n)
        common: Common = {"transform": self.transform, "batch_size": size, "progress": False}
        top_activations(self.network, layers, some[:2], 2, transform=self.transform)  # the first pass is slower
        seconds, tops = timed(lambda: top_activations(self.network, layers, some, k, **common))
        per_image, counts = seconds / len(some), [top.n_units for top in tops.values()]
        grey = turns = writing = n_bytes = 0.0
        for top in tops.values():
            fields, crops = fields_like(self.network, top), min(asked["crops"], k)
            more, few = some_units(top, MORE), some_units(top, FEW)
            seconds, _ = timed(partial(color_selectivity_index, self.network, more, some, fields=fields, **common))
            grey += seconds / len(more.images.unique()) * min(n, top.n_units * k)
            turn = partial(orientation_selectivity_index, self.network, few, some, n=crops, fields=fields, **common)
            seconds, _ = timed(turn)
            turns += 2 * seconds / count_views(few.strongest(crops), fields) * self._views(top, fields, crops)
            written = self._report(top, fields, k / few.k, asked["sheets"])
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
        names, source = [path.name for path in self.paths], PixelSource(self.paths, self.transform)
        study = Study([layer], source, names, Choices(top.k, 1, sheets, "luminance", 0.8, 1, 0), {"all": 1.0}, [])
        with scratch() as folder:
            seconds, _ = timed(lambda: write_report(folder, study, {}, False))
            return seconds, bytes_of(folder, "*.*") + bytes_of(folder, "units/*")


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
