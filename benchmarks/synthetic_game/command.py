"""Does the map show what is shared? On synthetic images whose every part is known.

``python -m benchmarks.shared_parts [--quick] --out DIR`` writes ``shared_parts.csv``, ``table.md``, ``admission.csv``
and plots. Rules were tuned on neurons of seed 0; the tables are of seed 1.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from benchmarks.common.jobs import kept_results
from benchmarks.common.methods import GRID_ROWS, RULE_ROWS, Method, Neuron, all_methods, layer_methods
from benchmarks.common.results import (
    Content,
    Result,
    ResultStore,
    axis_table,
    finish,
    markdown,
    markdown_table,
    plot_axis,
    plot_bars,
    summarize,
    write_long,
    write_table,
)
from benchmarks.common.scores import Scores, mean_scores, pair_scores, reference_scores, to_heat
from benchmarks.synthetic_game.correspondence import METHOD, correspondence_rows, correspondence_scores
from benchmarks.synthetic_game.neurons import Case, Setting, make_neuron, settings
from captum_shared.checks import check_integer
from captum_shared.files import output_folder, write_csv

GAME = "shared_parts"
HELD_OUT_SEED = 1
METRICS = (
    "swap_accuracy",
    "readout_swap_accuracy",
    "both_swaps_accuracy",
    "p_vs_q_auroc",
    "p_vs_d_auroc",
    "four_part_accuracy",
    "relevance_mass_accuracy",
    "pointing_game",
    "leakage_d",
    "leakage_n",
)
CORRESPONDENCE = ("correspondence_on_part", "correspondence_shuffled", "correspondence_chance")
SWAPS = ("swap_accuracy", "readout_swap_accuracy", "both_swaps_accuracy")
CHANCE = {"swap_accuracy": 0.5, "readout_swap_accuracy": 0.5, "both_swaps_accuracy": 1 / 12, "p_vs_q_auroc": 0.5}
"""Of maps whose parts are equally hot on average; of both swaps: the heat must order three parts of one map, and two of
each other."""
FEW_ROWS = (
    ("ParallelBackprop(IntegratedGradients)", "product"),
    ("ParallelBackprop(IntegratedGradients)", "moments, contrast 0.5"),
    *(("LayerParallelBackprop", rule) for rule in ("product", "dot", "contrast", "matched", "moments, contrast 0",
                                                   "moments, contrast 0.5")),
    ("IntegratedGradients", ""),
    ("similarity without weights", ""),
)  # fmt: skip
ANGLES = (30, 90)


def run(
    out: str | Path, *, quick: bool = False, seed: int = HELD_OUT_SEED, device: str = "cpu",
    pool: int = 1, n_neurons: int | None = None, n_cases: int | None = None, only: Sequence[str] = (),
    progress: bool = True,
) -> list[Result]:  # fmt: skip
    """Run the benchmark and write its files; `quick` takes fewer neurons and conditions, `only` those named."""
    check_integer("pool", pool)
    folder = output_folder(out)
    n_neurons, n_cases = n_neurons or (3 if quick else 12), n_cases or 4
    store = ResultStore(folder / ".neurons", {"seed": seed, "n_cases": n_cases, "version": 4})
    chosen = [s for s in settings(pool) if not quick or s.name in ("base", f"grid {pool}x{pool}")]
    chosen = [s for s in chosen if not only or any(word in _condition(s) for word in only)]
    if not chosen:
        raise ValueError(f"`only` must be in the name of a condition, got {list(only)}")
    jobs = [(s, index) for s in chosen for index in range((n_neurons + 1) // 2 if s.methods == "few" else n_neurons)]
    keys = [{"setting": asdict(setting), "neuron": index} for setting, index in jobs]
    arguments = [(setting, index, n_cases, seed, device) for setting, index in jobs]
    results: dict[str, list[Content]] = {}
    kept = kept_results(store, keys, _one_neuron, arguments, "neurons", progress)
    for (setting, _), result in zip(jobs, kept, strict=True):
        results.setdefault(_condition(setting), []).append(result)
    figures = [figure for name, own in results.items() for figure in _figures(name, own)]
    _write(folder, figures, results)
    return figures


def methods_of(setting: Setting) -> list[Method]:
    """All, those of every rule, or the few of the axes."""
    if setting.methods == "grid":
        return layer_methods((*RULE_ROWS, *GRID_ROWS))
    known = all_methods()
    if setting.methods == "all":
        return list(known.values())
    rules = [("LayerParallelBackprop", rule) for rule in RULE_ROWS if setting.methods == "rules"]
    return [known[row] for row in dict.fromkeys([*rules, *(row for row in known if row in FEW_ROWS)])]


def _condition(setting: Setting) -> str:
    return f"{setting.network}: {setting.name}"


def _one_neuron(setting: Setting, index: int, n_cases: int, seed: int, device: str) -> Content:
    """Mean scores of every row over a neuron's cases, and its admission counts."""
    neuron, cases, counts = make_neuron(setting, index, n_cases, seed, device)
    rows = methods_of(setting) if cases else []
    scores = {row.name: _scores(row, neuron, cases, 1000 * seed + index) for row in rows}
    names = [(row.method, row.rule) for row in rows]
    corresponding = bool(cases) and setting.methods in ("rules", "all")
    for name, similarity in correspondence_rows(neuron).items() if corresponding else ():
        names.append(name)
        scores[" ".join(name)] = mean_scores([correspondence_scores(neuron, case, similarity) for case in cases])
    admission = {"tried": counts.tried, "admitted": counts.admitted, **counts.rejected}
    return {"rows": names, "scores": scores, "admission": admission}


