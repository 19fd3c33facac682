"""The moment rule against a loop over the gallery's images, and by what it promises."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captum_shared import LatentEncoder, ParallelBackprop, ReferenceMatcher, moment_rule, neuron_similarity
from captum_shared.similarity import moments, shared_weights

pytestmark = pytest.mark.filterwarnings("ignore:the third moments of")


def slow_constant(gallery: Tensor, z_ref: Tensor, w: Tensor, contrast: float, ridges: tuple[float, float]) -> Tensor:
    """c (D,) for one reference (D,) and one neuron (D,), written out."""
    zeta = gallery - gallery.mean(0)
    d = gallery.shape[1]
    covariance = sum(torch.outer(g, g) for g in zeta) / len(zeta)
    near, front = (covariance + ridge * covariance.trace() / d * torch.eye(d).to(w) for ridge in ridges)
    direction = torch.linalg.solve(near, z_ref - gallery.mean(0))
    drive, driver, mean_drive, total = 0.0, 0.0, 0.0, 0.0
    for g in zeta:
        drive += max(float(w @ g), 0.0)
        driver = driver + max(float(w @ g), 0.0) * g
        mean_drive = mean_drive + (w @ g) * g / len(zeta)
        total = total + (w @ g) * (g @ direction) * g / len(zeta)
    driver = driver / drive
    common = (driver @ direction) * mean_drive + (mean_drive @ direction) * driver
    return torch.linalg.solve(front, total - contrast / 2 * common)


def skewed(n: int, d: int, generator: torch.Generator | None = None) -> Tensor:
    """Latents that are correlated and skewed, in double precision."""
    z = torch.randn(n, d, dtype=torch.float64, generator=generator).exp()
    return z @ torch.randn(d, d, dtype=torch.float64, generator=generator)


@st.composite
def problems(draw: Any) -> tuple[Tensor, Tensor, Tensor]:
    n, d, pairs, seed = (
        draw(st.integers(3, 20)),
        draw(st.integers(1, 6)),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 9999)),
    )
    generator = torch.Generator().manual_seed(seed)
    gallery, z_ref = skewed(n, d, generator), skewed(pairs, d, generator)
    return gallery, z_ref, torch.randn(pairs, d, dtype=torch.float64, generator=generator)


@given(problem=problems(), contrast=st.sampled_from([0.0, 0.5, 1.0]), ridges=st.sampled_from([(0.3, 3.0), (1.0, 1.0)]))
def test_it_is_the_loop_over_the_gallery(problem: Any, contrast: float, ridges: tuple[float, float]) -> None:
    gallery, z_ref, weights = problem
    found = moment_rule(gallery, contrast, ridges=ridges)(z_ref, z_ref, weights)
    for c, y, w in zip(found, z_ref, weights, strict=True):
        expected = slow_constant(gallery, y, w, contrast, ridges)
        assert torch.allclose(c, expected, rtol=1e-8, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_rotating_the_latents_rotates_the_constant(contrast: float) -> None:
    gallery, z_ref, w = skewed(300, 12), skewed(4, 12), torch.randn(12).double()
    rotation = torch.linalg.qr(torch.randn(12, 12).double()).Q
    plain = moment_rule(gallery, contrast)
    turned = moment_rule(gallery @ rotation, contrast)
    c, c_turned = plain(z_ref, z_ref, w), turned(z_ref @ rotation, z_ref @ rotation, w @ rotation)
    assert (c @ rotation - c_turned).abs().max() <= 1e-9 * c.abs().max()
    s, s_turned = (
        plain.similarity(z_ref, gallery, w),
        turned.similarity(z_ref @ rotation, gallery @ rotation, w @ rotation),
    )
    assert (s - s_turned).abs().max() <= 1e-9 * s.abs().max()


def test_of_independent_latents_it_is_the_product_times_skewness() -> None:
    """All combinations of values are equally frequent, so that the gallery's moments are those of independent latents."""
    values = torch.tensor([0.0, 0.0, 0.0, 1.0]).double()
    gallery = torch.cartesian_prod(values, 3 * values, 1 - values)
    scale = gallery.var(0, correction=0)
    third = ((gallery - gallery.mean(0)) ** 3).mean(0)
    y, w = torch.randn(5, 3).double(), torch.randn(3).double()
    c = moment_rule(gallery, contrast=0.0, ridges=1e-12)(y, y, w)
    assert torch.allclose(c, w * (y - gallery.mean(0)) * third / scale**2)
    skewness = third / scale**1.5
    standardized = (y - gallery.mean(0)) / scale.sqrt()
    assert torch.allclose(c, (w * scale.sqrt()) * standardized * skewness / scale.sqrt())


