"""LinearReadout: the module, its file, and scikit-learn estimators folded into it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LRP, Attribution, DeepLift, IntegratedGradients
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from safetensors.torch import load_file, save_file
from sklearn import (
    compose,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    kernel_ridge,
    linear_model,
    model_selection,
    multiclass,
    multioutput,
    preprocessing,
    random_projection,
    svm,
)
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline, make_pipeline

from captum_shared.readout import LinearReadout

N, D = 60, 8


def make_data(seed: int = 0, n_latents: int = D, n_neurons: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.1, 5.0, n_latents)
    latents = rng.standard_normal((N, n_latents)) * scales + rng.uniform(-3, 3, n_latents)
    responses = latents @ rng.standard_normal((n_latents, n_neurons)) + rng.standard_normal((N, n_neurons))
    return latents, responses


def fit(estimator: BaseEstimator, latents: np.ndarray, responses: np.ndarray) -> BaseEstimator:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # PCA of latents without variance
        return estimator.fit(latents, responses)


def output(estimator: BaseEstimator, latents: np.ndarray) -> np.ndarray:
    name = "decision_function" if hasattr(estimator, "decision_function") else "predict"
    return getattr(estimator, name)(latents).reshape(len(latents), -1)


def assert_folds(estimator: BaseEstimator, latents: np.ndarray) -> None:
    readout = LinearReadout.from_estimator(estimator)
    expected = output(estimator, latents)
    assert readout.weight.dtype == torch.float64
    received = readout(torch.from_numpy(latents)).numpy()
    assert received.shape == expected.shape
    np.testing.assert_allclose(received, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


# The module


def test_forward_is_the_affine_map() -> None:
    rng = np.random.default_rng(0)
    weight, bias, latents = rng.standard_normal((3, 5)), rng.standard_normal(3), rng.standard_normal((4, 5))
    readout = LinearReadout(weight, bias)
    slow = [[sum(w * z for w, z in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
            for x in latents]  # fmt: skip
    np.testing.assert_allclose(readout(torch.from_numpy(latents)), slow, rtol=1e-12)
    assert (readout.n_neurons, readout.n_latents) == (3, 5)
    assert "n_latents=5, n_neurons=3, dtype=torch.float64" in repr(readout)


@pytest.mark.parametrize("weight", [[1.0, 2.0], np.array([1, 2]), torch.tensor([1.0, 2.0]), np.float32([[1, 2]])])
def test_one_neuron_without_bias(weight: ArrayLike) -> None:
    readout = LinearReadout(weight)
    assert readout.weight.shape == (1, 2)
    assert readout.bias.tolist() == [0.0]
    assert readout(torch.tensor([[3.0, 4.0]])).tolist() == [[11.0]]


@pytest.mark.parametrize("stored", [torch.float32, torch.float64])
@pytest.mark.parametrize("given_dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_computes_in_the_dtype_of_the_latents(stored: torch.dtype, given_dtype: torch.dtype) -> None:
    readout = LinearReadout(torch.ones(2, 3, dtype=stored), 0.5 * torch.ones(2, dtype=stored))
    assert readout.weight.dtype == readout.bias.dtype == stored
    responses = readout(torch.ones(1, 3, dtype=given_dtype))
    assert responses.dtype == given_dtype
    assert responses.tolist() == [[3.5, 3.5]]


def test_to_converts_and_nothing_is_trainable() -> None:
    readout = LinearReadout(np.ones((2, 3)), np.ones(2)).to(torch.float32)
    assert readout.weight.dtype == readout.bias.dtype == torch.float32
    assert list(readout.parameters()) == []
    assert set(readout.state_dict()) == {"weight", "bias"}


def test_the_weight_is_a_copy() -> None:
    weight, tensor = np.ones((1, 2)), torch.ones(1, 2)
    readouts = LinearReadout(weight), LinearReadout(tensor)
    weight[:], tensor[:] = 5, 5
    assert all(readout.weight.tolist() == [[1.0, 1.0]] for readout in readouts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((1, 2, 3)),), r"`weight` must be (K, D) or (D,) and not empty, got shape (1, 2, 3)"),
        ((3.0,), "`weight` must be (K, D) or (D,) and not empty, got shape ()"),
        ((np.zeros((0, 3)),), "got shape (0, 3)"),
        ((np.zeros((2, 3)), np.zeros(3)), "`bias` must be (2,) to fit `weight`, got shape (3,)"),
        ((np.zeros((2, 3)), 1.0), "`bias` must be (2,) to fit `weight`, got shape (1,)"),
        (([[1.0, np.nan], [np.inf, 0.0]],), "`weight` must be finite, got 2 NaN or infinite values"),
        ((torch.ones(2), torch.tensor([np.nan])), "`bias` must be finite, got 1 NaN"),
        ((np.ones(2, dtype=complex),), "`weight` must be real, got torch.complex128"),
        ((np.ones((2, 3)), None, ["a"]), "`neuron_ids` must name 2 neurons, got 1"),
    ],
)
def test_refuses_bad_arguments(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LinearReadout(*arguments)


@pytest.mark.parametrize("shape", [(2, 4), (3,), (1, 3, 1)])
def test_refuses_latents_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"`latents` must be (N, 3), got shape {shape}")):
        LinearReadout(np.ones((2, 3)))(torch.ones(shape))


def test_refuses_integer_latents() -> None:
    with pytest.raises(TypeError, match=r"`latents` must be of a floating dtype, got torch\.int64"):
        LinearReadout(np.ones((2, 3)))(torch.ones(1, 3, dtype=torch.int64))


# Captum


def small_network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU()).double()
    return torch.nn.Sequential(encoder, LinearReadout(torch.randn(3, 6).double(), torch.randn(3).double()))


@pytest.mark.parametrize("method", [IntegratedGradients, DeepLift, LRP])
def test_captum_methods_treat_the_readout_as_a_linear_layer_on_every_call(method: type[Attribution]) -> None:
    model, x = small_network(), torch.rand(5, 4).double()
    twin = torch.nn.Sequential(model[0], torch.nn.Linear(6, 3).double())
    twin[1].weight.data, twin[1].bias.data = model[1].weight, model[1].bias
    for _ in range(2):
        received, expected = (method(each).attribute(x, target=2) for each in (model, twin))
        torch.testing.assert_close(received, expected)
    assert received.abs().max() > 0


def test_lrp_uses_a_rule_that_the_user_sets() -> None:
    from captum.attr._utils.lrp_rules import EpsilonRule

    model, x = small_network(), torch.rand(5, 4).double()
    default = LRP(model).attribute(x, target=2)
    model[1].rule = EpsilonRule(epsilon=10.0)
    assert not torch.allclose(LRP(model).attribute(x, target=2), default)
    torch.testing.assert_close(LRP(model).attribute(x, target=2), default)  # Captum removed the user's rule


# The file


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_save_and_load(
    tmp_path_factory: pytest.TempPathFactory, n_neurons: int, n_latents: int, dtype: torch.dtype, named: bool
) -> None:
    path = tmp_path_factory.mktemp("readout") / "readout.safetensors"
    ids = [f"neuron é{k}" for k in range(n_neurons)] if named else None
    readout = LinearReadout(torch.randn(n_latents, n_neurons, dtype=dtype).T, torch.randn(n_neurons), ids)
    readout.save(path)
    loaded = LinearReadout.load(path)
    assert loaded.weight.dtype == dtype
    assert torch.equal(loaded.weight, readout.weight)
    assert torch.equal(loaded.bias, readout.bias)
    assert loaded.neuron_ids == (tuple(ids) if named else None)
    assert set(load_file(path)) == {"weight", "bias"}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "readout.safetensors"
    LinearReadout(np.ones(2)).save(path)
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        LinearReadout(np.zeros(2)).save(path)
    assert LinearReadout.load(path).weight.tolist() == [[1.0, 1.0]]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_load_refuses_a_pickle_and_other_tensors(tmp_path: Path) -> None:
    pickled, other = tmp_path / "pickled.pt", tmp_path / "other.safetensors"
    torch.save({"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, pickled)
    save_file({"weight": torch.ones(1, 2)}, other)
    with pytest.raises(ValueError, match=r"pickled\.pt' is not a readable safetensors file"):
        LinearReadout.load(pickled)
    with pytest.raises(ValueError, match=r"expected the tensors 'weight' and 'bias', got \['weight'\]"):
        LinearReadout.load(other)
    with pytest.raises(FileNotFoundError):
        LinearReadout.load(tmp_path / "absent.safetensors")


# Folding: models

SINGLE = [
    linear_model.LinearRegression(),
    linear_model.LinearRegression(fit_intercept=False),
    linear_model.Ridge(),
    linear_model.RidgeCV(),
    linear_model.Lasso(0.1),
    linear_model.LassoCV(cv=3),
    linear_model.ElasticNet(0.1),
    linear_model.ElasticNetCV(cv=3),
    linear_model.BayesianRidge(),
    linear_model.Lars(),
    linear_model.OrthogonalMatchingPursuit(),
    linear_model.HuberRegressor(max_iter=1000),
    linear_model.SGDRegressor(random_state=0, eta0=1e-4),
    linear_model.TweedieRegressor(power=0),  # identity link
    svm.LinearSVR(),
    svm.SVR(kernel="linear"),
    cross_decomposition.PLSRegression(2),
]
MULTI = [
    linear_model.LinearRegression(),
    linear_model.Ridge(),
    linear_model.RidgeCV(alphas=[0.1, 1, 10], alpha_per_target=True),
    linear_model.Lasso(0.1),
    linear_model.MultiTaskLasso(0.1),
    linear_model.MultiTaskLassoCV(cv=3),
    linear_model.MultiTaskElasticNet(0.1),
    linear_model.MultiTaskElasticNetCV(cv=3),
    cross_decomposition.PLSRegression(2),
    cross_decomposition.PLSRegression(2, scale=False),
    multioutput.MultiOutputRegressor(svm.LinearSVR()),
    multioutput.MultiOutputRegressor(make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge())),
]
CLASSIFIERS = [
    linear_model.LogisticRegression(max_iter=1000),
    linear_model.LogisticRegressionCV(Cs=3, cv=3, max_iter=1000, scoring="accuracy"),
    linear_model.RidgeClassifier(),
    linear_model.RidgeClassifierCV(),
    linear_model.SGDClassifier(random_state=0),
    linear_model.Perceptron(random_state=0),
    svm.LinearSVC(),
    discriminant_analysis.LinearDiscriminantAnalysis(),
    multiclass.OneVsRestClassifier(svm.LinearSVC()),
]


def names(estimators: Sequence[BaseEstimator]) -> list[str]:
    return [type(each).__name__ for each in estimators]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("estimator", SINGLE, ids=names(SINGLE))
def test_folds_models_of_one_response(estimator: BaseEstimator) -> None:
    latents, responses = make_data()
    assert_folds(fit(clone(estimator), latents, responses[:, 0]), latents)


@pytest.mark.parametrize("estimator", MULTI, ids=names(MULTI))
def test_folds_models_of_several_responses(estimator: BaseEstimator) -> None:
    latents, responses = make_data()
    assert_folds(fit(clone(estimator), latents, responses), latents)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=names(CLASSIFIERS))
def test_folds_the_decision_function_of_classifiers(estimator: BaseEstimator, n_classes: int) -> None:
    latents, responses = make_data()
    labels = responses[:, :n_classes].argmax(1)
    fitted = fit(clone(estimator), latents, labels)
    assert_folds(fitted, latents)
    assert LinearReadout.from_estimator(fitted).n_neurons == (1 if n_classes == 2 else 3)


@pytest.mark.parametrize("before", [[], [preprocessing.StandardScaler()]])
@pytest.mark.parametrize(
    "step", [decomposition.PCA(20), decomposition.PCA(20, whiten=True), decomposition.IncrementalPCA(20)]
)
def test_folds_components_fitted_in_single_precision(step: BaseEstimator, before: BaseEstimator | None) -> None:
    rng = np.random.default_rng(0)
    latents = (rng.standard_normal((200, 100)) + 3).astype(np.float32)
    pipeline = make_pipeline(*before, step, linear_model.Ridge()).fit(latents, rng.standard_normal(200))
    readout = LinearReadout.from_estimator(pipeline)
    predicted = readout(torch.from_numpy(latents).double()).detach().numpy()[:, 0]
    assert np.abs(predicted - pipeline.predict(latents)).max() < 1e-4


def test_folds_float32_and_sparse_coefficients() -> None:
    latents, responses = make_data()
    assert_folds(linear_model.Ridge().fit(latents.astype(np.float32), responses), latents)
    assert_folds(linear_model.SGDRegressor(eta0=1e-4).fit(latents, responses[:, 0]).sparsify(), latents)


def test_folds_a_grid_search() -> None:
    latents, responses = make_data()
    pipeline = make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge())
    search = model_selection.GridSearchCV(pipeline, {"ridge__alpha": [0.1, 10.0]}, cv=3)
    assert_folds(search.fit(latents, responses), latents)


@pytest.mark.parametrize("transformer", [preprocessing.StandardScaler(), preprocessing.MinMaxScaler(), None])
@pytest.mark.parametrize("n_neurons", [1, 3])
def test_folds_scaled_responses(transformer: BaseEstimator, n_neurons: int) -> None:
    latents, responses = make_data(n_neurons=n_neurons)
    regressor = make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge())
    model = compose.TransformedTargetRegressor(regressor, transformer=transformer)
    assert_folds(model.fit(latents, responses), latents)


# Folding: steps


def steps_of(draw_rank: Callable[[], int]) -> dict[str, BaseEstimator]:
    return {
        "StandardScaler": preprocessing.StandardScaler(),
        "no mean": preprocessing.StandardScaler(with_mean=False),
        "no std": preprocessing.StandardScaler(with_std=False),
        "neither": preprocessing.StandardScaler(with_mean=False, with_std=False),
        "MinMaxScaler": preprocessing.MinMaxScaler((-1, 2)),
        "MaxAbsScaler": preprocessing.MaxAbsScaler(),
        "RobustScaler": preprocessing.RobustScaler(),
        "RobustScaler bare": preprocessing.RobustScaler(with_centering=False, with_scaling=False),
        "PCA": decomposition.PCA(draw_rank),
        "PCA whiten": decomposition.PCA(draw_rank, whiten=True),
        "IncrementalPCA": decomposition.IncrementalPCA(draw_rank, whiten=True),
        "TruncatedSVD": decomposition.TruncatedSVD(draw_rank, random_state=0),
        "FastICA": decomposition.FastICA(draw_rank, random_state=0),
        "FastICA unwhitened": decomposition.FastICA(whiten=False, random_state=0),
        "FactorAnalysis": decomposition.FactorAnalysis(draw_rank),
        "GaussianRandomProjection": random_projection.GaussianRandomProjection(draw_rank, random_state=0),
        "SparseRandomProjection": random_projection.SparseRandomProjection(draw_rank, random_state=0),
        "SelectKBest": feature_selection.SelectKBest(feature_selection.f_regression, k=draw_rank),
        "SelectPercentile": feature_selection.SelectPercentile(feature_selection.f_regression, percentile=60),
        "VarianceThreshold": feature_selection.VarianceThreshold(),
        "SelectFromModel": feature_selection.SelectFromModel(linear_model.Ridge(), max_features=draw_rank),
        "RFE": feature_selection.RFE(linear_model.Ridge(), n_features_to_select=draw_rank),
        "passthrough": "passthrough",
        "None": None,
    }


STEP_NAMES = list(steps_of(2))


@pytest.mark.parametrize("name", STEP_NAMES)
def test_folds_each_step(name: str) -> None:
    latents, responses = make_data()
    pipeline = Pipeline([("step", steps_of(4)[name]), ("ridge", linear_model.Ridge())])
    assert_folds(fit(pipeline, latents, responses[:, 0]), latents)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(STEP_NAMES), max_size=4), st.integers(0, 10_000), st.booleans(), st.data())
def test_folds_random_pipelines(chosen: list[str], seed: int, nested: bool, data: st.DataObject) -> None:
    latents, responses = make_data(seed, n_latents=data.draw(st.integers(5, 12)))
    steps: list[BaseEstimator] = []
    reached = latents
    for name in chosen:
        step = steps_of(data.draw(st.integers(2, reached.shape[1])))[name]
        after = fit(step, reached, responses[:, 0]).transform(reached) if hasattr(step, "fit") else reached
        if after.shape[1] < 2 or np.linalg.cond(after - after.mean(0)) > 1e6:
            break  # directions without variance are rounding errors, which a later step or the model scales up
        reached = after
        steps.append((f"step{len(steps)}", step))
    model = linear_model.Ridge().fit(reached, responses)
    if nested and len(steps) > 1:
        steps = [("inner", Pipeline(steps[:-1])), steps[-1]]
    assert_folds(Pipeline([*steps, ("model", model)]), latents)


def test_folding_survives_constant_latents_and_far_means() -> None:
    latents, responses = make_data()
    latents[:, 0], latents[:, 1] = 7.0, latents[:, 1] * 1e-3 + 100.0
    for scaler in (
        preprocessing.StandardScaler(),
        preprocessing.MinMaxScaler(),
        preprocessing.RobustScaler(),
    ):
        assert_folds(make_pipeline(scaler, linear_model.Ridge()).fit(latents, responses), latents)


@pytest.mark.filterwarnings("error")
def test_folding_is_silent_for_estimators_fitted_with_feature_names() -> None:
    latents, responses = make_data()
    pipeline = make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge()).fit(latents, responses)
    pipeline[0].feature_names_in_ = np.array([f"z{k}" for k in range(D)], dtype=object)  # as after a DataFrame
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        expected = pipeline.predict(latents)
    readout = LinearReadout.from_estimator(pipeline)
    np.testing.assert_allclose(readout(torch.from_numpy(latents)), expected, rtol=1e-9)


# Folding: refusals


@pytest.mark.parametrize(
    ("pca", "dtype"),
    [
        (decomposition.PCA(whiten=True), np.float64),
        (decomposition.PCA(whiten=True), np.float32),
        (decomposition.IncrementalPCA(whiten=True), np.float64),
    ],
)
def test_whitened_rounding_errors_are_refused(pca: BaseEstimator, dtype: torch.dtype) -> None:
    latents, responses = make_data()
    latents[:, 3] = latents[:, 0] - latents[:, 1]
    pipeline = make_pipeline(clone(pca), linear_model.Ridge()).fit(latents.astype(dtype), responses)
    with pytest.raises(ValueError, match=r"whitens components without variance.* at most 7 components.* got 8"):
        LinearReadout.from_estimator(pipeline)
    assert_folds(pipeline.set_params(**{f"{pipeline.steps[0][0]}__n_components": 7}).fit(latents, responses), latents)


class Rectified(linear_model.Ridge):
    """Looks like Ridge, and is not linear."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.maximum(super().predict(X), 0)


