"""Fitted linear estimators, folded into one weight and bias on the raw latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from captum_shared.readout.affine import Elementwise
from captum_shared.readout.steps import (
    Estimator,
    affine_step,
    check_fitted,
    check_linear,
    evaluate_quietly,
    named_steps,
)

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from sklearn.compose import TransformedTargetRegressor


def fold_estimator(estimator: object) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,), float64, on raw latents: equal to `linear_output` of the estimator."""
    *steps, (label, model) = list(named_steps(estimator)) or [("none", None)]
    affine = [affine_step(step, name) for name, step in steps]
    weight, bias = _fold_model(model, label)
    for step in reversed(affine):
        weight, bias = step.fold(weight, bias)
    return weight, bias


def linear_output(estimator: Estimator, latents: np.ndarray) -> np.ndarray:
    """The decision function of an estimator that has one, else its prediction, as (n, K)."""
    function = getattr(estimator, "decision_function", None) or estimator.predict
    return np.asarray(function(latents), dtype=np.float64).reshape(len(latents), -1)


def _fold_model(model: BaseEstimator, label: str) -> tuple[Tensor, Tensor]:
    """Fold the last step of a pipeline, and check the result against its output."""
    check_fitted(model, label)
    if not hasattr(model, "predict"):
        raise ValueError(f"{label} does not predict: the last step must be a linear model")
    weight, bias = _weight_and_bias(model, label)

    def readout(latents: Tensor) -> Tensor:
        return latents @ weight.T + bias

    def bound(latents: Tensor) -> Tensor:
        return latents.abs() @ weight.abs().T + bias.abs()

    check_linear(lambda latents: linear_output(model, latents), readout, bound, weight.shape[1], label)
    return weight, bias


def _weight_and_bias(model: BaseEstimator, label: str) -> tuple[Tensor, Tensor]:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import MultiOutputRegressor

    if hasattr(model, "best_estimator_"):
        return fold_estimator(model.best_estimator_)
    if isinstance(model, TransformedTargetRegressor):
        return _fold_target(model, label)
    if isinstance(model, (MultiOutputRegressor, OneVsRestClassifier)):
        weights, biases = zip(*(fold_estimator(each) for each in model.estimators_), strict=True)
        return torch.cat(weights), torch.cat(biases)
    return _coefficients(model, label)


def _coefficients(model: BaseEstimator, label: str) -> tuple[Tensor, Tensor]:
    coefficients = getattr(model, "coef_", None)
    if coefficients is None:
        raise ValueError(f"{label} is not linear: it has no `coef_`")
    if hasattr(coefficients, "toarray"):
        coefficients = coefficients.toarray()
    weight = np.atleast_2d(np.array(coefficients, dtype=np.float64))
    # The output at zero and not `intercept_`: some models (PLS) also centre their input.
    bias = evaluate_quietly(lambda zero: linear_output(model, zero), np.zeros((1, weight.shape[1])))[0]
    if len(bias) != len(weight):
        raise ValueError(f"{label} is not linear: `coef_` has {len(weight)} rows for {len(bias)} outputs")
    return torch.from_numpy(weight), torch.from_numpy(bias)


def _fold_target(model: TransformedTargetRegressor, label: str) -> tuple[Tensor, Tensor]:
    """A regressor of scaled responses: the scaling of the responses is undone."""
    from sklearn.preprocessing import FunctionTransformer

    weight, bias = fold_estimator(model.regressor_)
    scaler = model.transformer_
    if isinstance(scaler, FunctionTransformer) and scaler.func is None and scaler.inverse_func is None:
        return weight, bias
    try:
        target = affine_step(scaler, f"target transformer {type(scaler).__name__}")
    except ValueError as error:
        raise ValueError(f"{label} is not linear: {error}") from error
    if not isinstance(target, Elementwise):
        raise ValueError(f"{label} is not folded: {type(scaler).__name__} mixes the responses")
    return weight / target.scale[:, None], bias / target.scale + target.shift
