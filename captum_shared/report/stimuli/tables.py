"""What a set of stimuli consists of, and its tables: ``stimuli.csv``, ``comparisons.csv``, ``neurons.csv``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from captum_shared.files import file_sha256
from captum_shared.folders import MANIFEST, ReportFolder
from captum_shared.manifests import read_manifest
from captum_shared.stimuli.matching import luminance_and_contrast
from captum_shared.stimuli.noise import TrialNoise
from captum_shared.stimuli.pictures import Parts, Stimulus
from captum_shared.stimuli.plan import Comparison, Plan
from captum_shared.tables import read_table

STIMULUS_COLUMNS = (
    "file", "neuron", "pair", "kind", "control", "image", "reference", "area", "luminance", "contrast", "predicted",
    "predicted_error", "compared_with", "expected",
)  # fmt: skip
COMPARISON_COLUMNS = (
    "neuron", "pair", "kind", "file", "controls", "expected", "predicted_difference", "tested", "power",
)  # fmt: skip
NEURON_COLUMNS = (
    "neuron", "pairs", "files", "comparisons", "tests", "repeats", "trials", "level", "least_power", "variance_floor",
    "variance_slope", "predicted_error", "pairs_without_heat",
)  # fmt: skip


PREDICTIONS = ("stimuli.csv", "comparisons.csv", "neurons.csv", "summary.json")


class StimuliSummary(TypedDict):
    """The content of ``summary.json``; `trials` is the sum over neurons of files times repeats."""

    command: str
    n_neurons: int
    n_pairs: int
    n_files: int
    n_comparisons: int
    n_tests: int
    trials: int
    alpha: float


@dataclass(frozen=True)
class PairSet:
    """The pictures of a pair, each with its file's name; `number` is that of the pair in the report, from 1."""

    number: int
    image: str
    reference: str
    parts: Parts
    stimuli: tuple[Stimulus, ...]
    files: tuple[str, ...]

    def with_pictures(self, pictures: Sequence[np.ndarray]) -> PairSet:
        """The same with other pixels."""
        stimuli = (replace(one, picture=picture) for one, picture in zip(self.stimuli, pictures, strict=True))
        return replace(self, stimuli=tuple(stimuli))


@dataclass(frozen=True)
class NeuronSet:
    """The pictures of a neuron, what its model predicts of each file, and the plan; `dark` are pairs without heat."""

    name: str
    pairs: tuple[PairSet, ...]
    noise: TrialNoise
    error: float
    predicted: Mapping[str, float]
    plan: Plan
    dark: tuple[int, ...] = ()

    @property
    def n_files(self) -> int:
        """The number of its pictures."""
        return sum(len(pair.files) for pair in self.pairs)

    @property
    def trials(self) -> int:
        """Each of its pictures as often as planned."""
        return self.n_files * self.plan.repeats

    @property
    def least_power(self) -> float:
        """Of its tests; NaN without any."""
        return min((each.power for each in self.plan.comparisons if each.tested), default=math.nan)


@dataclass(frozen=True)
class SavedSet:
    """What scoring needs to know of a set that was written.

    Attributes
    ----------
    files : dict of str to list of str
        Of each neuron.
    predicted : dict of str to dict of str to float
        By neuron and file.
    comparisons : dict of str to list of (Comparison, bool)
        Of each neuron, with whether they are tested.
    planned : dict of (neuron, pair, kind) to float
        The predicted differences.
    repeats : dict of str to int
    alpha : float
        The level of all tests of a neuron together.
    """

    files: dict[str, list[str]]
    predicted: dict[str, dict[str, float]]
    comparisons: dict[str, list[tuple[Comparison, bool]]]
    planned: dict[tuple[str, int, str], float]
    repeats: dict[str, int]
    alpha: float


