"""Pairs of drivers without categories, against loops written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_shared.selection import (
    Partners,
    find_driver_pairs,
    find_pairs,
    find_partners,
    rule_center,
    strongest_drivers,
)


def drivers_of(places: list[int], top: int | None = None) -> Partners:
    return Partners(np.array(places), np.sort(places), np.array(places), top)


def by_hand(
    z: np.ndarray, w: np.ndarray, places: list[int], top: int | None, cosine: bool = False
) -> list[tuple[int, list[int]]]:
    """Each image with all other drivers, the best first."""
    mean = [sum(row[k] for row in z) / len(z) for k in range(z.shape[1])]

    def length(i: int) -> float:
        return float(sum(abs(w[k]) * z[i, k] ** 2 for k in range(len(w))) ** 0.5)

    def specific(i: int, j: int) -> float:
        total = float(sum(w[k] * z[i, k] * z[j, k] for k in range(len(w))))
        return total / length(i) / length(j) if cosine else total

    def plain(i: int, j: int) -> float:
        a, b = ([z[one, k] - mean[k] for k in range(len(w))] for one in (i, j))
        lengths = sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5
        return float(sum(x * y for x, y in zip(a, b, strict=True)) / lengths)

    others = [(i, j) for i in places for j in places if i != j]

    def rank(value: float, values: list[float]) -> float:
        return sum(one < value - 1e-12 for one in values) + sum(abs(one - value) <= 1e-12 for one in values) / 2

    both = [[kind(i, j) for i, j in others] for kind in (specific, plain)]
    score = {(i, j): rank(specific(i, j), both[0]) - rank(plain(i, j), both[1]) for i, j in others}
    pairs: list[tuple[int, list[int]]] = []
    for i in places:
        order = sorted((j for j in places if j != i), key=lambda j: (-score[i, j], places.index(j)))
        if (order[0], i) not in [(image, best[0]) for image, best in pairs]:
            pairs.append((i, order))
    return pairs[:top]


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("top", [3, None])
@pytest.mark.parametrize("seed", range(3))
def test_the_partner_has_the_largest_difference_of_ranks(seed: int, top: int | None, similarity: str) -> None:
    rng = np.random.default_rng(seed)
    z, w = rng.normal(size=(40, 7)), rng.normal(size=7)
    places = rng.permutation(40)[:12].tolist()
    pairs = find_driver_pairs(
        torch.from_numpy(z), drivers_of(places, top), torch.from_numpy(w), similarity=similarity, n_references=4
    )
    expected = by_hand(z, w, places, top, similarity == "cosine")
    assert pairs.images.tolist() == [i for i, _ in expected]
    assert pairs.references.tolist() == [best[:4] for _, best in expected]
    assert pairs.plain is not None
    centred = z - z.mean(0)
    for i, row, similarities, plain in zip(pairs.images, pairs.references, pairs.similarity, pairs.plain, strict=True):
        cosines = [centred[i] @ centred[j] / np.linalg.norm(centred[i]) / np.linalg.norm(centred[j]) for j in row]
        assert plain == pytest.approx(cosines)
        if similarity == "dot":
            assert similarities == pytest.approx([(w * z[i] * z[j]).sum() for j in row])


@given(st.integers(0, 500), st.integers(2, 9), st.sampled_from([1, 2, None]))
def test_each_pair_is_there_once_and_none_is_with_itself(seed: int, n: int, top: int | None) -> None:
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.integers(-2, 3, (n, 3)).astype(float))  # many ties, some images with all zeros
    places = rng.permutation(n).tolist()
    pairs = find_driver_pairs(z, drivers_of(places, top), torch.ones(3, dtype=torch.float64), n_references=3)
    shown = [frozenset((i, j)) for i, j in zip(pairs.images.tolist(), pairs.references[:, 0].tolist(), strict=True)]
    assert len(set(shown)) == len(shown)
    assert all(len(pair) == 2 for pair in shown)
    assert 1 <= len(shown) <= (top or n)
    assert [places.index(i) for i in pairs.images] == sorted(places.index(i) for i in pairs.images)
    assert all(
        i not in row and len(set(row)) == len(row) for i, row in zip(pairs.images, pairs.references, strict=True)
    )


def test_of_equal_partners_the_stronger_driver_is_chosen() -> None:
    z = torch.tensor([[2.0, 1.0], [2.0, -1.0], [2.0, -1.0], [0.0, 0.0]])
    weight = torch.tensor([1.0, 0.0])
    assert find_driver_pairs(z, drivers_of([0, 2, 1]), weight).references[0].tolist() == [2]
    assert find_driver_pairs(z, drivers_of([0, 1, 2]), weight).references[0].tolist() == [1]


def test_neither_what_is_alike_in_all_nor_what_is_unlike_in_all() -> None:
    """Image 0 has a twin (1), a stranger (2), and one that shares what drives the neuron and nothing else (3)."""
    z = torch.tensor([[3.0, 2.0], [3.0, 2.1], [0.1, -3.0], [3.1, -2.0], [-4.0, 0.5], [-5.0, 0.4]])
    pairs = find_driver_pairs(z, drivers_of([0, 1, 2, 3]), torch.tensor([1.0, 0.0]))
    assert (int(pairs.images[0]), int(pairs.references[0, 0])) == (0, 3)


def test_one_image_may_be_the_hub_of_all_pairs() -> None:
    """The others are alike in what the neuron does not read; only the hub is unlike them, and strongest."""
    z = torch.tensor([[9.0, -3.0], [1.0, 2.0], [1.1, 2.1], [1.2, 2.2], [-4.0, 0.0], [-4.0, 0.0], [-4.3, -3.3]])
    pairs = find_driver_pairs(z, drivers_of([0, 3, 2, 1]), torch.tensor([1.0, 0.0]))
    assert {frozenset((int(i), int(j))) for i, j in zip(pairs.images, pairs.references[:, 0], strict=True)} == {
        frozenset((0, other)) for other in (1, 2, 3)
    }


def test_partners_are_the_strongest_drivers_each_content_once() -> None:
    rng = np.random.default_rng(0)
    recorded, contents = rng.normal(size=60), rng.integers(0, 30, 60)
    predicted = recorded + 0.3 * rng.normal(size=60)
    recorded[:5] = np.nan
    partners = find_partners(recorded, predicted=predicted, threshold=0.2, top=3, contents=contents)
    everywhere = strongest_drivers(recorded, predicted=predicted, threshold=0.2).tolist()
    expected: list[int] = []
    for place in everywhere:
        if contents[place] not in contents[expected]:
            expected.append(place)
    assert len(expected) < len(everywhere)
    assert not set(everywhere) & set(range(5))
    assert partners.outside.tolist() == expected
    assert partners.candidates.tolist() == sorted(expected)
    assert partners.everywhere.tolist() == everywhere
    assert partners.top == 3


def test_find_pairs_pairs_partners_with_one_another() -> None:
    torch.manual_seed(0)
    z, w = torch.randn(30, 5), torch.randn(5)
    partners = find_partners(z @ w, threshold=0.3)
    one, other = find_pairs(z, partners, w, n_references=2), find_driver_pairs(z, partners, w, n_references=2)
    assert one.references.tolist() == other.references.tolist()
    assert torch.equal(rule_center("contrast", z, partners), z[partners.everywhere[:20]].mean(0))


def test_a_score_of_ones_own() -> None:
    torch.manual_seed(0)
    z, w = torch.randn(30, 5), torch.randn(5)
    partners = find_partners(z @ w, threshold=0.3)
    pairs = find_driver_pairs(z, partners, w, score=lambda specific, _: specific)
    i, j = int(pairs.images[0]), int(pairs.references[0, 0])
    others = [k for k in partners.outside.tolist() if k != i]
    assert j == max(others, key=lambda k: float((w * z[i] * z[k]).sum()))


MISTAKES: dict[str, tuple[Any, str]] = {
    "one driver": (lambda: find_driver_pairs(torch.ones(3, 2), drivers_of([1]), torch.ones(2)), "at least two .* got 1"),
    "none": (lambda: find_pairs(torch.ones(3, 2), drivers_of([]), torch.ones(2)), "at least two different ones, got 0"),
    "contents": (lambda: find_partners(np.ones(3), contents=["a"]), r"`contents` must be \(3,\), .* got shape \(1,\)"),
    "top": (lambda: find_partners(np.ones(3), top=0), "`top` must be a positive integer or None, got 0"),
    "threshold": (lambda: find_partners(np.ones(3), threshold=float("inf")), "`threshold` must be finite, got inf"),
    "weight": (lambda: find_driver_pairs(torch.ones(3, 2), drivers_of([0, 1]), torch.ones(3)), "`weight` must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name: str) -> None:
    call, text = MISTAKES[name]
    with pytest.raises(ValueError, match=text):
        call()
