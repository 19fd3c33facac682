"""Large and small numbers: the same answers at every scale that the type of the latents can hold, or a refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captum_shared import LinearReadout, ReferenceMatcher, category_centers, fit_readout, metrics, neuron_similarity
from captum_shared import shared_weights as shared
from captum_shared.selectivity import TopActivations, class_distribution, neuron_feature
from captum_shared.similarity import SIMILARITIES


def latents(seed: int = 0, n: int = 50, d: int = 64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=generator).double() for shape in ((3, d), (n, d), (d,)))


def expected(query: Tensor, gallery: Tensor, weight: Tensor, kind: str) -> Tensor:
    """Similarities in float64, of latents that are brought to ordinary size by powers of two."""
    return SIMILARITIES[kind](
        *(value.double() / 2.0 ** round(float(value.double().abs().max().log2())) for value in (query, gallery, weight))
    )


SCALES = [(torch.float16, 200.0), (torch.float16, 1e-3), (torch.bfloat16, 1e19), (torch.float32, 1e19), (torch.float32, 1e-25), (torch.float32, 1.0), (torch.float64, 1e100)]  # fmt: skip


@pytest.mark.parametrize("kind", SIMILARITIES)
@pytest.mark.parametrize(("dtype", "scale"), SCALES)
def test_matcher_finds_the_same_at_every_scale(dtype: torch.dtype, scale: float, kind: str) -> None:
    query, gallery, weight = (
        value.to(dtype) for value in (q * s for q, s in zip(latents(), (scale, scale, 1.0), strict=True))
    )
    match = ReferenceMatcher(gallery, kind).match(query, weight, k=3)
    assert torch.equal(match.index, expected(query, gallery, weight, kind).topk(3).indices)
    assert bool(match.similarity.isfinite().all())
    exact = SIMILARITIES[kind](query.double(), gallery.double(), weight.double()).gather(1, match.index)
    assert torch.allclose(match.similarity.double(), exact, rtol=1e-3)


def test_the_matcher_widens_only_what_needs_it() -> None:
    query, gallery, weight = (value.float() for value in latents())
    assert ReferenceMatcher(gallery).match(query, weight).similarity.dtype == torch.float32
    assert ReferenceMatcher(gallery).match(query, torch.zeros(64)).similarity.dtype == torch.float32
    assert ReferenceMatcher(gallery.half()).match(query.half(), weight.half()).similarity.dtype == torch.float32
    assert ReferenceMatcher(gallery * 1e19).match(query * 1e19, weight).similarity.dtype == torch.float64


def test_a_query_wider_than_the_gallery_keeps_its_range() -> None:
    query, gallery, weight = latents()
    match = ReferenceMatcher(gallery.half()).match(query * 1e6, weight)
    assert torch.equal(match.index, (query * weight @ gallery.half().double().T).topk(1).indices)


def test_what_no_type_holds_is_refused() -> None:
    query, gallery, weight = latents()
    with pytest.raises(
        ValueError, match=r"similarities of latents up to .* may exceed torch.float64; expected smaller"
    ):
        ReferenceMatcher(gallery * 1e160).match(query * 1e160, weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_similarity_of_half_precision(dtype: torch.dtype) -> None:
    query, gallery, weight = (value.to(dtype) * s for value, s in zip(latents(), (200, 200, 1), strict=True))
    s = neuron_similarity(query, gallery, weight)
    assert s.dtype == torch.float32
    assert torch.allclose(s.double(), query.double() * weight.double() @ gallery.double().T, rtol=1e-5, atol=1)


def test_similarity_refuses_what_overflows() -> None:
    query, gallery, weight = (value.float() * s for value, s in zip(latents(), (1e19, 1e19, 10), strict=True))
    with pytest.raises(ValueError, match="similarities exceed torch.float32; expected smaller latents, or float64"):
        neuron_similarity(query, gallery, weight)
    assert bool(
        neuron_similarity(query, torch.full_like(gallery, torch.nan), weight).isnan().all()
    )  # of unreadable images


@given(st.integers(-60, 60), st.integers(-60, 60), st.integers(0, 99))
def test_cosine_does_not_depend_on_scales(a: int, b: int, seed: int) -> None:
    query, gallery, weight = (value.float() for value in latents(seed, n=4, d=5))
    s = neuron_similarity(query * 2.0**a, gallery * 2.0**-a, weight * 2.0**b, "cosine")
    assert torch.allclose(s, neuron_similarity(query, gallery, weight, "cosine"), atol=1e-6)
    each = torch.tensor([2.0**a, 1.0, 2.0**-a, 2.0**b])[:, None]
    assert torch.allclose(neuron_similarity(query, gallery * each, weight, "cosine"), s, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "scale"), [(torch.float16, 200.0), (torch.float16, 1e4), (torch.float32, 1e30), (torch.float32, 1e-30)]
)
def test_matched_scales_the_center_as_at_ordinary_size(dtype: torch.dtype, scale: float) -> None:
    z, weight = latents()[0].abs().to(dtype), latents()[2].abs().to(dtype)
    z_ref, center = (z * 0.5 * scale), (z[0] * scale)
    found = shared(z, z_ref, weight, rule="matched", center=center)
    wanted = shared(z.double(), z_ref.double() / scale, weight.double(), rule="matched", center=center.double() / scale)
    assert found.dtype == dtype
    assert torch.allclose(found.double() / scale, wanted, rtol=0.02, atol=0.01)


def test_shared_weights_refuse_what_overflows() -> None:
    z = torch.full((1, 4), 300.0, dtype=torch.float16)
    with pytest.raises(
        ValueError,
        match=r"shared weights hold NaN or infinity \(torch.float16\); expected finite latents .* in a dtype that holds",
    ):
        shared(z, z, torch.ones(4, dtype=torch.float16))


def test_centers_of_half_precision() -> None:
    _, gallery, weight = latents()
    names = ["a", "b", "c", "d", "e"] * 10
    half, double = (
        category_centers(g, w, names, "a")
        for g, w in ((gallery.half() * 500, weight.half() * 50), (gallery * 500, weight * 50))
    )
    for found, wanted in zip(half, double, strict=True):
        assert torch.allclose(found.double(), wanted, rtol=0.01, atol=1)


def test_readout_of_half_precision() -> None:
    readout = LinearReadout(np.array([[1e5, -1e5, 1.0]]))  # weights that float16 cannot hold
    z = torch.tensor([[2.0, 2.0, 3.0]], dtype=torch.float16)
    assert torch.equal(readout(z), torch.tensor([[3.0]], dtype=torch.float16))


def test_fitted_readouts_at_every_scale() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = x @ [1.0, 2.0, 0.5] + rng.normal(size=40)
    r = fit_readout(x, y).cv_r
    assert np.allclose(fit_readout(x, y * 1e100).cv_r, r)
    with pytest.raises(
        ValueError, match="the readout's weights exceed torch.float32; expected smaller responses, or float64 latents"
    ):
        fit_readout(x.astype(np.float32), y * 1e40)


HEAT = torch.tensor([[4.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
P, Q = torch.tensor([[True, True], [False, False]]), torch.tensor([[False, False], [True, True]])
SCORES: dict[str, Any] = {
    "mass": lambda heat: metrics.relevance_mass_accuracy(heat, P),
    "rank": lambda heat: metrics.relevance_rank_accuracy(heat, P),
    "contrast": lambda heat: metrics.density_contrast(heat, P, Q),
    "auroc": lambda heat: metrics.p_vs_q_auroc(heat, P, Q),
    "correlation": lambda heat: metrics.rank_correlation(heat[None], HEAT[None]),
    "density": lambda heat: metrics.heat_density(heat, P | Q) / heat.max(),
    "area": lambda heat: metrics.curve_area(heat) / heat.max(),
    "interval": lambda heat: torch.tensor(metrics.bootstrap_interval(heat.flatten().numpy()), dtype=torch.float64) / heat.max(),
}  # fmt: skip


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("exponent", [-1000, 1021])
def test_scores_do_not_depend_on_the_scale_of_the_heat(score: str, exponent: int) -> None:
    assert torch.allclose(SCORES[score](HEAT * 2.0**exponent), SCORES[score](HEAT))


def test_curves_of_half_precision() -> None:
    assert metrics.curve_area(torch.tensor([6e4, 6e4], dtype=torch.float16)) == torch.tensor(6e4, dtype=torch.float16)


@pytest.mark.parametrize("scale", [1e38, 1e-38])
def test_neuron_features_at_every_scale(scale: float) -> None:
    crops = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2), torch.ones(3, 2, 2)])
    activations = torch.tensor([2.0, 1.0, 1.0])
    assert torch.allclose(neuron_feature(activations * scale, crops), torch.full((3, 2, 2), 0.5))


def test_classes_at_every_scale() -> None:
    responses = torch.tensor([[3.0], [2.0], [1.0]], dtype=torch.float64)
    both = [
        class_distribution(TopActivations.from_responses(responses * scale), ["a", "b", "a"])[1]
        for scale in (1.0, 2.0**1021)
    ]
    assert torch.allclose(*both)
