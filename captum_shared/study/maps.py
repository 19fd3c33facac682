"""Maps of every pair, cut by image: all maps that are wanted of an image share its forward passes."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import captum.attr
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from captum_shared.attribution import ParallelBackprop
from captum_shared.attribution.layer import layer_maps, see_layer
from captum_shared.attribution.neurons import neuron_maps
from captum_shared.encoder.identity import ImageTransform
from captum_shared.folders import WORK, ReportFolder
from captum_shared.selection import is_crossed, make_rule, rule_center
from captum_shared.similarity import Rule, origin_of, shared_weights, transposed
from captum_shared.study.findings import Findings
from captum_shared.study.network import device_of, transform_image
from captum_shared.study.neurons import NeuronFindings
from captum_shared.study.run import Job, Run, Share, array_bytes
from captum_shared.study.settings import RecordingSettings
from captum_shared.study.shards import Shard
from captum_shared.study.study import Study

_MOST_BYTES = 2**28  # of the maps of one image that share its forward passes
_NEURONS = 64  # whose maps are put together at once


@dataclass(frozen=True)
class MapTable:
    """All maps that are wanted of one candidate's neurons, a row each.

    Attributes
    ----------
    neurons : sequence of NeuronFindings
    neuron : (m,) int array
        Places among `neurons`.
    pair, side : (m,) int arrays
        Side 0 is the image, 1 its reference.
    image : (m,) int array
        Whose map it is: a place among the stimuli.
    """

    neurons: Sequence[NeuronFindings]
    neuron: np.ndarray
    pair: np.ndarray
    side: np.ndarray
    image: np.ndarray


@dataclass(frozen=True)
class MapOptions:
    """How maps are made: the settings, and the latents that the rule takes as nothing, (D,) or None for zero."""

    settings: RecordingSettings
    origin: Tensor | None


def map_path(folder: ReportFolder, neuron: NeuronFindings) -> Path:
    """The file of a neuron's maps; see `load_maps`."""
    return folder / "maps" / f"neuron_{file_stem(neuron.name)}.npz"


def load_maps(path: Path, kind: str) -> np.ndarray:
    """Maps (pairs, 2, h, w) float32 of a neuron, in the order of pairs.csv; image, then reference.

    Parameters
    ----------
    path : Path
        An .npz file with an array of each kind and one that it is to be multiplied with, ``pixel`` and ``pixel_scale``.
    kind : {"pixel", "layer"}
        Of the image's pixels, or coarse, of the layer's positions.
    """
    with np.load(path, allow_pickle=False) as file:
        return np.asarray(file[kind] * file[f"{kind}_scale"], np.float32)


def file_stem(name: str) -> str:
    """A neuron's name as part of a file name, unique: what is not plain is replaced, and a hash is added."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if plain == name and len(name) <= 60:
        return name
    return f"{plain[:40]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def make_maps(study: Study, findings: Findings, run: Run, shard: Shard | None = None) -> None:
    """Write the maps of all explained neurons, see `map_path`; or make a shard's part of the work for them."""
    standardized = lru_cache(maxsize=1)(findings.latents.standardized)
    chosen = findings.models.candidate
    for candidate in sorted({int(chosen[neuron.index]) for neuron in findings.explained}):
        neurons = [neuron for neuron in findings.explained if chosen[neuron.index] == candidate]
        left = [neuron for neuron in neurons if not run.folder.holds(map_path(run.folder, neuron))]
        if left:
            table = list_maps(neurons)
            groups = cut_by_image(table.image, study.settings.maps_per_job)
            candidates = _Candidate(study, findings, candidate, table, standardized)
            jobs = [candidates.job(run.folder, number, rows) for number, rows in enumerate(groups)]
            run.carry_out(shard.part(jobs) if shard else jobs, f"maps of {study.network.layer(candidate)}")
            if shard is None:
                _put_together(table, groups, [job.paths for job in jobs], study.settings, run)


def list_maps(neurons: Sequence[NeuronFindings]) -> MapTable:
    """Every pair's two maps."""
    rows = [
        (number, pair, side, place)
        for number, neuron in enumerate(neurons)
        for pair, (image, reference, _) in enumerate(neuron.shown)
        for side, place in enumerate((image, reference))
    ]
    return MapTable(neurons, *np.array(rows, dtype=int).reshape(-1, 4).T)


