"""Scores of one explained image against both references, and of the maps on the references."""

from __future__ import annotations

from collections.abc import Mapping

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


def pair_scores(heats: tuple[np.ndarray, np.ndarray], masks: Masks) -> dict[str, float]:
    """Scores of the two maps of the image: explained against A, which shares P, and against B, which shares Q.

    Parameters
    ----------
    heats : two arrays (H, W)
    masks : mapping of "p", "q", "d", "n" to bool (H, W)
    """
    each = [_target_scores(heats[0], masks, "p", "q"), _target_scores(heats[1], masks, "q", "p")]
    scores = {name: float(np.mean([scores[name] for scores in each])) for name in each[0]}
    return {"swap_accuracy": float(swap_accuracy(*heats, masks["p"], masks["q"])), **scores}


def reference_scores(heats: tuple[np.ndarray, np.ndarray], masks: tuple[Masks, Masks]) -> dict[str, float]:
    """Scores of the maps of the references A and B, whose masks are "target", "d" and "other"."""
    each = []
    for heat, own in zip(heats, masks, strict=True):
        scores = _localization(heat, own["target"])
        scores["leakage_d"] = float(leakage(heat, own["target"], own["d"]))
        scores["leakage_n"] = float(leakage(heat, own["target"], own["other"])) if "other" in own else float("nan")
        each.append(scores)
    return {name: _mean([scores[name] for scores in each]) for name in each[0]}


def _mean(values: list[float]) -> float:
    """Mean of those that are there; NaN if none is (a part that another one hides)."""
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
