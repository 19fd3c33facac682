"""Is what a map marks necessary, sufficient and specific? Judged by twins: networks that the map has not seen.

``python -m benchmarks.interventions --out DIR`` writes ``interventions.csv`` and ``table.md``. The hottest area of each
image by each method is removed, or kept alone, and twins say by how many standard deviations the similarity to the
reference falls. Four settings: photographs alone, composites with two references, the V4 recording,
and the synthetic population, where the scores are compared with the truth.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.common.jobs import kept_results
from benchmarks.common.results import (
    Content,
    Result,
    ResultStore,
    finish,
    markdown,
    markdown_table,
    write_long,
    write_table,
)
from benchmarks.interventions.composites import COMPOSITES, count_composites, play_composite
from benchmarks.interventions.made import SCORES, MadeSetting, play_made
from benchmarks.interventions.photographs import PhotoSetting, categories_of, play_category
from benchmarks.interventions.rows import Name
from benchmarks.interventions.tables import COMPOSITE_METRICS, GAME, METRICS, Table, rank_correlations, results_of
from benchmarks.interventions.v4 import V4Setting, play_neuron
from benchmarks.photo_game.splits import SPLITS, enter
from captum_shared.files import output_folder
from captum_shared.metrics import bootstrap_interval

DATA = Path(os.environ.get("CAPTUM_SHARED_DATA", "../shared/data"))
SETTINGS = ("photographs", "composites", "synthetic", "v4")
MODEL, PHOTO_LAYERS = "squeezenet1_0", ("features.12", "features.10", "features.8")
V4_LAYERS, V4_POOL, V4_PAIRS = ("features.8", "features.10"), 4, 1
DEGREES = (0.0, 90.0)
VERSION = 2


@dataclass(frozen=True)
class Size:
    """How much is played: neurons of photographs and pairs of each, V4 neurons, synthetic neurons and cases of each."""

    categories: int = 5
    pairs: int = 6
    v4_neurons: int = 8
    made_neurons: int = 4
    cases: int = 2


QUICK = Size(categories=2, pairs=1, v4_neurons=4, made_neurons=2, cases=1)


def run(
    out: str | Path, *, data: str | Path = DATA, split: str = "held_out", only: Sequence[str] = SETTINGS,
    size: Size | None = None, seed: int = 1, progress: bool = True,
) -> list[Result]:  # fmt: skip
    """Play the settings named in `only`, and write the files; an interrupted run is resumed."""
    folder, size, data = output_folder(out), size or Size(), Path(data)
    photo = PhotoSetting(str(data / "imagenet_sample"), str(data / "imagenet_sample" / "labels.csv"), MODEL,
                         str(data / "squeezenet1_0_imagenet.pth"), PHOTO_LAYERS, split, size.pairs, seed)  # fmt: skip
    v4 = V4Setting(str(data / "v4_recording"), MODEL, photo.weights, V4_LAYERS, V4_POOL, V4_PAIRS, seed)
    store = ResultStore(folder / ".trials", {"version": VERSION})
    results: list[Result] = []
    sections: list[tuple[str, str]] = []
    plays = {
        "photographs": partial(_photographs, photo, size.categories),
        "composites": partial(_composites, photo),
        "synthetic": partial(_synthetic, seed, size),
        "v4": partial(_v4, v4, size.v4_neurons),
    }
    for name in (name for name in SETTINGS if name in only):
        found, texts = plays[name](store, progress)
        results += found
        sections += texts
        write_long(folder / "interventions.csv", results)
        write_table(folder / "table.md", sections)
    if {"photographs", "composites"} & set(only):
        rows = list(dict.fromkeys(f"{r.method} {r.rule}".strip() for r in results))
        enter(split, rows, (MODEL, f"{PHOTO_LAYERS[0]}, interventions", seed, COMPOSITES))
    return results


Played = tuple[list[Result], list[tuple[str, str]]]


def _photographs(setting: PhotoSetting, n_categories: int, store: ResultStore, progress: bool) -> Played:
    names = categories_of(setting, n_categories)
    keys: list[Content] = [{"photographs": asdict(setting), "category": name} for name in names]
    kept = kept_results(store, keys, play_category, [(setting, name) for name in names], "categories", progress)
    trials, twins = [trial for one in kept for trial in one["trials"]], kept[0]["twins"]
    results = results_of(Table(trials, twins, twins[1:]), "photographs", "pairs")
    areas = "; ".join(f"{name} " + ", ".join(f"{value:.2f}" for value in one["auc"].values())
                      for name, one in zip(names, kept, strict=True))  # fmt: skip
    note = (
        f"{len(trials)} pairs of {len(names)} neurons ({setting.split.replace('_', '-')} categories), {MODEL} "
        f"{setting.layers[0]}, the readout fitted on half of the photographs; twins read {' and '.join(twins[1:])}, "
        f"fitted on the other half. Area 10 %, means of blur and mean; in standard deviations over the twin's "
        f"photographs; 95 % intervals over pairs. Area under the ROC curve of {', '.join(twins)} on photographs that "
        f"they were not fitted on: {areas}."
    )
    more = ("necessity_area_0.05", "necessity_area_0.2", "necessity_blur", "necessity_mean", "necessity_inpaint",
            f"necessity_twin_{twins[0]}")  # fmt: skip
    return results, [("Photographs alone", f"{note}\n\n{markdown_table(results, 'photographs', METRICS)}"),
                     ("Photographs alone: areas, fills, and the same layer fitted on the other half",
                      markdown_table(results, "photographs", more))]  # fmt: skip


def _composites(setting: PhotoSetting, store: ResultStore, progress: bool) -> Played:
    numbers = range(count_composites(setting))
    keys: list[Content] = [{"composites": asdict(setting), "n": COMPOSITES, "number": k} for k in numbers]
    kept = kept_results(store, keys, play_composite, [(setting, k) for k in numbers], "composites", progress)
    trials, twins = [trial for one in kept for trial in one["trials"]], kept[0]["twins"]
    results = results_of(Table(trials, twins, twins), "composites", "categories")
    note = (
        f"{len(kept)} composites of four photographs, each against reference A and against B: {len(trials)} trials "
        f"(no maps of pixels); twins read {' and '.join(twins)}. Specificity: how much more the similarity to "
        "A falls than that to B. Area 10 %, means of blur and mean; 95 % intervals over categories. Right photograph: "
        "of the hottest area in the photographs of A's and B's categories, the share in A's; chance 0.5."
    )
    right, specific = (
        {(r.method, r.rule): r.value for r in results if r.metric == metric}
        for metric in ("right_photograph", "specificity")
    )
    truth, scores = (np.array([[values[row] for row in right]]) for values in (right, specific))
    rho, tau, *_ = rank_correlations(truth, scores)
    said = (
        f"Over the {len(right)} methods, specificity against right photograph: Spearman {rho:.2f}, Kendall {tau:.2f}."
    )
    table = markdown_table(results, "composites", COMPOSITE_METRICS)
    return results, [("Composites: one image, two references", f"{note}\n\n{table}\n\n{said}")]


def _v4(setting: V4Setting, n_neurons: int, store: ResultStore, progress: bool) -> Played:
    numbers = range(n_neurons)
    keys: list[Content] = [{"v4": asdict(setting), "neuron": k} for k in numbers]
    kept = kept_results(store, keys, play_neuron, [(setting, k) for k in numbers], "neurons", progress)
    with_trials = [one for one in kept if one["trials"]]
    if not with_trials:
        return [], [("V4 recording", "No neuron had a pair.")]
    trials, twins = [trial for one in with_trials for trial in one["trials"]], with_trials[0]["twins"]
    results = results_of(Table(trials, twins, twins[1:]), "V4", "groups")
    medians = ", ".join(f"{name} {np.median([one['twins_r'][name] for one in with_trials]):.2f}" for name in twins)
    note = (
        f"{len(trials)} pairs of {len(with_trials)} neurons, {MODEL} {setting.layers[0]} on a 4 x 4 grid, the readout "
        f"fitted on half of the stimuli; the twin reads {twins[1]}, fitted on the other half. Median r with the "
        f"responses to stimuli that the twin was not fitted on: {medians}. Otherwise as for photographs; 95 % "
        "intervals over neurons."
    )
    more = ("necessity_area_0.05", "necessity_area_0.2", "necessity_inpaint", f"necessity_twin_{twins[0]}")
    return results, [("V4 recording", f"{note}\n\n{markdown_table(results, 'V4', METRICS)}"),
                     ("V4 recording: areas, inpainting, and the same layer fitted on the other half",
                      markdown_table(results, "V4", more))]  # fmt: skip


def _synthetic(seed: int, size: Size, store: ResultStore, progress: bool) -> Played:
    settings = [MadeSetting(degrees, size.cases, seed) for degrees in DEGREES]
    jobs = [(setting, k) for setting in settings for k in range(size.made_neurons)]
    keys: list[Content] = [{"synthetic": asdict(setting), "neuron": k} for setting, k in jobs]
    kept = kept_results(store, keys, play_made, jobs, "synthetic neurons", progress)
    results: list[Result] = []
    sections: list[tuple[str, str]] = []
    lines: list[list[str]] = []
    for setting in settings:
        own = [one for (of, _), one in zip(jobs, kept, strict=True) if of == setting and one["trials"]]
        if own:
            angle = f"{setting.degrees:g} degrees"
            found, ranks = _ranked(own, f"synthetic, {angle}")
            note = f"{len(own)} neurons; 95 % intervals over neurons; the twin reads another layer."
            table = markdown_table(found, f"synthetic, {angle}", ("truth", *SCORES))
            sections.append((f"synthetic, {angle}", f"{note}\n\n{table}"))
            results += found
            lines += [[angle, *cells] for cells in ranks]
    table = markdown(["latents turned by", "twin", "score", "Spearman [95 % over neurons]", "Kendall"], lines)
    return results, [*sections, ("Synthetic: does the score rank methods as the truth does?", table)]


def _ranked(kept: Sequence[Content], condition: str) -> tuple[list[Result], list[list[str]]]:
    """Results of each row; and of each twin and score, the rank correlations with the truth, over methods."""
    twins = kept[0]["twins"]
    rows: list[Name] = [tuple(each["row"]) for each in kept[0]["trials"][0]["rows"]]
    arrays = {
        (twin, metric): np.array([
            [np.mean([_made_score(trial["rows"][i], metric, j, len(twins)) for trial in one["trials"]])
             for i in range(len(rows))] for one in kept
        ]) for j, twin in enumerate(twins) for metric in ("truth", *SCORES)
    }  # fmt: skip
    results = [
        Result(GAME, condition, *row, "query", metric, float(values.mean()), *bootstrap_interval(values), len(values))
        for metric in ("truth", *SCORES)
        for row, values in zip(rows, arrays[twins[0], metric].T, strict=True)
    ]
    cells = []
    for twin in twins:
        for metric in SCORES:
            rho, tau, low, high = rank_correlations(arrays[twin, "truth"], arrays[twin, metric])
            cells.append([twin, metric, f"{rho:.2f} [{low:.2f}, {high:.2f}]", f"{tau:.2f}"])
    return results, cells


def _made_score(row: Content, metric: str, twin: int, n_twins: int) -> float:
    if metric == "truth":
        return float(row["truth"])
    kind = "sufficiency" if metric == "sufficiency" else "necessity"
    similarity, rival, response = np.array(row[kind]).reshape(n_twins, 3)[twin]
    return float({"specificity": similarity - rival, "response": response}.get(metric, similarity))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interventions", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results; resumed if interrupted")
    parser.add_argument("--data", default=str(DATA), metavar="DIR", help=f"the real data (default: {DATA})")
    parser.add_argument("--split", choices=SPLITS, default="held_out",
                        help="categories of the photographs (default: held_out); the ledger notes it")  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=SETTINGS, metavar="SETTING",
                        help=f"of {', '.join(SETTINGS)} (default: all)")  # fmt: skip
    parser.add_argument("--categories", type=int, metavar="N",
                        help="neurons of the photographs alone, the largest first (default: 5, quick 2)")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a few pairs of everything: some minutes")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of everything random (default: 1)")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", "Setting forward, backward hooks")  # captum's, at every call
    size = QUICK if options.quick else Size()
    size = replace(size, categories=options.categories or size.categories)
    work = partial(run, options.out, data=options.data, split=options.split, only=options.only, seed=options.seed,
                   size=size)  # fmt: skip
    return finish("interventions", options.out, work)
