"""Tables and numbers of the report: ``neurons.csv``, ``pairs.csv``, ``layers.csv``, ``summary.json``."""

from __future__ import annotations

from collections import Counter
from typing import TypedDict

import numpy as np

from captum_shared.readout import ceiling_corrected
from captum_shared.study.interventions import EFFECT_COLUMNS, Effects, EffectsSummary
from captum_shared.study.network import Network
from captum_shared.study.neurons import Findings
from captum_shared.study.settings import WEAK_D_PRIME
from captum_shared.study.study import Study
from captum_shared.tables import number

NEURON_COLUMNS = (
    "neuron", "status", "reason", "reliability", "layer", "cv_r", "cv_r_corrected", "preferred_category", "d_prime",
    "generalization_r", "n_drivers",
)  # fmt: skip
PAIR_COLUMNS = ("neuron", "image", "reference", "similarity", "response", "predicted")
LAYER_COLUMNS = ("neuron", "layer", "pool", "inner_score", "chosen")


class RecordingSummary(TypedDict, total=False):
    """The content of ``summary.json``; of a shard of the work only `shard` and `folder`."""

    command: str
    n_neurons: int
    n_stimuli: int
    n_fitted: int
    n_explained: int
    n_pairs: int
    n_weak_preference: int
    median_reliability: float | None
    median_cv_r: float | None
    median_cv_r_corrected: float | None
    median_generalization_r: float | None
    median_generalization_r_corrected: float | None
    preferred_categories: dict[str, int]
    layers: dict[str, int]
    poolings: dict[str, int]
    not_explained: dict[str, str]
    rule: str
    similarity: str
    references_averaged: int
    reference_counts: dict[str, int]
    interventions: EffectsSummary
    shard: str
    folder: str


def neuron_rows(study: Study, findings: Findings) -> list[list[float | str]]:
    """A row per neuron; an empty field is an unknown number. `n_drivers` counts the drivers that are explained."""
    models, reliability = findings.models, findings.tuning.reliability
    corrected = ceiling_corrected(models.cv_r, findings.tuning.ceiling)
    return [
        [
            n.name, "explained" if n.explained else "excluded", n.reason, number(reliability[n.index]),
            study.network.layer(int(models.candidate[n.index])), number(models.cv_r[n.index]),
            number(corrected[n.index]), n.preferred or "", number(n.d_prime),
            number(models.generalization_r[n.index]), len(n.shown),
        ]
        for n in findings.neurons
    ]  # fmt: skip


def pair_columns(effects: Effects | None) -> tuple[str, ...]:
    """The columns of ``pairs.csv``; those of interventions come after the others, where they were made."""
    return PAIR_COLUMNS if effects is None else (*PAIR_COLUMNS, *EFFECT_COLUMNS)


def pair_rows(study: Study, findings: Findings, effects: Effects | None = None) -> list[list[float | str]]:
    """A row per pair, in the order of the maps."""
    names, responses, predictions = study.recording.stimulus_names, study.responses, findings.models.predictions
    return [
        [n.name, names[image], names[reference], number(similarity), number(responses[n.index, image]),
         number(predictions[image, n.index]), *([] if effects is None else effects[n.index][rank].row())]
        for n in findings.neurons
        for rank, (image, reference, similarity) in enumerate(n.shown)
    ]  # fmt: skip


def layer_rows(study: Study, findings: Findings) -> list[list[float | str]]:
    """A row per neuron and candidate: minus its cross-validated squared error, and whether it was chosen."""
    network, models = study.network, findings.models
    return [
        [n.name, network.layer(c), network.pool(c), number(models.scores[c, n.index]),
         int(models.candidate[n.index] == c)]
        for n in findings.neurons
        for c in range(len(network.candidates))
        if models.candidate[n.index] >= 0
    ]  # fmt: skip


def summarize(study: Study, findings: Findings) -> RecordingSummary:
    """The content of ``summary.json``."""
    network, models, neurons = study.network, findings.models, findings.neurons
    reliability = findings.tuning.reliability
    chosen = [int(candidate) for candidate in models.candidate if candidate >= 0]
    corrected, general = (ceiling_corrected(r, findings.tuning.ceiling) for r in (models.cv_r, models.generalization_r))
    used = Counter(study.recording.stimulus_names[reference] for n in neurons for _, reference, _ in n.shown)
    return {
        "command": "recording",
        "n_neurons": len(neurons), "n_stimuli": study.recording.n_stimuli, "n_fitted": len(chosen),
        "n_explained": len(findings.explained), "n_pairs": sum(len(n.shown) for n in neurons),
        "n_weak_preference": sum(n.d_prime < WEAK_D_PRIME for n in findings.explained),
        "median_reliability": _median(reliability),
        "median_cv_r": _median(models.cv_r), "median_cv_r_corrected": _median(corrected),
        "median_generalization_r": _median(models.generalization_r),
        "median_generalization_r_corrected": _median(general),
        "preferred_categories": dict(sorted(Counter(n.preferred for n in neurons if n.preferred).items())),
        "layers": dict(sorted(Counter(map(network.layer, chosen)).items())),
        "poolings": dict(sorted(Counter(map(network.pool, chosen)).items())),
        "rule": study.settings.rule, "similarity": study.settings.similarity,
        "references_averaged": study.settings.references_averaged,
        "not_explained": {n.name: n.reason for n in neurons if not n.explained},
        "reference_counts": dict(used.most_common()),
    }  # fmt: skip


def candidate_names(network: Network) -> list[str]:
    """The poolings of each layer, in words."""
    names: dict[str, list[str]] = {}
    for c, (layer, _) in enumerate(network.candidates):
        names.setdefault(layer, []).append(model_name(network, c).removeprefix(f"{layer}, "))
    if len({tuple(pools) for pools in names.values()}) == 1:
        return [f"the layers {', '.join(names)}, each pooled in {len(next(iter(names.values())))} ways "
                f"({', '.join(next(iter(names.values())))})"]  # fmt: skip
    return [f"{layer} ({', '.join(pools)})" for layer, pools in names.items()]


def model_name(network: Network, candidate: int) -> str:
    """Layer and pooling of a candidate, in words."""
    if candidate < 0:
        return "none"
    layer, pool = network.candidates[candidate]
    return f"{layer}, {pool} x {pool} grid" if isinstance(pool, int) else f"{layer}, {network.pool(candidate)}"


def _median(values: np.ndarray) -> float | None:
    there = values[np.isfinite(values)]
    return float(f"{np.median(there):.6g}") if len(there) else None
