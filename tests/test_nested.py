"""Choosing between candidate latents by nested cross-validation: against scikit-learn, and against peeking."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold

from captum_shared.readout.fitting import ALPHAS
from captum_shared.readout.nested import choose_candidates, fit_candidate

RNG = np.random.default_rng(0)
SPLITS = list(KFold(5, shuffle=True, random_state=0).split(np.zeros(80)))


def test_predictions_are_scikit_learns() -> None:
    x, y = RNG.normal(size=(80, 10)), RNG.normal(size=(80, 3))
    fit = fit_candidate(x, y, SPLITS)
    for fold, (train, test) in enumerate(SPLITS):
        ridge = RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(x[train], y[train])
        assert np.allclose(fit.predictions[test], ridge.predict(x[test]))
        assert np.allclose(fit.inner_scores[fold], ridge.best_score_)


@pytest.mark.parametrize("estimator", [None, Ridge(1.0)])
def test_each_neuron_gets_the_latents_it_reads(estimator: object) -> None:
    a, b = RNG.normal(size=(80, 6)), RNG.normal(size=(80, 6))
    y = np.stack([a @ RNG.normal(size=6), b @ RNG.normal(size=6), a[:, 0]], 1) + 0.1 * RNG.normal(size=(80, 3))
    fits = [fit_candidate(z, y, SPLITS, estimator) for z in (a, b)]
    choice = choose_candidates(fits, y, SPLITS)
    assert choice.chosen.tolist() == [0, 1, 0]
    assert (choice.cv_r > 0.95).all()


def test_test_responses_play_no_part() -> None:
    """Changing the responses of a fold's test stimuli changes no prediction of these stimuli."""
    candidates = [RNG.normal(size=(80, 30)) for _ in range(6)]
    y = RNG.normal(size=(80, 2))
    train, test = SPLITS[2]
    other = y.copy()
    other[test] = 100 * RNG.normal(size=(len(test), 2))
    first, second = (
        choose_candidates([fit_candidate(z, r, SPLITS, pca=8) for z in candidates], r, SPLITS) for r in (y, other)
    )
    assert np.array_equal(first.predictions[test], second.predictions[test])
    assert not np.allclose(first.predictions[train], second.predictions[train])


def test_choosing_among_much_noise_promises_nothing() -> None:
    """Forty candidates of noise: the best in hindsight looks good, nested selection does not."""
    y = RNG.normal(size=(80, 20))
    fits = [fit_candidate(RNG.normal(size=(80, 5)), y, SPLITS) for _ in range(40)]
    nested = choose_candidates(fits, y, SPLITS).cv_r.mean()
    hindsight = np.mean([max(np.corrcoef(f.predictions[:, k], y[:, k])[0, 1] for f in fits) for k in range(20)])
    assert hindsight > 0.15
    assert nested < 0.05


def test_rotation_loses_nothing() -> None:
    from captum_shared.study.encoding import without_empty_dimensions

    z, y = RNG.normal(size=(30, 200)), RNG.normal(size=(30, 2))
    z -= z.mean(0)
    x, back = without_empty_dimensions(z)
    assert x.shape == (30, 29)  # centred
    assert np.allclose(x @ x.T, z @ z.T)
    weight = Ridge(3.0).fit(x, y).coef_
    assert np.allclose((z.T @ (back @ weight.T)).T, Ridge(3.0).fit(z, y).coef_, atol=1e-8)
