"""Choosing between candidate latents, such as layers and poolings, by nested cross-validation.

One candidate is fitted at a time, `fit_candidate`, so that candidates can be computed anywhere; `choose_candidates`
then chooses for each neuron and each outer fold by scores that come from the fold's training stimuli alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from captum_shared.readout.fitting import ALPHAS, Splits, pearson
from captum_shared.readout.folding import linear_output
from captum_shared.readout.steps import Estimator

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

INNER_FOLDS = 5


@dataclass(frozen=True)
class CandidateScores:
    """How well one candidate predicts K neurons; scores are minus the mean squared errors of cross-validation."""

    predictions: np.ndarray  # (n, K), by readouts that have not seen the stimulus; NaN where no fold tests
    inner_scores: np.ndarray  # (F, K), for each outer fold inside its training stimuli
    score: np.ndarray  # (K,), inside all stimuli


@dataclass(frozen=True)
class CandidateFit(CandidateScores):
    """One candidate's readouts of K neurons, with their scores."""

    estimator: Estimator  # fitted on all stimuli


@dataclass(frozen=True)
class Choice:
    """What nested selection gives."""

    chosen: np.ndarray  # (K,), the candidate with the best score inside all stimuli: the one to explain
    predictions: np.ndarray  # (n, K), each from the candidate that was best inside the training stimuli of its fold
    cv_r: np.ndarray  # (K,), correlations with the responses: the performance of choosing and fitting together


def ridge_pipeline(n_stimuli: int, n_latents: int, pca: int | None = 256) -> Pipeline:
    """PCA, if it reduces anything, and RidgeCV with one penalty per neuron among `ALPHAS`; not fitted.

    For latents that are standardized already.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline

    ridge = RidgeCV(alphas=ALPHAS, alpha_per_target=True)
    if pca is None or pca >= min(n_stimuli, n_latents):
        return make_pipeline(ridge)
    return make_pipeline(PCA(pca, svd_solver="covariance_eigh"), ridge)


def fit_candidate(
    latents: np.ndarray,
    responses: np.ndarray,
    splits: Splits,
    estimator: Estimator | None = None,
    pca: int | None = 256,
) -> CandidateFit:
    """Fit one candidate's readouts: in each fold, and on all stimuli.

    All that depends on data, PCA and the penalties included, is fitted on the training stimuli of the fold. The
    estimator is `ridge_pipeline` with `pca` components by default, whose own leave-one-out error serves as inner score;
    for other estimators it comes from five inner folds.
    """
    predictions = np.full(responses.shape, np.nan)
    scores = []
    for train, test in splits:
        fitted, score = _fit_and_score(latents[train], responses[train], estimator, pca)
        predictions[test] = linear_output(fitted, latents[test])
        scores.append(score)
    fitted, score = _fit_and_score(latents, responses, estimator, pca)
    inner = np.stack(scores) if scores else np.empty((0, responses.shape[1]))
    return CandidateFit(predictions, inner, score, fitted)


def choose_candidates(fits: Sequence[CandidateScores], responses: np.ndarray, splits: Splits) -> Choice:
    """For each neuron the best candidate, and for each outer fold the one that its training stimuli prefer."""
    neurons = np.arange(responses.shape[1])
    inner = np.stack([fit.inner_scores for fit in fits])
    every = np.stack([fit.predictions for fit in fits])
    predictions = np.full(responses.shape, np.nan)
    for fold, (_, test) in enumerate(splits):
        best = inner[:, fold].argmax(axis=0)
        predictions[test] = every[best, :, neurons].T[test]
    tested = np.concatenate([test for _, test in splits])
    chosen = np.stack([fit.score for fit in fits]).argmax(axis=0)
    return Choice(chosen, predictions, pearson(responses[tested], predictions[tested]))


def _fit_and_score(
    x: np.ndarray, y: np.ndarray, estimator: Estimator | None, pca: int | None
) -> tuple[Estimator, np.ndarray]:
    if estimator is None:
        fitted = ridge_pipeline(len(x), x.shape[1], pca).fit(x, y)
        return fitted, np.atleast_1d(fitted[-1].best_score_)
    return fit_clone(estimator, x, y), _inner_score(x, y, estimator)


def fit_clone(estimator: Estimator, x: np.ndarray, y: np.ndarray) -> Estimator:
    """A fitted clone. One response is given as (n,), unless the estimator is only for several."""
    from sklearn.base import clone

    fitted: Estimator = clone(estimator)
    if y.shape[1] > 1:
        fitted.fit(x, y)
        return fitted
    try:
        fitted.fit(x, y[:, 0])
    except ValueError:
        fitted = clone(estimator)
        fitted.fit(x, y)
    return fitted


def _inner_score(x: np.ndarray, y: np.ndarray, estimator: Estimator) -> np.ndarray:
    from sklearn.model_selection import KFold

    predicted = np.empty_like(y)
    for train, test in KFold(min(INNER_FOLDS, len(x)), shuffle=True, random_state=0).split(x):
        predicted[test] = linear_output(fit_clone(estimator, x[train], y[train]), x[test])
    result: np.ndarray = -((y - predicted) ** 2).mean(axis=0)
    return result
