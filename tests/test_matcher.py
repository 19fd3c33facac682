"""ReferenceMatcher against a sort of all similarities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captum_shared import ReferenceMatcher, matcher, neuron_similarity
from captum_shared.matcher import top_k


def slow_match(
    query: Tensor, gallery: Tensor, w: Tensor, k: int, banned: set[tuple[int, int]], kind: str = "dot"
) -> list[list[int]]:
    s = neuron_similarity(query, gallery, w, kind)
    rows = range(len(query))
    return [
        sorted((j for j in range(len(gallery)) if (i, j) not in banned), key=lambda j: (-s[i, j], j))[:k] for i in rows
    ]


@st.composite
def problems(draw: Any) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """Small integers, so that ties abound and similarities are exact."""
    d, q, g, seed = (draw(st.integers(1, high)) for high in (3, 5, 9, 10_000))
    generator = torch.Generator().manual_seed(seed)
    query, gallery, w = (torch.randint(-2, 3, shape, generator=generator).double() for shape in ((q, d), (g, d), (d,)))
    return query, gallery, w, draw(st.integers(1, g)), draw(st.integers(1, 4))


@given(problem=problems())
def test_match_is_the_sort_of_all_with_ties_by_index(problem: Any) -> None:
    query, gallery, w, k, block = problem
    before = matcher._BLOCK
    matcher._BLOCK = block
    try:
        match = ReferenceMatcher(gallery).match(query, w, k)
    finally:
        matcher._BLOCK = before
    assert match.index.tolist() == slow_match(query, gallery, w, k, set())
    assert torch.equal(match.similarity, neuron_similarity(query, gallery, w).gather(1, match.index))


@given(
    values=st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, -torch.inf]), min_size=6, max_size=6), min_size=1, max_size=5
    ),
    k=st.integers(1, 6),
)
def test_top_k_breaks_ties_by_index(values: Any, k: int) -> None:
    best, index = top_k(torch.tensor(values), k)
    for row, found, places in zip(values, best.tolist(), index.tolist(), strict=True):
        assert places == sorted(range(6), key=lambda j: (-row[j], j))[:k]
        assert found == [row[j] for j in places]


@pytest.mark.parametrize("kind", ["dot", "cosine"])
@pytest.mark.parametrize("block", [3, 7, 4096])
def test_blocks_change_nothing(kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery, w = torch.randn(10, 8).double(), torch.randn(50, 8).double(), torch.randn(8).double()
    monkeypatch.setattr(matcher, "_BLOCK", block)
    match = ReferenceMatcher(gallery, kind).match(query, w, 5)
    assert match.index.tolist() == slow_match(query, gallery, w, 5, set(), kind)


def test_excluding_itself_and_more() -> None:
    gallery, w = torch.randn(6, 4).double(), torch.rand(4).double()
    own = ReferenceMatcher(gallery).match(gallery, w, 3, exclude=torch.arange(6))
    assert own.index.tolist() == slow_match(gallery, gallery, w, 3, {(i, i) for i in range(6)})
    some = ReferenceMatcher(gallery).match(gallery[:2], w, 2, exclude=torch.tensor([-1, 4]))
    assert some.index.tolist() == slow_match(gallery[:2], gallery, w, 2, {(1, 4)})
    several = ReferenceMatcher(gallery).match(gallery[:2], w, 2, exclude=[[0, 2, 0], [-1, 5, 1]])
    assert several.index.tolist() == slow_match(gallery[:2], gallery, w, 2, {(0, 0), (0, 2), (1, 5), (1, 1)})
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[0, :4] = True
    masked = ReferenceMatcher(gallery).match(gallery[:2], w, 2, exclude=mask.numpy())
    assert masked.index.tolist() == slow_match(gallery[:2], gallery, w, 2, {(0, j) for j in range(4)})


def test_many_neurons_and_counts() -> None:
    query, gallery, w = torch.randn(5, 4), torch.randn(7, 4), torch.randn(3, 4)
    matcher_ = ReferenceMatcher(gallery)
    match = matcher_.match(query, w, 2)
    assert match.index.shape == match.similarity.shape == (3, 5, 2)
    assert torch.equal(match.index[1], matcher_.match(query, w[1], 2).index)
    assert match.counts.tolist() == [int((match.index == j).sum()) for j in range(7)]
    assert len(matcher_) == 7


def test_a_hub_shows_in_the_counts_and_cosine_is_free_of_it() -> None:
    torch.manual_seed(0)
    gallery = torch.rand(20, 6)
    gallery[3] *= 10
    query, w = torch.rand(30, 6), torch.rand(6)
    assert ReferenceMatcher(gallery).match(query, w).counts[3] == 30
    assert ReferenceMatcher(gallery, "cosine").match(query, w).counts[3] < 15


def test_memory_mapped_gallery(tmp_path: Path) -> None:
    gallery = np.random.default_rng(0).normal(size=(100, 8)).astype("float32")
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    query, w = torch.randn(4, 8), torch.randn(8)
    assert torch.equal(
        ReferenceMatcher(mapped).match(query, w, 3).index, ReferenceMatcher(gallery).match(query, w, 3).index
    )


def test_mistakes() -> None:
    g, w = torch.randn(5, 4), torch.randn(4)
    m = ReferenceMatcher(g)
    nan = g.clone()
    nan[2, 1] = torch.nan
    cases: list[tuple[type[Exception], str, Any]] = [
        (ValueError, r"`gallery_latents` must be \(n, D\) with n >= 1, got shape \(0, 4\)", lambda: ReferenceMatcher(g[:0])),
        (ValueError, r"`gallery_latents` must be \(n, D\) .* got shape \(4,\)", lambda: ReferenceMatcher(w)),
        (ValueError, "`gallery_latents` must be finite, got NaN", lambda: ReferenceMatcher(nan)),
        (TypeError, "`gallery_latents` must be a tensor or an array, got list", lambda: ReferenceMatcher([[1.0]])),
        (TypeError, "`gallery_latents` must be floating point, got torch.int64", lambda: ReferenceMatcher(g.long())),
        (ValueError, "unknown similarity 'l2'", lambda: ReferenceMatcher(g, "l2")),
        (ValueError, r"`query_latents` must be \(n, 4\) with n >= 1, got shape \(5, 3\)", lambda: m.match(g[:, :3], w)),
        (ValueError, "`query_latents` must be finite", lambda: m.match(nan, w)),
        (ValueError, r"`weight` must be \(D,\) or \(K, D\) with D = 4, got shape \(3,\)", lambda: m.match(g, w[:3])),
        (ValueError, "`k` must be a positive integer, got 0", lambda: m.match(g, w, 0)),
        (ValueError, "`k` must be at most the number of candidates, 5 after exclusion, got 6", lambda: m.match(g, w, 6)),
        (ValueError, "4 after exclusion, got 5", lambda: m.match(g, w, 5, exclude=torch.arange(5))),
        (ValueError, r"`exclude` must be indices \(Q,\) or \(Q, m\) with Q = 5, or boolean .* got torch.int64 of shape \(2,\)", lambda: m.match(g, w, exclude=torch.arange(2))),
        (ValueError, "`exclude` must be below the gallery's size 5, got 7", lambda: m.match(g, w, exclude=torch.tensor([0, 1, 7, 2, 3]))),
    ]  # fmt: skip
    for error, text, mistake in cases:
        with pytest.raises(error, match=text):
            mistake()