def write_tables(folder: ReportFolder, sets: Sequence[NeuronSet], alpha: float) -> StimuliSummary:
    """Write the tables and the summary, which is returned."""
    folder.write_csv("stimuli.csv", STIMULUS_COLUMNS, [row for each in sets for row in _stimulus_rows(each)])
    folder.write_csv("comparisons.csv", COMPARISON_COLUMNS, [row for each in sets for row in _comparison_rows(each)])
    folder.write_csv("neurons.csv", NEURON_COLUMNS, [_neuron_row(each) for each in sets])
    summary: StimuliSummary = {
        "command": "stimuli", "n_neurons": len(sets), "n_pairs": sum(len(each.pairs) for each in sets),
        "n_files": sum(each.n_files for each in sets),
        "n_comparisons": sum(len(each.plan.comparisons) for each in sets),
        "n_tests": sum(each.plan.n_tested for each in sets), "trials": sum(each.trials for each in sets),
        "alpha": alpha,
    }  # fmt: skip
    folder.write_json("summary.json", summary)
    return summary


def read_set(folder: Path) -> SavedSet:
    """Read the tables that `write_tables` has written.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are none, or they were changed.
    """
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"no stimuli at {folder}: it has no {MANIFEST}; make them first, with --report")
    hashes = read_manifest(folder / MANIFEST)["files"]
    if not set(PREDICTIONS) <= set(hashes):
        raise ValueError(f"{folder} holds no finished stimuli of captum-shared stimuli")
    for name in PREDICTIONS:
        if file_sha256(folder / name) != hashes[name]:
            raise ValueError(f"{folder / name} was changed since it was written, so its predictions are not scored")
    stimuli = read_table(folder / "stimuli.csv", ["file", "neuron", "predicted"])
    alpha = float(json.loads((folder / "summary.json").read_text(encoding="utf-8"))["alpha"])
    made = SavedSet({}, {}, {}, {}, {}, alpha)
    for row in stimuli.rows:
        made.files.setdefault(row["neuron"], []).append(row["file"])
        made.predicted.setdefault(row["neuron"], {})[row["file"]] = float(row["predicted"])
    for row in read_table(folder / "comparisons.csv", COMPARISON_COLUMNS).rows:
        one = Comparison(row["neuron"], int(row["pair"]), row["kind"], row["file"], tuple(row["controls"].split(" ")),
                         row["expected"])  # fmt: skip
        made.comparisons.setdefault(one.neuron, []).append((one, row["tested"] == "yes"))
        made.planned[one.neuron, one.pair, one.kind] = float(row["predicted_difference"])
    for row in read_table(folder / "neurons.csv", ["neuron", "repeats"]).rows:
        made.repeats[row["neuron"]] = int(row["repeats"])
    return made


def _stimulus_rows(each: NeuronSet) -> list[list[object]]:
    against = {one.comparison.file: one.comparison for one in each.plan.comparisons}
    rows: list[list[object]] = []
    for pair in each.pairs:
        for one, file in zip(pair.stimuli, pair.files, strict=True):
            tested = against.get(file)
            rows.append([
                file, each.name, pair.number, one.kind, one.control or "", pair.image, pair.reference,
                number(one.area) if one.area else "", *map(number, luminance_and_contrast(one.picture)),
                number(each.predicted[file]), number(each.error), " ".join(tested.controls) if tested else "",
                tested.expected if tested else "",
            ])  # fmt: skip
    return rows


def _comparison_rows(each: NeuronSet) -> list[list[object]]:
    return [
        [each.name, one.comparison.pair, one.comparison.kind, one.comparison.file, " ".join(one.comparison.controls),
         one.comparison.expected, number(one.difference), "yes" if one.tested else "no", number(one.power)]
        for one in each.plan.comparisons
    ]  # fmt: skip


def _neuron_row(each: NeuronSet) -> list[object]:
    plan = each.plan
    return [
        each.name, len(each.pairs), each.n_files, len(plan.comparisons), plan.n_tested, plan.repeats, each.trials,
        number(plan.level), number(each.least_power), number(each.noise.floor), number(each.noise.slope),
        number(each.error), " ".join(map(str, each.dark)),
    ]  # fmt: skip


def number(value: float) -> float | str:
    """Six digits, or an empty field for what is unknown."""
    return float(f"{value:.6g}") if math.isfinite(value) else ""
