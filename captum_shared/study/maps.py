"""Maps of every pair, grouped by image: all maps of an image share its forward passes."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_shared.folders import WORK, ReportFolder
from captum_shared.selection import make_rule, rule_center
from captum_shared.selection.centers import reference_weights
from captum_shared.similarity import Rule, origin_of, shared_weights
from captum_shared.study.image_maps import explain_images
from captum_shared.study.neurons import Findings, NeuronFindings
from captum_shared.study.run import Job, Run, Share
from captum_shared.study.settings import RecordingSettings
from captum_shared.study.shards import Shard
from captum_shared.study.study import Study

_NEURONS = 64  # neurons whose maps are assembled at once
_TIMES_MOST = 4  # maps of one image may be this many times those of a job


@dataclass(frozen=True)
class MapTable:
    """All m maps to make, an entry each in the arrays of integers."""

    neurons: Sequence[NeuronFindings]
    neuron: np.ndarray  # indices into `neurons`
    pair: np.ndarray
    side: np.ndarray  # 0 is the image, 1 its reference
    image: np.ndarray  # the stimulus that is mapped, by index
    candidate: np.ndarray  # that the neuron reads

    def candidates(self, rows: np.ndarray) -> list[int]:
        """Those of some rows, in order."""
        found: list[int] = np.unique(self.candidate[rows]).tolist()
        return found


def map_path(folder: ReportFolder, neuron: NeuronFindings) -> Path:
    """The file of a neuron's maps; see `load_maps`."""
    return folder / "maps" / f"neuron_{file_stem(neuron.name)}.npz"


def load_maps(path: Path, kind: str) -> np.ndarray:
    """Maps (pairs, 2, h, w) float32 of a neuron, in the order of pairs.csv; image, then reference.

    The .npz file has an array of each kind, such as ``pixel``, and one to multiply it with, ``pixel_scale``.
    """
    with np.load(path, allow_pickle=False) as file:
        return np.asarray(file[kind] * file[f"{kind}_scale"], np.float32)


def file_stem(name: str) -> str:
    """A neuron's name as part of a file name, kept unique: if characters are replaced, a hash is added."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if plain == name and len(name) <= 60:
        return name
    return f"{plain[:40]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def make_maps(study: Study, findings: Findings, run: Run, shard: Shard | None = None) -> None:
    """Write the maps of all explained neurons, see `map_path`; or make a shard's part of the work for them."""
    there = [run.folder.holds(map_path(run.folder, neuron)) for neuron in findings.explained]
    if all(there):
        return
    table = list_maps(findings.explained, findings.models.candidate)
    groups = cut_by_image(table.image, study.settings.maps_per_job)
    maker = _Maker(study, findings, table)
    jobs = [maker.job(run.folder, number, rows) for number, rows in enumerate(groups)]
    run.carry_out(shard.part(jobs) if shard else jobs, "maps")
    if shard is None:
        _put_together(table, groups, study.settings, run)


def list_maps(neurons: Sequence[NeuronFindings], chosen: np.ndarray) -> MapTable:
    """Every pair's two maps; `chosen` is the candidate that each neuron of the recording reads."""
    rows = [
        (number, pair, side, place, chosen[neuron.index])
        for number, neuron in enumerate(neurons)
        for pair, (image, reference, _) in enumerate(neuron.shown)
        for side, place in enumerate((image, reference))
    ]
    return MapTable(neurons, *np.array(rows, dtype=int).reshape(-1, 5).T)


def cut_by_image(images: np.ndarray, most: int) -> list[np.ndarray]:
    """Rows in groups of at most `most`, the largest first; rows of one image stay together.

    An image with more rows is a group of its own, up to four times as many; with yet more rows, several. `images` (m,)
    has the image of each row.
    """
    order = np.argsort(images, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(images[order])) + 1) if len(order) else []
    size = _TIMES_MOST * most
    groups: list[list[np.ndarray]] = []
    for part in (run[start : start + size] for run in runs for start in range(0, len(run), size)):
        if not groups or sum(map(len, groups[-1])) + len(part) > most:
            groups.append([])
        groups[-1].append(part)
    return sorted((np.concatenate(group) for group in groups), key=len, reverse=True)


