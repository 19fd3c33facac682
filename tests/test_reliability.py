"""Split-half reliability and noise ceilings against closed forms and a slow re-implementation."""

from __future__ import annotations

import numpy as np
import pytest

from captum_shared.readout import (
    ceiling_corrected,
    noise_ceiling,
    reliability_of_means,
    split_half_reliability,
)


def simulate(signal: float, noise: float, n: int = 4000, repeats: int = 6, neurons: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return signal * rng.normal(size=(neurons, n, 1)) + noise * rng.normal(size=(neurons, n, repeats))


@pytest.mark.parametrize(("noise", "repeats"), [(0.5, 4), (1.0, 6), (2.0, 10), (1.0, 7)])
def test_reliability_of_gaussian_neurons_is_known(noise: float, repeats: int) -> None:
    expected = 1 / (1 + noise**2 / repeats)  # variance of the signal over that of the mean
    assert split_half_reliability(simulate(1.0, noise, repeats=repeats), 20) == pytest.approx(expected, abs=0.015)


def test_two_repeats_are_halves_of_one() -> None:
    responses = simulate(1.0, 1.0, n=2000, repeats=2)
    r = [np.corrcoef(neuron.T)[0, 1] for neuron in responses]
    assert split_half_reliability(responses, 20) == pytest.approx([2 * x / (1 + x) for x in r], abs=0.01)


def test_slow_loop_gives_the_same() -> None:
    responses = simulate(1.0, 1.0, n=12, repeats=5, neurons=2)
    responses[0, 3, 2:] = np.nan
    responses[1, 4, :4] = np.nan  # one repeat left: not used
    keys = np.random.default_rng(3).random((8, 12, 5))
    for neuron, found in zip(responses, split_half_reliability(responses, 8, seed=3), strict=True):
        r = []
        for split in keys:
            halves = []
            for stimulus, key in zip(neuron, split, strict=True):
                there = sorted((k, v) for k, v in zip(key, stimulus, strict=True) if np.isfinite(v))
                if len(there) >= 2:
                    half = len(there) // 2
                    halves.append([np.mean([v for _, v in part]) for part in (there[:half], there[half:])])
            r.append(np.corrcoef(np.array(halves).T)[0, 1])
        assert found == pytest.approx(2 * np.mean(r) / (1 + np.mean(r)))


def test_independent_of_other_neurons_and_reproducible() -> None:
    responses = simulate(1.0, 1.0, n=30)
    assert np.array_equal(split_half_reliability(responses)[1:], split_half_reliability(responses[1:]))
    assert not np.array_equal(split_half_reliability(responses), split_half_reliability(responses, seed=1))


def test_what_cannot_be_known_is_nan() -> None:
    responses = simulate(1.0, 1.0, n=10)
    responses[0], responses[1] = np.nan, 3.0
    responses[2, 2:, 1:] = np.nan
    assert np.isnan(split_half_reliability(responses)).all()


def test_stimuli_of_one_repeat_lower_the_ceiling() -> None:
    """A hundred stimuli thirty times, thousands once: a perfect model reaches the ceiling of the means of all."""
    rng = np.random.default_rng(4)
    signal = rng.normal(size=(1, 4100, 1))
    responses = signal + 1.5 * rng.normal(size=(1, 4100, 30))
    responses[:, 100:, 1:] = np.nan
    reliability = split_half_reliability(responses, 20)
    assert reliability == pytest.approx(1 / (1 + 1.5**2 / 30), abs=0.03)
    ceiling = noise_ceiling(reliability_of_means(reliability, responses))
    mean = np.nanmean(responses[0], axis=1)
    assert ceiling == pytest.approx(np.corrcoef(signal[0, :, 0], mean)[0, 1], abs=0.05)
    assert ceiling < noise_ceiling(reliability) - 0.3


def test_reliability_of_means_is_exact() -> None:
    responses = simulate(1.0, 1.0, n=6, repeats=4)
    reliability = np.array([0.8, -0.2, np.nan])
    assert np.array_equal(reliability_of_means(reliability, responses), reliability, equal_nan=True)
    responses[0, 3:, 1:] = np.nan  # three of four repeats, three of one: E[1 / n] is 1/4 and 5/8
    responses[0, 0] = np.nan  # not shown: three of one, two of four, 1/4 and 7/10
    expected = 1 / (1 + 0.25 / 0.25 * 0.7)  # noise of 1 in each response, signal of 1
    assert reliability_of_means(reliability, responses)[0] == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"must be \(K, n, R\) and `reliability` \(K,\), got \(3, 6, 4\) and \(2,\)"):
        reliability_of_means([0.5, 0.5], responses)


def test_ceiling() -> None:
    assert noise_ceiling([0.81, 0.25]) == pytest.approx([0.9, 0.5])
    assert np.isnan(noise_ceiling([0.0, -0.2, np.nan])).all()
    assert ceiling_corrected([0.45, 0.3], [0.81, 0.25]) == pytest.approx([0.5, 0.6])


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"`responses` must be \(K, n, R\) and not empty, got shape \(2, 3\)"):
        split_half_reliability(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="`n_splits` must be a positive integer, got 0"):
        split_half_reliability(np.zeros((2, 3, 2)), 0)
