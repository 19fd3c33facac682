"""What is expected of the pictures of a pair, and how many repeats tell: written down before the experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from captum_shared.stimuli.noise import TrialNoise
from captum_shared.stimuli.power import repeats_needed, welch_power

EXPECTED = {"removed": "lower", "alone": "higher", "transplant": "higher"}
"""How the response to a picture of each kind compares with that to its controls, if the map of what drives a neuron is
right; of what silences it, the other way."""


def expected_way(kind: str, pole: str = "excite") -> str:
    """Which way a comparison goes if the map is right: "lower" or "higher".

    >>> expected_way("removed"), expected_way("removed", pole="suppress")
    ('lower', 'higher')
    """
    way = EXPECTED[kind]
    return way if pole == "excite" else {"lower": "higher", "higher": "lower"}[way]


def in_words(kind: str, expected: str) -> str:
    """A comparison in words."""
    more = "more" if expected == "higher" else "less"
    return {
        "removed": f"without the part, the response is {expected} than without a random part of the same area",
        "alone": f"the part alone drives the neuron {more} than a random part of the same area alone",
        "transplant": f"the reference's part in place of the image's own drives the neuron {more} than a random part "
        "of the reference there",
    }[kind]


@dataclass(frozen=True)
class Comparison:
    """A file against its controls.

    Attributes
    ----------
    neuron : str
    pair : int
        From 1, in the order of the report.
    kind : {"removed", "alone", "transplant"}
    file : str
    controls : tuple of str
        Files with a random part instead.
    expected : {"lower", "higher"}
    """

    neuron: str
    pair: int
    kind: str
    file: str
    controls: tuple[str, ...]
    expected: str

    def difference(self, response: Mapping[str, float]) -> float:
        """The response to the file minus the mean of those to its controls."""
        return response[self.file] - sum(response[name] for name in self.controls) / len(self.controls)

    def holds(self, difference: float) -> bool:
        """Whether a difference goes the expected way."""
        return difference < 0 if self.expected == "lower" else difference > 0


@dataclass(frozen=True)
class PlannedComparison:
    """A comparison with the predicted difference.

    It is tested if that goes the expected way, and few enough repeats can show it; the power is how likely its test
    finds it with the plan's repeats, at the plan's level, and NaN if it is not tested.
    """

    comparison: Comparison
    difference: float
    tested: bool
    power: float


@dataclass(frozen=True)
class Plan:
    """The plan for a neuron: trials of each file, 0 if nothing can be tested, and the level of a single test."""

    repeats: int
    level: float
    comparisons: tuple[PlannedComparison, ...]

    @property
    def n_tested(self) -> int:
        """The number of tests."""
        return sum(each.tested for each in self.comparisons)


def plan_repeats(
    comparisons: Sequence[Comparison],
    predicted: Mapping[str, float],
    noise: TrialNoise,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    most: int = 100,
) -> Plan:
    """Find the comparisons of a neuron that can be tested, and the trials of each file that this needs.

    A single test is at the level `alpha` over the number of tests (Bonferroni), with which Holm's correction is never
    less powerful. As many comparisons are tested as `most` repeats allow, those with the clearest predictions first.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of one neuron.
    predicted : mapping of str to float
        The predicted response to each file.
    noise : TrialNoise
        How much the neuron varies from trial to trial.
    alpha : float, default 0.05
        The level of all tests together.
    power : float, default 0.8
        How likely each test is to find its predicted difference, at least.
    most : int, default 100
        Repeats that are possible.

    Returns
    -------
    Plan

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Examples
    --------
    >>> comparison = Comparison("7", 1, "removed", "removed.png", ("control.png",), "lower")
    >>> plan = plan_repeats([comparison], {"removed.png": 4.0, "control.png": 6.0}, TrialNoise(0, 1))
    >>> plan.repeats, round(plan.comparisons[0].power, 2)
    (21, 0.81)
    """
    differences = [each.difference(predicted) for each in comparisons]
    spreads = [noise.variance([predicted[name] for name in (each.file, *each.controls)]) for each in comparisons]

    def needs(i: int, level: float) -> int | None:
        if not comparisons[i].holds(differences[i]) or not spreads[i].any():
            return None
        return repeats_needed(differences[i], list(spreads[i]), alpha=level, power=power, most=most)

    alone = {i: repeats for i in range(len(comparisons)) if (repeats := needs(i, alpha)) is not None}
    clearest = sorted(alone, key=lambda i: alone[i])
    count = len(clearest)
    while count and any(needs(i, alpha / count) is None for i in reversed(clearest[:count])):
        count -= 1
    level = alpha / max(count, 1)
    repeats = max([needs(i, level) or 0 for i in clearest[:count]], default=0)
    rows = []
    for i, each in enumerate(comparisons):
        tested = i in clearest[:count]
        reached = welch_power(differences[i], list(spreads[i]), repeats, level) if tested else float("nan")
        rows.append(PlannedComparison(each, differences[i], tested, reached))
    return Plan(repeats, level, tuple(rows))