def _scores(row: Method, neuron: Neuron, cases: Sequence[Case], seed: int) -> Scores:
    """Means over the cases; each row starts from the same seed, so that it does not depend on the rows before it."""
    torch.manual_seed(seed)
    return mean_scores([_explain(row, neuron, case) for case in cases for _ in range(row.draws)])


def _explain(row: Method, neuron: Neuron, case: Case) -> Scores:
    size = (case.problems[0].x.shape[-2], case.problems[0].x.shape[-1])
    maps = [row.explain(own, problem) for own in (neuron, case.other) for problem in case.problems]
    query = [to_heat(pair[0], size, row.unsigned) for pair in maps]
    reference = [to_heat(pair[1], size, row.unsigned) for pair in maps[:2]]
    return {
        "query": pair_scores((query[0], query[1]), (query[2], query[3]), case.masks),
        "reference": reference_scores((reference[0], reference[1]), case.reference_masks),
    }


def _figures(condition: str, results: Sequence[Content]) -> list[Result]:
    counted = [result for result in results if result["rows"]]
    figures = []
    for method, rule in counted[0]["rows"] if counted else ():
        scores = [result["scores"][f"{method} {rule}".strip()] for result in counted]
        figures += summarize(GAME, condition, (method, rule), scores)
    return figures


def _write(folder: Path, figures: list[Result], results: dict[str, list[Content]]) -> None:
    write_long(folder / "shared_parts.csv", figures)
    rows = [(name, k, reason, n) for name, own in results.items() for k, result in enumerate(own)
            for reason, n in result["admission"].items()]  # fmt: skip
    write_csv(folder / "admission.csv", ("condition", "neuron", "outcome", "pairs"), rows)
    maps = [result for result in figures if result.method != METHOD]
    sections = []
    for condition, own in results.items():
        if condition.endswith(": base") or ": grid" in condition:
            n = sum(bool(result["rows"]) for result in own)
            note = f"{n} neurons; means with 95 % intervals over neurons."
            for image, metrics in (("query", METRICS), ("reference", METRICS[-4:])):
                sections.append(
                    (f"{condition}, {image}", f"{note}\n\n{markdown_table(maps, condition, metrics, image)}")
                )
    corresponding = [result for result in figures if result.method == METHOD]
    sections += [
        (f"Correspondence, {condition}", markdown_table(corresponding, condition, CORRESPONDENCE))
        for condition in dict.fromkeys(result.condition for result in corresponding)
    ]
    sections += [(f"Axes: {metric.replace('_', ' ')}", axis_table(figures, FEW_ROWS, metric)) for metric in CHANCE]
    sections.append(("Admission", _admission_table(results)))
    write_table(folder / "table.md", sections)
    for network in ("planted", "trained"):
        for metric, chance in CHANCE.items():
            plot_bars(folder / f"{network}_{metric}.png", figures, f"{network}: base", metric, chance=chance)
        angles = {0.0: f"{network}: base"} | {float(a): f"{network}: rotation {a} degrees" for a in ANGLES}
        for metric in SWAPS:
            plot_axis(folder / f"{network}_rotation_{metric}.png", figures, angles, FEW_ROWS, metric,
                      f"rotation of the latent basis, degrees ({network} network)", chance=CHANCE[metric])  # fmt: skip
    ratios = {1.0: "planted: base"} | {r: f"planted: weight ratio Q/P {r:g}" for r in (0.25, 0.5, 2.0, 4.0)}
    plot_axis(folder / "weight_ratio.png", figures, ratios, FEW_ROWS, SWAPS[0], "weight ratio Q/P (planted network)")


def _admission_table(results: dict[str, list[Content]]) -> str:
    rows = []
    for name, own in results.items():
        total: Counter[str] = Counter()
        for result in own:
            total.update(result["admission"])
        tried, admitted = total.pop("tried"), total.pop("admitted")
        reasons = ", ".join(f"{reason} {n}" for reason, n in total.most_common())
        with_cases = sum(bool(result["rows"]) for result in own)
        rows.append((name, f"{with_cases} of {len(own)}", tried, admitted, reasons))
    header = ["condition", "neurons with cases", "tried", "admitted", "rejected for"]
    return f"{markdown(header, rows)}\n\nA pair may fail for several reasons."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared_parts", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the results; an interrupted run is resumed"
    )
    parser.add_argument("--quick", action="store_true", help="few neurons, both networks as they are: a few minutes")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, metavar="N",
                        help="seed of neurons and images (default: 1, held out; rules were tuned on 0)")  # fmt: skip
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, mps ... (default: cpu)")
    parser.add_argument(
        "--neurons",
        type=int,
        metavar="N",
        help="neurons per condition with all methods, half as many along the axes (default: 12, quick 3)",
    )
    parser.add_argument("--pool", type=int, default=1, metavar="G",
                        help="read neurons out from a G x G grid, in conditions of its own (default: 1)")  # fmt: skip
    parser.add_argument("--cases", type=int, metavar="N", help="admitted pairs per neuron (default: 4)")
    parser.add_argument("--only", nargs="+", default=(), metavar="TEXT",
                        help="only conditions with this in their names, such as 'planted: rotation'")  # fmt: skip
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", "Setting forward, backward hooks")  # captum's, at every call
    work = partial(run, options.out, quick=options.quick, seed=options.seed, device=options.device,
                   pool=options.pool, n_neurons=options.neurons, n_cases=options.cases, only=options.only)  # fmt: skip
    return finish("shared_parts", options.out, work)