def cut_by_image(images: np.ndarray, most: int) -> list[np.ndarray]:
    """Rows in groups of at most `most`; rows of one image stay together, unless they alone are more.

    Parameters
    ----------
    images : (m,) int array
        The image of each row.
    most : int
    """
    order = np.argsort(images, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(images[order])) + 1) if len(order) else []
    groups: list[list[np.ndarray]] = []
    for part in (run[start : start + most] for run in runs for start in range(0, len(run), most)):
        if not groups or sum(map(len, groups[-1])) + len(part) > most:
            groups.append([])
        groups[-1].append(part)
    return [np.concatenate(group) for group in groups]


class _Candidate:
    """What the maps of one candidate's neurons have in common; made when the first of its jobs comes."""

    def __init__(
        self, study: Study, findings: Findings, candidate: int, table: MapTable, standardized: Callable[[int], Tensor]
    ) -> None:
        self.study, self.findings, self.candidate, self.table = study, findings, candidate, table
        self._standardized = standardized
        self._encoder: nn.Module | None = None
        self._rule: str | Rule | None = None

    def job(self, folder: ReportFolder, number: int, rows: np.ndarray) -> Job:
        """The maps of some rows: for each kind a file of values, and one of their scales."""
        names = [f"{kind}{part}" for kind in self.study.settings.maps for part in ("", "_scale")]
        paths = tuple(folder / WORK / f"maps_{self.candidate:03d}_{number:05d}_{name}.npy" for name in names)
        return Job(paths, _explain_images, partial(self.arguments, rows))

    def arguments(self, rows: np.ndarray, share: Share) -> tuple[object, ...]:
        """Of `_explain_images`."""
        if self._encoder is None:
            self._encoder = self.findings.latents.encoder(self.candidate).eval()
        places, counts = np.unique(self.table.image[rows], return_counts=True)  # rows are in the order of the images
        images = [self.study.recording.stimuli[place] for place in places]
        shared = np.split(self._shared(rows), np.cumsum(counts)[:-1])
        options = MapOptions(self.study.settings, origin_of(self._rule or "product", None))
        return share(self._encoder), self.study.network.transform, images, shared, options

    def _shared(self, rows: np.ndarray) -> np.ndarray:
        """The shared weights (m, D) of some rows."""
        z = self._standardized(self.candidate)
        if self._rule is None:
            self._rule = make_rule(self.study.settings.rule, z, self.study.network.cells(self.candidate))
        of = [self.table.neurons[number] for number in self.table.neuron[rows]]
        pairs = [_places(neuron, pair) for neuron, pair in zip(of, self.table.pair[rows], strict=True)]
        x, y = z[[image for image, _ in pairs]], torch.stack([z[references].mean(0) for _, references in pairs])
        weights = torch.stack([torch.as_tensor(self.findings.models.weights[neuron.index]).to(z) for neuron in of])
        centers = self._centers(z, of)
        shared = shared_weights(x, y, weights, self._rule, centers)
        if is_crossed(self._rule):  # a reference's map is made from the image
            other = shared_weights(y, x, weights, transposed(self._rule), centers)
            shared = torch.where(torch.from_numpy(self.table.side[rows] == 1)[:, None], other, shared)
        return shared.float().numpy()

    def _centers(self, z: Tensor, of: Sequence[NeuronFindings]) -> Tensor | None:
        """What the rule compares each row's reference with, (m, D)."""
        drivers = {neuron.index: neuron.drivers for neuron in of if neuron.drivers is not None}
        centers = {index: rule_center(self._rule or "", z, chosen) for index, chosen in drivers.items()}
        rows = [centers[neuron.index] for neuron in of]
        known = [center for center in rows if center is not None]
        return torch.stack(known) if known else None


def _places(neuron: NeuronFindings, pair: int) -> tuple[int, list[int]]:
    """The image of a pair, and the references that it is compared with: places among the stimuli."""
    if neuron.pairs is None:
        raise ValueError(f"neuron {neuron.name} is not explained: {neuron.reason}")
    return int(neuron.pairs.images[pair]), neuron.pairs.references[pair].tolist()


