"""From constants to heat in cells, and from heat to scores; many composites at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from captum_shared.visualization.heat import SMOOTHING

Scores = dict[str, np.ndarray]
"""Metric -> values (R, B), of R rows on B composites."""

QUESTIONS = ((0, 0), (0, 1), (1, 0))
"""(neuron, references): neuron A with the references of P, then of Q; neuron B with those of P, all of which hold D."""


def heat_in_tiles(maps: Tensor, cells: Tensor) -> np.ndarray:
    """Heat as `captum_shared.display_heat` makes it of a composite's map, put back into the order of the tiles.

    Parameters
    ----------
    maps : Tensor (R, B, 4, h, w)
        Signed maps of the tiles.
    cells : Tensor (B, 4)
        Where each tile lies.

    Returns
    -------
    array (R, B, 4, h * w)
    """
    from scipy.ndimage import gaussian_filter

    r, b, _, h, w = maps.shape
    place = cells.argsort(1)[None, :, :, None, None]
    square = maps.gather(2, place.expand_as(maps)).reshape(r, b, 2, 2, h, w)
    square = square.permute(0, 1, 2, 4, 3, 5).reshape(r, b, 2 * h, 2 * w)
    sigma = SMOOTHING * max(2 * h, 2 * w)
    smooth = torch.from_numpy(gaussian_filter(square.numpy(), (0, 0, sigma, sigma), mode="reflect")).clamp(min=0)
    parts = smooth.reshape(r, b, 2, h, 2, w).permute(0, 1, 2, 4, 3, 5).reshape(r, b, 4, h * w)
    return parts.gather(2, cells[None, :, :, None].expand_as(parts)).numpy()


def scores_of(heat: np.ndarray) -> dict[str, Scores]:
    """Of heat (2 images, questions, R, B, 4, p): two questions are asked in the pair grid, three in the other game."""
    score = pair_grid_scores if heat.shape[1] == 2 else both_swaps_scores
    return {"query": score(heat[0]), "reference": score(heat[1])}


def pair_grid_scores(heat: np.ndarray) -> Scores:
    """Of heat (2, R, B, 4, p) explained with references of P and of Q: is it on P's tile, and on Q's?"""
    each = [_on_target(heat[side], side, 1 - side) for side in (0, 1)]
    return {name: (each[0][name] + each[1][name]) / 2 for name in each[0]}


def both_swaps_scores(heat: np.ndarray) -> Scores:
    """Of heat (3, R, B, 4, p), one for each of `QUESTIONS`."""
    a, other_reference, other_neuron = heat.sum(-1)
    references = _hotter(a, 0, 1), _hotter(other_reference, 1, 0)
    neurons = _hotter(a, 0, 2), _hotter(other_neuron, 2, 0)
    return {
        "swap_accuracy": (references[0] + references[1]) / 2,
        "readout_swap_accuracy": (neurons[0] + neurons[1]) / 2,
        "both_swaps_accuracy": references[0] * references[1] * neurons[0] * neurons[1],
    }


def _hotter(sums: np.ndarray, one: int, other: int) -> np.ndarray:
    """1 if there is more heat on one tile than on the other, 0.5 for a tie, else 0."""
    result: np.ndarray = 0.5 + 0.5 * np.sign(sums[..., one] - sums[..., other])
    return result


def _on_target(heat: np.ndarray, target: int, rival: int) -> Scores:
    sums = heat.sum(-1)
    moved = _hotter(sums, target, rival)
    sums = np.maximum(sums, 0)  # heat is never negative, signed sums of pixels may be
    inside, beside, total = sums[..., target], sums[..., rival], sums.sum(-1)
    peaks = heat.max(-1)
    return {
        "swap_accuracy": moved,
        "share_of_driving_cells": _share(inside, inside + beside, 0.5),
        "p_vs_q_auroc": _auroc(heat[..., target, :], heat[..., rival, :]),
        "relevance_mass_accuracy": _share(inside, total, 0.25),
        "pointing_game": (peaks[..., target] == peaks.max(-1)) / (peaks == peaks.max(-1, keepdims=True)).sum(-1),
    }


def _share(part: np.ndarray, whole: np.ndarray, empty: float) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), empty)


def _auroc(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """How often a position (..., p) of the one is hotter than one of the other, ties by half."""
    ordered = torch.from_numpy(negative).sort(-1).values.contiguous()
    values = torch.from_numpy(positive).contiguous()
    below, up_to = (torch.searchsorted(ordered, values, right=right).double().mean(-1) for right in (False, True))
    result: np.ndarray = ((below + up_to) / (2 * negative.shape[-1])).numpy()
    return result
