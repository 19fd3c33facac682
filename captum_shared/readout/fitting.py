"""`fit_readout`: readouts fitted to responses, with out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from captum_shared.checks import is_finite
from captum_shared.readout.folding import linear_output
from captum_shared.readout.linear import LinearReadout
from captum_shared.readout.steps import Estimator

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

ALPHAS = np.logspace(-3, 7, 21)
"""Ridge penalties that the default estimator chooses from, for standardized latents: two per decade."""


class Splitter(Protocol):
    """One of scikit-learn's ways to divide stimuli into folds, or one like them."""

    def split(self, x: np.ndarray, y: np.ndarray, /) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """Indices for training and for testing, of each fold."""


Folds = int | Splitter | Iterable[tuple[ArrayLike, ArrayLike]]
Splits = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class ReadoutFit:
    """What `fit_readout` returns.

    Attributes
    ----------
    readout : LinearReadout
        Fitted on all stimuli, on the latents as they were given (not standardized).
    cv_r : (K,) float64 array
        Pearson correlation of responses and out-of-fold predictions over all tested stimuli, one for each
        neuron; NaN where either is constant. A neuron that cannot be predicted scores slightly below zero:
        its prediction is the mean of the other folds, which is low where the tested fold is high.
    predictions : (n, K) float64 array
        Out-of-fold predictions; decision values for a classifier. NaN in rows that no fold tests.
    estimator : object
        The scikit-learn estimator fitted on all stimuli.
    """

    readout: LinearReadout
    cv_r: np.ndarray
    predictions: np.ndarray
    estimator: Estimator

    def __repr__(self) -> str:
        n, k = self.predictions.shape
        known = self.cv_r[np.isfinite(self.cv_r)]
        r = f"{np.median(known):.3f}" if len(known) else "unknown"
        neurons, name = ("1 neuron", "cv_r") if k == 1 else (f"{k} neurons", "median cv_r")
        return f"ReadoutFit({neurons}, {n} stimuli, {self.readout.n_latents} latents, {name} {r})"


def fit_readout(
    latents: ArrayLike, responses: ArrayLike, estimator: Estimator | None = None, cv: Folds = 5, seed: int = 0
) -> ReadoutFit:
    """Fit linear readouts of neurons on latents, and predict each stimulus with a readout that has not seen it.

    Parameters
    ----------
    latents : (n, D) tensor or array
        One row for each stimulus.
    responses : (n,) or (n, K) tensor or array
        One column for each neuron. For a classifier, each column holds two values, of which the larger is positive.
    estimator : scikit-learn estimator or Pipeline, optional
        Any that `LinearReadout.from_estimator` can fold; it is cloned, not changed. For models of a single response
        (LinearSVR, LogisticRegression ...) and K > 1, use `MultiOutputRegressor` or `OneVsRestClassifier`.
        Default: `StandardScaler`, then `RidgeCV` with one penalty per neuron, chosen from `ALPHAS` (1e-3 to 1e7)
        by its leave-one-out error on the training stimuli. The penalties are our choice.
    cv : int, scikit-learn splitter, or iterable of (train, test) index arrays
        An int is the number of shuffled folds, stratified if `estimator` is a classifier of one response.
        No stimulus may be tested twice; some may not be tested at all.
    seed : int
        Seed for the shuffling; used only if `cv` is an int.

    Returns
    -------
    ReadoutFit
        The readout is on the latents' device, in their dtype (float32 unless they are float64); fits and predictions
        are computed in float64.

    Raises
    ------
    ValueError
        For wrong shapes or counts, values that are not finite, folds that overlap, or an estimator that is
        not linear.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> latents = rng.normal(size=(100, 10))
    >>> responses = latents[:, 0] + 0.5 * rng.normal(size=100)
    >>> fit = fit_readout(latents, responses)
    >>> fit.readout.weight.shape, bool(0.7 < fit.cv_r[0] < 1)
    (torch.Size([1, 10]), True)
    >>> fit
    ReadoutFit(1 neuron, 100 stimuli, 10 latents, cv_r 0.859)
    """
    from sklearn.base import clone, is_classifier

    x, y = _matrix(latents, "latents"), _matrix(responses, "responses")
    if len(x) != len(y):
        raise ValueError(f"`latents` and `responses` must have as many rows, got {len(x)} and {len(y)}")
    estimator = default_estimator() if estimator is None else check_estimator(estimator)
    classify = is_classifier(estimator)
    target = _labels(y) if classify else y
    target = target[:, 0] if target.shape[1] == 1 else target
    splits = _splits(cv, x, target, seed, stratify=classify and target.ndim == 1)

    fitted = clone(estimator).fit(x, target)
    readout = LinearReadout.from_estimator(fitted)
    if readout.n_neurons != y.shape[1]:
        raise ValueError(f"the estimator has {readout.n_neurons} outputs for {y.shape[1]} columns of `responses`")
    predictions = np.full(y.shape, np.nan)
    for train, test in splits:
        predictions[test] = linear_output(clone(estimator).fit(x[train], target[train]), x[test])
    tested = np.concatenate([test for _, test in splits])
    return ReadoutFit(_like(readout, latents), pearson(y[tested], predictions[tested]), predictions, fitted)


