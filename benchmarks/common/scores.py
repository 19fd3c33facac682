"""Scores of one explained image against both references, and of the maps on the references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from captum_shared.metrics import (
    density_contrast,
    heat_density,
    leakage,
    p_vs_q_auroc,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    swap_accuracy,
)
from captum_shared.visualization import display_heat

Heats = tuple[np.ndarray, np.ndarray]
Masks = Mapping[str, np.ndarray]
Scores = dict[str, dict[str, float]]
"""Image ("query" or "reference") -> metric -> value."""


def to_heat(attribution: Tensor, size: tuple[int, int], unsigned: bool = False) -> np.ndarray:
    """`display_heat` of a map (1, C, h, w), enlarged to the image's size first if it is coarse.

    `unsigned` maps give the absolute value, pixel by pixel and channel by channel.
    """
    signed = attribution.detach().cpu().float()
    signed = (signed.abs() if unsigned else signed).sum(dim=1, keepdim=True)
    if signed.shape[-2:] != size:
        signed = torch.nn.functional.interpolate(signed, size, mode="bilinear")
    return display_heat(signed[0])


def pair_scores(heats: Heats, others: Heats, masks: Masks) -> dict[str, float]:
    """Scores of the maps of the image: explained against A, which shares P and D, and against B, which shares Q and D.

    Parameters
    ----------
    heats : two arrays (H, W)
        Of the neuron that P and Q drive.
    others : two arrays (H, W)
        Of the other neuron, which D drives, and P and Q do not.
    masks : mapping of "p", "q", "d", "n" to bool (H, W)
    """
    each = [_target_scores(heats[0], masks, "p", "q"), _target_scores(heats[1], masks, "q", "p")]
    scores = {name: float(np.mean([scores[name] for scores in each])) for name in each[0]}
    return swap_scores(heats, others, masks) | scores


def swap_scores(heats: Heats, others: Heats, masks: Masks) -> dict[str, float]:
    """What only a map that knows both the reference and the neuron gets right; arguments as in `pair_scores`.

    - ``swap_accuracy``: the reference is swapped, and the heat must move between P and Q. Maps that do not know the
      reference score 0.5.
    - ``readout_swap_accuracy``: the neuron is swapped, and the heat must move between P (against B: Q) and D. Maps that
      do not know the neuron score 0.5.
    - ``p_vs_d_auroc``: likewise as the area under the ROC curve of pixels.
    - ``both_swaps_accuracy``: all four comparisons of the two swaps are right, a tie being half right. Maps that do not
      know the reference, or do not know the neuron, are wrong in one of two: 0, at most 0.25 where they tie.
    """
    sides = (("p", "q"), ("q", "p"))
    moves = [(_denser(heats[k], masks, own, rival), _denser(heats[1 - k], masks, rival, own),
              _denser(heats[k], masks, own, "d"), _denser(others[k], masks, "d", own))
             for k, (own, rival) in enumerate(sides)]  # fmt: skip
    areas = [(p_vs_q_auroc(heats[k], masks[own], masks["d"]), p_vs_q_auroc(others[k], masks["d"], masks[own]))
             for k, (own, _) in enumerate(sides)]  # fmt: skip
    readout = [swap_accuracy(heats[k], others[k], masks[own], masks["d"]) for k, (own, _) in enumerate(sides)]
    return {
        "swap_accuracy": float(swap_accuracy(*heats, masks["p"], masks["q"])),
        "readout_swap_accuracy": float(np.mean(readout)),
        "both_swaps_accuracy": float(np.mean([np.prod(hits) for hits in moves])),
        "p_vs_d_auroc": float(np.mean(areas)),
    }


def _denser(heat: np.ndarray, masks: Masks, one: str, other: str) -> float:
    """1 if the heat is denser on the one part than on the other, 0.5 for a tie, else 0."""
    return 0.5 + 0.5 * float(density_contrast(heat, masks[one], masks[other]).sign())


def reference_scores(heats: Heats, masks: tuple[Masks, Masks]) -> dict[str, float]:
    """Scores of the maps of the references A and B, whose masks are "target", "d" and "other"."""
    each = []
    for heat, own in zip(heats, masks, strict=True):
        scores = _localization(heat, own["target"])
        scores["leakage_d"] = float(leakage(heat, own["target"], own["d"]))
        scores["leakage_n"] = float(leakage(heat, own["target"], own["other"])) if "other" in own else float("nan")
        each.append(scores)
    return {name: _mean([scores[name] for scores in each]) for name in each[0]}


def _mean(values: list[float]) -> float:
    """Mean of the values that are not NaN; NaN if there are none (a part that another one hides)."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _target_scores(heat: np.ndarray, masks: Masks, target: str, rival: str) -> dict[str, float]:
    return {
        "four_part_accuracy": _is_densest(heat, masks, target),
        "p_vs_q_auroc": float(p_vs_q_auroc(heat, masks[target], masks[rival])),
        "density_contrast": float(density_contrast(heat, masks[target], masks[rival])),
        **_localization(heat, masks[target]),
        "leakage_d": float(leakage(heat, masks[target], masks["d"])),
        "leakage_n": float(leakage(heat, masks[target], masks["n"])),
    }


def _is_densest(heat: np.ndarray, masks: Masks, target: str) -> float:
    """1 if the heat is denser on the target than on the three other parts; ties share. Chance is 0.25."""
    densities = {role: float(heat_density(heat, mask)) for role, mask in masks.items()}
    best = [role for role, density in densities.items() if density == max(densities.values())]
    return float(target in best) / len(best)


def _localization(heat: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    return {
        "relevance_mass_accuracy": float(relevance_mass_accuracy(heat, mask)),
        "relevance_rank_accuracy": float(relevance_rank_accuracy(heat, mask)),
        "pointing_game": float(pointing_game(heat, mask)),
    }


def mean_scores(each: Sequence[Scores]) -> Scores:
    """Mean over a neuron's cases, NaN left out."""
    return {
        image: {name: _mean([own[image][name] for own in each]) for name in metrics}
        for image, metrics in each[0].items()
    }