class Cubed(preprocessing.StandardScaler):
    """Looks like a StandardScaler, and is not linear."""

    def transform(self, X: np.ndarray, copy: bool | None = None) -> np.ndarray:
        return super().transform(X) ** 3


class Picky(preprocessing.StandardScaler):
    """A transformer that takes positive latents only."""

    def transform(self, X: np.ndarray, copy: bool | None = None) -> np.ndarray:
        if (np.asarray(X) < 0).any():
            raise ValueError("negative latents")
        return super().transform(X)


NOT_LINEAR_STEPS = [
    preprocessing.Normalizer(),
    preprocessing.PolynomialFeatures(),
    preprocessing.MinMaxScaler(clip=True),
    preprocessing.FunctionTransformer(np.tanh),
    preprocessing.PowerTransformer(),
    preprocessing.QuantileTransformer(n_quantiles=10),
    preprocessing.Binarizer(),
    decomposition.KernelPCA(3, kernel="rbf"),
    compose.ColumnTransformer([("scale", preprocessing.StandardScaler(), [0, 1])]),
    Cubed(),
    Picky(),
]


@pytest.mark.parametrize("step", NOT_LINEAR_STEPS, ids=names(NOT_LINEAR_STEPS))
def test_a_step_that_is_not_linear_is_named(step: BaseEstimator) -> None:
    latents, responses = make_data()
    latents = np.abs(latents)
    inner = Pipeline([("scale", preprocessing.MaxAbsScaler()), ("bend", clone(step))])
    pipeline = Pipeline([("inner", inner), ("ridge", linear_model.Ridge())]).fit(latents, responses)
    message = rf"step 'inner__bend' \({type(step).__name__}\) is not linear"
    with pytest.raises(ValueError, match=message):
        LinearReadout.from_estimator(pipeline)


