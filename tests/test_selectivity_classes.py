"""Class indices: by hand, planted truth, base rates, and the index of Morcos et al., which is another."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_shared.selectivity import (
    TopActivations,
    base_rates,
    category_d_prime,
    class_distribution,
    class_selectivity_index,
    morcos_class_selectivity,
    population_code,
    top_activations,
)


def ranked(*activations: list[float], n_images: int | None = None) -> TopActivations:
    """Units whose images are 0, 1, 2 ... in this order."""
    values = torch.tensor(activations)
    images = torch.arange(values.shape[1]).expand_as(values)
    return TopActivations("x", values, images, torch.zeros_like(images), (1, 1), (1, 1), n_images or values.shape[1])


def quiet(*arguments: Any, **options: Any) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return class_selectivity_index(*arguments, **options)


def test_distribution_by_hand() -> None:
    top = ranked([4.0, 2.0, 1.0, 1.0], [8.0, 4.0, 2.0, -2.0], [-1.0, -2.0, -3.0, -4.0])
    classes, fractions = class_distribution(top, ["b", "a", "b", "a"])
    assert classes == ["a", "b"]
    assert fractions[0].tolist() == [3 / 8, 5 / 8]
    assert fractions[1].tolist() == [4 / 14, 10 / 14]  # -2 counts as nothing
    assert fractions[2].isnan().all()


def test_class_index_by_hand() -> None:
    top = ranked([4.0, 3.0, 2.0, 1.0])
    labels = ["a", "b", "c", "a"]  # f = 0.5, 0.3, 0.2
    assert quiet(top, labels).tolist() == pytest.approx([1 / 3])  # N = 4, M = 3
    assert quiet(top, labels, threshold=0.8).tolist() == pytest.approx([2 / 3])  # 0.5 + 0.3
    assert quiet(top, labels, threshold=0.81).tolist() == pytest.approx([1 / 3])
    assert quiet(top, labels, threshold=0.5).tolist() == [1]
    assert population_code(top, labels).tolist() == [3]
    assert population_code(top, labels, threshold=0.3).tolist() == [2]


def test_normalized_by_hand() -> None:
    # Eight images: six of a, one of b, one of c; the four best are a, a, b, a.
    top = ranked([4.0, 2.0, 2.0, 2.0], n_images=8)
    labels = ["a", "a", "b", "a", "a", "a", "c", "a"]
    assert base_rates(top, labels) == {"a": 0.75, "b": 0.125, "c": 0.125}
    _, plain = class_distribution(top, labels)
    assert plain[0].tolist() == pytest.approx([0.8, 0.2, 0])
    _, normalized = class_distribution(top, labels, normalize=True)
    a, b = 0.8 / 0.75, 0.2 / 0.125
    assert normalized[0].tolist() == pytest.approx([a / (a + b), b / (a + b), 0])  # 0.4, 0.6
    assert quiet(top, labels, threshold=0.7).tolist() == [1]  # a alone is enough
    assert quiet(top, labels, threshold=0.7, normalize=True).tolist() == pytest.approx([2 / 3])
    assert population_code(top, labels, threshold=0.5).tolist() == [1]


def test_images_without_a_class_take_no_part() -> None:
    top = ranked([4.0, 3.0, 2.0, 1.0])
    labels = ["a", None, "b", "a"]
    assert base_rates(top, labels) == {"a": 2 / 3, "b": 1 / 3}
    assert class_distribution(top, labels)[1][0].tolist() == pytest.approx([5 / 7, 2 / 7])
    with pytest.raises(ValueError, match="at least one readable image a class, got none of 4"):
        base_rates(top, [None] * 4)


def test_base_rates_leave_out_unreadable_images() -> None:
    top = TopActivations.from_responses(torch.tensor([[1.0], [torch.nan], [3.0], [2.0]]), k=3)
    assert base_rates(top, ["a", "b", "c", "c"]) == {"a": 1 / 3, "c": 2 / 3}
    assert class_distribution(top, np.array([7, 8, 9, 9]))[0] == [7, 9]


@settings(max_examples=30)
@given(seed=st.integers(0, 999), n=st.integers(2, 8))
def test_threshold_of_one_counts_classes_in_spite_of_rounding(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    activations = np.sort(rng.uniform(0.1, 1, n))[::-1].tolist()
    labels = rng.integers(0, 4, n).tolist()
    top = ranked(activations)
    expected = (n - len(set(labels))) / (n - 1)
    for normalize in (False, True):  # at a threshold of 1 base rates change nothing
        assert quiet(top, labels, normalize=normalize).tolist() == pytest.approx([expected])


# Planted truth


def test_units_for_one_class_and_for_all_alike() -> None:
    """Images of class c are constant in channel c; a unit for class 0, and one that takes all classes equally."""
    n_classes, per_class = 5, 6
    images = torch.zeros(n_classes * per_class, n_classes, 8, 8)
    labels = [i % n_classes for i in range(len(images))]
    for i, label in enumerate(labels):
        images[i, label] = 1
    conv = nn.Conv2d(n_classes, 2, 1, bias=False)
    conv.weight.data = torch.tensor([[1.0, 0, 0, 0, 0], [1.0, 1, 1, 1, 1]])[:, :, None, None]
    top = top_activations(conv, "", images, k=n_classes)
    index = class_selectivity_index(top, labels)
    assert index.tolist() == [1, 0]  # M = 1; M = N, one image of each class
    assert population_code(top, labels).tolist() == [1, n_classes]
    all_images = top_activations(conv, "", images, k=len(images))
    _, fractions = class_distribution(all_images, labels)
    assert torch.allclose(fractions[1], torch.full((n_classes,), 0.2).double())
    n = len(images)
    assert class_selectivity_index(all_images, labels)[1].item() == (n - n_classes) / (n - 1)


def test_a_unit_that_does_not_care_looks_selective_where_a_class_is_frequent_unless_normalized() -> None:
    """Trap: base rates. 80 of 100 images are objects; the unit's responses are noise."""
    labels = ["object"] * 80 + ["dog"] * 5 + ["cat"] * 5 + ["bird"] * 5 + ["fish"] * 5
    responses = torch.rand(100, 200, generator=torch.Generator().manual_seed(0)) + 1
    top = TopActivations.from_responses(responses, k=100)
    assert quiet(top, labels, threshold=0.75).mean().item() == pytest.approx(1, abs=0.01)
    assert quiet(top, labels, threshold=0.75, normalize=True).max().item() == (100 - 4) / 99
    assert (population_code(top, labels) == 1).all()
    assert (population_code(top, labels, normalize=True) == 5).all()
    with pytest.warns(UserWarning, match="base rates are unequal: 80.0% of the images are of class 'object', 5.0% of"):
        class_selectivity_index(top, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_selectivity_index(top, labels, normalize=True)
        class_selectivity_index(top, [i % 5 for i in range(100)])


def test_dead_units_have_no_class() -> None:
    top = ranked([0.0, 0.0, 0.0])
    assert quiet(top, ["a", "b", "c"]).isnan().all()
    assert population_code(top, ["a", "b", "c"]).tolist() == [0]


# Morcos, d'


def test_morcos_by_hand_and_apart_from_the_other() -> None:
    responses = torch.tensor([[3.0, 1, 0, 0], [1.0, 1, 0, 4], [1.0, 1, 0, 0], [0.0, 1, 0, 0]])
    labels = ["a", "a", "b", "c"]  # means of unit 0: 2, 1, 0
    index = morcos_class_selectivity(responses, labels)
    assert index[:2].tolist() == pytest.approx([(2 - 0.5) / (2 + 0.5), 0])
    assert index[2].isnan()
    assert index[3].item() == 1
    plain = quiet(TopActivations.from_responses(responses, k=4), labels)
    assert not torch.allclose(plain[:2], index[:2])
    with pytest.raises(ValueError, match="must not be negative"):
        morcos_class_selectivity(-responses, labels)


def test_morcos_rest_is_the_mean_over_classes_not_images() -> None:
    responses = torch.tensor([[4.0], [2.0], [0.0], [0.0], [0.0]])
    assert morcos_class_selectivity(responses, ["a", "b", "c", "c", "c"]).item() == pytest.approx((4 - 1) / (4 + 1))


def test_d_prime_by_hand() -> None:
    responses = torch.tensor([[3.0, 1.0], [5.0, 2.0], [0.0, 3.0], [2.0, 4.0], [4.0, 5.0]])
    found = category_d_prime(responses, ["a", "a", "b", "b", "c"], "a")
    assert found[0].item() == pytest.approx((4 - 2) / ((2 + 4) / 2) ** 0.5)  # variances 2 and 4
    assert found[1].item() == pytest.approx((1.5 - 4) / ((0.5 + 1) / 2) ** 0.5)


MISTAKES: list[tuple[Any, str]] = [
    (lambda t: class_selectivity_index(t, ["a"]), "one entry per image, 3, got 1"),
    (lambda t: class_selectivity_index(t, list("abc"), threshold=0), r"must be in \(0, 1\], got 0"),
    (lambda t: population_code(t, list("abc"), threshold=1.5), r"must be in \(0, 1\], got 1.5"),
    (lambda t: class_selectivity_index(t.strongest(1), list("abc")), "at least 2 images per unit, got 1"),
    (lambda t: category_d_prime(torch.rand(3, 2), list("abb"), "a"), "two images of 'a' and two others, got 1 and 2"),
    (lambda t: category_d_prime(torch.rand(4, 2), list("abb"), "a"), r"must be \(n, U\) for n = 3 labels"),
    (lambda t: morcos_class_selectivity(torch.rand(2, 2), ["a", "a"]), "at least two classes, got"),
    (lambda t: morcos_class_selectivity(torch.full((2, 1), torch.nan), ["a", "b"]), "must be finite, got 2 NaN"),
    (lambda t: TopActivations.from_responses(torch.rand(3)), r"must be \(n, U\) and not empty, got shape \(3,\)"),
    (lambda t: TopActivations.from_responses(torch.full((2, 1), torch.nan)), "must have a row without NaN"),
]


@pytest.mark.parametrize(("call", "text"), MISTAKES)
def test_mistakes(call: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call(ranked([3.0, 2.0, 1.0]))


@pytest.mark.real
def test_d_prime_of_recorded_neurons(data: Path) -> None:
    """What is known of the recording: 10 of 50 neurons have d' > 0.5 for apple, the largest 1.21; for face at most 0.66."""
    import csv

    responses = np.nanmean(np.load(data / "v4_recording" / "responses.npy", allow_pickle=False), axis=2).T
    with (data / "v4_recording" / "stimuli.csv").open(newline="") as file:
        labels = [row["category"] for row in csv.DictReader(file)]
    apple, face = (category_d_prime(responses, labels, name) for name in ("apple", "face"))
    assert ((apple > 0.5).sum().item(), round(apple.max().item(), 2), round(face.max().item(), 2)) == (10, 1.21, 0.66)
