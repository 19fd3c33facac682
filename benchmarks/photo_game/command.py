"""Does the map move to the photograph that shares its features with the reference? A game on real photographs.

A 2x2 composite holds a photograph of category 1, one of category 2 and two others. A neuron is driven by both
categories; explained with references of category 1 the heat must lie on the cell of category 1, and likewise for 2.

The rules were tuned on all pairs of TUNING; the README's table is of all pairs of HELD_OUT. No category is in both.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.common.methods import Method, Neuron, Problem, layer_methods, null_methods, readout_methods
from benchmarks.common.photographs import load_photograph
from benchmarks.common.results import (
    Result,
    Store,
    finish,
    markdown_table,
    mean_scores,
    plot_bars,
    summarise,
    write_long,
    write_table,
)
from benchmarks.common.scores import Scores, to_heat
from benchmarks.photo_game.composites import (
    Composite,
    GridNeuron,
    Photographs,
    category_pairs,
    cell_masks,
    compose,
    draw_composites,
    fit_neuron,
    make_folds,
    make_problem,
)
from benchmarks.photo_game.pixels import about_pixels, cell_sums, is_pixel_row
from captum_shared.attribution import LayerParallelBackprop
from captum_shared.encoder import LatentEncoder, load_encoder
from captum_shared.labels import read_labels
from captum_shared.metrics import (
    curve_area,
    deletion_curve,
    insertion_curve,
    p_vs_q_auroc,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from captum_shared.report.files import output_folder

GAME = "pair_grid"
TUNING = ("food", "mammal", "insect", "reptile", "fish", "plant_fungus")
HELD_OUT = ("dog", "bird", "marine_invertebrate", "primate", "ungulate", "snake")
METRICS = ("swap_accuracy", "share_of_driving_cells", "p_vs_q_auroc", "relevance_mass_accuracy", "pointing_game")
CURVES = ("deletion_similarity", "deletion_response", "insertion_similarity", "insertion_response")
CURVE_ROWS = (("LayerParallelBackprop", "product"), ("LayerParallelBackprop", "matched"), ("GradCAM", ""),
              ("random map", ""), ("LayerParallelBackprop", "oracle"))  # fmt: skip
COARSER = 4
"""Maps of a layer are scored at a quarter of the image's side."""
CURVE_STEPS = 8
COARSE = ("GradCAM", "similarity without weights", "random map", "centre prior", "shuffled reference",
          "shuffled readout")  # fmt: skip


def run(
    *, model: str, weights: str, layer: str, images: str | Path, labels: str | Path, categories: Sequence[str],
    out: str | Path, others: str | None = None, quick: bool = False, n_composites: int | None = None,
    n_curves: int | None = None, n_pixels: int | None = None, image_size: int | None = None, seed: int = 0,
    device: str = "cpu", batch_size: int = 16, progress: bool = True,
) -> list[Result]:  # fmt: skip
    """Run the game on category pairs and write its files; `quick` takes fewer composites, no curves and no pixels."""
    n_composites = n_composites or (8 if quick else 20)
    n_curves = (0 if quick else 1) if n_curves is None else n_curves
    n_pixels = (0 if quick else 2) if n_pixels is None else n_pixels
    folder = output_folder(out)
    paths, names = read_labels(images, labels)
    pairs = category_pairs(categories, names)
    encoder, transform = load_encoder(model, layer, "avg", weights, image_size=image_size)
    encoder = encoder.to(device).eval().requires_grad_(False)
    rng = np.random.default_rng(seed)
    fold = make_folds(np.array(names), rng)
    about = {"model": model, "weights": str(weights), "layer": layer, "images": str(Path(images).resolve()),
             "seed": seed, "others": others, "size": image_size, "n": n_composites, "curves": n_curves,
             "pixels": n_pixels, "version": 3}  # fmt: skip
    store = Store(folder / ".neurons", about)
    results = {pair: store.get({"pair": pair}) for pair in pairs}
    if not all(results.values()):
        maps = _feature_maps(encoder, paths, transform, batch_size, device, progress)
        photographs = Photographs(paths, np.array(names), maps, fold)
        for index, pair in enumerate(tqdm(pairs, "category pairs", disable=not progress)):
            if results[pair] is None:
                draw = np.random.default_rng([seed, index])
                composites = draw_composites(pair, n_composites, photographs, others, draw)
                other = pairs[(index + 1) % len(pairs)] if len(pairs) > 1 else _strangers(pair, names)
                result = _one_pair(
                    encoder, transform, photographs, composites, other, (n_curves, n_pixels), draw, device
                )
                results[pair] = result
                store.put({"pair": pair}, result)
    figures = _figures({pair: result for pair, result in results.items() if result is not None})
    _write(folder, figures, len(pairs), (n_composites, n_pixels))
    return figures


