"""fit_readout: the fit, its out-of-fold predictions, and its refusals."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import svm
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import Lasso, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from captum_shared.readout import LinearReadout, ReadoutFit, fit_readout
from captum_shared.readout.fitting import ALPHAS, pearson

N, D, K = 40, 6, 3


def make_data(seed: int = 0, noise: float = 1.0, n: int = N) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((n, D)) * rng.uniform(0.1, 4.0, D) + rng.uniform(-2, 2, D)
    weight, bias = rng.standard_normal((K, D)), rng.standard_normal(K)
    responses = latents @ weight.T + bias + noise * rng.standard_normal((n, K)) * np.arange(1, K + 1) ** 2
    return latents, responses, weight, bias


def slow_ridge(latents: np.ndarray, response: np.ndarray, test_latents: np.ndarray) -> np.ndarray:
    """Standardize, take the alpha with the least leave-one-out error by leaving each one out, and predict."""
    mean, std = latents.mean(0), latents.std(0)
    z, test = (latents - mean) / std, (test_latents - mean) / std

    def solve(z: np.ndarray, y: np.ndarray, alpha: float, test: np.ndarray) -> np.ndarray:
        centre = z.mean(0)
        gram = (z - centre).T @ (z - centre) + alpha * np.eye(z.shape[1])
        return (test - centre) @ np.linalg.solve(gram, (z - centre).T @ (y - y.mean())) + y.mean()

    def left_out_error(alpha: float) -> float:
        rest = [np.arange(len(z)) != i for i in range(len(z))]
        return sum((solve(z[keep], response[keep], alpha, z[~keep]) - response[~keep])[0] ** 2 for keep in rest)

    return solve(z, response, min(ALPHAS, key=left_out_error), test)


def test_default_equals_an_explicit_loop_over_folds_neurons_and_left_out_stimuli() -> None:
    latents, responses, *_ = make_data(noise=3.0)
    fit = fit_readout(latents, responses, cv=4, seed=3)
    expected = np.empty_like(responses)
    for train, test in KFold(4, shuffle=True, random_state=3).split(latents):
        for k in range(K):
            expected[test, k] = slow_ridge(latents[train], responses[train, k], latents[test])
    np.testing.assert_allclose(fit.predictions, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.cv_r, [np.corrcoef(responses[:, k], expected[:, k])[0, 1] for k in range(K)])
    final = np.stack([slow_ridge(latents, responses[:, k], latents) for k in range(K)], 1)
    np.testing.assert_allclose(fit.readout(torch.from_numpy(latents)), final, rtol=1e-6, atol=1e-8)
    assert len(set(fit.estimator[-1].alpha_)) > 1  # one penalty for each neuron, and they differ here


def test_recovers_the_weights_of_noiseless_neurons() -> None:
    latents, responses, weight, bias = make_data(noise=0.0, n=200)
    fit = fit_readout(latents, responses)
    assert isinstance(fit, ReadoutFit)
    np.testing.assert_allclose(fit.readout.weight, weight, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fit.readout.bias, bias, rtol=1e-3, atol=1e-3)
    assert (fit.cv_r > 1 - 1e-8).all()


def test_noise_is_not_predicted() -> None:
    rng = np.random.default_rng(0)
    fit = fit_readout(rng.standard_normal((300, 20)), rng.standard_normal((300, 10)))
    assert np.abs(fit.cv_r).mean() < 3 / np.sqrt(300)


def test_the_seed_decides_the_folds() -> None:
    latents, responses, *_ = make_data()
    first, again, other = (fit_readout(latents, responses, seed=seed) for seed in (1, 1, 2))
    assert first.predictions.tobytes() == again.predictions.tobytes()
    assert not np.array_equal(first.predictions, other.predictions)
    assert torch.equal(first.readout.weight, other.readout.weight)  # the final fit takes all stimuli


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_the_readout_has_the_dtype_of_the_latents(dtype: torch.dtype, stored: torch.dtype) -> None:
    latents, responses, *_ = make_data()
    given_latents = torch.from_numpy(latents).to(dtype).requires_grad_()
    fit = fit_readout(given_latents, torch.from_numpy(responses).to(dtype), cv=3)
    assert fit.readout.weight.dtype == fit.readout.bias.dtype == stored
    assert fit.predictions.dtype == fit.cv_r.dtype == np.float64
    assert fit.readout(given_latents).dtype == dtype
    exact = fit_readout(given_latents.detach().double().numpy(), torch.from_numpy(responses).to(dtype), cv=3)
    assert np.array_equal(fit.predictions, exact.predictions)
    torch.testing.assert_close(fit.readout.weight, exact.readout.weight.to(stored))


def test_arrays_lists_and_one_neuron() -> None:
    latents, responses, *_ = make_data()
    fit = fit_readout(latents.tolist(), responses[:, 0].tolist())
    assert fit.readout.weight.shape == (1, D)
    assert (fit.cv_r.shape, fit.predictions.shape) == ((1,), (N, 1))
    assert np.array_equal(fit.predictions, fit_readout(latents, responses[:, :1]).predictions)
    assert fit_readout(latents.astype(np.float32), responses).readout.weight.dtype == torch.float32


ESTIMATORS = [
    make_pipeline(StandardScaler(), PCA(4), Ridge()),
    Lasso(0.1),
    MultiOutputRegressor(
        make_pipeline(SelectKBest(f_regression, k=3), svm.LinearSVR(random_state=0, max_iter=100_000))
    ),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=["pipeline", "lasso", "multi-output"])
def test_any_linear_estimator_is_cloned_fitted_and_folded(estimator: BaseEstimator) -> None:
    latents, responses, *_ = make_data()
    fit = fit_readout(latents, responses, estimator=estimator)
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator if not hasattr(estimator, "steps") else estimator[0])
    expected = fit.estimator.predict(latents)
    np.testing.assert_allclose(fit.readout(torch.from_numpy(latents)), expected, rtol=1e-9, atol=1e-9)


CLASSIFIERS = [LogisticRegression(), svm.LinearSVC(random_state=0), make_pipeline(StandardScaler(), RidgeClassifier())]


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=["logistic", "svc", "ridge"])
@pytest.mark.parametrize("coding", [bool, lambda y: y * 2.0 - 1, lambda y: torch.from_numpy(y)])
def test_a_classifier_predicts_its_decision_function_on_stratified_folds(
    estimator: BaseEstimator, coding: Callable[..., object]
) -> None:
    latents, responses, *_ = make_data()
    labels = (responses[:, 0] > np.quantile(responses[:, 0], 0.8)).astype(int)  # 8 of 40
    given_labels = labels.astype(bool) if coding is bool else coding(labels)
    fit = fit_readout(latents, given_labels, estimator=estimator, cv=4, seed=1)
    expected = np.empty(N)
    for train, test in StratifiedKFold(4, shuffle=True, random_state=1).split(latents, labels):
        expected[test] = estimator.fit(latents[train], labels[train]).decision_function(latents[test])
    np.testing.assert_allclose(fit.predictions[:, 0], expected)
    np.testing.assert_allclose(fit.cv_r, np.corrcoef(expected, labels)[0, 1])


def test_a_classifier_of_several_neurons() -> None:
    latents, responses, *_ = make_data()
    fit = fit_readout(latents, responses > 0, estimator=OneVsRestClassifier(LogisticRegression()))
    assert fit.predictions.shape == (N, K)
    assert fit.readout.n_neurons == K
    for k in range(K):
        folds = KFold(5, shuffle=True, random_state=0)
        alone = fit_readout(latents, responses[:, k] > 0, estimator=LogisticRegression(), cv=folds)
        np.testing.assert_allclose(fit.predictions[:, [k]], alone.predictions)


def test_splitters_index_pairs_and_stimuli_without_a_fold() -> None:
    latents, responses, *_ = make_data()
    folds = KFold(5)
    by_splitter = fit_readout(latents, responses, cv=folds).predictions
    pairs = list(folds.split(latents))
    assert np.array_equal(by_splitter, fit_readout(latents, responses, cv=pairs).predictions)
    assert np.array_equal(by_splitter, fit_readout(latents, responses, cv=iter(pairs)).predictions)
    part = fit_readout(latents, responses, cv=pairs[:2])
    tested = np.concatenate([test for _, test in pairs[:2]])
    assert np.array_equal(np.flatnonzero(np.isfinite(part.predictions).all(1)), np.sort(tested))
    assert np.array_equal(part.predictions[tested], by_splitter[tested])
    assert np.array_equal(part.cv_r, pearson(responses[tested], by_splitter[tested]))
    groups = np.repeat(np.arange(8), 5)
    assert np.isfinite(fit_readout(latents, responses, cv=GroupKFold(4).split(latents, groups=groups)).cv_r).all()


def test_a_constant_neuron_has_no_correlation_and_raises_no_warning() -> None:
    latents, responses, *_ = make_data()
    responses[:, 1] = 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_readout(latents, responses)
    assert np.isnan(fit.cv_r).tolist() == [False, True, False]
    np.testing.assert_allclose(fit.predictions[:, 1], 0.1)


@settings(max_examples=100)
@given(
    arrays(np.float64, (6, 4), elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(1e-3, 1e3),
    st.floats(-10, 10),
)
def test_pearson_is_bounded_symmetric_and_blind_to_scale(values: np.ndarray, scale: float, shift: float) -> None:
    first, second = values[:, :2], values[:, 2:]
    r = pearson(first, second)
    constant = (np.ptp(first, axis=0) == 0) | (np.ptp(second, axis=0) == 0)
    assert np.array_equal(np.isnan(r), constant)
    assert (np.abs(r[~constant]) <= 1).all()
    assert np.array_equal(r, pearson(second, first), equal_nan=True)
    wide = np.ptp(first, axis=0) > 1e-3 * (np.abs(first).max(0) + abs(shift) / scale)
    np.testing.assert_allclose(pearson(scale * first + shift, second)[wide], r[wide], atol=1e-9)


def bad(**changes: object) -> dict[str, object]:
    latents, responses, *_ = make_data()
    return {"latents": latents, "responses": responses, **changes}


def with_nan(values: np.ndarray, *where: tuple[int, int]) -> np.ndarray:
    values = values.copy()
    for index in where:
        values[index] = np.nan
    return values


X, Y, *_ = make_data()
HALVES = (np.arange(20), np.arange(20, 40))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latents": X[:, 0]}, "`latents` must be (n, D) and not empty, got shape (40,)"),
        ({"latents": X[:0], "responses": Y[:0]}, "`latents` must be (n, D) and not empty, got shape (0, 6)"),
        ({"latents": X[:, :0]}, "`latents` must be (n, D) and not empty, got shape (40, 0)"),
        ({"responses": Y[None]}, "`responses` must be (n,) or (n, K) and not empty, got shape (1, 40, 3)"),
        ({"responses": Y[:, :0]}, "`responses` must be (n,) or (n, K) and not empty, got shape (40, 0)"),
        ({"responses": Y[:30]}, "`latents` and `responses` must have as many rows, got 40 and 30"),
        ({"responses": ["cat"] * N}, "`responses` must be numeric"),
        (
            {"responses": with_nan(Y, (0, 2), (5, 0), (6, 0))},
            "`responses` must be finite, got 3 NaN or infinite values in 2 of 3 neurons: 0, 2",
        ),
        (
            {"latents": with_nan(X, (3, 2), (3, 4), (9, 0))},
            "`latents` must be finite, got 3 NaN or infinite values in 2 of 40 rows: 3, 9",
        ),
        ({"latents": X * np.inf}, "in 40 of 40 rows: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."),
        ({"cv": 41}, "`cv` must be from 2 to the number of stimuli, 40, got 41"),
        ({"cv": 1}, "`cv` must be from 2 to the number of stimuli, 40, got 1"),
        ({"cv": []}, "`cv` must give at least one fold, got none"),
        (
            {"cv": [(np.arange(21), HALVES[1])]},
            "`cv` must keep train and test apart, got 1 stimuli in both in fold 0",
        ),
        ({"cv": [HALVES, HALVES]}, "`cv` must test each stimulus at most once, got 20 tested more often"),
        ({"cv": ShuffleSplit(9, random_state=0)}, "`cv` must test each stimulus at most once, got "),
        (
            {"cv": [(HALVES[0], HALVES[1] + 1)]},
            "`cv` must give indices from 0 to 39, got others as test of fold 0",
        ),
        (
            {"cv": [(np.arange(N) < 20, HALVES[1])]},
            "`cv` must give 1-D integer indices, got bool (40,) as train of fold 0",
        ),
        ({"estimator": RandomForestRegressor(n_estimators=2)}, "RandomForestRegressor is not linear"),
        (
            {"estimator": RidgeClassifier()},
            "a classifier takes `responses` of two values, got 40 in column 0",
        ),
        (
            {"estimator": LogisticRegression(), "responses": np.arange(N) % 3},
            "got 3 in column 0; code several categories as one column for each",
        ),
        ({"estimator": LogisticRegression(), "responses": np.ones(N)}, "of two values, got 1 in column 0"),
    ],
)
def test_refuses_bad_arguments(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        fit_readout(**bad(**arguments))


@pytest.mark.parametrize("cv", ["five", 2.5, None])
def test_refuses_a_cv_of_another_type(cv: object) -> None:
    message = rf"`cv` must be an int, a splitter, or \(train, test\) index pairs, got {type(cv).__name__}"
    with pytest.raises(TypeError, match=message):
        fit_readout(X, Y, cv=cv)


def test_refuses_an_estimator_without_one_output_for_each_neuron() -> None:
    class FirstOnly(Ridge):
        def fit(self, X: np.ndarray, y: np.ndarray) -> object:
            return super().fit(X, y[:, 0])

    with pytest.raises(ValueError, match="the estimator has 1 outputs for 3 columns of `responses`"):
        fit_readout(X, Y, estimator=FirstOnly())


def test_the_fit_is_saved_as_a_readout(tmp_path: Path) -> None:
    fit = fit_readout(X, Y)
    fit.readout.save(tmp_path / "readout.safetensors")
    assert torch.equal(LinearReadout.load(tmp_path / "readout.safetensors").weight, fit.readout.weight)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_latents_on_a_gpu_give_a_readout_on_it() -> None:
    fit = fit_readout(torch.from_numpy(X).cuda(), torch.from_numpy(Y).cuda())
    assert fit.readout.weight.device.type == fit.readout.bias.device.type == "cuda"
    assert np.array_equal(fit.predictions, fit_readout(X, Y).predictions)
