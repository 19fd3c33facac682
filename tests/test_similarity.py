"""The formulas of similarity.py, each by hand and by its properties."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captum_shared import RULES, SIMILARITIES, category_centers, neuron_similarity, shared_weights


def slow_similarity(query: Tensor, gallery: Tensor, w: Tensor, kind: str) -> Tensor:
    out = torch.zeros(len(query), len(gallery), dtype=query.dtype)
    for i, x in enumerate(query):
        for j, y in enumerate(gallery):
            s = sum(w[k] * x[k] * y[k] for k in range(len(w)))
            if kind == "cosine":
                lengths = [sum(abs(w[k]) * z[k] ** 2 for k in range(len(w))) ** 0.5 for z in (x, y)]
                s = s / (lengths[0] * lengths[1]) if lengths[0] * lengths[1] > 0 else 0.0
            out[i, j] = s
    return out


@st.composite
def latents(draw: st.DrawFn) -> tuple[Tensor, ...]:
    d, q, g, seed = (draw(st.integers(1, high)) for high in (6, 4, 5, 10_000))
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((q, d), (g, d), (d,)))


@pytest.mark.parametrize("kind", list(SIMILARITIES))
@given(data=latents())
def test_similarity_is_the_double_loop(kind: str, data: Any) -> None:
    query, gallery, w = data
    assert torch.allclose(neuron_similarity(query, gallery, w, kind), slow_similarity(query, gallery, w, kind))


@pytest.mark.parametrize("kind", list(SIMILARITIES))
@given(data=latents())
def test_similarity_is_symmetric(kind: str, data: Any) -> None:
    query, gallery, w = data
    assert torch.allclose(neuron_similarity(query, gallery, w, kind), neuron_similarity(gallery, query, w, kind).T)


@given(data=latents())
def test_cosine_is_bounded_and_free_of_scale(data: Any) -> None:
    query, gallery, w = data
    s = neuron_similarity(query, gallery, w, "cosine")
    assert s.abs().max() <= 1
    assert torch.allclose(s, neuron_similarity(3 * query, gallery, 7 * w, "cosine"))
    assert torch.allclose(
        neuron_similarity(query, query, w.abs(), "cosine").diagonal(), torch.ones(len(query)).double()
    )


def test_cosine_of_an_empty_image_is_zero() -> None:
    s = neuron_similarity(torch.zeros(1, 3), torch.ones(2, 3), torch.ones(3), "cosine")
    assert torch.equal(s, torch.zeros(1, 2))


def test_many_neurons() -> None:
    query, gallery, w = torch.randn(2, 5), torch.randn(3, 5), torch.randn(4, 5)
    s = neuron_similarity(query, gallery, w)
    assert s.shape == (4, 2, 3)
    assert torch.equal(s[2], neuron_similarity(query, gallery, w[2]))


def test_rules_by_hand() -> None:
    z, z_ref, w, center = (torch.tensor(v) for v in ([[1.0, 2.0]], [[3.0, -1.0]], [2.0, -3.0], [1.0, 1.0]))
    assert shared_weights(z, z_ref, w).tolist() == [[6.0, 6.0]]
    assert shared_weights(z, z_ref, w, "centered", center).tolist() == [[8.0, -18.0]]
    assert shared_weights(z, z_ref, w, "contrast", center).tolist() == [[4.0, -6.0]]
    scaled = shared_weights(z, z_ref, w.abs(), "matched", 4 * center)  # s = (6 - 3) / (8 + 12)
    assert torch.allclose(scaled, torch.tensor([[2 * (3 - 0.6), 3 * (-1 - 0.6)]]))


def test_matched_compares_with_a_center_that_drives_the_neuron_as_much() -> None:
    z, z_ref, center = torch.ones(1, 4), torch.rand(1, 4), torch.rand(4) + 1
    w = torch.rand(4)
    assert shared_weights(z, z_ref, w, "matched", center).sum().abs() < 1e-5
    assert torch.allclose(
        shared_weights(z, z_ref, w, "matched", center), shared_weights(z, z_ref, w, "matched", 3 * center)
    )
    weak = shared_weights(z, 5 + z_ref, w, "matched", center)  # s is at most 1: a stronger reference is contrasted
    assert torch.allclose(weak, shared_weights(z, 5 + z_ref, w, "contrast", center))
    silent = shared_weights(z, z_ref, w, "matched", torch.zeros(4))
    assert torch.allclose(silent, w * z_ref)


@pytest.mark.parametrize("rule", list(RULES))
def test_rules_take_one_reference_or_a_readout_for_each_pair(rule: str) -> None:
    z, w, ref = torch.randn(3, 4), torch.randn(4), torch.randn(4)
    center = None if rule == "product" else torch.randn(4)
    one = shared_weights(z, ref, w, rule, center)
    many = shared_weights(z, ref.expand(3, 4), w.expand(3, 4), rule, None if center is None else center.expand(3, 4))
    assert one.shape == (3, 4)
    assert torch.equal(one, many)


def test_product_is_linear_in_the_reference() -> None:
    z, w, refs = torch.randn(1, 4), torch.randn(4), torch.randn(5, 4)
    mean = torch.stack([shared_weights(z, r, w) for r in refs]).mean(0)
    assert torch.allclose(shared_weights(z, refs.mean(0), w), mean, atol=1e-6)


def test_centers_of_product_and_dot_center_the_latents() -> None:
    z, z_ref, w, center = torch.randn(3, 4), torch.randn(3, 4), torch.randn(4), torch.randn(4)
    assert torch.equal(shared_weights(z, z_ref, w, "dot"), w * z_ref)
    assert torch.equal(shared_weights(z, z_ref, w, "dot", center), w * (z_ref - center))
    assert torch.equal(shared_weights(z, z_ref, w, "product", center), shared_weights(z - center, z_ref - center, w))


def test_dot_is_the_gradient_of_the_dot_similarity() -> None:
    z, z_ref, w = torch.randn(1, 4).requires_grad_(), torch.randn(1, 4), torch.randn(4)
    neuron_similarity(z, z_ref, w).sum().backward()
    assert torch.allclose(shared_weights(z.detach(), z_ref, w, "dot"), z.grad)


def test_product_sums_to_the_dot_similarity() -> None:
    z, z_ref, w = torch.randn(1, 6), torch.randn(1, 6), torch.randn(6)
    assert torch.allclose(shared_weights(z, z_ref, w).sum(), neuron_similarity(z, z_ref, w)[0, 0], atol=1e-6)


def test_a_rule_of_ones_own() -> None:
    z, z_ref, w, center = torch.randn(3, 4), torch.randn(4), torch.randn(4), torch.randn(4)
    assert torch.equal(
        shared_weights(z, z_ref, w, RULES["contrast"], center), shared_weights(z, z_ref, w, "contrast", center)
    )
    assert torch.equal(shared_weights(z, z_ref, w, lambda z, z_ref, w, center: w), w.expand(3, 4))
    assert shared_weights(z, z_ref, w, lambda *latents: torch.full((4,), float(latents[3] is None))).all()


def test_mistakes() -> None:
    z, w = torch.randn(3, 4), torch.randn(4)
    cases: list[tuple[type[Exception], str, Any]] = [
        (ValueError, r"unknown rule 'produkt'; expected one of \['product', 'dot', 'centered', 'contrast', 'matched'\]", lambda: shared_weights(z, z, w, "produkt")),
        (ValueError, r"`rule` must return shared weights \(N, D\) = \(3, 4\), got \(2, 4\)", lambda: shared_weights(z, z, w, lambda *_: z[:2])),
        (ValueError, r"`rule` must return shared weights .* got float", lambda: shared_weights(z, z, w, lambda *_: 1.0)),
        (ValueError, r"unknown similarity 'l2'; expected one of \['dot', 'cosine'\]", lambda: neuron_similarity(z, z, w, "l2")),
        (ValueError, r"rule 'centered' needs `center`.*got None", lambda: shared_weights(z, z, w, "centered")),
        (ValueError, r"`z` must be \(N, D\), got shape \(4,\)", lambda: shared_weights(w, w, w)),
        (ValueError, r"`z_ref` must be \(N, D\) = \(3, 4\) or \(D,\) = \(4,\), got shape \(2, 4\)", lambda: shared_weights(z, z[:2], w)),
        (ValueError, r"`weight` must be \(N, D\) = \(3, 4\) or .* got shape \(3,\)", lambda: shared_weights(z, z, w[:3])),
        (ValueError, r"`center` must be .* got shape \(5,\)", lambda: shared_weights(z, z, w, "contrast", torch.ones(5))),
        (TypeError, "`weight` must be a tensor, got list", lambda: shared_weights(z, z, [1.0])),
        (ValueError, r"`gallery` must be \(G, 4\), got shape \(3, 2\)", lambda: neuron_similarity(z, z[:, :2], w)),
        (ValueError, r"`query` must be \(Q, D\), got shape \(4,\)", lambda: neuron_similarity(w, z, w)),
        (ValueError, r"`weight` must be \(D,\) or \(K, D\) with D = 4, got shape \(3,\)", lambda: neuron_similarity(z, z, w[:3])),
    ]  # fmt: skip
    for error, text, mistake in cases:
        with pytest.raises(error, match=text):
            mistake()


GALLERY = torch.tensor([[1.0, 0.0], [3.0, 2.0], [0.0, 4.0], [2.0, 2.0], [0.0, -6.0], [-6.0, -2.0]])
NAMES = ["own", "own", "rival", "rival", "weak", "other"]


def test_category_centers_by_hand() -> None:
    z_ref, center = category_centers(GALLERY, torch.tensor([0.0, 1.0]), NAMES, "own", n_drivers=2)
    assert torch.equal(z_ref, torch.tensor([2.0, 1.0]))
    assert torch.allclose(center, torch.tensor([1.0, 3.0]))  # both drivers outside are of one category
    names = ["own", "own", "rival", "second", "second", "other"]
    center = category_centers(GALLERY, torch.tensor([0.0, 1.0]), names, "own", n_drivers=3)[1]
    # drives 4 and 2 above a mean of 0: two thirds of (0, 4), a third of ((2, 2) + (0, -6)) / 2
    assert torch.allclose(center, torch.tensor([1.0 / 3, 8.0 / 3 - 2.0 / 3]))


@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_category_centers_know_no_scale_order_or_basis(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    gallery, weight = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((20, 4), (4,)))
    names = [f"c{k % 4}" for k in range(20)]
    expected = category_centers(gallery, weight, names, "c1", 5)
    order = torch.randperm(20, generator=generator)
    shuffled = category_centers(gallery[order], scale * weight, [names[k] for k in order], "c1", 5)
    basis = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    rotated = category_centers(gallery @ basis, weight @ basis, names, "c1", 5)
    for value, other, turned in zip(expected, shuffled, rotated, strict=True):
        assert torch.allclose(value, other)
        assert torch.allclose(value @ basis, turned)


def test_category_centers_follow_a_shift_of_the_latents() -> None:
    weight, shift = torch.tensor([0.5, 1.0]), torch.tensor([10.0, -20.0])
    moved = category_centers(GALLERY + shift, weight, NAMES, "own")
    for value, other in zip(category_centers(GALLERY, weight, NAMES, "own"), moved, strict=True):
        assert torch.allclose(value + shift, other, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gallery": GALLERY[0]}, r"`gallery` must be \(G, D\), got shape \(2,\)"),
        ({"weight": torch.ones(3)}, r"`weight` must be \(D,\) = \(2,\), got shape \(3,\)"),
        ({"categories": NAMES[:2]}, "name each of the 6 gallery images, got 2"),
        ({"category": "dog"}, r"category 'dog' is not among `categories`: \['other', 'own', 'rival', 'weak'\]"),
        ({"n_drivers": 0}, "`n_drivers` must be a positive integer, got 0"),
        ({"categories": ["own"] * 6}, "no image outside category 'own' drives the neuron"),
    ],
)
def test_category_centers_refuse(change: dict[str, Any], message: str) -> None:
    values = {"gallery": GALLERY, "weight": torch.ones(2), "categories": NAMES, "category": "own"} | change
    with pytest.raises(ValueError, match=message):
        category_centers(**values)
