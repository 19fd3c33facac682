"""Does heat lie on what a pair truly shares, if pairs are chosen without categories, or among what silences a neuron?

``python -m benchmarks.driver_pairs --out DIR`` records neurons that three kinds of part excite and two silence, fits
them and chooses pairs as ``captum-shared recording`` does, with ``--pairs drivers`` and with categories, for both
poles. The truth of a pair is found by removing parts. Writes ``pairs.csv``, a row for each pair and choice,
``choices.csv``, the table in long form, and ``table.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.common.intervals import unit_interval
from benchmarks.common.results import finish, markdown
from benchmarks.driver_pairs.choices import BY_CATEGORY, CHOICES, SHIPPED, chosen_pairs, readout_alone
from benchmarks.driver_pairs.planted import Planted, plant
from captum_shared.attribution import LayerParallelBackprop, ParallelBackprop
from captum_shared.attribution.inputs import Pair
from captum_shared.encoder import LatentEncoder
from captum_shared.files import output_folder, write_csv, write_text
from captum_shared.folders import report_folder
from captum_shared.metrics import pointing_game, relevance_mass_accuracy
from captum_shared.study.encoding import encode_stimuli, fit_models
from captum_shared.study.run import Run
from captum_shared.study.settings import POLES, RecordingSettings
from captum_shared.study.study import open_study
from captum_shared.study.subject import open_subject
from captum_shared.study.tuning import find_tuning
from captum_shared.visualization import display_heat

NAMES = {SHIPPED: "`--pairs drivers`", BY_CATEGORY: "`--pairs category`"}
MAPS = ("pixel", "layer", "readout")
"""Maps of pixels and of the layer by the rule "product", as in a report; and of the layer by the readout alone."""
METRICS = {
    "shares": "share a part that acts on the neuron", "pixel_hit": "heat on it, pixels",
    "layer_hit": "heat on it, layer", "readout_hit": "heat on it, readout alone", "mass": "share of heat on it",
    "chance": "chance: its area", "others": "other parts in both", "apart": "of two categories",
}  # fmt: skip
"""`*_hit`: the hottest place of both images is on the part; no pair without a shared part is a hit. `mass` is of
pixels, the mean of both images. `chance`: probability that a place drawn at random in each image is on it."""


@dataclass(frozen=True)
class Scored:
    """A pair, the kinds that it truly shares, and its scores by the names in `METRICS`."""

    seed: int
    pole: str
    choice: str
    neuron: int
    image: int
    reference: int
    truth: tuple[str, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)


def run(out: str | Path, seeds: Sequence[int], n_neurons: int, n_images: int, progress: bool = True) -> list[Scored]:
    """Score the pairs of all choices; the files are written after each population."""
    folder = output_folder(out)
    scored: list[Scored] = []
    for seed in tqdm(seeds, "populations", disable=not progress):
        planted = plant(folder / f"stimuli_{seed}", n_neurons, n_images, seed)
        for pole in POLES:
            scored += score_population(planted, folder / f"study_{seed}_{pole}", seed, pole)
        _write(folder, scored)
    return scored


def _write(folder: Path, scored: Sequence[Scored]) -> None:
    """What there is so far."""
    names = ["seed", "pole", "choice", "neuron", "image", "reference"]
    pairs = [[*(getattr(one, name) for name in names), "+".join(one.truth), *one.scores.values()] for one in scored]
    write_csv(folder / "pairs.csv", [*names, "truth", *METRICS], pairs)
    rows = [
        [pole, choice, metric, *figures]
        for pole in POLES
        for choice in CHOICES
        for metric, figures in summary(scored, pole, choice).items()
    ]
    write_csv(folder / "choices.csv", ["pole", "choice", "metric", "value", "ci_low", "ci_high", "neurons"], rows)
    write_text(folder / "table.md", table(scored))


def score_population(planted: Planted, work: Path, seed: int, pole: str) -> list[Scored]:
    """Fit the neurons of a population, choose pairs and score their maps."""
    settings = RecordingSettings(pairs="drivers", pole=pole)
    study = open_study(open_subject(planted.recording, settings), planted.encoder, None)
    with report_folder(work, study.manifest(), overwrite=True) as folder:
        jobs = Run(folder, progress=False)
        latents = encode_stimuli(study, jobs)
        models = fit_models(study, find_tuning(study), latents, jobs)
        choices = chosen_pairs(study, latents, models)
        maps = _Maps(planted, latents.encoder(0).eval(), settings.engine_arguments)
        folder.left = True
    return [
        score(
            planted, maps, Scored(seed, pole, choice, k, int(image), int(reference)), torch.as_tensor(models.weights[k])
        )
        for choice, pairs in choices.items()
        for k, own in pairs.items()
        for image, reference in zip(own.images, own.references[:, 0], strict=True)
    ]


class _Maps:
    """Maps of pairs, each made once: several choices have the same pair."""

    def __init__(self, planted: Planted, encoder: LatentEncoder, engine_arguments: dict[str, int]) -> None:
        self.planted = planted
        pixel, layer = ParallelBackprop(encoder), LayerParallelBackprop(encoder)
        alone = LayerParallelBackprop(encoder, readout_alone)
        self._methods: dict[str, Callable[..., Pair]] = {
            "pixel": cast(Callable[..., Pair], partial(pixel.attribute, **engine_arguments)),
            "layer": layer.attribute,
            "readout": alone.attribute,
        }
        self._kept: dict[tuple[int, tuple[int, int]], dict[str, list[np.ndarray]]] = {}

    def of(self, neuron: int, pair: tuple[int, int], weight: Tensor) -> dict[str, list[np.ndarray]]:
        """The heat of both images by each method, (size, size) each."""
        if (neuron, pair) not in self._kept:
            x, y = (self.planted.images.images[place][None] for place in pair)
            self._kept[neuron, pair] = {
                name: [_heat(side, x.shape[-1]) for side in method((x, y), readout=weight.to(x))]
                for name, method in self._methods.items()
            }
        return self._kept[neuron, pair]


def _heat(side: Tensor, size: int) -> np.ndarray:
    """What is drawn of a map (1, C, h, w): smoothed if of pixels, enlarged if of the layer."""
    if side.shape[-1] == size:
        return display_heat(side[0].detach())
    larger = LayerParallelBackprop.interpolate(side.detach(), (size, size), "bilinear")
    heat: np.ndarray = np.maximum(larger[0, 0].numpy(), 0)
    return heat


def score(planted: Planted, maps: _Maps, found: Scored, weight: Tensor) -> Scored:
    """A pair with the kinds that it truly shares, and its scores."""
    pair, categories = (found.image, found.reference), planted.images.categories
    truth = planted.truth(found.neuron, pair, -1.0 if found.pole == "suppress" else 1.0)
    scores = dict.fromkeys(METRICS, 0.0)
    scores |= {"shares": float(bool(truth)), "others": float(len(planted.shared(pair) - set(truth)))}
    scores["apart"] = float(categories[pair[0]] != categories[pair[1]])
    if truth:
        masks, heats = [planted.mask(place, truth) for place in pair], maps.of(found.neuron, pair, weight)
        for name in MAPS:
            hits = [pointing_game(h, m) for h, m in zip(heats[name], masks, strict=True)]
            scores[f"{name}_hit"] = float(np.prod(hits))
        mass = [relevance_mass_accuracy(h, m) for h, m in zip(heats["pixel"], masks, strict=True)]
        scores |= {"mass": float(np.mean(mass)), "chance": float(np.prod([mask.mean() for mask in masks]))}
    return replace(found, truth=truth, scores=scores)


def summary(scored: Sequence[Scored], pole: str, choice: str) -> dict[str, tuple[float, float, float, int]]:
    """Of each metric the mean over pairs, its 95 % interval from a bootstrap over neurons, and how many neurons."""
    chosen = [one for one in scored if (one.pole, one.choice) == (pole, choice)]
    neurons = sorted({(one.seed, one.neuron) for one in chosen})
    figures = {}
    for metric in METRICS:
        means = [
            float(np.mean([one.scores[metric] for one in chosen if (one.seed, one.neuron) == neuron]))
            for neuron in neurons
        ]
        if means:
            figures[metric] = (float(np.mean(means)), *unit_interval(means), len(means))
    return figures


def table(scored: Sequence[Scored]) -> str:
    """A table for each pole, with a row for each choice."""
    header = ["pairs", "neurons", "pairs", *METRICS.values()]
    parts = []
    for pole, word in zip(POLES, ("excites", "silences"), strict=True):
        rows = []
        for choice in CHOICES:
            figures = summary(scored, pole, choice)
            n_neurons = max((n for *_, n in figures.values()), default=0)
            n_pairs = sum((one.pole, one.choice) == (pole, choice) for one in scored)
            cells = [f"{mean:.2f} [{low:.2f}, {high:.2f}]" for mean, low, high, _ in figures.values()]
            rows.append([NAMES.get(choice, choice), n_neurons, n_pairs, *cells])
        parts.append(f"What {word} the neurons:\n\n{markdown(header, rows)}")
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.driver_pairs", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--seeds", default="0,1,2", metavar="N,N", help="of the populations (default: 0,1,2)")
    parser.add_argument("--neurons", type=int, default=20, metavar="N", help="of each population (default: 20)")
    parser.add_argument("--images", type=int, default=500, metavar="N", help="stimuli of each (default: 500)")
    parser.add_argument("--quick", action="store_true", help="one population of 2 neurons and 80 images")
    options = parser.parse_args(arguments)
    seeds, neurons, images = [int(seed) for seed in options.seeds.split(",")], options.neurons, options.images
    if options.quick:
        seeds, neurons, images = seeds[:1], 2, 80
    return finish("driver_pairs", options.out, lambda: run(options.out, seeds, neurons, images))
