"""Is what a pair's map marks necessary, sufficient and specific? By the model that made it, and by its twin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from captum_shared.attribution.layer import layer_maps, see_layer
from captum_shared.folders import WORK
from captum_shared.identity import ImageTransform
from captum_shared.interventions import (
    chance_level,
    contrast_effects,
    hottest_area,
    linear_scores,
    necessity,
    random_area,
    sufficiency,
)
from captum_shared.interventions.scores import Scores
from captum_shared.similarity import neuron_similarity
from captum_shared.study.encoding import Latents
from captum_shared.study.maps import file_stem, load_maps, map_path
from captum_shared.study.network import device_of, transform_image
from captum_shared.study.neurons import Findings, NeuronFindings
from captum_shared.study.run import Job, Run, Share
from captum_shared.study.study import Study
from captum_shared.study.twins import Twin, find_twins
from captum_shared.tables import number
from captum_shared.visualization.heat import SMOOTHING, heat_on

AREA = 0.1
"""Share of the image that is removed, or kept alone."""
CONTROLS = 19
"""Random areas, so that the least level is 0.05."""
LEVEL = 0.05
OTHERS = ("twin_necessity_readout", "twin_necessity_similarity", "twin_necessity_shuffled")
KINDS = ("both", "necessity", "sufficiency", "neither")


@dataclass(frozen=True)
class PairEffects:
    """What interventions on a pair's image did, in standard deviations over the stimuli; the columns of ``pairs.csv``.

    ``docs/interventions.md`` says what each of them is. Specificities are None without a rival reference, and
    `twin_necessity_readout`, `twin_necessity_similarity`, `twin_necessity_shuffled` if the layer has no positions.
    Of what silences a neuron, `twin_response` is how much the predicted response rises.
    """

    necessity: float
    sufficiency: float
    specificity: float | None
    twin: str
    twin_r: float
    twin_necessity: float
    twin_necessity_random: float
    twin_necessity_p: float
    twin_necessity_readout: float | None
    twin_necessity_similarity: float | None
    twin_necessity_shuffled: float | None
    twin_sufficiency: float
    twin_sufficiency_random: float
    twin_sufficiency_p: float
    twin_specificity: float | None
    twin_response: float
    twin_passes: str

    def row(self) -> list[float | str]:
        """Its fields, as a table has them."""
        values: tuple[float | str | None, ...] = astuple(self)
        return [value if isinstance(value, str) else "" if value is None else number(value) for value in values]


EFFECT_COLUMNS = tuple(field.name for field in fields(PairEffects))
Effects = Mapping[int, Sequence[PairEffects]]
"""Of each explained neuron, by its index: those of each pair."""


class EffectsSummary(TypedDict):
    """What ``summary.json`` says of interventions; intervals are over neurons."""

    area: float
    pairs: int
    passes: dict[str, int]
    twin_necessity: list[float]
    twin_necessity_random: float
    twin_sufficiency: list[float]
    twin_sufficiency_random: float
    median_twin_r: float | None


Space = tuple[nn.Module, Tensor]
"""An encoder, and its latents (n, D) of all stimuli."""


def make_interventions(study: Study, findings: Findings, run: Run) -> dict[int, list[PairEffects]]:
    """Remove the hottest area of every pair's image, and keep it alone; a job for each neuron.

    The map is the first kind that the report has. Every image goes through both models about 80 times.
    """
    twins = find_twins(study, findings, run)
    maker = _Maker(study, findings, run, twins)
    jobs = [maker.job(neuron) for neuron in findings.explained]
    run.carry_out(jobs, "interventions")
    found = {}
    for neuron, job in zip(findings.explained, jobs, strict=True):
        twin, kept = twins[neuron.index], json.loads(job.paths[0].read_text())
        found[neuron.index] = [PairEffects(twin=twin.name, twin_r=twin.r, **each) for each in kept]
    return found


def summarize_effects(effects: Effects) -> EffectsSummary | None:
    """The means over pairs, with intervals over neurons; None without pairs."""
    groups = [neuron for neuron, each in effects.items() for _ in each]
    every = [pair for each in effects.values() for pair in each]
    if not every:
        return None
    fall = contrast_effects(
        [pair.twin_necessity for pair in every], [pair.twin_necessity_random for pair in every], groups
    )
    rise = contrast_effects(
        [pair.twin_sufficiency for pair in every], [pair.twin_sufficiency_random for pair in every], groups
    )
    r = [each[0].twin_r for each in effects.values() if each and np.isfinite(each[0].twin_r)]
    return {
        "area": AREA, "pairs": len(every),
        "passes": {kind: sum(pair.twin_passes == kind for pair in every) for kind in KINDS},
        "twin_necessity": [_digits(value) for value in (fall.mean, fall.low, fall.high)],
        "twin_necessity_random": _digits(fall.control),
        "twin_sufficiency": [_digits(value) for value in (rise.mean, rise.low, rise.high)],
        "twin_sufficiency_random": _digits(rise.control),
        "median_twin_r": _digits(float(np.median(r))) if r else None,
    }  # fmt: skip


class _Maker:
    """Makes the jobs. What neurons that read the same latents have in common is made once."""

    def __init__(self, study: Study, findings: Findings, run: Run, twins: Mapping[int, Twin]) -> None:
        self.study, self.findings, self.run, self.twins = study, findings, run, twins
        self._spaces: dict[tuple[int, int], Space] = {}

    def job(self, neuron: NeuronFindings) -> Job:
        """The effects of a neuron's pairs."""
        path = self.run.folder / WORK / f"interventions_{file_stem(neuron.name)}.json"
        return Job((path,), measure_pairs, partial(self.arguments, neuron))

    def arguments(self, neuron: NeuronFindings, share: Share) -> tuple[object, ...]:
        """Of `measure_pairs`."""
        twin, k = self.twins[neuron.index], neuron.index
        own, weight = int(self.findings.models.candidate[k]), torch.as_tensor(self.findings.models.weights[k]).double()
        spaces = self._space(self.findings.latents, own), self._space(twin.latents, twin.candidate)
        z, z_twin = (latents for _, latents in spaces)
        rivals = _rivals(neuron, z, weight, self.study.settings.similarity)
        seed, kind = self.study.settings.seed, self.study.settings.maps[0]
        constants = [
            _constants(neuron, z, weight, rivals),
            _constants(neuron, z_twin, twin.weight, rivals),
            _control_constants(neuron, z, weight, seed),
        ]
        images = [self.study.recording.stimuli[image] for image, _, _ in neuron.shown]
        pictures = list(zip(images, load_maps(map_path(self.run.folder, neuron), kind)[:, 0], strict=True))
        return *map(share, spaces), constants, self.study.network.transform, pictures, seed

    def _space(self, latents: Latents, candidate: int) -> Space:
        key = (id(latents), candidate)
        if key not in self._spaces:
            self._spaces[key] = latents.encoder(candidate).eval(), latents.standardized(candidate)
        return self._spaces[key]


