"""From fitted scikit-learn transformers to affine steps: one small function for each family of transformers.

No step is believed to be linear because of its class: its affine form is compared with its own `transform` on
probe points (`check_linear`), which also guards against subclasses and options that this module does not
know.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from captum_shared.checks import is_finite
from captum_shared.readout.affine import AffineStep, Elementwise, Projection, Selection

if TYPE_CHECKING:
    from sklearn.base import TransformerMixin
    from sklearn.cross_decomposition import CCA, PLSCanonical, PLSRegression
    from sklearn.decomposition import NMF, PCA, FactorAnalysis, IncrementalPCA
    from sklearn.feature_selection import SelectorMixin
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

T = TypeVar("T")


class Estimator(Protocol):
    """A model of scikit-learn, or one like it, that learns responses from latents (n, D)."""

    def fit(self, x: np.ndarray, y: np.ndarray, /) -> object:
        """Learn responses (n,) or (n, K)."""

    def predict(self, x: np.ndarray, /) -> object:
        """Responses to latents."""


TOLERANCE, SINGLE_TOLERANCE = 1e-9, 1e-6
"""Largest deviation from an affine map that passes as rounding, relative to the sum of absolute terms; the second for
steps fitted in single precision, part of whose arithmetic is in it."""

LINEAR_STEPS = (
    "StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, PCA, IncrementalPCA, TruncatedSVD, FastICA, "
    "FactorAnalysis, random projections, PLS, and feature selectors"
)


def named_steps(estimator: object, path: str = "") -> Iterator[tuple[str, object]]:
    """The steps of a pipeline, nested ones flattened, without "passthrough": what messages call each, and the step."""
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline):
        for name, step in estimator.steps:
            yield from named_steps(step, f"{path}__{name}" if path else name)
    elif estimator is not None and not (isinstance(estimator, str) and estimator == "passthrough"):
        kind = type(estimator).__name__
        yield (f"step {path!r} ({kind})" if path else kind), estimator


def affine_step(step: TransformerMixin, label: str, nmf_least_squares: bool = False) -> AffineStep:
    """The affine form of one fitted transformer, checked against its own `transform`."""
    check_fitted(step, label)
    if getattr(step, "clip", False):
        raise ValueError(f"{label} is not linear: it clips its output (clip=True)")
    if nmf_least_squares and _is_nmf(step):
        return _finite(_nmf_least_squares(step), label)
    build = next((build for kind, build in _builders() if isinstance(step, kind)), None)
    if build is None:
        raise ValueError(f"{label} {_why_not(step)}")
    affine = _finite(build(step), label)
    tolerance = SINGLE_TOLERANCE if _is_single(step) else TOLERANCE
    check_linear(lambda x: _dense(step.transform(x)), affine, affine.bound, affine.n_features_in, label, tolerance)
    return affine


def _is_single(step: object) -> bool:
    return any(isinstance(value, np.ndarray) and value.dtype == np.float32 for value in vars(step).values())


def check_fitted(estimator: object, label: str) -> None:
    """Refuse what is not an estimator, and what is one but not fitted."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        received = estimator.__name__ + " (a class)" if isinstance(estimator, type) else label
        raise TypeError(f"expected fitted scikit-learn estimators, got {received}")
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise ValueError(f"{label} is not fitted: call its `fit` first") from error


def check_linear(
    function: Callable[[np.ndarray], np.ndarray],
    affine: Callable[[Tensor], Tensor],
    bound: Callable[[Tensor], Tensor],
    n_features: int,
    label: str,
    tolerance: float = TOLERANCE,
) -> None:
    """Refuse `function` unless it equals `affine` at zero and on random points of all magnitudes."""
    points = _probes(n_features)
    received = _evaluate(function, points.numpy(), label)
    expected = affine(points).numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        same = received.shape == expected.shape and bool(
            np.all(np.abs(received - expected) <= tolerance * bound(points).numpy())
        )
    if not same:
        raise ValueError(f"{label} is not linear: its output is not an affine function of its input")


