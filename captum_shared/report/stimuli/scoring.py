"""`score_stimuli`: the responses are back; which of the predictions hold?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

import numpy as np

from captum_shared.files import file_sha256
from captum_shared.folders import MANIFEST, report_folder
from captum_shared.report.html import Section, numbers, page, table, text
from captum_shared.report.stimuli.page import PROVES
from captum_shared.report.stimuli.tables import SavedSet, read_set, write_rows
from captum_shared.stimuli.plan import in_words
from captum_shared.stimuli.responses import read_responses
from captum_shared.stimuli.scoring import ScoredComparison, direction_p, prediction_r, score_comparisons
from captum_shared.tables import number

RESULTS = "results"


class ResultSummary(TypedDict):
    """The content of ``results/summary.json``; the direction's p is two-sided, of tossing coins for the tests."""

    command: str
    n_neurons: int
    n_comparisons: int
    n_directions_held: int
    n_tests: int
    n_tests_held: int
    n_confirmed: int
    n_refuted: int
    n_open: int
    direction_p: float
    prediction_r: dict[str, float | None]
    not_returned: list[str]


def score_stimuli(out: str | Path, responses: str | Path, *, overwrite: bool = False) -> ResultSummary:
    """Score the predictions of a set of stimuli with the responses to it.

    Each comparison is tested as the protocol says: Welch's t test, two-sided; those that were planned are corrected for
    their number within the neuron by Holm's method.

    Parameters
    ----------
    out : path
        The folder that `make_stimuli` has written. Its folder ``results`` gets ``results.csv``, ``index.html``,
        ``summary.json`` and ``manifest.json``.
    responses : path
        A CSV file: columns `file`, `neuron`, `trial`, `response`, or `file`, `neuron` and one for each repeat.
    overwrite : bool, default False
        Whether results of other responses are replaced.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are no such stimuli, or the responses do not fit them; the message names lines or files.
    """
    folder = Path(out)
    made = read_set(folder)
    found = read_responses(responses, {name: list(of) for name, of in made.predicted.items()})
    about = {"command": "stimuli results", "stimuli": file_sha256(folder / MANIFEST),
             "responses": file_sha256(responses)}  # fmt: skip
    with report_folder(folder / RESULTS, about, overwrite) as results:
        if results.finished:
            return cast(ResultSummary, results.read_json("summary.json"))
        scored = [
            one for name in found for one in score_comparisons(made.comparisons[name], found[name], alpha=made.alpha)
        ]
        summary = _summary(made, found, scored)
        write_rows(results, "results.csv", [_row(one, made) for one in scored])
        results.write_json("summary.json", summary)
        results.write_text("index.html", _page(made, found, scored, summary))
        return summary


def _summary(
    made: SavedSet, found: Mapping[str, Mapping[str, np.ndarray]], scored: Sequence[ScoredComparison]
) -> ResultSummary:
    tests = [one for one in scored if one.tested]
    outcomes = [one.outcome for one in tests]
    r = {name: prediction_r(made.predicted[name], found[name]) for name in found}
    held = sum(one.held for one in tests)
    return {
        "command": "stimuli results", "n_neurons": len(found), "n_comparisons": len(scored),
        "n_directions_held": sum(one.held for one in scored), "n_tests": len(tests), "n_tests_held": held,
        "n_confirmed": outcomes.count("confirmed"), "n_refuted": outcomes.count("refuted"),
        "n_open": outcomes.count("open"), "direction_p": direction_p(held, len(tests)),
        "prediction_r": {name: None if math.isnan(value) else float(f"{value:.6g}") for name, value in r.items()},
        "not_returned": [name for name in made.predicted if name not in found],
    }  # fmt: skip


def _row(one: ScoredComparison, made: SavedSet) -> dict[str, object]:
    c, test = one.comparison, one.test
    return {
        "neuron": c.neuron, "pair": c.pair, "kind": c.kind, "expected": c.expected, "trials": one.trials,
        "mean": number(one.mean), "mean_of_controls": number(one.control), "difference": number(test.difference),
        "ci_low": number(test.low), "ci_high": number(test.high), "predicted_difference": number(made.differences[c]),
        "t": number(test.t), "df": number(test.df), "p": number(test.p), "p_corrected": number(one.p_corrected),
        "direction_held": "yes" if one.held else "no", "outcome": one.outcome,
    }  # fmt: skip


def _page(
    made: SavedSet,
    found: Mapping[str, Mapping[str, np.ndarray]],
    scored: Sequence[ScoredComparison],
    s: ResultSummary,
) -> str:
    lead = (
        f"{s['n_tests_held']} of {s['n_tests']} tested comparisons go the way that was predicted (two-sided p "
        f"{s['direction_p']:.2g} by the sign test); {s['n_confirmed']} of them are confirmed, {s['n_refuted']} "
        f"refuted, and {s['n_open']} open."
    )
    shown = [("neurons", s["n_neurons"]), ("tests", s["n_tests"]), ("directions held", s["n_tests_held"]),
             ("confirmed", s["n_confirmed"]), ("refuted", s["n_refuted"]), ("open", s["n_open"])]  # fmt: skip
    header = ("neuron", "pair", "picture", "expected", "predicted difference", "difference", "95 % interval",
              "p, corrected", "outcome")  # fmt: skip
    rows = []
    for one in scored:
        c, test = one.comparison, one.test
        interval = f"{test.low:.2f} to {test.high:.2f}"
        p = "" if math.isnan(one.p_corrected) else f"{one.p_corrected:.2g}"
        differences = f"{made.differences[c]:.2f}", f"{test.difference:.2f}"
        rows.append((c.neuron, c.pair, c.kind, c.expected, *differences, interval, p, one.outcome))
    missing = f" No responses came back for: {', '.join(s['not_returned'])}." if s["not_returned"] else ""
    kinds = {one.comparison.kind: one.comparison.expected for one in scored}
    words = [f"{kind}: {in_words(kind, expected)}." for kind, expected in kinds.items()]
    about = (
        "Welch's t test, two-sided, of the trials of a picture against the mean of its controls; p-values of a "
        "neuron's tests are corrected by Holm's method. Confirmed: significant the expected way; refuted: significant "
        "the other way; open: not significant. Comparisons that were not planned to be tested have an "
        "interval and no p-value."
    )
    return page("What became of the predictions", [lead], [
        numbers(shown), table("Comparisons", header, rows),
        _neuron_table(made, found, s),
        text([about + missing, *words], "How this was scored"), text([PROVES], "What a result shows"),
    ])  # fmt: skip


def _neuron_table(made: SavedSet, found: Mapping[str, Mapping[str, np.ndarray]], s: ResultSummary) -> Section:
    header = ("neuron", "repeats planned", "fewest repeats measured", "r of predicted and measured means")
    rows = [
        (name, made.repeats[name], min(map(len, found[name].values())), "unknown" if r is None else f"{r:.2f}")
        for name, r in s["prediction_r"].items()
    ]
    return table("Neurons", header, rows)
