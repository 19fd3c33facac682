"""Factorial pairs: their parts, their causal admission, the planted detectors, rotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.synthetic_game import (
    PART_KINDS,
    PLANTED_KINDS,
    PLANTED_LAYER,
    FactorialPair,
    PairCondition,
    Rotation,
    Thresholds,
    admitted_pairs,
    basis_rotation,
    compose_gallery,
    compose_pair,
    planted_colors,
    planted_network,
    rejection_reasons,
    sample_gallery,
    sample_pair,
)
from captum_shared import LatentEncoder
from captum_shared.synthetic import render, render_scenes


def draw(seed: int, **options: Any) -> FactorialPair:
    return sample_pair("head", "gear", seed, kinds=PLANTED_KINDS, colors=planted_colors(), **options)


def readout(**effects: float) -> Tensor:
    return torch.tensor([effects.get(kind, 0.0) for kind in PLANTED_KINDS])


@pytest.fixture(scope="module")
def encoder() -> LatentEncoder:
    return LatentEncoder(planted_network(), PLANTED_LAYER).requires_grad_(False)


def parts(scene: Any) -> set[str]:
    return set(scene.kinds) & set(PART_KINDS)


@pytest.mark.parametrize("make", [draw, lambda seed: compose_pair("head", "gear", seed)])
def test_roles(make: Any) -> None:
    for seed in range(5):
        pair = make(seed)
        assert parts(pair.query) == {"head", "gear", pair.d, pair.n}
        for family, own in ((pair.references_a, "head"), (pair.references_b, "gear")):
            assert len(family) == 5
            for scene in family:
                assert {own, pair.d} < parts(scene)
                assert len(parts(scene)) == 3
                assert not parts(scene) & ({"head", "gear", pair.n} - {own})


def test_same_seed_same_pair() -> None:
    assert draw(3) == draw(3) != draw(4)
    assert compose_pair("head", "gear", 3) == compose_pair("head", "gear", 3)


def test_conditions_do_what_they_say() -> None:
    def area(condition: PairCondition, kind: str, scene: str = "query") -> float:
        return float(np.mean([render(_scene(draw(s, condition=condition), scene))[1][kind].sum() for s in range(3)]))

    base = PairCondition()
    assert area(PairCondition(size_ratio=1.4), "gear") > 1.5 * area(base, "gear")
    assert area(PairCondition(size_ratio=1.4), "head") == pytest.approx(area(base, "head"), rel=0.02)
    assert area(PairCondition(scale=0.7), "head", "a") < 0.7 * area(base, "head", "a")
    assert area(PairCondition(occlusion=0.5), "head") < 0.95 * area(base, "head")
    kept = draw(1, condition=PairCondition(position="same"))
    places = [part.position for s in (kept.query, kept.references_a[0]) for part in s.parts if part.kind == "head"]
    assert np.allclose(*places, atol=0.1)


def _scene(pair: FactorialPair, name: str) -> Any:
    return pair.query if name == "query" else pair.references_a[0]


def test_each_planted_detector_answers_to_its_kind_only(encoder: LatentEncoder) -> None:
    scenes = sample_gallery(60, ("head",), 0, kinds=PLANTED_KINDS, colors=planted_colors())
    data = render_scenes(scenes)
    z = encoder(data.images)
    present = torch.tensor([[kind in masks for kind in PLANTED_KINDS] for masks in data.masks])
    assert z[present].min() > 0.002
    assert z[~present].quantile(0.95) < 0.1 * z[present].mean()
    assert z[~present].mean() < 0.05 * z[present].mean()


def test_planted_detectors_lie_on_their_parts() -> None:
    pair = draw(0)
    image, masks = render(pair.query)
    maps = planted_network().features(image[None])[0].detach()
    for kind in ("head", "gear"):
        heat = maps[PLANTED_KINDS.index(kind)].repeat_interleave(4, 0).repeat_interleave(4, 1).numpy()
        assert heat[masks[kind]].mean() > 20 * heat[~masks[kind]].mean()


def test_admission_by_hand() -> None:
    """Latents that count visible kinds: every reason can be produced at will."""
    pair = draw(0)
    assert reasons(pair, {"head": 1.0, "gear": 1.0}) == []
    assert reasons(pair, {"head": 1.0}) == ["Q does not drive", "Q not shared with B"]
    assert reasons(pair, {"head": 1.0, "gear": 0.3}) == ["Q does not drive"]
    assert reasons(pair, {"head": 1.0, "gear": 0.3}, Thresholds(drives=0.2)) == []
    assert reasons(pair, {}) == ["no response"]
    assert reasons(pair, {"head": 1.0}, by_similarity=False) == ["Q does not drive"]
    assert "D drives" in reasons(pair, {"head": 1.0, "gear": 1.0, pair.d: 0.5})
    swapped = FactorialPair("head", "gear", pair.d, pair.n, pair.query, pair.references_b, pair.references_a)
    found = reasons(swapped, {"head": 1.0, "gear": 1.0})
    assert found == ["part invisible"]


def test_admission_of_the_other_neuron_by_hand() -> None:
    """On D (and N) it may depend, on P and Q not: the mirror image of the first neuron's admission."""
    pair = draw(0)

    def other(**effects: float) -> list[str]:
        return reasons(pair, {"head": 1.0, "gear": 1.0}, other=effects)

    assert other(**{pair.d: 1.0, pair.n: 1.0}) == []
    assert other(**{pair.d: 1.0}) == []
    assert other(**{pair.d: 0.4, pair.n: 1.0}) == ["other: D does not drive"]
    assert other(**{pair.n: 1.0}) == [
        "other: D does not drive",
        "other: D not shared with A",
        "other: D not shared with B",
    ]
    assert other(**{pair.d: 1.0, "head": 0.5}) == ["other: P drives", "other: P shared with A"]
    assert other(**{pair.d: 1.0, "gear": -0.5}) == ["other: Q drives"]
    assert other(**{pair.d: -1.0}) == ["other: no response"]
    both = reasons(pair, {"head": 1.0}, other={pair.n: 1.0})
    assert both[:2] == ["Q does not drive", "Q not shared with B"]


