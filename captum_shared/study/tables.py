"""Tables and numbers of the report: ``neurons.csv``, ``pairs.csv``, ``layers.csv``, ``summary.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from captum_shared.readout import ceiling_corrected
from captum_shared.recording import Recording
from captum_shared.report.recording.encoding import Encoding
from captum_shared.report.recording.network import Network
from captum_shared.report.recording.neurons import Neuron

NEURON_COLUMNS = (
    "neuron", "status", "reason", "reliability", "layer", "cv_r", "cv_r_corrected", "preferred_category", "d_prime",
    "generalization_r", "n_drivers",
)  # fmt: skip
PAIR_COLUMNS = ("neuron", "image", "reference", "similarity", "response", "predicted")
LAYER_COLUMNS = ("neuron", "layer", "pool", "inner_score", "chosen")


def neuron_rows(
    neurons: Sequence[Neuron], network: Network, encoding: Encoding, reliability: np.ndarray
) -> list[list[Any]]:
    """A row per neuron; an empty field is a number that cannot be had. `n_drivers` counts the explained ones."""
    corrected = ceiling_corrected(encoding.cv_r, reliability)
    return [
        [
            n.name, "explained" if n.explained else "excluded", n.reason, _number(reliability[n.index]),
            layer_name(network, int(encoding.candidate[n.index])), _number(encoding.cv_r[n.index]),
            _number(corrected[n.index]), n.preferred or "", _number(n.d_prime),
            _number(encoding.generalization_r[n.index]), len(n.pairs),
        ]
        for n in neurons
    ]  # fmt: skip


def pair_rows(neurons: Sequence[Neuron], recording: Recording, encoding: Encoding) -> list[list[Any]]:
    """A row per pair, in the order of the maps."""
    names, responses = recording.stimulus_names, recording.mean_responses
    return [
        [n.name, names[p.image], names[p.reference], _number(p.similarity), _number(responses[n.index, p.image]),
         _number(encoding.predictions[p.image, n.index])]
        for n in neurons
        for p in n.pairs
    ]  # fmt: skip


def layer_rows(neurons: Sequence[Neuron], network: Network, encoding: Encoding) -> list[list[Any]]:
    """A row per neuron and candidate: minus the squared error inside all stimuli, and which one was chosen."""
    return [
        [n.name, layer, _pool_name(pool), _number(encoding.scores[c, n.index]), int(encoding.candidate[n.index] == c)]
        for n in neurons
        for c, (layer, pool) in enumerate(network.candidates)
        if encoding.candidate[n.index] >= 0
    ]


def summarise(
    neurons: Sequence[Neuron], recording: Recording, network: Network, encoding: Encoding, reliability: np.ndarray
) -> dict[str, Any]:
    """The numbers that one would say aloud."""
    fitted = encoding.candidate >= 0
    corrected = ceiling_corrected(encoding.cv_r, reliability)
    used = Counter(recording.stimulus_names[p.reference] for n in neurons for p in n.pairs)
    chosen = Counter(layer_name(network, int(c)) for c in encoding.candidate[fitted])
    return {
        "command": "recording",
        "n_neurons": len(neurons), "n_stimuli": recording.n_stimuli, "n_fitted": int(fitted.sum()),
        "n_explained": sum(n.explained for n in neurons), "n_pairs": sum(len(n.pairs) for n in neurons),
        "median_reliability": _median(reliability),
        "median_cv_r": _median(encoding.cv_r), "median_cv_r_corrected": _median(corrected),
        "median_generalization_r": _median(encoding.generalization_r),
        "median_generalization_r_corrected": _median(ceiling_corrected(encoding.generalization_r, reliability)),
        "preferred_categories": dict(sorted(Counter(n.preferred for n in neurons if n.preferred).items())),
        "layers": dict(sorted(chosen.items())),
        "poolings": dict(sorted(Counter(
            _pool_name(network.candidates[int(c)][1]) for c in encoding.candidate[fitted]).items())),
        "not_explained": {n.name: n.reason for n in neurons if not n.explained},
        "reference_counts": dict(used.most_common()),
    }  # fmt: skip


def layer_name(network: Network, candidate: int) -> str:
    """The layer of a candidate; empty where there is none."""
    return network.candidates[candidate][0] if candidate >= 0 else ""


def candidate_names(network: Network) -> list[str]:
    """For each layer its poolings, for people."""
    names: dict[str, list[str]] = {}
    for c, (layer, _) in enumerate(network.candidates):
        names.setdefault(layer, []).append(model_name(network, c).removeprefix(f"{layer}, "))
    if len({tuple(pools) for pools in names.values()}) == 1:
        return [f"the layers {', '.join(names)}, each pooled in {len(next(iter(names.values())))} ways "
                f"({', '.join(next(iter(names.values())))})"]  # fmt: skip
    return [f"{layer} ({', '.join(pools)})" for layer, pools in names.items()]


def model_name(network: Network, candidate: int) -> str:
    """Layer and pooling of a candidate, for people."""
    if candidate < 0:
        return "none"
    layer, pool = network.candidates[candidate]
    return f"{layer}, {pool} x {pool} grid" if isinstance(pool, int) else f"{layer}, {_pool_name(pool)}"


def _pool_name(pool: Any) -> str:
    return str(pool) if isinstance(pool, str | int) else getattr(pool, "__name__", type(pool).__name__)


def _number(value: Any) -> float | str:
    return float(f"{float(value):.6g}") if np.isfinite(value) else ""


def _median(values: np.ndarray) -> float | None:
    there = values[np.isfinite(values)]
    return float(f"{np.median(there):.6g}") if len(there) else None
