"""What a set of stimuli consists of, and its tables: ``stimuli.csv``, ``comparisons.csv``, ``neurons.csv``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from captum_shared.files import file_sha256
from captum_shared.folders import MANIFEST, ReportFolder
from captum_shared.manifests import read_manifest
from captum_shared.stimuli.matching import luminance_and_contrast
from captum_shared.stimuli.noise import TrialNoise
from captum_shared.stimuli.pictures import Parts, Stimulus
from captum_shared.stimuli.plan import Comparison, Plan
from captum_shared.tables import number, read_table

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
    """The pictures of a pair by their files' names; `number` is that of the pair in the report, from 1."""

    number: int
    image: str
    reference: str
    parts: Parts
    stimuli: Mapping[str, Stimulus]


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
        return sum(len(pair.stimuli) for pair in self.pairs)

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
    """What scoring needs to know of a set that was written; `alpha` is the level of all tests of a neuron together.

    By neuron there are the predicted response to each file, the comparisons with whether they are tested, and the
    planned repeats; by comparison the predicted difference.
    """

    alpha: float
    predicted: dict[str, dict[str, float]] = field(default_factory=dict)
    comparisons: dict[str, list[tuple[Comparison, bool]]] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    differences: dict[Comparison, float] = field(default_factory=dict)


def write_tables(folder: ReportFolder, sets: Sequence[NeuronSet], alpha: float) -> StimuliSummary:
    """Write the tables and the summary, which is returned."""
    write_rows(folder, "stimuli.csv", [row for each in sets for row in _stimulus_rows(each)])
    write_rows(folder, "comparisons.csv", [row for each in sets for row in _comparison_rows(each)])
    write_rows(folder, "neurons.csv", [_neuron_row(each) for each in sets])
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
    """Read the tables that `write_tables` has written, if they are unchanged."""
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"no stimuli at {folder}: it has no {MANIFEST}; make them first, with --report")
    hashes = read_manifest(folder / MANIFEST)["files"]
    if not set(PREDICTIONS) <= set(hashes):
        raise ValueError(f"{folder} holds no finished stimuli of captum-shared stimuli")
    for name in PREDICTIONS:
        if file_sha256(folder / name) != hashes[name]:
            raise ValueError(f"{folder / name} was changed since it was written, so its predictions are not scored")
    made = SavedSet(float(json.loads((folder / "summary.json").read_text(encoding="utf-8"))["alpha"]))
    for row in read_table(folder / "stimuli.csv", ["file", "neuron", "predicted"]).rows:
        made.predicted.setdefault(row["neuron"], {})[row["file"]] = float(row["predicted"])
    for row in read_table(folder / "comparisons.csv", ["neuron", "pair", "kind", "file", "controls"]).rows:
        controls = tuple(row["controls"].split(" "))
        one = Comparison(row["neuron"], int(row["pair"]), row["kind"], row["file"], controls, row["expected"])
        made.comparisons.setdefault(one.neuron, []).append((one, row["tested"] == "yes"))
        made.differences[one] = float(row["predicted_difference"])
    for row in read_table(folder / "neurons.csv", ["neuron", "repeats"]).rows:
        made.repeats[row["neuron"]] = int(row["repeats"])
    return made


def write_rows(folder: ReportFolder, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table of at least one row; all rows have the same columns."""
    folder.write_csv(name, list(rows[0]), [list(row.values()) for row in rows])


def _stimulus_rows(each: NeuronSet) -> list[dict[str, object]]:
    compared = {one.comparison.file: one.comparison for one in each.plan.comparisons}
    rows: list[dict[str, object]] = []
    for pair in each.pairs:
        for file, one in pair.stimuli.items():
            luminance, contrast = luminance_and_contrast(one.picture)
            comparison = compared.get(file)
            rows.append({
                "file": file, "neuron": each.name, "pair": pair.number, "kind": one.kind, "control": one.control or "",
                "image": pair.image, "reference": pair.reference, "area": number(one.area) if one.area else "",
                "luminance": number(luminance), "contrast": number(contrast),
                "predicted": number(each.predicted[file]), "predicted_error": number(each.error),
                "compared_with": " ".join(comparison.controls) if comparison else "",
                "expected": comparison.expected if comparison else "",
            })  # fmt: skip
    return rows


def _comparison_rows(each: NeuronSet) -> list[dict[str, object]]:
    return [
        {
            "neuron": each.name, "pair": one.comparison.pair, "kind": one.comparison.kind, "file": one.comparison.file,
            "controls": " ".join(one.comparison.controls), "expected": one.comparison.expected,
            "predicted_difference": number(one.difference), "tested": "yes" if one.tested else "no",
            "power": number(one.power),
        }
        for one in each.plan.comparisons
    ]  # fmt: skip


def _neuron_row(each: NeuronSet) -> dict[str, object]:
    plan = each.plan
    return {
        "neuron": each.name, "pairs": len(each.pairs), "files": each.n_files, "comparisons": len(plan.comparisons),
        "tests": plan.n_tested, "repeats": plan.repeats, "trials": each.trials, "level": number(plan.level),
        "least_power": number(each.least_power), "variance_floor": number(each.noise.floor),
        "variance_slope": number(each.noise.slope), "predicted_error": number(each.error),
        "pairs_without_heat": " ".join(map(str, each.dark)),
    }  # fmt: skip
