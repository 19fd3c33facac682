"""Does `LayerCorrespondence` lead from a part of the image to the same part of the reference?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from benchmarks.common.methods import Neuron
from benchmarks.common.scores import Scores, mean_scores
from benchmarks.synthetic_game.neurons import Case
from captum_shared.attribution import LayerCorrespondence
from captum_shared.similarity import MomentRule

METHOD = "LayerCorrespondence"


def correspondence_rows(neuron: Neuron) -> dict[tuple[str, str], str | MomentRule]:
    """(method, rule) and the similarity."""
    return {(METHOD, "dot"): "dot", (METHOD, "moments, contrast 0.5"): neuron.moments(0.5)}


def correspondence_scores(neuron: Neuron, case: Case, similarity: str | MomentRule) -> Scores:
    """How much of the positive mass that leaves the shared part of the image lands on that part of the reference.

    - ``correspondence_on_part``: with the reference that shares the part.
    - ``correspondence_shuffled``: in the same place of a reference of another pair.
    - ``correspondence_chance``: the part's share of the reference's area.
    """
    method = LayerCorrespondence(neuron.encoder, similarity)
    each = []
    for problem, role, masks in zip(case.problems, "pq", case.reference_masks, strict=True):
        found, shuffled = (
            method.attribute((problem.x, y[:1]), readout=neuron.weight)[0].clamp(min=0)
            for y in (problem.references, problem.shuffled)
        )
        part, target = _coarse(case.masks[role], found.shape[:2]), _coarse(masks["target"], found.shape[2:])
        scores = {
            "correspondence_on_part": _landing(found, part, target),
            "correspondence_shuffled": _landing(shuffled, part, target),
        }
        each.append({"query": scores | {"correspondence_chance": float(target.mean())}})
    return mean_scores(each)


def _landing(found: Tensor, part: Tensor, target: Tensor) -> float:
    """Share of what leaves a part (h, w) that lands on another (h', w'); NaN if nothing leaves it."""
    landed = torch.einsum("hwij,hw->ij", found, part.to(found))
    total = float(landed.sum())
    return float((landed * target.to(found)).sum()) / total if total > 0 else float("nan")


def _coarse(mask: np.ndarray, size: torch.Size) -> Tensor:
    """How much of each position of a map is in a mask."""
    return adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), (size[0], size[1]))[0]
