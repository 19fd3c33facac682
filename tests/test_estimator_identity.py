"""Estimators by what they do: two with the same `repr` share no report."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import explain
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVR

from captum_shared.study.estimator import identify_estimator


def shrunk(factor: float) -> Any:
    """As of a class in a notebook whose cell was changed and run again: the same name, the same `repr`."""

    class Shrunk(Ridge):
        def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
            super().fit(x, y, sample_weight)
            self.coef_ *= factor
            return self

    return Shrunk()


class Remembering(Ridge):
    """With an attribute that is no parameter, and that its clones keep."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)
        self.factor = 1.0

    def __sklearn_clone__(self) -> Any:
        return copy.deepcopy(self)

    def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        super().fit(x * self.factor, y, sample_weight)
        self.coef_ *= self.factor
        return self


def remembering(factor: float) -> Any:
    estimator = Remembering()
    estimator.factor = factor
    return estimator


def of_function(factor: float) -> Any:
    return make_pipeline(FunctionTransformer(lambda x: factor * x), Ridge(10.0))


KINDS = {"a class": shrunk, "an attribute": remembering, "a lambda": of_function}


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_does_counts(kind: str) -> None:
    make = KINDS[kind]
    one, same, other = (identify_estimator(make(factor), 30, 6) for factor in (0.5, 0.5, 2.0))
    assert one.matches(same)
    assert not one.matches(other)


def test_its_repr_counts_too_but_for_addresses() -> None:
    assert not identify_estimator(Ridge(), 30, 6).matches(identify_estimator(Remembering(), 30, 6))
    assert " at 0x" in repr(of_function(1.0))


def test_estimators_of_a_single_response() -> None:
    one, same, other = (identify_estimator(LinearSVR(C=c, random_state=0), 30, 6) for c in (1.0, 1.0, 0.01))
    assert one.matches(same)
    assert not one.matches(other)


def test_an_estimator_that_is_random_in_itself_is_refused() -> None:
    class Random(Ridge):
        def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
            super().fit(x, y, sample_weight)
            self.coef_ *= np.random.default_rng().uniform(1, 2)
            return self

    with pytest.raises(ValueError, match="`estimator` gives different predictions each time"):
        identify_estimator(Random(), 30, 6)


def test_random_states_are_as_before() -> None:
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    identify_estimator(Ridge(), 30, 6)
    assert np.random.rand() == expected


@pytest.mark.parametrize("wrong", ["ridge", Ridge, None])
def test_what_is_no_estimator(wrong: Any) -> None:
    with pytest.raises(TypeError, match="`estimator` must be a scikit-learn estimator"):
        identify_estimator(wrong, 30, 6)


@pytest.mark.usefixtures("undrawn")
def test_a_finished_report_is_not_that_of_another_estimator(recording: Path, tiny: torch.nn.Module) -> None:
    """Failed before: the report of one was returned for the other."""
    summary = explain(recording, tiny, Path("out"), estimator=remembering(1.0))
    assert explain(recording, tiny, Path("out"), estimator=remembering(1.0)) == summary
    for other in (remembering(0.01), shrunk(0.5)):
        with pytest.raises(ValueError, match=r"another configuration.*estimator\.probe"):
            explain(recording, tiny, Path("out"), estimator=other)
