"""A driver beside its best references: maps, controls and correspondences against slow ways to the same."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from captum_shared import LatentEncoder, LayerParallelBackprop, moment_rule
from captum_shared.attribution.layer import see_layer
from captum_shared.report.pair_views import (
    ImageShelf,
    hub_warnings,
    preference,
    preference_warnings,
    reference_view,
    same_as_control,
)
from captum_shared.selection import Drivers
from captum_shared.study.looks import Look, LookRequest, Memory, References, Seen, known_of, look_at, other_rules

IMAGES = torch.rand(9, 3, 21, 21, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
DRIVERS = Drivers(np.array([5, 6, 8]), np.array([0, 1, 2, 3]), np.array([0, 5, 1, 6]))
WEIGHT = torch.linspace(-1, 1, 6, dtype=torch.float64)


@pytest.fixture
def encoder() -> LatentEncoder:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 5, stride=4), torch.nn.ReLU()).double()
    return LatentEncoder(model, "1")


def see(encoder: LatentEncoder, rule: Any, x: torch.Tensor) -> Seen:
    return known_of(encoder, rule, see_layer(encoder, x))


def look(encoder: LatentEncoder, rule: str) -> Look:
    pairs = np.array([6]), np.array([2])
    constants = References(encoder(IMAGES).detach(), rule, "dot").constants(DRIVERS, *pairs, WEIGHT)[0]
    return look_at(
        encoder,
        rule,
        (see(encoder, rule, IMAGES[6:7]), see(encoder, rule, IMAGES[2:3])),
        LookRequest(6, 2, 1.5, WEIGHT, constants),
    )


@pytest.mark.parametrize("own", ["product", "moments"])
def test_maps_by_other_rules_are_those_of_the_method(encoder: LatentEncoder, own: str) -> None:
    z = encoder(IMAGES).detach()
    moments = moment_rule(torch.rand(300, 6, dtype=torch.float64).square())
    rule = moments if own == "moments" else own
    others = {name: name for name in ("product", "dot", "matched")} | {"moments": moments}
    request = References(z, rule, "dot").requests(DRIVERS, WEIGHT)[1][2]
    both = tuple(IMAGES[place : place + 1] for place in (request.image, request.reference))
    seen = look_at(encoder, rule, (see(encoder, rule, both[0]), see(encoder, rule, both[1])), request, others)
    center = z[[0, 5, 1, 6]].mean(0)
    for name, other in others.items():
        constants = "crossed" if name in ("dot", "moments") else "common"
        method = LayerParallelBackprop(encoder, other, center if name == "matched" else None, constants=constants)
        expected = method.attribute(both, readout=WEIGHT)
        for found, wanted in zip(seen.others[name], expected, strict=True):
            np.testing.assert_allclose(found, wanted[0, 0], atol=1e-12, err_msg=name)


def test_other_rules_are_those_that_are_cheap_and_have_enough_images() -> None:
    assert list(other_rules("product", torch.rand(9, 6))) == ["dot", "matched"]
    assert list(other_rules("dot", torch.rand(200, 6))) == ["product", "matched", "moments"]
    assert list(other_rules(moment_rule(torch.rand(200, 6)), torch.rand(200, 6))) == ["product", "dot", "matched"]
    assert "moments" not in other_rules("product", torch.rand(200, 1025))
    assert "moments" in other_rules("product", torch.rand(200, 2048), cells=4)
    assert "moments" not in other_rules("product", torch.rand(640, 8192), cells=16)


@pytest.mark.parametrize("rule", ["product", "contrast"])
def test_maps_are_those_of_the_method(encoder: LatentEncoder, rule: str) -> None:
    seen, z = look(encoder, rule), encoder(IMAGES)
    center = z[[0, 5, 1, 6]].mean(0) if rule == "contrast" else None
    method = LayerParallelBackprop(encoder, rule, center)
    expected = method.attribute((IMAGES[6:7], IMAGES[2:3]), readout=WEIGHT)
    for found, wanted in zip(seen.layer, expected, strict=True):
        np.testing.assert_allclose(found, wanted[0, 0], atol=1e-12)


def test_the_control_is_the_average_over_other_partners(encoder: LatentEncoder) -> None:
    """For the product, which is linear in the partner, map by map."""
    seen, method = look(encoder, "product"), LayerParallelBackprop(encoder)
    with_others = [method.attribute((IMAGES[6:7], IMAGES[j : j + 1]), readout=WEIGHT)[0] for j in (0, 1, 3)]
    of_others = [method.attribute((IMAGES[i : i + 1], IMAGES[2:3]), readout=WEIGHT)[1] for i in (5, 8)]
    np.testing.assert_allclose(seen.control[0], torch.stack(with_others).mean(0)[0, 0], atol=1e-12)
    np.testing.assert_allclose(seen.control[1], torch.stack(of_others).mean(0)[0, 0], atol=1e-12)


def test_requests_are_the_best_references_in_their_order(encoder: LatentEncoder) -> None:
    z = encoder(IMAGES)
    requests = References(z, "product", "dot").requests(DRIVERS, WEIGHT)
    for image, each in zip(DRIVERS.outside, requests, strict=True):
        similarity = {j: float((WEIGHT * z[image] * z[j]).sum()) for j in range(4)}
        assert [request.reference for request in each] == sorted(similarity, key=lambda j: -similarity[j])
        assert [request.similarity for request in each] == pytest.approx(sorted(similarity.values(), reverse=True))
        assert {request.image for request in each} == {image}


def test_correspondences_sum_to_the_similarity_and_to_the_maps_of_dot(encoder: LatentEncoder) -> None:
    seen, z = look(encoder, "dot"), encoder(IMAGES)
    assert seen.part.sum() == pytest.approx(float((WEIGHT * z[6] * z[2]).sum()))
    np.testing.assert_allclose(seen.part.sum((2, 3)), seen.layer[0], atol=1e-12)
    np.testing.assert_allclose(seen.part.sum((0, 1)), seen.layer[1], atol=1e-12)


def test_a_pool_without_shares_has_maps_and_no_correspondence(encoder: LatentEncoder) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 5, stride=4), torch.nn.ReLU()).double()
    seen = look(LatentEncoder(model, "1", pool="max"), "product")
    assert seen.layer is not None
    assert seen.part is None


def test_what_is_the_same_with_anybody_is_said_so() -> None:
    heat = np.random.default_rng(0).random((4, 4))
    same = Look(0, 1, 1.0, (heat, heat), (0.1 * heat + 0.01, heat), None)
    other = Look(0, 1, 1.0, (heat, heat), (heat[::-1], heat), None)
    assert same_as_control(same)
    assert not same_as_control(other)
    assert any("average of all other" in text for text in reference_view(same, 0, "product").warnings)
    assert reference_view(other, 0, "product").warnings == []
    assert list(reference_view(other, 0, "product").maps) == ["layer", "control: average partner"]


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_flat_map_is_not_compared_with_its_control(level: float) -> None:
    """What differs is rounding."""
    flat = np.full((3, 3), level, np.float32)
    rounded = flat * (1 + np.float32(2e-7) * (np.arange(9, dtype=np.float32).reshape(3, 3) % 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not same_as_control(Look(0, 1, 1.0, (rounded, flat), (rounded, flat), None))


def test_hubs_weak_preferences_and_low_r_are_named() -> None:
    assert hub_warnings([3, 3, 3, 1, 2]) == {}  # three of five: too few to say
    assert list(hub_warnings([3, 3, 3, 3, 1, 2])) == [3]
    assert "4 of the neuron's 6 pairs" in hub_warnings([3, 3, 3, 3, 1, 2])[3]
    assert hub_warnings([7] * 4 + list(range(20, 40))) == {}
    assert preference_warnings("dog", 1.2, 0.6) == []
    assert "d\u2032 for chair is 0.32" in preference_warnings("chair", 0.32)[0]
    assert "cross-validated r 0.21" in preference_warnings("dog", 1.2, 0.21)[0]


def test_a_weak_preference_is_not_called_one() -> None:
    assert preference("bodies", 1.21) == "prefers bodies (d' 1.21)"
    assert preference("chair", 0.32) == "no clear preference: d' is 0.32 for chair"


def test_an_image_is_shown_once(tmp_path: object) -> None:
    written: dict[str, bytes] = {}
    shelf = ImageShelf(lambda place: torch.full((3, 6, 8), place / 10), list("abc"), list("xyz"), written.__setitem__)
    assert [shelf.number(place) for place in (2, 0, 2)] == [0, 1, 0]
    assert [(view.name, view.category, view.width, view.height) for view in shelf.views] == [
        ("c", "z", 8, 6),
        ("a", "x", 8, 6),
    ]
    assert sorted(written) == ["images/00000.jpg", "images/00002.jpg"]


def test_constants_of_moments_are_the_two_gradients_of_one_similarity() -> None:
    """So that the maps of a driver and of its reference have the same sum, though the rule is not symmetric."""
    torch.manual_seed(0)
    z, w = torch.rand(300, 6).square().double(), torch.randn(6).double()
    rule = moment_rule(z, contrast=0.5, ridges=(0.3, 3.0))
    places, pair = np.arange(300), (np.array([3]), np.array([11]))
    constants = References(z, rule, "dot").constants(Drivers(places[:9], places[9:20], places), *pair, w)[0]
    similarity = rule.similarity(z[[3]], z[[11]], w).item()
    assert (constants[0] @ (z[3] - rule.mean)).item() == pytest.approx(similarity)
    assert (constants[1] @ (z[11] - rule.mean)).item() == pytest.approx(similarity)


def test_correspondences_of_places_are_sums_over_positions(encoder: LatentEncoder) -> None:
    """Of eleven positions on at most eight places a side: as the whole correspondence, put into bins afterwards."""
    from captum_shared import LayerCorrespondence
    from captum_shared.report.viewer import binned

    x, y = (torch.rand(1, 3, 45, 29, dtype=torch.float64) for _ in range(2))
    whole = LayerCorrespondence(encoder).attribute((x, y), readout=WEIGHT)[0].numpy()
    assert whole.shape == (11, 7, 11, 7)
    both = (see(encoder, "product", x), see(encoder, "product", y))
    constants = torch.zeros(4, 6, dtype=torch.float64)
    seen = look_at(encoder, "product", both, LookRequest(0, 1, 1.0, WEIGHT, constants), {"dot": "dot"})
    np.testing.assert_allclose(seen.part, binned(whole), atol=1e-12)
    for found, wanted in zip(seen.others["dot"], (whole.sum((2, 3)), whole.sum((0, 1))), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_memory_is_bounded_and_says_the_same(encoder: LatentEncoder, monkeypatch: Any) -> None:
    request = LookRequest(0, 1, 1.0, WEIGHT, torch.rand(4, 6, dtype=torch.float64))
    memory = Memory([encoder], ["product"], lambda place: IMAGES[place])
    first = memory.look(request)
    monkeypatch.setattr("captum_shared.study.looks._MOST_BYTES", 2 * memory.see(0).n_bytes)
    memory.see(2)
    assert list(memory._seen) == [2]
    again = memory.look(request)
    assert np.array_equal(first.layer[0], again.layer[0])
    assert len(memory._seen) <= 2
    assert pickle.loads(pickle.dumps(Memory([encoder], ["product"], torch.Tensor)))._seen == {}


def test_a_layer_without_positions_has_maps_of_pixels_alone() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(27, 6)).double()
    encoder = LatentEncoder(model, "1")
    both = tuple(see(encoder, "product", torch.rand(1, 3, 3, 3, dtype=torch.float64)) for _ in range(2))
    request = LookRequest(0, 1, 0.5, WEIGHT, torch.rand(4, 6, dtype=torch.float64))
    seen = look_at(encoder, "product", both, request)
    assert seen == Look(0, 1, 0.5, None, None, None)
    assert not same_as_control(seen)
    pixel = np.ones((3, 3)), np.ones((3, 3))
    assert list(reference_view(seen, 7, "product", pixel).maps) == ["pixels"]
    assert list(reference_view(seen, 7, "product").maps) == []