def test_it_is_linear_in_the_reference() -> None:
    gallery, refs, w = skewed(50, 6), skewed(5, 6), torch.randn(6).double()
    rule = moment_rule(gallery)
    mean = rule(refs, refs, w).mean(0)
    assert torch.allclose(rule(refs[:1], refs.mean(0), w)[0], mean)
    assert not rule(refs[:1], gallery.mean(0), w).abs().max() > 1e-12 * mean.abs().max()


@pytest.mark.parametrize("cells", [1, 4])
def test_blocks_equal_whole(cells: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gallery, refs, w = skewed(53, 8), skewed(3, 8), torch.randn(8).double()
    whole = moment_rule(gallery, cells=cells)(refs, refs, w)
    monkeypatch.setattr(moments, "_BLOCK", 7 * 8 * 8)
    np.save(tmp_path / "latents.npy", gallery.numpy())
    on_disk = moment_rule(np.load(tmp_path / "latents.npy", mmap_mode="r"), cells=cells)
    assert torch.allclose(on_disk(refs, refs, w), whole, rtol=1e-10)


@pytest.mark.parametrize("cells", [1, 4])
def test_many_neurons_equal_one_at_a_time(cells: int) -> None:
    gallery, refs, weights = skewed(60, 8), skewed(3, 8), torch.randn(3, 8).double()
    rule = moment_rule(gallery, cells=cells)
    many = rule(refs, refs, weights)
    for c, y, w in zip(many, refs, weights, strict=True):
        assert torch.allclose(rule(y[None], y, w)[0], c)
        assert torch.allclose(rule(refs, y, w), c.expand(3, 8))  # one for all
    s = rule.similarity(refs, gallery, weights)
    assert torch.allclose(s[1], rule.similarity(refs, gallery, weights[1]))


@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_cells_are_neurons_of_their_own(contrast: float) -> None:
    """A grid of 3 cells and 4 channels, channels first: a loop over cells, each with the samples of all cells."""
    gallery, refs, w = skewed(60, 12), skewed(2, 12), torch.randn(12).double()
    found = moment_rule(gallery, contrast, cells=3)(refs, refs, w)
    samples = gallery.reshape(60, 4, 3).transpose(1, 2).reshape(180, 4)
    of_a_cell = moment_rule(samples, contrast)
    for cell in range(3):
        part = refs[:, cell::3]
        assert torch.allclose(found[:, cell::3], of_a_cell(part, part, w[cell::3]))
        for n in range(2):
            assert torch.allclose(found[n, cell::3], slow_constant(samples, part[n], w[cell::3], contrast, (0.3, 3.0)))


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_the_similarity_is_what_the_maps_of_both_images_decompose(contrast: float, cells: int) -> None:
    gallery, queries, refs, w = skewed(60, 6), skewed(2, 6), skewed(3, 6), torch.randn(6).double()
    rule = moment_rule(gallery, contrast, ridges=(0.3, 3.0), cells=cells)
    s = neuron_similarity(queries, refs, w, kind=rule)
    mean = gallery.reshape(60, 6 // cells, cells).mean((0, 2)).repeat_interleave(cells)
    assert torch.allclose(rule.origin, mean)
    for q, x in enumerate(queries):
        for g, y in enumerate(refs):
            assert torch.allclose(s[q, g], (x - mean) @ rule(x[None], y, w)[0])
            assert torch.allclose(s[q, g], (y - mean) @ rule.transposed(y[None], x, w)[0])


@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_with_one_ridge_the_similarity_is_a_symmetric_third_moment(contrast: float) -> None:
    gallery, w = skewed(60, 5), torch.randn(5).double()
    rule = moment_rule(gallery, contrast, ridges=0.7)
    s = rule.similarity(gallery[:6], gallery[:6], w)
    zeta = gallery - gallery.mean(0)
    covariance = zeta.T @ zeta / 60
    k = zeta @ torch.linalg.solve(covariance + 0.7 * covariance.trace() / 5 * torch.eye(5).double(), zeta[:6].T)
    r = zeta @ w
    driven, likeness = r @ k / 60, r.clamp(min=0) @ k / r.clamp(min=0).sum()
    both = torch.outer(driven, likeness)
    assert torch.allclose(s, torch.einsum("g,gx,gy->xy", r, k, k) / 60 - contrast / 2 * (both + both.T))
    assert torch.allclose(s, s.T)
    assert torch.equal(rule(gallery[:6], gallery[:6], w), rule.transposed(gallery[:6], gallery[:6], w))


def test_the_matcher_takes_it() -> None:
    gallery, queries, w = skewed(60, 5), skewed(4, 5), torch.randn(2, 5).double()
    rule = moment_rule(gallery)
    match = ReferenceMatcher(gallery, similarity=rule).match(queries, w, k=3)
    expected = torch.stack([rule.similarity(queries, gallery, one) for one in w]).topk(3)
    assert torch.equal(match.index, expected.indices)
    assert torch.allclose(match.similarity, expected.values)


def test_it_serves_as_a_rule(net: torch.nn.Module) -> None:
    encoder = LatentEncoder(net, "relu2")
    images = torch.randn(40, 3, 8, 8).double()
    gallery = encoder(images).detach()
    rule, w = moment_rule(gallery), torch.randn(6).double()
    pb = ParallelBackprop(encoder, rule=rule)
    assert torch.allclose(pb.shared_weights((images[:2], images[2:4]), w), rule(gallery[:2], gallery[2:4], w))
    with pytest.raises(ValueError, match="mean of its own gallery; expected no `center`"):
        shared_weights(gallery[:2], gallery[2:4], w, rule, center=w)


def test_precision_and_copies() -> None:
    gallery, refs, w = skewed(200, 6), skewed(2, 6), torch.randn(6).double()
    rule = moment_rule(gallery)
    expected = rule(refs, refs, w)
    single = moment_rule(gallery.float())
    assert single(refs.float(), refs.float(), w.float()).dtype == torch.float32
    assert torch.allclose(single(refs, refs, w), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    half = moment_rule(gallery.half())(refs.half(), refs.half(), w.half())
    assert half.dtype == torch.float16
    assert torch.equal(pickle.loads(pickle.dumps(rule))(refs, refs, w), expected)
    assert torch.equal(rule.to("cpu")(refs, refs, w), expected)
    large = moment_rule((gallery + 1e4).float())  # means far from zero cost no precision in the moments
    assert torch.allclose(
        large(refs + 1e4, refs + 1e4, w), expected, rtol=0.02, atol=0.01 * float(expected.abs().max())
    )


def test_a_neuron_that_reads_nothing() -> None:
    gallery = skewed(20, 3)
    assert not moment_rule(gallery)(gallery[:2], gallery[2:4], torch.zeros(3).double()).any()


def test_repr_names_the_settings() -> None:
    rule = moment_rule(skewed(20, 6), 0.25, ridges=(0.5, 2), cells=2)
    assert repr(rule) == "moment_rule(gallery of 20 images, 6 latents, contrast=0.25, ridges=(0.5, 2.0), cells=2)"


@pytest.mark.filterwarnings("default:the third moments of")
def test_small_galleries_warn() -> None:
    with pytest.warns(UserWarning, match="third moments of 199 images are mostly noise; expected at least 200"):
        moment_rule(skewed(199, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moment_rule(skewed(200, 2))


def test_mistakes() -> None:
    gallery = skewed(20, 6)
    for arguments, error, text in [
        (([1.0],), TypeError, "`gallery_latents` must be a tensor, got list"),
        ((gallery[0],), ValueError, r"floating point \(G, D\) with G >= 2, got torch.float64 \(6,\)"),
        ((gallery.long(),), ValueError, "floating point"),
        ((gallery * float("nan"),), ValueError, "must be finite"),
        ((torch.ones(20, 6),), ValueError, "must vary between images"),
        ((gallery, -1), ValueError, "`contrast` must be a number from 0 to 1, got -1"),
        ((gallery, True), TypeError, "`contrast` must be a number"),
    ]:
        with pytest.raises(error, match=text):
            moment_rule(*arguments)
    for options, text in [
        ({"ridges": 0}, "`ridges` must be a positive number or two, got 0"),
        ({"ridges": (1, 2, 3)}, "`ridges` must be a positive number or two"),
        ({"cells": 4}, "`cells` must divide the number of latents 6, got 4"),
    ]:
        with pytest.raises(ValueError, match=text):
            moment_rule(gallery, **options)
    with pytest.raises(ValueError, match="made for 6 latents, got 5"):
        moment_rule(gallery)(torch.ones(1, 5), torch.ones(1, 5), torch.ones(5))
