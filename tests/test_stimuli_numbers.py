"""Every number of an experiment: trial variance, power, corrections, plans, scores; by hand, or by another library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from captum_shared.stimuli import (
    Comparison,
    TrialNoise,
    holm,
    measure_noise,
    plan_repeats,
    read_responses,
    repeats_needed,
    score_comparisons,
    welch_power,
    welch_test,
)
from captum_shared.stimuli.scoring import direction_p, prediction_r


def comparison(
    file: str = "a", controls: tuple[str, ...] = ("b",), expected: str = "lower", pair: int = 1
) -> Comparison:
    return Comparison("7", pair, "removed", file, controls, expected)


@pytest.mark.parametrize(("floor", "slope"), [(0.0, 1.0), (2.0, 0.0), (0.5, 0.75)])
def test_a_line_of_variances_is_found_exactly(floor: float, slope: float) -> None:
    """Two repeats m - d and m + d have the variance 2 d^2."""
    mean = np.linspace(1, 9, 12)
    half = np.sqrt((floor + slope * mean) / 2)
    noise = measure_noise(np.stack([mean - half, mean + half, np.full(12, np.nan)], axis=1))
    assert (noise.floor, noise.slope) == pytest.approx((floor, slope), abs=1e-9)


def test_noise_of_counts_and_of_what_cannot_be_measured() -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(rng.uniform(0.5, 8, 600)[:, None], (600, 8)).astype(float)
    counts[rng.random(counts.shape) < 0.2] = np.nan
    assert measure_noise(counts).variance(4.0) == pytest.approx(4.0, rel=0.1)
    negative = measure_noise(rng.normal(-3, 0.5, (400, 6)))  # z-scores and the like have no variance to grow
    assert negative.variance(-3.0) == pytest.approx(0.25, rel=0.1)
    assert negative.slope == 0
    with pytest.raises(ValueError, match="at least two repeats, got none"):
        measure_noise(np.ones((5, 1)))
    with pytest.raises(ValueError, match="all repeats of each stimulus are equal"):
        measure_noise(np.ones((5, 3)))
    with pytest.raises(ValueError, match=r"must be \(n, R\), of one neuron, got shape \(5,\)"):
        measure_noise(np.ones(5))
    with pytest.raises(ValueError, match="at least 0 and not both 0, got 0, 0"):
        TrialNoise(0.0, 0.0)


@pytest.mark.parametrize("noise", [TrialNoise(0, 1), TrialNoise(0.3, 0.6), TrialNoise(1.0, 0)])
def test_trials_have_the_mean_and_the_variance(noise: TrialNoise) -> None:
    mean = np.array([0.5, 3.0, 12.0, -1.0])
    drawn = noise.draw(mean, 40_000, np.random.default_rng(0))
    assert drawn.shape == (4, 40_000)
    assert drawn.mean(1) == pytest.approx(mean, abs=0.06)
    assert drawn.var(1) == pytest.approx(noise.variance(mean), rel=0.03, abs=1e-9)
    counts = TrialNoise(0, 1).draw(np.array([0.0, 2.0]), 50, np.random.default_rng(0))
    assert np.array_equal(counts, np.rint(counts))
    assert not counts[0].any()


def test_welch_is_scipys() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(1, 1, 9), rng.normal(0, 3, 14)
    ours, theirs = welch_test(one, [other]), stats.ttest_ind(one, other, equal_var=False)
    assert (ours.t, ours.df, ours.p) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue))
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))


def test_welch_with_two_controls_by_hand() -> None:
    """Variances 1, 4, 4 over 4, 4, 4 trials; weights 1, -1/2, -1/2: 1/4 + 1/4 + 1/4."""
    base = np.array([-1.0, -1.0, 1.0, 1.0]) * np.sqrt(3 / 4)  # of variance 1
    test = welch_test(5 + base, [2 + 2 * base, 4 + 2 * base])
    assert test.difference == pytest.approx(2.0)
    assert test.t == pytest.approx(2.0 / np.sqrt(0.75))
    assert test.df == pytest.approx(0.75**2 / (3 * 0.25**2 / 3))
    assert welch_test([1, 1], [[1, 1]]).p == 1
    assert welch_test([2, 2], [[1, 1]]).p == 0
    with pytest.raises(ValueError, match="at least two values"):
        welch_test([1.0], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="must be finite"):
        welch_test([1.0, np.nan], [[1.0, 2.0]])


@pytest.mark.parametrize("effect", [0.2, 0.5, 1.2])
@pytest.mark.parametrize("n", [5, 20, 150])
def test_power_is_that_of_statsmodels(effect: float, n: int) -> None:
    """With equal variances Satterthwaite's degrees of freedom are those of the t test, 2 n - 2."""
    power = pytest.importorskip("statsmodels.stats.power")
    theirs = power.TTestIndPower()
    assert welch_power(effect, [1, 1], n, 0.01) == pytest.approx(theirs.power(effect, n, 0.01), abs=1e-7)
    needed = repeats_needed(effect, [1.0, 1.0], power=0.9)
    assert needed == int(np.ceil(theirs.solve_power(effect, alpha=0.05, power=0.9)))


