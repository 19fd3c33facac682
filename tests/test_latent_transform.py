"""latent_transform: fitted scikit-learn transformers as a differentiable module."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LRP, Attribution, DeepLift, IntegratedGradients
from sklearn import cross_decomposition, decomposition, feature_selection, preprocessing, random_projection
from sklearn.base import TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline

from captum_shared.readout import LinearReadout, latent_transform

N, D = 50, 7


@pytest.fixture(scope="module")
def latents() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.gamma(2.0, rng.uniform(0.1, 5.0, D), (N, D))


TRANSFORMERS = {
    "StandardScaler": preprocessing.StandardScaler(),
    "no mean": preprocessing.StandardScaler(with_mean=False),
    "no std": preprocessing.StandardScaler(with_std=False),
    "MinMaxScaler": preprocessing.MinMaxScaler((2, 5)),
    "MaxAbsScaler": preprocessing.MaxAbsScaler(),
    "RobustScaler": preprocessing.RobustScaler(quantile_range=(10, 90)),
    "PCA": decomposition.PCA(3),
    "PCA whiten": decomposition.PCA(3, whiten=True),
    "TruncatedSVD": decomposition.TruncatedSVD(3, random_state=0),
    "FastICA": decomposition.FastICA(3, random_state=0),
    "FactorAnalysis": decomposition.FactorAnalysis(3),
    "SparseRandomProjection": random_projection.SparseRandomProjection(3, random_state=0),
    "PLSRegression": cross_decomposition.PLSRegression(2),
    "CCA": cross_decomposition.CCA(2),
    "SelectKBest": feature_selection.SelectKBest(feature_selection.f_regression, k=3),
    "VarianceThreshold": feature_selection.VarianceThreshold(1.0),
    "Pipeline": Pipeline([("inner", make_pipeline(preprocessing.StandardScaler(), "passthrough")),
                          ("pca", decomposition.PCA(4)), ("last", preprocessing.MinMaxScaler())]),
}  # fmt: skip


@pytest.fixture(params=TRANSFORMERS)
def transformer(request: pytest.FixtureRequest, latents: np.ndarray) -> TransformerMixin:
    responses = latents[:, :2] ** 2
    multi = request.param == "CCA"
    return copy.deepcopy(TRANSFORMERS[request.param]).fit(latents, responses if multi else responses[:, 0])


def test_equals_transform_in_float64(transformer: TransformerMixin, latents: np.ndarray) -> None:
    module = latent_transform(transformer)
    expected = transformer.transform(latents)
    received = module(torch.from_numpy(latents))
    assert received.dtype == torch.float64
    np.testing.assert_allclose(received, expected, rtol=1e-10, atol=1e-12)
    assert (module.n_features_in, module.n_features_out) == (D, expected.shape[1])


def test_jacobian_is_the_slope_of_transform(transformer: TransformerMixin, latents: np.ndarray) -> None:
    module, x = latent_transform(transformer), torch.from_numpy(latents[0])
    jacobian = torch.autograd.functional.jacobian(lambda z: module(z[None])[0], x)
    at_zero = transformer.transform(np.zeros((1, D)))
    slope = (transformer.transform(np.eye(D)) - at_zero).T
    np.testing.assert_allclose(jacobian, slope, rtol=1e-9, atol=1e-11)


def test_computes_in_the_dtype_of_the_latents(transformer: TransformerMixin, latents: np.ndarray) -> None:
    module, exact = latent_transform(transformer), transformer.transform(latents)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
        for variant in (module, copy.deepcopy(module).to(dtype)):
            received = variant(torch.from_numpy(latents).to(dtype))
            assert received.dtype == dtype
            error = np.abs(received.double().numpy() - exact).max() / np.abs(exact).max()
            assert error < tolerance


def test_several_transformers_apply_in_their_order(latents: np.ndarray) -> None:
    scaler = preprocessing.StandardScaler().fit(latents)
    pca = decomposition.PCA(3).fit(scaler.transform(latents))
    received = latent_transform(scaler, pca)(torch.from_numpy(latents))
    np.testing.assert_allclose(received, pca.transform(scaler.transform(latents)), rtol=1e-10, atol=1e-12)


def test_a_constant_latent_is_left_unscaled_as_by_scikit_learn(latents: np.ndarray) -> None:
    constant = latents.copy()
    constant[:, 2] = 4.0
    scaler = preprocessing.StandardScaler().fit(constant)
    assert scaler.scale_[2] == 1.0
    probe = torch.full((1, D), 6.0, dtype=torch.float64)
    assert latent_transform(scaler)(probe)[0, 2] == 2.0


def test_float32_keeps_its_precision_where_the_mean_is_far_from_zero() -> None:
    rng = np.random.default_rng(0)
    far = (1000 + 1e-2 * rng.standard_normal((200, 3))).astype(np.float32)
    scaler = preprocessing.StandardScaler().fit(far.astype(np.float64))
    received = latent_transform(scaler)(torch.from_numpy(far)).double().numpy()
    # Half a unit in the last place of the mean, 3e-5, over the spread.
    assert np.abs(received - scaler.transform(far.astype(np.float64))).max() < 1.01 * 2**-15 / scaler.scale_.min()


def test_a_scaler_stays_elementwise_for_many_latents() -> None:
    n_latents = 25_088
    scaler = preprocessing.StandardScaler().fit(np.random.default_rng(0).random((5, n_latents)))
    module = latent_transform(scaler)
    assert sum(values.numel() for values in module.buffers()) == 2 * n_latents


def test_nmf_needs_the_option_and_then_solves_without_the_constraint(latents: np.ndarray) -> None:
    nmf = decomposition.NMF(3, max_iter=20_000, tol=1e-10, random_state=0).fit(latents)
    with pytest.raises(ValueError, match=r"NMF is not linear: .* non-negative .*nmf_least_squares=True"):
        latent_transform(nmf)
    module = latent_transform(nmf, nmf_least_squares=True)
    slow = [np.linalg.lstsq(nmf.components_.T, row, rcond=None)[0] for row in latents]
    np.testing.assert_allclose(module(torch.from_numpy(latents)), slow, rtol=1e-8, atol=1e-10)
    # Where the parts explain the latents, NMF's own answer is the same.
    explained = np.random.default_rng(1).uniform(0.5, 1.5, (10, 3)) @ nmf.components_
    np.testing.assert_allclose(module(torch.from_numpy(explained)), nmf.transform(explained), rtol=1e-3)


@pytest.mark.parametrize("method", [IntegratedGradients, DeepLift, LRP])
def test_captum_treats_it_as_linear_layers_on_every_call(method: type[Attribution], latents: np.ndarray) -> None:
    scaler = preprocessing.StandardScaler().fit(latents)
    pca = decomposition.PCA(3).fit(scaler.transform(latents))
    select = feature_selection.VarianceThreshold(0.5).fit(pca.transform(scaler.transform(latents)))
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Linear(4, D), torch.nn.ReLU()).double()
    readout = LinearReadout(torch.randn(2, select.get_support().sum(), dtype=torch.float64))
    model = torch.nn.Sequential(encoder, latent_transform(scaler, pca, select), readout)
    twin = torch.nn.Sequential(encoder, *(as_linear(step) for step in (*model[1], readout)))
    x = torch.rand(5, 4, dtype=torch.float64)
    for _ in range(2):
        received, expected = (method(each).attribute(x, target=1) for each in (model, twin))
        torch.testing.assert_close(received, expected, rtol=1e-6, atol=1e-9)
    assert received.abs().max() > 0


def as_linear(step: Any) -> torch.nn.Linear:
    """The same affine map as `torch.nn.Linear`, found from its values at zero and at the unit vectors."""
    width = step.n_latents if isinstance(step, LinearReadout) else step.n_features_in
    zero = step(torch.zeros(1, width, dtype=torch.float64))
    linear = torch.nn.Linear(width, zero.shape[1]).double()
    linear.bias.data = zero[0]
    linear.weight.data = (step(torch.eye(width, dtype=torch.float64)) - zero).T.contiguous()
    return linear


def test_folding_a_readout_onto_raw_latents_is_the_same_as_transforming_them(latents: np.ndarray) -> None:
    pipeline = make_pipeline(preprocessing.StandardScaler(), decomposition.PCA(4), Ridge()).fit(latents, latents[:, :2])
    z = torch.from_numpy(latents)
    split = LinearReadout.from_estimator(pipeline[-1])(latent_transform(pipeline[:-1])(z))
    torch.testing.assert_close(LinearReadout.from_estimator(pipeline)(z), split, rtol=1e-10, atol=1e-10)


def test_state_dict_round_trip(latents: np.ndarray) -> None:
    first, second = (latent_transform(decomposition.PCA(3).fit(part)) for part in (latents, latents[:20]))
    second.load_state_dict(first.state_dict())
    z = torch.from_numpy(latents)
    assert torch.equal(first(z), second(z))


def test_refuses_what_is_not_a_linear_transformer(latents: np.ndarray) -> None:
    def refused(message: str, *transformers: object, kind: type[Exception] = ValueError) -> None:
        with pytest.raises(kind, match=message):
            latent_transform(*transformers)

    fitted = preprocessing.StandardScaler().fit(latents)
    refused("expected at least one fitted transformer, got none")
    refused("expected at least one fitted transformer, got none", "passthrough")
    refused("^StandardScaler is not fitted", preprocessing.StandardScaler())
    refused(
        "^Normalizer is not linear.*Linear steps are: StandardScaler",
        fitted,
        preprocessing.Normalizer().fit([[1.0, 2.0]]),
    )
    refused(r"^MinMaxScaler is not linear: it clips its output \(clip=True\)",
            preprocessing.MinMaxScaler(clip=True).fit(latents))  # fmt: skip
    refused(r"^step 'ridge' \(Ridge\) predicts and does not transform",
            make_pipeline(preprocessing.StandardScaler(), Ridge()).fit(latents, latents[:, 0]))  # fmt: skip
    refused("^PCA takes 7 latents, but PCA before it gives 3",
            decomposition.PCA(3).fit(latents), decomposition.PCA(2).fit(latents))  # fmt: skip
    refused("expected fitted scikit-learn estimators, got ndarray", latents, kind=TypeError)
    refused(r"got StandardScaler \(a class\)", preprocessing.StandardScaler, kind=TypeError)
    holes = latents.copy()
    holes[:, 1] = np.nan
    with np.errstate(all="ignore"):
        refused("^StandardScaler holds NaN or infinite values", preprocessing.StandardScaler().fit(holes))


@pytest.mark.filterwarnings("ignore:No features were selected")
def test_refuses_a_selector_that_keeps_nothing(latents: np.ndarray) -> None:
    nothing = feature_selection.SelectKBest(feature_selection.f_regression, k=0).fit(latents, latents[:, 0])
    with pytest.raises(ValueError, match="SelectKBest keeps none of its 7 latents"):
        latent_transform(nothing)


def test_refuses_latents_it_was_not_fitted_for(latents: np.ndarray) -> None:
    module = latent_transform(preprocessing.StandardScaler().fit(latents))
    for shape in ((2, D + 1), (D,), (2, D, 1)):
        with pytest.raises(ValueError, match=re.escape(f"`latents` must be (N, 7), got shape {shape}")):
            module(torch.ones(shape))
    with pytest.raises(TypeError, match=r"floating dtype, got torch\.int64"):
        module(torch.ones(2, D, dtype=torch.int64))
