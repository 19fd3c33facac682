"""What the rule `moments` costs: a pair beside one by the paper's product, and making it beside one covariance.

``python -m benchmarks.speed`` has these rows, too; ``python -m benchmarks.speed.rules`` prints them alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import captum.attr as ca
import torch
from torch import Tensor

from benchmarks.speed.paths import Run, make_workload
from benchmarks.speed.timing import Timing, compare
from captum_shared import ParallelBackprop, moment_rule

MODELS = {"squeezenet1_0": "features.12", "resnet18": "layer4"}
SIZE, QUICK_SIZE, N_STEPS = 224, 112, 8
GALLERY = 700
LARGE = (10_000, 2_048)
QUICK = (1_000, 256)
ROUNDS = 31


def rule_rows(quick: bool, device: str, rounds: int) -> list[Timing]:
    """Pairs with plain gradients and with integrated gradients, and the making of the moments beside a covariance."""
    size, shape = (QUICK_SIZE, QUICK) if quick else (SIZE, LARGE)
    rows = []
    for model, layer in MODELS.items():
        for name, engine, steps in (
            ("gradient", ca.Saliency, {}),
            ("integrated gradients", ca.IntegratedGradients, {"n_steps": N_STEPS}),
        ):
            moments, product = pair_runs(model, layer, engine, steps, size, device)
            rows.append(compare(f"moments {name}", model, layer, moments, product, rounds))
    gallery = torch.rand(shape, device=device)
    making, few = partial(moment_rule, gallery), max(3, rounds // 4)
    for words, floor in (("", gallery), (", double precision", gallery.double())):
        name = f"{shape[1]} latents{words}"
        rows.append(compare("making moments", f"{shape[0]} images", name, making, partial(covariance, floor), few))
    return rows


def pair_runs(
    model: str, layer: str, engine: Any, options: dict[str, Any], size: int, device: str = "cpu"
) -> tuple[Run, Run]:
    """One pair by moments, each image's constant from the other, as the commands do; and by the product."""
    p = make_workload(model, layer, device, size)
    rule = moment_rule(torch.rand(GALLERY, len(p.w), device=device))
    moments = ParallelBackprop(p.encoder, engine=engine, rule=rule, constants="crossed")
    product = ParallelBackprop(p.encoder, engine=engine)
    runs = [partial(own.attribute, p.pair, readout=p.w, **options) for own in (moments, product)]
    return runs[0], runs[1]


def covariance(gallery: Tensor) -> Tensor:
    """Covariance of latents (G, D) in their own precision; the rule computes its own in double precision."""
    return torch.cov(gallery.T)


if __name__ == "__main__":
    for row in rule_rows(quick=False, device="cpu", rounds=ROUNDS):
        print(
            f"{row.name:30} {row.model:15} {row.layer:30} {row.ratio:.3f} ({row.low:.3f} to {row.high:.3f}), "
            f"{row.seconds:.3g} s beside {row.floor:.3g} s",
            flush=True,
        )