def _explain_images(
    encoder: nn.Module,
    transform: ImageTransform,
    images: Sequence[Path],
    shared: Sequence[np.ndarray],
    options: MapOptions,
) -> list[bytes]:
    """Maps of each image for its shared weights (m, D): for each kind values (sum of m, h, w), and their scales."""
    settings = options.settings
    maps: dict[str, list[np.ndarray]] = {kind: [] for kind in settings.maps}
    with _frozen(encoder):
        method = ParallelBackprop(
            encoder, engine=getattr(captum.attr, settings.engine)
        )  # it remembers what it measures
        makers = {"pixel": partial(_pixel_maps, method, settings), "layer": partial(_layer_maps, encoder, options)}
        for image, weights in zip(images, shared, strict=True):
            x = transform_image(transform, image)[None].to(device_of(encoder))
            for some in torch.from_numpy(weights).to(x).split(max(1, _MOST_BYTES // x.nbytes)):
                for kind in settings.maps:
                    maps[kind].append(makers[kind](x, some).cpu().numpy())
    packed = (pack(np.concatenate(maps[kind]), settings.map_bits) for kind in settings.maps)
    return [array_bytes(array) for pair in packed for array in pair]


def pack(maps: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps (m, h, w) in few bits, and what to multiply them with, (m, 1, 1) float32: each map has its own scale.

    Parameters
    ----------
    maps : (m, h, w) array
    bits : {8, 16, 32}
        8: whole numbers from -127 to 127. 16: half precision, the largest value being 1. 32: as they are.
    """
    largest = np.abs(maps).max(axis=(1, 2), keepdims=True).astype(np.float32)
    scale = np.where((largest > 0) & (bits < 32), largest, np.float32(1)).astype(np.float32)
    if bits == 8:
        scale = (scale / 127).astype(np.float32)
        return np.rint(maps / scale).clip(-127, 127).astype(np.int8), scale
    return (maps / scale).astype(np.float16 if bits == 16 else np.float32), scale


def _pixel_maps(method: ParallelBackprop, settings: RecordingSettings, x: Tensor, shared: Tensor) -> Tensor:
    """Maps (k, H, W) of an image (1, C, H, W) for shared weights (k, D), summed over colour channels and small blocks.

    Sums, not means, so that a map's sum stays what is attributed.
    """
    heat = neuron_maps(method.engine, method.forward_module, x, shared[None], settings.engine_arguments)[0].sum(1)
    side = settings.map_reduction
    return heat if side == 1 else avg_pool2d(heat[None], side, ceil_mode=True, divisor_override=1)[0]


def _layer_maps(encoder: nn.Module, options: MapOptions, x: Tensor, shared: Tensor) -> Tensor:
    """Maps (k, h, w) of an image's positions at the layer."""
    origin = None if options.origin is None else options.origin.to(x)
    return layer_maps(encoder, see_layer(encoder, x), shared, origin)


def _put_together(
    table: MapTable,
    groups: Sequence[np.ndarray],
    paths: Sequence[Sequence[Path]],
    settings: RecordingSettings,
    run: Run,
) -> None:
    """From the jobs' files to one for each neuron, some neurons at a time."""
    names = [f"{kind}{part}" for kind in settings.maps for part in ("", "_scale")]
    for start in range(0, len(table.neurons), _NEURONS):
        chosen = range(start, min(start + _NEURONS, len(table.neurons)))
        arrays = {name: _gathered(table, groups, [each[k] for each in paths], chosen) for k, name in enumerate(names)}
        for number in chosen:
            content = io.BytesIO()
            named: dict[str, Any] = {name: parts[number] for name, parts in arrays.items()}
            np.savez_compressed(content, **named)
            run.folder.write(map_path(run.folder, table.neurons[number]), content.getvalue())


def _gathered(
    table: MapTable, groups: Sequence[np.ndarray], paths: Sequence[Path], chosen: range
) -> dict[int, np.ndarray]:
    """Arrays (pairs, 2, ...) of the chosen neurons, from files that hold a group's rows each."""
    arrays: dict[int, np.ndarray] = {}
    for path, rows in zip(paths, groups, strict=True):
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        for k in np.flatnonzero(np.isin(table.neuron[rows], chosen)):
            number = int(table.neuron[rows[k]])
            if number not in arrays:
                n_pairs = len(table.neurons[number].shown)
                arrays[number] = np.zeros((n_pairs, 2, *values.shape[1:]), values.dtype)
            arrays[number][table.pair[rows[k]], table.side[rows[k]]] = values[k]
    return arrays


@contextmanager
def _frozen(encoder: nn.Module) -> Iterator[None]:
    """Turn off gradients of parameters, which are not needed."""
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