def default_estimator() -> Pipeline:
    """The pipeline that `fit_readout` uses by default, not fitted."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(alphas=ALPHAS, alpha_per_target=True))


def check_estimator(estimator: object) -> Estimator:
    """A scikit-learn estimator, fitted or not; a name or a class is refused."""
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        given = f"the class {estimator.__name__}" if isinstance(estimator, type) else repr(estimator)
        raise TypeError(f"`estimator` must be a scikit-learn estimator such as Ridge(), got {given}")
    return cast(Estimator, estimator)


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation of the columns of two (n, K) arrays, (K,); NaN where one of the two is constant."""
    varies = (np.ptp(first, axis=0) > 0) & (np.ptp(second, axis=0) > 0)
    unit = [_unit_columns(values[:, varies]) for values in (first, second)]
    r = np.full(first.shape[1], np.nan)
    r[varies] = np.clip((unit[0] * unit[1]).sum(axis=0), -1.0, 1.0)
    return r


def _unit_columns(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=0)
    centred = centred / np.abs(centred).max(axis=0)  # so that squares neither overflow nor vanish
    result: np.ndarray = centred / np.linalg.norm(centred, axis=0)
    return result


def _matrix(values: object, name: str) -> np.ndarray:
    """`values` as a finite (n, columns) float64 array."""
    if isinstance(values, Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    try:
        matrix = np.asarray(values)
        if matrix.dtype.kind == "c":
            raise TypeError(f"got {matrix.dtype}")
        matrix = matrix.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be numeric: {error}") from error
    if name == "responses" and matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or 0 in matrix.shape:
        expected = "(n, D)" if name == "latents" else "(n,) or (n, K)"
        raise ValueError(f"`{name}` must be {expected} and not empty, got shape {np.asarray(values).shape}")
    _check_finite(matrix, name)
    return matrix


def _check_finite(matrix: np.ndarray, name: str) -> None:
    bad = ~np.isfinite(matrix)
    if not bad.any():
        return
    axis, noun = (0, "neurons") if name == "responses" else (1, "rows")
    where = np.flatnonzero(bad.any(axis=axis))
    listed = ", ".join(map(str, where[:10])) + (", ..." if len(where) > 10 else "")
    total = matrix.shape[1 - axis]
    raise ValueError(
        f"`{name}` must be finite, got {bad.sum()} NaN or infinite values in {len(where)} of {total} {noun}: {listed}"
    )


def _labels(responses: np.ndarray) -> np.ndarray:
    """Two-valued columns as 0 and 1."""
    for neuron, column in enumerate(responses.T):
        n_values = len(np.unique(column))
        if n_values != 2:
            raise ValueError(
                f"a classifier takes `responses` of two values, got {n_values} in column {neuron}; "
                "code several categories as one column for each"
            )
    result: np.ndarray = (responses == responses.max(axis=0)).astype(np.int64)
    return result


def _splits(cv: object, x: np.ndarray, y: np.ndarray, seed: int, stratify: bool) -> Splits:
    from sklearn.model_selection import KFold, StratifiedKFold

    if isinstance(cv, Integral) and not isinstance(cv, bool):
        if not 2 <= int(cv) <= len(x):
            raise ValueError(f"`cv` must be from 2 to the number of stimuli, {len(x)}, got {cv}")
        cv = (StratifiedKFold if stratify else KFold)(int(cv), shuffle=True, random_state=seed)
    if hasattr(cv, "split") and not isinstance(cv, str):
        cv = cv.split(x, y)
    if isinstance(cv, str) or not isinstance(cv, Iterable):
        raise TypeError(f"`cv` must be an int, a splitter, or (train, test) index pairs, got {type(cv).__name__}")
    splits = [(np.asarray(train), np.asarray(test)) for train, test in cv]
    _check_splits(splits, len(x))
    return splits


def _check_splits(splits: Splits, n: int) -> None:
    if not splits:
        raise ValueError("`cv` must give at least one fold, got none")
    for fold, (train, test) in enumerate(splits):
        for name, index in (("train", train), ("test", test)):
            _check_index(index, n, f"as {name} of fold {fold}")
        n_both = len(np.intersect1d(train, test))
        if n_both:
            raise ValueError(f"`cv` must keep train and test apart, got {n_both} stimuli in both in fold {fold}")
    n_twice = int((np.bincount(np.concatenate([test for _, test in splits])) > 1).sum())
    if n_twice:
        raise ValueError(f"`cv` must test each stimulus at most once, got {n_twice} tested more often")


def _check_index(index: np.ndarray, n: int, where: str) -> None:
    if index.ndim != 1 or not len(index) or index.dtype.kind not in "iu":
        raise ValueError(f"`cv` must give 1-D integer indices, got {index.dtype} {index.shape} {where}")
    if index.min() < 0 or index.max() >= n:
        raise ValueError(f"`cv` must give indices from 0 to {n - 1}, got others {where}")


def _like(readout: LinearReadout, latents: object) -> LinearReadout:
    """The readout in the dtype and on the device of the latents."""
    if isinstance(latents, Tensor):
        readout = readout.to(latents.device, torch.float64 if latents.dtype == torch.float64 else torch.float32)
    elif getattr(latents, "dtype", None) != np.float64:
        readout = readout.to(torch.float32)
    if not (is_finite(readout.weight) and is_finite(readout.bias)):
        raise ValueError(
            f"the readout's weights exceed {readout.weight.dtype}; expected smaller responses, or float64 latents"
        )
    return readout