def reasons(
    pair: FactorialPair,
    effects: dict[str, float],
    thresholds: Thresholds | None = None,
    other: dict[str, float] | None = None,
    by_similarity: bool = True,
) -> list[str]:
    def count(images: Tensor) -> Tensor:
        return LatentEncoder(planted_network(), PLANTED_LAYER)(images) > 0.001

    other_weight = None if other is None else readout(**other)
    return rejection_reasons(
        pair,
        lambda images: count(images).float(),
        readout(**effects),
        other_weight=other_weight,
        thresholds=thresholds,
        by_similarity=by_similarity,
    )


def test_admitted_pairs_are_counted(encoder: LatentEncoder) -> None:
    weight = readout(head=1.0, gear=1.0)
    pairs, counts = admitted_pairs(draw, 3, encoder, weight)
    assert len(pairs) == counts.admitted == 3
    assert counts.tried >= 3
    assert all(rejection_reasons(pair, encoder, weight) == [] for pair in pairs)
    both, counts = admitted_pairs(draw, 2, encoder, weight, other_weight=lambda pair: readout(**{pair.d: 1.0}))
    assert len(both) == 2
    none, counts = admitted_pairs(draw, 1, encoder, weight, other_weight=lambda pair: readout(gear=1.0), max_tries=2)
    assert none == []
    assert counts.rejected["other: Q drives"] == 2
    none, counts = admitted_pairs(draw, 2, encoder, readout(head=1.0), max_tries=2)
    assert none == []
    assert counts.tried == 4
    assert counts.rejected["Q does not drive"] == 4


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0])
def test_rotation_turns_every_vector_by_the_angle(degrees: float) -> None:
    rotation = basis_rotation(8, degrees, seed=1).double()
    assert torch.allclose(rotation @ rotation.T, torch.eye(8).double(), atol=1e-6)
    z = torch.randn(5, 8).double()
    turned = Rotation(rotation)(z)
    cosine = torch.cosine_similarity(z, turned)
    assert torch.allclose(cosine, torch.full((5,), np.cos(np.radians(degrees))).double(), atol=1e-6)
    w = torch.randn(8).double()
    assert torch.allclose(turned @ (rotation @ w), z @ w)


def test_galleries() -> None:
    options: dict[str, Sequence[str]] = {"kinds": PLANTED_KINDS}
    scenes = sample_gallery(80, ("head", "gear"), 0, colors=planted_colors(), **options)
    both = [{"head", "gear"} <= parts(scene) for scene in scenes]
    assert not any(both[1::2])
    assert 3 <= sum(both) <= 20
    assert all(1 <= len(parts(scene)) <= 4 for scene in compose_gallery(20, ("head",), 0))


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        (
            lambda: sample_pair("head", "head", 0),
            "`p` and `q` must be two of at least five `kinds`, got 'head', 'head'",
        ),
        (lambda: sample_pair("head", "gear", 0, kinds=("head", "gear", "bow")), "two of at least five `kinds`"),
        (lambda: compose_pair("head", "cabinet", 0), "must be two of at least five `kinds`, got 'head', 'cabinet'"),
        (lambda: draw(0, n_references=0), "`n_references` must be a positive integer, got 0"),
        (lambda: sample_gallery(0, ("head",), 0), "`n` must be a positive integer, got 0"),
        (lambda: sample_gallery(1, PART_KINDS[:5], 0), "`preferred` must be at most four kinds, .* got 5"),
        (lambda: PairCondition(size_ratio=0), "`size_ratio` and `scale` must be positive, got 0 and 1.0"),
        (lambda: PairCondition(position="left"), "`position` must be one of free, same, got 'left'"),
        (lambda: PairCondition(occlusion=1.0), r"`occlusion` must be in \[0, 1\), got 1.0"),
        (lambda: PairCondition(clutter=-1), "`clutter` must be at least 0, got -1"),
        (lambda: basis_rotation(7, 30), "`n_latents` must be even and at least 2, got 7"),
        (lambda: basis_rotation(8, float("nan")), "`degrees` must be finite, got nan"),
    ],
)
def test_mistakes(mistake: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        mistake()
