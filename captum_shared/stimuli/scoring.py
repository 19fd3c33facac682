"""Did the predictions hold? Comparisons scored with the responses of the laboratory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from captum_shared.checks import check_share
from captum_shared.readout.fitting import pearson
from captum_shared.stimuli.plan import Comparison
from captum_shared.stimuli.power import WelchTest, holm, welch_test


@dataclass(frozen=True)
class ScoredComparison:
    """What became of a comparison.

    Trials and `mean` are those of its file, `control` is the mean of its controls. `p_corrected` is by Holm's method,
    for all tests of the neuron, and NaN if the plan has no test of it. It `held` if the difference goes the expected
    way, significant or not. The outcome is "confirmed", significant the expected way, "refuted", significant the other
    way, "open" or "not tested".
    """

    comparison: Comparison
    tested: bool
    trials: int
    mean: float
    control: float
    test: WelchTest
    p_corrected: float
    held: bool
    outcome: str


def score_comparisons(
    comparisons: Sequence[tuple[Comparison, bool]], responses: Mapping[str, np.ndarray], *, alpha: float = 0.05
) -> list[ScoredComparison]:
    """Test the comparisons of one neuron.

    Parameters
    ----------
    comparisons : sequence of (Comparison, bool)
        With whether each is to be tested.
    responses : mapping of str to (n,) array
        Trials of each file.
    alpha : float, default 0.05
        The level of all tests together.

    Returns
    -------
    list of ScoredComparison

    Raises
    ------
    ValueError
        If a file has fewer than two trials, or alpha is out of range.

    Examples
    --------
    >>> comparison = Comparison("7", 1, "removed", "a.png", ("b.png",), "lower")
    >>> trials = {"a.png": np.array([1.0, 2.0, 3.0, 2.0]), "b.png": np.array([5.0, 6.0, 7.0, 6.0])}
    >>> score_comparisons([(comparison, True)], trials)[0].outcome
    'confirmed'
    """
    check_share("alpha", alpha)
    tests = [welch_test(responses[one.file], [responses[name] for name in one.controls]) for one, _ in comparisons]
    tested = [number for number, (_, planned) in enumerate(comparisons) if planned]
    corrected = np.full(len(tests), np.nan)
    corrected[tested] = holm([tests[number].p for number in tested])
    rows = []
    for (one, planned), test, p in zip(comparisons, tests, corrected, strict=True):
        held = one.holds(test.difference)
        outcome = "not tested" if not planned else "open" if p > alpha else "confirmed" if held else "refuted"
        mean = float(responses[one.file].mean())
        rows.append(ScoredComparison(
            one, planned, len(responses[one.file]), mean, mean - test.difference, test, float(p), held, outcome
        ))  # fmt: skip
    return rows


def prediction_r(predicted: Mapping[str, float], responses: Mapping[str, np.ndarray]) -> float:
    """The correlation over files of predicted and mean measured responses; NaN if either does not vary."""
    names = sorted(responses)
    expected = np.array([predicted[name] for name in names])
    found = np.array([responses[name].mean() for name in names])
    return float(pearson(found[:, None], expected[:, None])[0])


def direction_p(held: int, n: int) -> float:
    """How likely at least as lopsided a number of kept directions is by tossing coins; two-sided; 1 for none.

    >>> direction_p(5, 5)
    0.0625
    """
    from scipy.stats import binomtest

    return float(binomtest(held, n, 0.5).pvalue) if n else 1.0