NOT_LINEAR_MODELS = [
    linear_model.PoissonRegressor(),
    linear_model.GammaRegressor(),
    linear_model.TweedieRegressor(power=1.5),
    ensemble.RandomForestRegressor(n_estimators=2),
    kernel_ridge.KernelRidge(kernel="rbf"),
    svm.SVR(kernel="rbf"),
    Rectified(),
    compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.log, inverse_func=np.exp),
]


@pytest.mark.parametrize("model", NOT_LINEAR_MODELS, ids=names(NOT_LINEAR_MODELS))
def test_a_model_that_is_not_linear_is_named(model: BaseEstimator) -> None:
    latents, responses = make_data()
    rates = np.exp(responses[:, 0] / np.abs(responses).max())
    rates = rates - rates.mean() if isinstance(model, Rectified) else rates
    name = type(model).__name__
    with pytest.raises(ValueError, match=rf"^{name} is not linear"):
        LinearReadout.from_estimator(clone(model).fit(latents, rates))
    pipeline = Pipeline([("scale", preprocessing.StandardScaler()), ("model", clone(model))])
    with pytest.raises(ValueError, match=rf"^step 'model' \({name}\) is not linear"):
        LinearReadout.from_estimator(pipeline.fit(latents, rates))


def test_nmf_is_refused_and_the_way_out_is_named() -> None:
    latents, responses = make_data()
    pipeline = make_pipeline(decomposition.NMF(3, max_iter=2000), linear_model.Ridge())
    with pytest.raises(ValueError, match=r"step 'nmf' \(NMF\) is not linear: .*nmf_least_squares=True"):
        LinearReadout.from_estimator(pipeline.fit(np.abs(latents), responses))