def _rivals(neuron: NeuronFindings, z: Tensor, weight: Tensor, similarity: str) -> list[int]:
    """The candidate least similar to each image for the neuron's own model; -1 if there is no other."""
    (pairs, drivers), rivals = neuron.explanation, []
    for image, references in zip(pairs.images, pairs.references, strict=True):
        others = np.setdiff1d(drivers.candidates, [image, *references])
        if len(others):
            likeness = neuron_similarity(z[[image]], z[others], weight, similarity)[0]
            rivals.append(int(others[int(likeness.argmin())]))
        else:
            rivals.append(-1)
    return rivals


def _constants(neuron: NeuronFindings, z: Tensor, weight: Tensor, rivals: Sequence[int]) -> Tensor:
    """(pairs, 3, D); zeros stand for a rival that there is not."""
    references = neuron.explanation[0].references
    rows = [
        torch.stack([weight * z[own].mean(0), weight * z[rival] if rival >= 0 else 0 * weight, weight])
        for own, rival in zip(references, rivals, strict=True)
    ]
    return torch.stack(rows)


def _control_constants(neuron: NeuronFindings, z: Tensor, weight: Tensor, seed: int) -> Tensor:
    """Of the three other maps, (pairs, 3, D)."""
    pairs, rows = neuron.explanation[0], []
    for rank, (image, references) in enumerate(zip(pairs.images, pairs.references, strict=True)):
        strangers = np.setdiff1d(np.arange(len(z)), [image, *references])
        stranger = int(np.random.default_rng([seed, neuron.index, rank]).choice(strangers))
        rows.append(torch.stack([weight, z[references].mean(0), weight * z[stranger]]))
    return torch.stack(rows)


