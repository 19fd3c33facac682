"""The synthetic population, where the shared part is known: does the score rank methods as the truth does?

The images, neurons and pairs are those of `benchmarks.shared_parts`: the image holds P, shared with A and driving the
neuron; Q, shared with B and driving it; D, shared with both and not driving it; and N. The twin reads an earlier layer,
and is fitted to the neuron's responses to other images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.common.methods import Method, Neuron, Problem, all_methods
from benchmarks.common.results import Content
from benchmarks.interventions.rows import LAYER, PIXEL, Name, areas_of_heats, heats_of, methods_of
from benchmarks.interventions.trials import FILLS, Twin, effects_of, make_judge
from benchmarks.synthetic_game.neurons import DRIVING_KINDS, Case, Setting, make_neuron
from benchmarks.synthetic_game.pairs import compose_gallery
from captum_shared.encoder import encode_images
from captum_shared.encoder.layers import LayerScan
from captum_shared.interventions.scores import Scores
from captum_shared.readout import fit_readout
from captum_shared.synthetic import DEMO_LAYER, demo_network, render_scenes

TWIN_LAYER = "features.14"
AREA = 0.05
"""Of the image; a part covers about as much."""
IMAGES = 400
EXTRA: tuple[Name, ...] = (
    (LAYER, "contrast"), (LAYER, "matched"), (LAYER, "centered"), (LAYER, "moments, contrast 0"),
    (PIXEL, "dot"), (PIXEL, "matched"), ("InputXGradient", ""), ("edge map", ""), ("shuffled readout", "product"),
)  # fmt: skip
SCORES = ("necessity", "sufficiency", "specificity", "response")


@dataclass(frozen=True)
class MadeSetting:
    """Which neurons: of the trained demo network, its latents as they are or turned."""

    degrees: float
    cases: int
    seed: int


def play_made(setting: MadeSetting, index: int) -> Content:
    """Truth and scores of each method, means over a neuron's cases and both references."""
    drawn = Setting("interventions", "trained", degrees=setting.degrees, methods="all")
    neuron, cases, _ = make_neuron(drawn, index, setting.cases, setting.seed, "cpu")
    scanner = LayerScan(demo_network().eval().requires_grad_(False), (TWIN_LAYER, DEMO_LAYER), ("avg",)).eval()
    twins = _twins(neuron, scanner, setting.seed, index) if cases else []
    trials = [
        _trial(neuron, case, side, _judge(scanner, twins, case, side), setting.seed + 100 * index + k)
        for k, case in enumerate(cases)
        for side in (0, 1)
    ]
    return {"trials": [{"group": str(index), "rows": rows} for rows in trials], "twins": [t.name for t in twins]}


def made_methods() -> list[Method]:
    """Those of the other settings, and further rules, so that there are enough to rank."""
    known = all_methods()
    return methods_of() + [known[name] for name in EXTRA]


def _twins(neuron: Neuron, scanner: LayerScan, seed: int, index: int) -> list[Twin]:
    """Readouts fitted to the neuron's true responses to images of their own; the second reads its own layer."""
    kinds = DRIVING_KINDS["trained"]
    p, q = np.random.default_rng([seed, index]).permutation(kinds)[:2]  # that drive it, as `make_neuron` draws them
    scenes = compose_gallery(IMAGES, (str(p), str(q)), np.random.default_rng([seed, index, 9]), kinds=kinds)
    images = render_scenes(scenes).images
    responses = (encode_images(neuron.encoder, images) @ neuron.weight).double().numpy()
    scanned, widths = encode_images(scanner, images).double(), scanner.widths(images[:1])
    return [
        Twin.fitted(name, columns, scanned, lambda z: fit_readout(z, responses).readout.weight.detach().double()[0])
        for name, columns in (("other layer", slice(0, widths[0])), ("own layer", slice(widths[0], sum(widths))))
    ]


def _judge(scanner: LayerScan, twins: list[Twin], case: Case, side: int) -> Scores:
    with torch.no_grad():
        own, rival = (scanner(case.problems[k].references[:1]) for k in (side, 1 - side))
    return make_judge(scanner, twins, own, rival)


def _trial(neuron: Neuron, case: Case, side: int, judge: Scores, seed: int) -> list[Content]:
    problem = case.problems[side]
    problem = Problem(problem.x, problem.references[:1], problem.shuffled[:1])
    torch.manual_seed(seed)
    heats = heats_of(made_methods(), neuron, problem)
    areas = areas_of_heats(heats, AREA, seed)
    falls, rises = (
        effects_of(kind, judge, problem.x[0], areas, fills=FILLS, batch_size=32)
        for kind in ("necessity", "sufficiency")
    )
    parts = torch.from_numpy(np.stack([case.masks[role] for role in ("pqdn" if side == 0 else "qpdn")]))
    return [
        {"row": list(name), "truth": _on_part(area, parts), "necessity": falls[name], "sufficiency": rises[name]}
        for name, area in areas.items()
    ]


def _on_part(areas: Tensor, parts: Tensor) -> float:
    """Share of what the areas (n, H, W) cover of the four parts that lies on the first; 0.25 if they cover none."""
    covered = (areas[:, None] & parts).flatten(2).sum(2).double()
    total = covered.sum(1)
    return float(torch.where(total > 0, covered[:, 0] / total.clamp(min=1), 0.25).mean())