def test_one_vs_one_decisions_are_not_linear() -> None:
    latents, responses = make_data()
    with pytest.raises(ValueError, match="SVC is not linear"):
        LinearReadout.from_estimator(svm.SVC(kernel="linear").fit(latents, responses.argmax(1)))


def test_a_rotation_of_the_responses_is_refused() -> None:
    latents, responses = make_data()
    model = compose.TransformedTargetRegressor(linear_model.Ridge(), transformer=decomposition.PCA(3))
    with pytest.raises(ValueError, match="TransformedTargetRegressor is not folded: PCA mixes the responses"):
        LinearReadout.from_estimator(model.fit(latents, responses))


def test_what_is_not_fitted_is_named() -> None:
    latents, responses = make_data()
    with pytest.raises(ValueError, match=r"^Ridge is not fitted: call its `fit` first"):
        LinearReadout.from_estimator(linear_model.Ridge())
    pipeline = Pipeline([("scale", preprocessing.StandardScaler()), ("ridge", linear_model.Ridge())])
    with pytest.raises(ValueError, match=r"step 'scale' \(StandardScaler\) is not fitted"):
        LinearReadout.from_estimator(pipeline)
    pipeline.fit(latents, responses).set_params(ridge=linear_model.Lasso())
    with pytest.raises(ValueError, match=r"step 'ridge' \(Lasso\) is not fitted"):
        LinearReadout.from_estimator(pipeline)


