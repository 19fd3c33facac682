"""From the effects of all trials to tables: means with intervals, differences, rank correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.common.intervals import category_interval
from benchmarks.common.results import Content, Result
from benchmarks.interventions.rows import MOVED, RANDOM, READOUT, Name
from benchmarks.interventions.trials import FILLS, MAIN_AREA, QUESTIONS
from captum_shared.metrics import bootstrap_interval

GAME = "interventions"
METRICS = ("necessity", "necessity_minus_random", "sufficiency", "sufficiency_minus_random", "specificity",
           "response_necessity")  # fmt: skip
COMPOSITE_METRICS = ("necessity", "rival_necessity", "specificity", "necessity_minus_readout",
                     "specificity_minus_readout", "right_photograph")  # fmt: skip
REPEATS = 1000
Key = tuple[Name, str, float, str]
"""A row, "necessity" or "sufficiency", an area, a fill."""


class Table:
    """The trials of one setting, by row.

    Parameters
    ----------
    trials : sequence of dict
        Of `play`.
    twins : sequence of str
        The judges, in order.
    judged_by : sequence of str
        Those whose mean counts.
    """

    def __init__(self, trials: Sequence[Content], twins: Sequence[str], judged_by: Sequence[str]) -> None:
        self.trials, self.twins, self.judged_by = list(trials), list(twins), list(judged_by)
        self._values: list[dict[Key, np.ndarray]] = [
            {((e["row"][0], e["row"][1]), e["kind"], e["area"], e["fill"]): np.array(e["values"])
             for e in trial["effects"]}
            for trial in self.trials
        ]  # fmt: skip

    @property
    def rows(self) -> list[Name]:
        """Those that any trial has, in the order of the fullest."""
        each = [list(dict.fromkeys(key[0] for key in values)) for values in self._values]
        longest: list[Name] = max(each, key=len)
        return longest

    def values(
        self, row: Name, kind: str = "necessity", question: str = "similarity", *, area: float = MAIN_AREA,
        fills: Sequence[str] = FILLS, twins: Sequence[str] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Of each trial, a mean over fills and judges; NaN where a trial lacks the row."""
        chosen = [self.twins.index(name) for name in twins or self.judged_by]
        keys: list[Key] = [(row, kind, area, fill) for fill in fills]

        def one(values: Mapping[Key, np.ndarray]) -> float:
            if any(key not in values for key in keys):
                return float("nan")
            each = np.stack([values[key].reshape(len(self.twins), len(QUESTIONS)) for key in keys])
            return float(each[:, chosen, QUESTIONS.index(question)].mean())

        return np.array([one(values) for values in self._values])

    def columns(self, row: Name) -> dict[str, np.ndarray]:
        """The metrics of a row, one value for each trial."""
        similarity, rival, response = (self.values(row, question=question) for question in QUESTIONS)
        readout, kept = self.values(READOUT), self.values(row, "sufficiency")
        found = {
            "necessity": similarity,
            "necessity_minus_random": similarity - self.values(RANDOM),
            "necessity_minus_moved": similarity - self.values(MOVED),
            "necessity_minus_readout": similarity - readout,
            "rival_necessity": rival,
            "specificity": similarity - rival,
            "response_necessity": response,
            "specificity_minus_readout": (similarity - rival) - (readout - self.values(READOUT, question="rival")),
            "sufficiency": kept,
            "sufficiency_minus_random": kept - self.values(RANDOM, "sufficiency"),
            **{f"necessity_area_{area:g}": self.values(row, area=area) for area in (0.05, 0.2)},
            **{f"necessity_{fill}": self.values(row, fills=[fill]) for fill in (*FILLS, "inpaint")},
            **{f"necessity_twin_{name}": self.values(row, twins=[name]) for name in self.twins},
            "right_photograph": np.array([_right_cell(trial, row) for trial in self.trials]),
        }
        return {name: values for name, values in found.items() if np.isfinite(values).any()}


def _right_cell(trial: Content, row: Name) -> float:
    """Of a composite: how much of the row's hottest area is in the right photograph; NaN if it is not known."""
    return next((float(share) for *name, share in trial.get("right_cell", []) if tuple(name) == row), float("nan"))


def results_of(table: Table, condition: str, unit: str) -> list[Result]:
    """Means over trials with intervals: `unit` says what is drawn, "pairs", "groups" or "categories"."""
    found = []
    for row in table.rows:
        for metric, values in table.columns(row).items():
            there = np.isfinite(values)
            trials = [trial for trial, is_there in zip(table.trials, there, strict=True) if is_there]
            mean, low, high, n = summary(values[there], trials, unit)
            found.append(Result(GAME, condition, *row, "query", metric, mean, low, high, n))
    return found


def summary(values: np.ndarray, trials: Sequence[Content], unit: str) -> tuple[float, float, float, int]:
    """Mean, interval, and of how many units."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0]), float(values[0]), len(values)
    if unit == "categories":
        lows, highs = category_interval(values[None], [trial["categories"] for trial in trials])
        return float(values.mean()), float(lows[0]), float(highs[0]), len(values)
    if unit == "groups":
        names = np.array([trial["group"] for trial in trials])
        values = np.array([values[names == name].mean() for name in dict.fromkeys(names.tolist())])
    low, high = bootstrap_interval(values)
    return float(values.mean()), low, high, len(values)


def rank_correlations(truth: np.ndarray, scores: np.ndarray, seed: int = 0) -> tuple[float, float, float, float]:
    """Spearman's and Kendall's correlation over methods, and the interval of the former from a bootstrap over groups.

    Parameters
    ----------
    truth, scores : array (groups, methods)
    """
    from scipy.stats import kendalltau, rankdata, spearmanr

    rho, tau = (float(f(truth.mean(0), scores.mean(0)).statistic) for f in (spearmanr, kendalltau))
    draws = np.random.default_rng(seed).integers(0, len(truth), (REPEATS, len(truth)))
    ranks = [rankdata(values[draws].mean(1), axis=1) for values in (truth, scores)]
    one, other = (each - each.mean(1, keepdims=True) for each in ranks)
    with np.errstate(invalid="ignore"):
        each = (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1))
    low, high = np.nanquantile(each, [0.025, 0.975])
    return rho, tau, float(low), float(high)