def rows() -> list[Method]:
    """Rows that need the layer's map only, so that the network runs once per composite."""
    chosen = [row for row in readout_methods() + null_methods() if row.method in COARSE]
    swapped = {"shuffled reference": _shuffled_reference, "shuffled readout": _shuffled_readout}
    return layer_methods() + [
        Method(row.method, row.rule, swapped.get(row.method, row.explain), row.unsigned, row.blind) for row in chosen
    ]


def _shuffled_reference(neuron: Neuron, problem: Problem) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        z_ref = neuron.encoder(problem.shuffled)[0]
    pair = (problem.x, problem.references[:1])
    return LayerParallelBackprop(neuron.encoder).attribute(pair, readout=neuron.weight, reference_latents=z_ref)


def _shuffled_readout(neuron: Neuron, problem: Problem) -> tuple[Tensor, Tensor]:
    return LayerParallelBackprop(neuron.encoder).attribute(
        (problem.x, problem.references[:1]), readout=neuron.other_weight
    )


@torch.no_grad()
def _feature_maps(
    encoder: LatentEncoder, paths: Sequence[Path], transform: Any, batch_size: int, device: str, progress: bool
) -> Tensor:
    """Feature maps of all photographs, (n, K, h, w) in half precision."""
    maps = []
    for start in tqdm(range(0, len(paths), batch_size), "photographs", disable=not progress):
        batch = [load_photograph(path, transform) for path in paths[start : start + batch_size]]
        maps.append(encoder.feature_map(torch.stack(batch).to(device)).cpu().half())
    return torch.cat(maps)


