"""Does the heat move to the photograph that shares its category with the reference? Two games on real photographs.

Pair grid: a 2x2 composite holds a photograph of P, one of Q and two others. A neuron is driven by P and Q; with
references of P the heat must lie on P, and likewise for Q: reference swap, chance 0.5.

Both swaps: the composite holds P, Q, D and N; references hold P and D, or Q and D, side by side. Neuron A is driven by
P and Q, neuron B by D and N. Right only if A's heat is on P rather than Q with references of P, on Q rather than P
with those of Q, and, the references of P kept, A's heat is on P rather than D, and B's on D rather than P: chance
1/12. A map of the readout alone, or of a similarity alone, is never right.

Composites are put together from the photographs' feature maps, each from a forward pass of its own. Rules are tuned on
the split `tuning` and chosen on `validation`; the tables are of `held_out`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.common.intervals import category_interval
from benchmarks.common.results import Result, axis_table, finish, markdown_table, plot_bars, write_long, write_table
from benchmarks.photo_game.composites import Composite, draw_both_swaps, draw_pair_grid
from benchmarks.photo_game.neurons import FOLDS, Knowledge, Photographs, check_categories, driving, learn, make_folds
from benchmarks.photo_game.pixels import METHOD, pixel_rows, play_pixels
from benchmarks.photo_game.play import CONDITIONS, GRID_CONDITIONS, play
from benchmarks.photo_game.rows import LAYER, Row, grid_rows, rows
from benchmarks.photo_game.scoring import Scores
from benchmarks.photo_game.splits import SPLITS, Split, enter, looks, photographs_of, read_split
from captum_shared.encoder import LatentEncoder
from captum_shared.encoder.images import device_of
from captum_shared.files import output_folder
from captum_shared.identity import ImageTransform
from captum_shared.images import open_rgb
from captum_shared.labels import read_labels
from captum_shared.networks import load_encoder
from captum_shared.workers import Task, Workers

DATA = Path(os.environ.get("CAPTUM_SHARED_DATA", "../shared/data"))
METRICS = {
    "pair_grid": (
        "swap_accuracy",
        "share_of_driving_cells",
        "p_vs_q_auroc",
        "relevance_mass_accuracy",
        "pointing_game",
    ),
    "both_swaps": ("swap_accuracy", "readout_swap_accuracy", "both_swaps_accuracy"),
}
AXES = {"pair_grid": "swap_accuracy", "both_swaps": "both_swaps_accuracy"}
CHANCE = {"pair_grid": 0.5, "both_swaps": 1 / 12}
IMAGES = {"query": "the composite as the image", "reference": "the composite as the reference"}
AXIS_ROWS = [(LAYER, rule) for rule in ("product", "matched", "dot", "moments, contrast 0",
                                        "moments, contrast 0.5", "moments, contrast 1",
                                        "moments of all latents, contrast 0.5", "oracle")]  # fmt: skip
QUICK = ("native", "random rotation")
DIFFERENCE, MOMENTS = "difference", "moments, contrast 0.5"
COMPARED = ("product", "dot", "moments of all latents, contrast 0.5")
"""Rows that the default of `moment_rule` is compared with, composite by composite."""


Games = dict[str, list[Composite]]
"""The composites of each game."""


def run(
    *, out: str | Path, images: str | Path, labels: str | Path, model: str, weights: str, layer: str,
    split: str = "held_out", categories: Sequence[str] | None = None, others: str | None = None, quick: bool = False,
    pool: int = 1, n_composites: int | None = None, n_pixels: int | None = None, image_size: int | None = None,
    seed: int = 0, device: str = "cpu", batch_size: int = 16, progress: bool = True,
) -> list[Result]:  # fmt: skip
    """Play both games in all conditions, and write the files; `quick` takes fewer composites and conditions."""
    if pool != 1 and (pool < 1 or pool % 2):
        raise ValueError(f"`pool` must be 1 or even, so that no cell lies in two photographs; got {pool}")
    folder = output_folder(out)
    n = n_composites or (8 if quick else 20)
    n_pixels = (0 if quick or pool > 1 else 1) if n_pixels is None else n_pixels
    encoder, transform = load_encoder(model, layer, pool if pool > 1 else "avg", weights, image_size=image_size)
    encoder = encoder.to(device).eval().requires_grad_(False)
    paths, names = read_labels(images, labels)
    every = frozenset(path.name for path in paths)
    chosen = read_split(split) if categories is None else Split((), every, every)
    lists = [chosen.categories] if categories is None else [tuple(word.split(",")) for word in categories]
    paths, labelled, played = photographs_of(chosen, paths, names)
    for own in lists:
        check_categories(own, labelled[played])
    fold = make_folds(labelled, played, np.random.default_rng(seed))
    maps = feature_maps(encoder, paths, transform, batch_size, progress)
    photographs = Photographs(paths, labelled, maps, played, fold, pool)
    table = rows() if pool == 1 else grid_rows()
    known, games = _prepare(photographs, lists, n, others, seed)
    size = min(len(knowledge.gallery) for knowledge in known)
    named = CONDITIONS if pool == 1 else GRID_CONDITIONS
    conditions = [c for c in named if (c.name in QUICK if quick else c.gallery is None or c.gallery < size)]
    results = []
    with Workers() as workers:
        shared = {name: workers.share(composites) for name, composites in games.items()}
        told = workers.share(photographs), workers.share(known), table
        jobs = [(condition, name) for condition in conditions for name in games]
        tasks = [Task.of(f"{c.name}, {name}", play, shared[name], *told, c, seed) for c, name in jobs]
        found = tqdm(workers.in_order(tasks), "conditions", len(tasks), disable=not progress)
        for (condition, name), scores in zip(jobs, found, strict=True):
            results += _summarize(name, games[name], condition.name, table, scores)
    for name, composites in games.items() if n_pixels else ():
        few, pixels = [c for k, c in enumerate(composites) if k % n < n_pixels], pixel_rows(table)
        fine = play_pixels(few, photographs, known, pixels, (encoder, transform), seed)
        results += _summarize(name, few, "native", pixels, fine)
    place = layer if pool == 1 else f"{layer} {pool}x{pool}"
    if categories is None:
        enter(split, [" ".join(row.name).strip() for row in table], (model, place, seed, n))
    title = split.replace("_", "-") + " categories" if categories is None else "; ".join(categories)
    _write(folder, results, f"{title}, {model} {place}, {n} composites of each pair of categories")
    return results


def _prepare(
    photographs: Photographs, lists: Sequence[Sequence[str]], n: int, others: str | None, seed: int
) -> tuple[list[Knowledge], Games]:
    """What is known outside each fold, and `n` composites of each pair of categories in each game."""
    names = list(dict.fromkeys(name for own in lists for name in own))
    neurons = [driving(*own) for size in (1, 2) for own in combinations(names, size)]
    known = [learn(photographs, fold, neurons) for fold in range(FOLDS)]
    random = np.random.default_rng(seed)
    grid = [c for own in lists for c in draw_pair_grid(own, n, photographs, known, random, others)]
    both = [c for own in lists if len(own) > 3 for c in draw_both_swaps(own, n, photographs, known, random)]
    return known, {"pair_grid": grid} | ({"both_swaps": both} if both else {})


@torch.no_grad()
def feature_maps(
    encoder: LatentEncoder, paths: Sequence[Path], transform: ImageTransform, batch_size: int, progress: bool
) -> Tensor:
    """Feature maps of all photographs, (n, K, h, w) in half precision."""
    maps, device = [], device_of(encoder, None)
    for start in tqdm(range(0, len(paths), batch_size), "photographs", disable=not progress):
        batch = [transform(open_rgb(path)) for path in paths[start : start + batch_size]]
        maps.append(encoder.feature_map(torch.stack(batch).to(device)).cpu().half())
    return torch.cat(maps)


def _summarize(
    game: str, composites: Sequence[Composite], condition: str, table: Sequence[Row], found: dict[str, Scores]
) -> list[Result]:
    """Means over composites, and of differences between rows, with intervals from a bootstrap over categories."""
    place = {row.name: k for k, row in enumerate(table)}
    against = [(LAYER, rule) for rule in COMPARED if {(LAYER, rule), (LAYER, MOMENTS)} <= place.keys()]
    names = [row.name for row in table] + [(DIFFERENCE, f"{MOMENTS}, minus {rule}") for _, rule in against]
    results = []
    for image, metric, values in [(image, *one) for image, scores in found.items() for one in scores.items()]:
        gains = [values[place[LAYER, MOMENTS]] - values[place[row]] for row in against]
        both = np.concatenate([values, *(gain[None] for gain in gains)])
        lows, highs = category_interval(both, [composite.categories for composite in composites])
        results += [
            Result(game, condition, *name, image, metric, float(mean), float(low), float(high), both.shape[1])
            for name, mean, low, high in zip(names, both.mean(1), lows, highs, strict=True)
        ]
    return results


def _write(folder: Path, results: list[Result], about: str) -> None:
    write_long(folder / "photo_game.csv", results)
    note = (
        f"{about}. Means over composites, with 95 % intervals from a bootstrap over categories (where all are right or "
        "all wrong, exact ones). References are means of 5; of 1 where the composite is the reference."
    )
    sections = [("Photographs", note)]
    for game, metrics in METRICS.items():
        own = [result for result in results if result.game == game]
        for image, words in IMAGES.items() if own else ():
            heading = f"{game.replace('_', ' ')}: {words}"
            coarse, pixels = ([r for r in own if (r.method == METHOD) == fine] for fine in (False, True))
            sections.append((heading, markdown_table(coarse, "native", metrics, image)))
            if pixels:
                note = f"{pixels[0].neurons} composites.\n\n"
                sections.append((f"{heading}, pixel maps", note + markdown_table(pixels, "native", metrics, image)))
            axis = axis_table(own, AXIS_ROWS, AXES[game], image, unit="composites")
            sections.append((f"{heading}, {AXES[game].replace('_', ' ')}", axis))
        shown = [result for result in own if result.method != DIFFERENCE]
        plot_bars(folder / f"{game}.png", shown, "native", AXES[game], chance=CHANCE[game])
    write_table(folder / "table.md", [*sections, ("Looks at each split so far", looks())])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photo_game", description=__doc__.split("\n")[0])
    for name, default, text in (
        ("images", DATA / "imagenet_sample", "folder of photographs"),
        ("labels", DATA / "imagenet_sample" / "labels.csv", "CSV with the columns file and category"),
        ("model", "squeezenet1_0", "torchvision name, or module:callable"),
        ("weights", DATA / "squeezenet1_0_imagenet.pth", "its state dict"),
        ("layer", "features.12", "name of the layer"),
        ("out", "photo_game", "folder for the results"),
    ):
        parser.add_argument(f"--{name}", default=str(default), metavar="X", help=f"{text} (default: {default})")
    parser.add_argument("--split", choices=SPLITS, default="held_out",
                        help="of splits.json (default: held_out); the ledger notes it")  # fmt: skip
    parser.add_argument("--categories", nargs="+", metavar="A,B",
                        help="instead of a split: lists of categories, of which all pairs are played")  # fmt: skip
    parser.add_argument("--others", metavar="NAME", help="category of the pair grid's other cells (default: any other)")
    parser.add_argument("--pool", type=int, default=1, metavar="G",
                        help="neurons read out from a G x G grid, G even (default: 1, all positions)")  # fmt: skip
    parser.add_argument("--composites", dest="n_composites", type=int, metavar="N",
                        help="of each pair of categories (default: 20, quick 8)")  # fmt: skip
    parser.add_argument("--pixels", dest="n_pixels", type=int, metavar="N",
                        help="of them explained pixel by pixel, too; takes long (default: 1, quick 0)")  # fmt: skip
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="side of a photograph in pixels (default: the network's)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer composites; native and randomly rotated latents only"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of everything random (default: 0)")
    parser.add_argument(
        "--device", default="cpu", metavar="NAME", help="of the network: cpu, cuda, mps ... (default: cpu)"
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="photographs per pass (default: 16)")
    options = vars(parser.parse_args(arguments))
    return finish("photo_game", options["out"], partial(run, **options))