def test_power_with_controls_by_hand() -> None:
    """Variances 3, 2, 2 over 10 trials: the error is sqrt((3 + 2 / 4 + 2 / 4) / 10), and so on."""
    error, df = np.sqrt(0.4), 0.4**2 / ((0.3**2 + 2 * 0.05**2) / 9)
    least = stats.t.isf(0.025, df)
    by_hand = stats.nct.sf(least, df, 1.5 / error) + stats.nct.cdf(-least, df, 1.5 / error)
    assert welch_power(-1.5, [3, 2, 2], 10) == pytest.approx(by_hand)
    assert welch_power(0.0, [3, 2, 2], 10) == pytest.approx(0.05)
    assert welch_power(100.0, [1, 1], 10) == 1
    assert welch_power(1.0, [1, 0], 10) == pytest.approx(welch_power(1.0, [0, 1], 10))


def test_repeats_are_the_least() -> None:
    needed = repeats_needed(0.7, [2.0, 1.0, 1.0], alpha=0.01, power=0.8)
    assert needed is not None
    assert welch_power(0.7, [2, 1, 1], needed, 0.01) >= 0.8 > welch_power(0.7, [2, 1, 1], needed - 1, 0.01)
    assert repeats_needed(0.0, [1, 1]) is None
    assert repeats_needed(50.0, [1, 1]) == 2
    with pytest.raises(ValueError, match="`power` must be above 0 and below 1, got 1"):
        repeats_needed(1.0, [1, 1], power=1)
    with pytest.raises(ValueError, match="not all 0"):
        welch_power(1.0, [0, 0], 5)


def test_holm_is_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).random(30) ** 3
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert holm([]).size == 0
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([np.nan])


def test_plan_tests_what_can_be_shown() -> None:
    """One clear, one weak, one that is predicted to go the wrong way."""
    every = [comparison("a", ("b",)), comparison("c", ("d", "e"), "higher", 2), comparison("f", ("b",), "lower", 3)]
    predicted = {"a": 2.0, "b": 6.0, "c": 4.2, "d": 4.0, "e": 4.0, "f": 8.0}
    noise = TrialNoise(0, 1)
    plan = plan_repeats(every, predicted, noise, most=100)
    assert [one.difference for one in plan.comparisons] == pytest.approx([-4.0, 0.2, 2.0])
    assert [one.tested for one in plan.comparisons] == [True, False, False]
    assert (plan.repeats, plan.level) == (repeats_needed(-4, [2, 6]), 0.05)
    wide = plan_repeats(every, predicted, noise, most=5000)
    assert [one.tested for one in wide.comparisons] == [True, True, False]
    assert (wide.repeats, wide.level) == (repeats_needed(0.2, [4.2, 4, 4], alpha=0.025, most=5000), 0.025)
    assert wide.comparisons[0].power == pytest.approx(1)
    assert wide.comparisons[1].power == pytest.approx(welch_power(0.2, [4.2, 4, 4], wide.repeats, 0.025))
    none = plan_repeats(every[2:], predicted, noise)
    assert (none.repeats, none.n_tested) == (0, 0)


def test_plan_leaves_out_what_the_correction_makes_too_dear() -> None:
    """Alone, either could be shown with 20 repeats at most; together, only one."""
    every = [comparison("a", ("b",)), comparison("c", ("b",), pair=2)]
    predicted = {"a": 4.0, "b": 6.2, "c": 4.2}
    spreads = [[4.0, 6.2], [4.2, 6.2]]
    most = repeats_needed(-2.0, spreads[1])
    assert most is not None
    assert repeats_needed(-2.2, spreads[0], alpha=0.025, most=most) is not None
    assert repeats_needed(-2.0, spreads[1], alpha=0.025, most=most) is None
    plan = plan_repeats(every, predicted, TrialNoise(0, 1), most=most)
    assert [one.tested for one in plan.comparisons] == [True, False]
    assert plan.level == 0.05