def test_refuses_what_is_no_linear_model() -> None:
    latents, responses = make_data()
    scaler = make_pipeline(preprocessing.StandardScaler()).fit(latents)
    with pytest.raises(ValueError, match=r"step 'standardscaler' \(StandardScaler\) does not predict"):
        LinearReadout.from_estimator(scaler)
    with pytest.raises(TypeError, match="expected fitted scikit-learn estimators, got str"):
        LinearReadout.from_estimator("ridge")
    with pytest.raises(TypeError, match=r"expected fitted scikit-learn estimators, got Ridge \(a class\)"):
        LinearReadout.from_estimator(linear_model.Ridge)
    with pytest.raises(TypeError, match="expected fitted scikit-learn estimators, got none"):
        LinearReadout.from_estimator(None)
    assert responses.shape == (N, 3)


def test_coefficients_that_do_not_fit_the_output_are_refused() -> None:
    class Summed(RegressorMixin, BaseEstimator):
        def fit(self, X: np.ndarray, y: np.ndarray) -> BaseEstimator:
            self.coef_ = np.ones((2, X.shape[1]))
            return self

        def predict(self, X: np.ndarray) -> np.ndarray:
            return X @ self.coef_.sum(0)

    with pytest.raises(ValueError, match="Summed is not linear: `coef_` has 2 rows for 1 outputs"):
        LinearReadout.from_estimator(Summed().fit(*make_data()))


def test_the_package_exports_what_it_says() -> None:
    module = import_module("captum_shared.readout")
    assert module.__all__ == [
        "LinearReadout",
        "ReadoutFit",
        "ceiling_corrected",
        "fit_readout",
        "latent_transform",
        "noise_ceiling",
        "reliability_of_means",
        "split_half_reliability",
    ]