def measure_pairs(
    own: Space, twin: Space, constants: Sequence[Tensor], transform: ImageTransform,
    pictures: Sequence[tuple[Path, np.ndarray]], seed: int,
) -> list[bytes]:  # fmt: skip
    """Effects of a neuron's pairs as JSON, from image files and their maps (h, w).

    Judged by its own model and by its twin, each with constants (pairs, 3, D): for the similarity to the reference,
    that to the rival, and the response. Further constants are those of control maps at its own layer.
    """
    found = []
    for k, (path, heat) in enumerate(pictures):
        x = transform_image(transform, path).to(device_of(own[0]))
        areas = [_hottest(heat, x)]
        areas += [random_area((x.shape[1], x.shape[2]), AREA, seed=seed + number) for number in range(CONTROLS)]
        others = _control_areas(own[0], x, constants[2][k])
        judge = _judge(
            [linear_scores(own[0], constants[0][k], own[1]), linear_scores(twin[0], constants[1][k], twin[1])]
        )
        removed = necessity(judge, x, torch.stack(areas + others)).numpy().reshape(-1, 2, 3)
        kept = sufficiency(judge, x, torch.stack(areas)).numpy().reshape(-1, 2, 3)
        by_others = removed[len(areas) :, 1, 0].tolist() or [None] * len(OTHERS)
        effects = _effects(removed[: len(areas)], kept, bool(constants[0][k, 1].any()))
        found.append(effects | dict(zip(OTHERS, by_others, strict=True)))
    return [json.dumps(found).encode()]


def _control_areas(encoder: nn.Module, x: Tensor, constants: Tensor) -> list[Tensor]:
    """The hottest areas of control maps at the layer; none if it has no positions."""
    try:
        maps = layer_maps(encoder, see_layer(encoder, x[None]), constants.to(x)).cpu()
    except (TypeError, ValueError):
        return []
    return [_hottest(heat.numpy(), x) for heat in maps]


def _hottest(heat: np.ndarray, x: Tensor) -> Tensor:
    return hottest_area(heat_on((x.shape[1], x.shape[2]), heat, SMOOTHING, "map"), AREA)


def _judge(scores: Sequence[Scores]) -> Scores:
    """All scores of images, side by side."""
    return lambda pictures: torch.cat([score(pictures) for score in scores], dim=1)


def _effects(removed: np.ndarray, kept: np.ndarray, has_rival: bool) -> dict[str, float | str | None]:
    """Fields of `PairEffects` from effects (areas, readers, scores); the first area is the hottest."""
    (own, rival), (twin, twin_rival, response) = removed[0, 0, :2], removed[0, 1]
    levels = [chance_level(values[0, 1, 0], values[1:, 1, 0]) for values in (removed, kept)]
    return {
        "necessity": float(own), "sufficiency": float(kept[0, 0, 0]),
        "specificity": float(own - rival) if has_rival else None,
        "twin_necessity": float(twin), "twin_necessity_random": float(removed[1:, 1, 0].mean()),
        "twin_necessity_p": levels[0],
        "twin_sufficiency": float(kept[0, 1, 0]), "twin_sufficiency_random": float(kept[1:, 1, 0].mean()),
        "twin_sufficiency_p": levels[1],
        "twin_specificity": float(twin - twin_rival) if has_rival else None,
        "twin_response": float(response), "twin_passes": KINDS[2 * (levels[0] > LEVEL) + (levels[1] > LEVEL)],
    }  # fmt: skip


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