def evaluate_quietly(function: Callable[[np.ndarray], T], points: np.ndarray) -> T:
    """`function(points)`, without warnings on feature names (probes have none) or overflow."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(points)


def _evaluate(function: Callable[[np.ndarray], np.ndarray], points: np.ndarray, label: str) -> np.ndarray:
    try:
        return evaluate_quietly(function, points)
    except ValueError as error:
        raise ValueError(f"{label} is not linear: it refuses some latents ({error})") from error


def _probes(n_features: int) -> Tensor:
    points = np.random.default_rng(0).standard_normal((9, n_features))
    magnitudes = np.array([0, 1e-3, 1e-3, 1, 1, 1e3, 1e3, 1e6, 1e6])
    return torch.from_numpy(points * magnitudes[:, None])


def _builders() -> list[tuple[type, Callable[[TransformerMixin], AffineStep]]]:
    """What makes the affine form of each class of transformers."""
    from sklearn import cross_decomposition, decomposition, feature_selection, preprocessing, random_projection

    return [
        (preprocessing.StandardScaler, _standard_scaler),
        (preprocessing.RobustScaler, _robust_scaler),
        (preprocessing.MinMaxScaler, _min_max_scaler),
        (preprocessing.MaxAbsScaler, _max_abs_scaler),
        (decomposition.PCA, _pca),
        (decomposition.IncrementalPCA, _pca),
        (decomposition.TruncatedSVD, _components),
        (decomposition.FastICA, _components),
        (random_projection.GaussianRandomProjection, _components),
        (random_projection.SparseRandomProjection, _components),
        (decomposition.FactorAnalysis, _factor_analysis),
        (cross_decomposition.PLSRegression, _pls),
        (cross_decomposition.PLSCanonical, _pls),
        (cross_decomposition.CCA, _pls),
        (feature_selection.SelectorMixin, _selector),
    ]


def _standard_scaler(step: StandardScaler) -> AffineStep:
    return _elementwise(step, step.mean_ if step.with_mean else 0.0, step.scale_ if step.with_std else 1.0)


def _robust_scaler(step: RobustScaler) -> AffineStep:
    shift = step.center_ if step.with_centering else 0.0
    return _elementwise(step, shift, step.scale_ if step.with_scaling else 1.0)


def _min_max_scaler(step: MinMaxScaler) -> AffineStep:
    return _elementwise(step, -step.min_ / step.scale_, 1.0 / step.scale_)


def _max_abs_scaler(step: MaxAbsScaler) -> AffineStep:
    return _elementwise(step, 0.0, step.scale_)


def _elementwise(step: TransformerMixin, shift: ArrayLike, divisor: ArrayLike) -> AffineStep:
    def spread(values: ArrayLike) -> Tensor:
        return _tensor(np.broadcast_to(np.asarray(values), step.n_features_in_))

    return Elementwise(spread(shift), 1.0 / spread(divisor))


def _components(step: TransformerMixin) -> Projection:
    matrix = _tensor(step.components_).T
    mean = getattr(step, "mean_", None)
    return Projection(matrix.new_zeros(len(matrix)) if mean is None else _tensor(mean), matrix)


def _pca(step: PCA | IncrementalPCA) -> AffineStep:
    plain = _components(step)
    if not step.whiten:
        return plain
    spread = np.sqrt(step.explained_variance_)
    n_sound = int((spread > max(1e-8, 10 * np.finfo(spread.dtype).eps) * spread.max()).sum())
    if n_sound < len(spread):
        raise ValueError(
            f"{type(step).__name__} whitens components without variance, which are rounding errors: "
            f"expected at most {n_sound} components for these latents, got {len(spread)}"
        )
    return Projection(plain.shift, plain.matrix / _tensor(spread))


def _factor_analysis(step: FactorAnalysis) -> AffineStep:
    loadings = step.components_ / step.noise_variance_
    covariance = np.linalg.inv(np.eye(len(loadings)) + loadings @ step.components_.T)
    return Projection(_tensor(step.mean_), _tensor(loadings.T @ covariance))


def _pls(step: PLSRegression | PLSCanonical | CCA) -> AffineStep:
    return Projection(_tensor(step._x_mean), _tensor(step.x_rotations_ / step._x_std[:, None]))


def _selector(step: SelectorMixin) -> AffineStep:
    kept = step.get_support()
    if not kept.any():
        raise ValueError(f"{type(step).__name__} keeps none of its {len(kept)} latents")
    return Selection(torch.from_numpy(np.flatnonzero(kept)), len(kept))


def _nmf_least_squares(step: NMF) -> AffineStep:
    matrix = _tensor(np.linalg.pinv(step.components_))
    return Projection(matrix.new_zeros(len(matrix)), matrix)


def _why_not(step: object) -> str:
    if _is_nmf(step):
        return (
            "is not linear: its `transform` solves a non-negative least-squares problem; "
            "`latent_transform(..., nmf_least_squares=True)` solves it without the constraint"
        )
    if not hasattr(step, "transform") and hasattr(step, "predict"):
        return "predicts and does not transform: leave it out, or use `LinearReadout.from_estimator`"
    return f"is not linear, as far as is known. Linear steps are: {LINEAR_STEPS}"


def _is_nmf(step: object) -> bool:
    from sklearn.decomposition import NMF, MiniBatchNMF

    return isinstance(step, (NMF, MiniBatchNMF))


def _finite(affine: AffineStep, label: str) -> AffineStep:
    if not all(is_finite(values) for values in affine.buffers()):
        raise ValueError(f"{label} holds NaN or infinite values: were its latents finite?")
    return affine


def _dense(values: object) -> np.ndarray:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64)


def _tensor(values: object) -> Tensor:
    return torch.from_numpy(_dense(values).copy())