def test_scores() -> None:
    rng = np.random.default_rng(0)
    trials = {"a": rng.poisson(3, 40), "b": rng.poisson(6, 40), "c": rng.poisson(6, 40), "d": rng.poisson(6, 40)}
    every = [
        (comparison("a", ("b", "c")), True),
        (comparison("d", ("b",), pair=2), True),
        (comparison("b", ("a",), pair=3), True),
        (comparison("a", ("d",), pair=4), False),
    ]
    scored = score_comparisons(every, trials)
    assert [one.outcome for one in scored] == ["confirmed", "open", "refuted", "not tested"]
    assert [one.p_corrected for one in scored[:3]] == pytest.approx(holm([one.test.p for one in scored[:3]]))
    assert np.isnan(scored[3].p_corrected)
    assert scored[0].mean - scored[0].control == pytest.approx(scored[0].test.difference)
    assert scored[0].control == pytest.approx((trials["b"].mean() + trials["c"].mean()) / 2)
    assert prediction_r({"a": 1.0, "b": 2.0}, {"a": trials["a"], "b": trials["b"]}) == pytest.approx(1)
    assert np.isnan(prediction_r({"a": 1.0, "b": 1.0}, {"a": trials["a"], "b": trials["b"]}))
    assert direction_p(0, 0) == 1
    assert direction_p(9, 10) == pytest.approx(2 * 11 / 2**10)


FILES = {"7": ["a.png", "b.png"], "8": ["c.png", "d.png"]}
LONG = "file,neuron,trial,response\na.png,7,1,4\na.png,7,2,6\nimages/b.png,7,1,3\nb.png,7,2,3.5\n"


def read(folder: Path, text: str) -> dict[str, dict[str, np.ndarray]]:
    (folder / "responses.csv").write_text(text)
    return read_responses(folder / "responses.csv", FILES)


def test_both_forms_of_responses(tmp_path: Path) -> None:
    wide = "file,neuron,first,second,third\na.png,7,4,6,\nb.png,7,,3,3.5\nc.png,7,1,1,1\n"  # c.png is neuron 8's
    for text in (LONG, wide):
        found = read(tmp_path, text)
        assert list(found) == ["7"]
        assert {file: values.tolist() for file, values in found["7"].items()} == {"a.png": [4, 6], "b.png": [3, 3.5]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,trial,response\na.png,1,4\n", "must have a column neuron, for the stimuli are of 2 neurons"),
        ("neuron,trial\n7,1\n", "must have the columns file"),
        (LONG.replace("a.png,7,2,6", "x.png,7,2,6"), "got the file 'x.png' in line 3, which is not in it"),
        (LONG.replace("a.png,7,2,6", "a.png,9,2,6"), "got the neuron '9' in line 3"),
        (LONG.replace("a.png,7,2,6", "a.png,7,1,6"), "line 3 has neuron 7, file a.png again, with the same trial 1"),
        (LONG.replace(",6\n", ",six\n"), "must be numbers, got 'six' in line 3"),
        (LONG.replace(",6\n", ",inf\n"), "must be numbers, got 'inf' in line 3"),
        (LONG.split("images/")[0], "lacks 1 of the 2 files of neuron 7: b.png"),
        (LONG.replace("b.png,7,2,3.5\n", ""), "has fewer than two trials of 1 of the 2 files of neuron 7: b.png"),
        ("file,neuron,trial\na.png,7,1\n", "must have a column response, or one for each repeat"),
        ("file,neuron,1,2\na.png,7,4,6\na.png,7,4,6\n", "line 3 has neuron 7, file a.png again"),
    ],
)  # fmt: skip
def test_wrong_responses(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)
    with pytest.raises(FileNotFoundError, match="no table of responses"):
        read_responses(tmp_path / "other.csv", FILES)


def experiments(noise: TrialNoise, n: int, seed: int) -> tuple[int, int, float]:
    """How often, of n, a comparison with two controls is significant at its level; the repeats and the plan's power."""
    predicted = {"a": 3.0, "b": 4.6, "c": 4.2}
    plan = plan_repeats([comparison("a", ("b", "c"))], predicted, noise)
    rng = np.random.default_rng(seed)
    drawn = {name: noise.draw(mean, n * plan.repeats, rng).reshape(n, -1) for name, mean in predicted.items()}
    p = [welch_test(drawn["a"][i], [drawn["b"][i], drawn["c"][i]]).p for i in range(n)]
    return int((np.array(p) <= plan.level).sum()), plan.repeats, plan.comparisons[0].power


@pytest.mark.parametrize("noise", [TrialNoise(0, 1), TrialNoise(0.2, 0.6)])
def test_simulated_experiments_reach_the_planned_power(noise: TrialNoise) -> None:
    significant, repeats, power = experiments(noise, 600, 0)
    assert 5 < repeats < 60
    interval = stats.binomtest(significant, 600).proportion_ci(0.99)
    assert interval.low <= power <= interval.high
