"""Ways to choose pairs: the shipped ones, and controls that leave something out; and maps for comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from captum_shared.selection import Pairs, Partners, find_driver_pairs
from captum_shared.selection.pairs import Score
from captum_shared.study.encoding import EncodingModels, Latents
from captum_shared.study.neurons import NeuronFindings, select_neurons
from captum_shared.study.study import Study
from captum_shared.study.tuning import find_tuning

SHIPPED, BY_CATEGORY = "drivers", "with categories"
CONTROLS = ("drivers at random", "neuron-specific similarity alone", "low plain similarity alone")
CHOICES = (SHIPPED, BY_CATEGORY, *CONTROLS)


def chosen_pairs(study: Study, latents: Latents, models: EncodingModels) -> dict[str, dict[int, Pairs]]:
    """The pairs of each neuron by each choice; by `select_neurons`, as in a report, where the choice is shipped."""
    found = {}
    for name, kind in ((SHIPPED, "drivers"), (BY_CATEGORY, "category")):
        asked = replace(study, settings=replace(study.settings, pairs=kind))
        neurons = select_neurons(asked, find_tuning(asked), latents, models)
        found[name] = {n.index: n.pairs for n in neurons if n.pairs is not None}
        if kind == "drivers":
            found |= _controls(study, latents, models, neurons)
    return {name: found[name] for name in CHOICES}


def _controls(
    study: Study, latents: Latents, models: EncodingModels, neurons: tuple[NeuronFindings, ...]
) -> dict[str, dict[int, Pairs]]:
    """The same drivers, paired otherwise."""
    z = latents.standardized(0)
    found: dict[str, dict[int, Pairs]] = {name: {} for name in CONTROLS}
    for n in neurons:
        if isinstance(n.drivers, Partners):
            weight = torch.as_tensor(models.weights[n.index]).double()
            rng = np.random.default_rng([study.settings.seed, n.index])
            noise = torch.from_numpy(rng.random((len(n.drivers.outside),) * 2))
            for name, score in zip(CONTROLS, _scores(noise), strict=True):
                found[name][n.index] = find_driver_pairs(z, n.drivers, weight, score=score)
    return found


def _scores(noise: Tensor) -> tuple[Score, ...]:
    """Of each control, in their order."""
    return lambda specific, plain: noise + noise.mT, lambda specific, plain: specific, lambda specific, plain: -plain


def readout_alone(z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor | None = None) -> Tensor:
    """A rule that knows no reference: the readout, as in Grad-CAM."""
    return weight.expand_as(z)