def _one_pair(
    encoder: LatentEncoder, transform: Any, photographs: Photographs, composites: Sequence[Composite],
    other_pair: tuple[str, str], dear: tuple[int, int], rng: np.random.Generator, device: str,
) -> dict[str, Any]:  # fmt: skip
    """Mean scores of every row over a category pair's composites; of the first few (`dear`) curves, and pixels too."""
    seed = int(rng.integers(2**31))
    torch.manual_seed(seed)
    neurons: dict[int, GridNeuron] = {}
    scores: dict[str, list[Scores]] = {}
    for k, composite in enumerate(composites):
        if composite.fold not in neurons:
            neurons[composite.fold] = fit_neuron(photographs, composite.pair, composite.fold, other_pair, device)
        own = neurons[composite.fold]
        image = compose(composite, photographs.paths, transform).to(device)
        with torch.no_grad():
            x = encoder.feature_map(image)
        size = (image.shape[-2] // COARSER, image.shape[-1] // COARSER)
        problems = [make_problem(own, side, x, photographs, rng) for side in (0, 1)]
        for row, explain in _explainers(own):
            heats = [to_heat(explain(side, problem), size) for side, problem in enumerate(problems)]
            each = _scores(heats, composite, size)
            if k < dear[0] and row in CURVE_ROWS:
                each["query"] |= _curves(heats, image, own.neuron, problems, encoder)
            scores.setdefault("\t".join(row), []).append(each)
        if k < dear[1]:
            for row, sums in cell_sums(encoder, own, image, x, photographs, transform, seed).items():
                scores.setdefault("\t".join(row), []).append(_scores(sums, composite, (2, 2)))
    return {"scores": {row: _mean(each) for row, each in scores.items()}}


def _explainers(own: GridNeuron) -> list[tuple[tuple[str, str], Any]]:
    """(method, rule) and a function of the side and the problem that gives the composite's map."""
    found = [
        ((row.method, row.rule), lambda side, problem, row=row: row.explain(own.neuron, problem)[0]) for row in rows()
    ]

    def categories_known(side: int, problem: Problem) -> Tensor:
        z_ref, center = own.centers[side]
        method, pair = LayerParallelBackprop(own.neuron.encoder, rule="matched"), (problem.x, problem.references[:1])
        return method.attribute(pair, readout=own.neuron.weight, reference_latents=z_ref, center=center)[0]

    def oracle(side: int, problem: Problem, rival: float = 0.0) -> Tensor:
        method, pair = LayerParallelBackprop(own.neuron.encoder), (problem.x, problem.references[:1])
        weights = own.oracle[side] - rival * own.oracle[1 - side]
        return method.attribute(pair, additional_forward_args=(weights[None],))[0]

    layer = "LayerParallelBackprop"
    return [*found, ((layer, "matched, categories known"), categories_known), ((layer, "oracle"), oracle),
            ((layer, "oracle, other category subtracted"), partial(oracle, rival=1.0))]  # fmt: skip


def _scores(heats: Sequence[np.ndarray], composite: Composite, size: tuple[int, int]) -> Scores:
    cells = cell_masks(size)
    own = [cells[composite.cells[side]] for side in (0, 1)]
    each = [_side_scores(heats[side], own[side], own[1 - side]) for side in (0, 1)]
    return {"query": {name: float(np.mean([scores[name] for scores in each])) for name in each[0]}}


def _side_scores(heat: np.ndarray, shared: np.ndarray, rival: np.ndarray) -> dict[str, float]:
    """Of heat, or of signed sums over cells, whose positive part is the heat."""
    moved = float(np.sign(heat[shared].sum() - heat[rival].sum()))
    heat = np.maximum(heat, 0)
    inside, beside = float(heat[shared].sum()), float(heat[rival].sum())
    total = inside + beside
    return {
        "swap_accuracy": 0.5 + 0.5 * moved,
        "share_of_driving_cells": inside / total if total > 0 else 0.5,
        "p_vs_q_auroc": float(p_vs_q_auroc(heat, shared, rival)),
        "relevance_mass_accuracy": float(relevance_mass_accuracy(heat, shared)),
        "relevance_rank_accuracy": float(relevance_rank_accuracy(heat, shared)),
        "pointing_game": float(pointing_game(heat, shared)),
    }


def _curves(
    heats: Sequence[np.ndarray], image: Tensor, neuron: Neuron, problems: Sequence[Problem], encoder: LatentEncoder
) -> dict[str, float]:
    """Areas under deletion and insertion curves, in standard deviations of the score over the gallery.

    Of the composite at half its size, for the network runs for every point.
    """
    small = torch.nn.functional.avg_pool2d(image, 2)
    areas: dict[str, list[float]] = {name: [] for name in CURVES}
    for heat, problem in zip(heats, problems, strict=True):
        fine = torch.nn.functional.interpolate(torch.from_numpy(heat)[None, None], small.shape[-2:], mode="bilinear")[
            0, 0
        ]
        with torch.no_grad():
            z_ref = neuron.encoder(problem.references[:1])[0]
        for name, weight in (("similarity", neuron.weight * z_ref), ("response", neuron.weight)):
            spread = (neuron.gallery @ weight).std()

            def score(images: Tensor, direction: Tensor = weight / spread) -> Tensor:
                return torch.stack([neuron.encoder(encoder.feature_map(x[None]))[0] @ direction for x in images])

            for kind, curve in (("deletion", deletion_curve), ("insertion", insertion_curve)):
                points = curve(fine, small[0], score, steps=CURVE_STEPS)
                areas[f"{kind}_{name}"].append(float(curve_area(points)))
    return {name: float(np.mean(values)) for name, values in areas.items()}


def _mean(scores: Sequence[Scores]) -> Scores:
    """Mean over composites; the curves' over those that have them."""
    names = list(dict.fromkeys(name for own in scores for name in own["query"]))
    return mean_scores([{"query": {name: own["query"].get(name, float("nan")) for name in names}} for own in scores])


def _strangers(pair: tuple[str, str], names: Sequence[str]) -> tuple[str, str]:
    """Two other categories, the largest ones, for the readout of another neuron."""
    rest = sorted(set(names) - set(pair), key=lambda name: (-list(names).count(name), name))
    return (rest[0], rest[min(1, len(rest) - 1)]) if rest else pair


def _figures(results: dict[tuple[str, str], dict[str, Any]]) -> list[Result]:
    """All category pairs together, with intervals over pairs; then each pair for itself."""
    first = next(iter(results.values()))["scores"]
    groups = {"all category pairs": list(results.values())} | {",".join(pair): [own] for pair, own in results.items()}
    return [
        figure
        for condition, own in groups.items()
        for row in first
        for figure in summarise(GAME, condition, _split(row), [result["scores"][row] for result in own])
    ]


def _split(row: str) -> tuple[str, str]:
    method, rule = row.split("\t")
    return method, rule


def _write(folder: Path, figures: list[Result], n_pairs: int, n: tuple[int, int]) -> None:
    write_long(folder / "pair_grid.csv", figures)
    note = (
        f"{n_pairs} category pairs, {n[0]} composites each, every one explained against both categories; "
        "95 % bootstrap intervals over category pairs (neurons). Heat compared between the two driving cells."
    )
    coarse = [figure for figure in figures if not is_pixel_row(figure.method, figure.rule)]
    pixels = [figure for figure in figures if is_pixel_row(figure.method, figure.rule)]
    sections = [("All category pairs", f"{note}\n\n{markdown_table(coarse, 'all category pairs', METRICS)}")]
    if pixels:
        table = markdown_table(pixels, "all category pairs", METRICS)
        sections.append(("Pixel by pixel", f"{about_pixels(n[1])}\n\n{table}"))
    if any(figure.metric in CURVES for figure in figures):
        with_curves = [figure for figure in figures if figure.metric in CURVES]
        sections.append(("Deletion (lower is better) and insertion (higher)",
                         markdown_table(with_curves, "all category pairs", CURVES)))  # fmt: skip
    write_table(folder / "table.md", sections)
    for metric in METRICS[:2]:
        plot_bars(folder / f"{metric}.png", figures, "all category pairs", metric)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pair_grid", description=__doc__.split("\n")[0])
    for name, text in (("model", "torchvision name, or module:callable"), ("weights", "its state dict"),
                       ("layer", "name of the layer"), ("images", "folder of photographs"),
                       ("labels", "CSV with the columns file and category"),
                       ("out", "folder for the results; a started run goes on")):  # fmt: skip
        parser.add_argument(f"--{name}", required=True, help=text)
    parser.add_argument("--categories", required=True, nargs="+", metavar="A,B",
                        help="one or more lists; of each, all pairs are played")  # fmt: skip
    parser.add_argument("--others", metavar="NAME", help="category of the two other cells (default: any other)")
    parser.add_argument(
        "--composites", dest="n_composites", type=int, metavar="N", help="per pair (default: 20, quick 8)"
    )
    parser.add_argument("--curves", dest="n_curves", type=int, metavar="N",
                        help="of them with deletion and insertion curves (default: 1, quick 0)")  # fmt: skip
    parser.add_argument("--pixels", dest="n_pixels", type=int, metavar="N",
                        help="of them explained pixel by pixel, too; takes long (default: 2, quick 0)")  # fmt: skip
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="side of one cell in pixels (default: the network's)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer composites, no curves, no pixels")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of everything random (default: 0)")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, mps ... (default: cpu)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="photographs per pass (default: 16)")
    options = vars(parser.parse_args(arguments))
    return finish("pair_grid", options["out"], partial(run, **options))