class _Maker:
    """Makes the jobs. What the maps of a candidate's neurons have in common is made when its first job comes."""

    def __init__(self, study: Study, findings: Findings, table: MapTable) -> None:
        self.study, self.findings, self.table = study, findings, table
        every = table.candidates(np.arange(len(table.image)))
        self._encoders = {candidate: findings.latents.encoder(candidate).eval() for candidate in every}
        self._latents = lru_cache(maxsize=2)(findings.latents.standardized)
        self._rules: dict[int, str | Rule] = {}

    def job(self, folder: ReportFolder, number: int, rows: np.ndarray) -> Job:
        """The maps of some rows: for each candidate and kind a file of values, and one of their scales."""
        candidates = self.table.candidates(rows)
        paths = [
            _part_path(folder, number, candidate, name)
            for candidate in candidates
            for name in _names(self.study.settings)
        ]
        return Job(tuple(paths), explain_images, partial(self.arguments, rows))

    def arguments(self, rows: np.ndarray, share: Share) -> tuple[object, ...]:
        """Of `explain_images`."""
        places = np.unique(self.table.image[rows])
        shared: list[dict[int, np.ndarray]] = [{} for _ in places]
        for candidate in self.table.candidates(rows):
            some = rows[self.table.candidate[rows] == candidate]  # in the order of the images
            numbers, starts = np.unique(np.searchsorted(places, self.table.image[some]), return_index=True)
            for number, weights in zip(numbers, np.split(self._shared(candidate, some), starts[1:]), strict=True):
                shared[number][candidate] = weights
        images = [self.study.recording.stimuli[place] for place in places]
        origins = {c: origin_of(self._rule(c), None) for c in self.table.candidates(rows)}
        return share(self._encoders), self.study.network.transform, images, shared, self.study.settings, origins

    def _rule(self, candidate: int) -> str | Rule:
        if candidate not in self._rules:
            cells = self.study.network.cells(candidate)
            self._rules[candidate] = make_rule(self.study.settings.rule, self._latents(candidate), cells)
        return self._rules[candidate]

    def _shared(self, candidate: int, rows: np.ndarray) -> np.ndarray:
        """The shared weights (m, D) of some rows of a candidate."""
        z, rule = self._latents(candidate), self._rule(candidate)
        of = [self.table.neurons[number] for number in self.table.neuron[rows]]
        pairs = [_places(neuron, pair) for neuron, pair in zip(of, self.table.pair[rows], strict=True)]
        x, y = z[[image for image, _ in pairs]], torch.stack([z[references].mean(0) for _, references in pairs])
        weights = torch.stack([torch.as_tensor(self.findings.models.weights[neuron.index]).to(z) for neuron in of])
        centers = _centers(rule, z, of)
        own, other = (weigh(x, y, weights, rule, centers) for weigh in (shared_weights, reference_weights))
        return torch.where(torch.from_numpy(self.table.side[rows] == 1)[:, None], other, own).float().numpy()


def _centers(rule: str | Rule, z: Tensor, of: Sequence[NeuronFindings]) -> Tensor | None:
    """The center of the rule for each row, (m, D)."""
    drivers = {neuron.index: neuron.drivers for neuron in of if neuron.drivers is not None}
    centers = {index: rule_center(rule, z, chosen) for index, chosen in drivers.items()}
    rows = [centers[neuron.index] for neuron in of]
    known = [center for center in rows if center is not None]
    return torch.stack(known) if known else None


def _names(settings: RecordingSettings) -> list[str]:
    """Of the arrays: values and scales of each kind."""
    return [f"{kind}{part}" for kind in settings.maps for part in ("", "_scale")]


def _part_path(folder: ReportFolder, number: int, candidate: int, name: str) -> Path:
    """An array of a job's maps for one candidate's neurons."""
    return folder / WORK / f"maps_{number:05d}_{candidate:03d}_{name}.npy"


def _places(neuron: NeuronFindings, pair: int) -> tuple[int, list[int]]:
    """The image of a pair and the references it is compared with, as indices of stimuli."""
    pairs, _ = neuron.explanation
    return int(pairs.images[pair]), pairs.references[pair].tolist()


def _put_together(table: MapTable, groups: Sequence[np.ndarray], settings: RecordingSettings, run: Run) -> None:
    """Assemble the jobs' files into one per neuron, a few neurons at a time."""
    for start in range(0, len(table.neurons), _NEURONS):
        chosen = range(start, min(start + _NEURONS, len(table.neurons)))
        arrays = {name: _gathered(table, groups, run.folder, name, chosen) for name in _names(settings)}
        for number in chosen:
            content = io.BytesIO()
            named: dict[str, Any] = {name: parts[number] for name, parts in arrays.items()}
            np.savez_compressed(content, **named)
            run.folder.write(map_path(run.folder, table.neurons[number]), content.getvalue())


def _gathered(
    table: MapTable, groups: Sequence[np.ndarray], folder: ReportFolder, name: str, chosen: range
) -> dict[int, np.ndarray]:
    """Arrays (pairs, 2, ...) of the chosen neurons, from files that hold a group's rows for one candidate each."""
    arrays: dict[int, np.ndarray] = {}
    for number, group in enumerate(groups):
        for candidate in table.candidates(group[np.isin(table.neuron[group], chosen)]):
            rows = group[table.candidate[group] == candidate]
            values = np.load(_part_path(folder, number, candidate, name), mmap_mode="r", allow_pickle=False)
            for k in np.flatnonzero(np.isin(table.neuron[rows], chosen)):
                neuron = int(table.neuron[rows[k]])
                if neuron not in arrays:
                    n_pairs = len(table.neurons[neuron].shown)
                    arrays[neuron] = np.zeros((n_pairs, 2, *values.shape[1:]), values.dtype)
                arrays[neuron][table.pair[rows[k]], table.side[rows[k]]] = values[k]
    return arrays
