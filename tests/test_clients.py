"""Quantus and Captum's tools as clients: what the page about them does, against other ways to the same numbers."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import captum.attr as ca
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import captum_shared as cs

pytestmark = pytest.mark.slow  # imports Quantus, runs the page, and randomizes a network layer by layer: 30 seconds

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "clients.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the page's code leaves."""
    pytest.importorskip("quantus")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    names: dict[str, Any] = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        exec(compile(code, str(PAGE), "exec"), names)
    return names


def maps_by_hand(page: dict[str, Any], encoder: cs.LatentEncoder) -> list[np.ndarray]:
    """With the reference of the largest neuron-specific similarity."""
    heats = []
    for k in page["drivers"].tolist():
        with torch.no_grad():
            z, of_gallery = encoder(page["data"].images[k : k + 1]), encoder(page["gallery"])
        best = int((of_gallery * z * page["weight"]).sum(1).argmax())
        pair = page["data"].images[k : k + 1], page["gallery"][best : best + 1]
        maps = cs.ParallelBackprop(encoder, engine=ca.Saliency).attribute(pair, readout=page["weight"])
        heats.append(cs.display_heat(maps[0]))
    return heats


def test_the_function_makes_our_maps_and_faithfulness_is_of_their_order(page: dict[str, Any]) -> None:
    heats = maps_by_hand(page, page["encoder"])
    found = page["explain"](page["neuron"], page["call"]["x_batch"], page["call"]["y_batch"], page["gallery"])
    assert np.allclose(found[:, 0], heats, atol=1e-6 * np.max(heats))
    for heat, image, curve in zip(heats, page["call"]["x_batch"], page["responses"], strict=True):
        flat, order = image.reshape(3, -1).copy(), np.argsort(-heat.ravel())
        for step, expected in enumerate(curve):
            flat[:, order[192 * step : 192 * (step + 1)]] = page["data"].images.mean()
            if step % 8 == 0 and heat.ravel()[order[192 * (step + 1) - 1]] > 0:  # without ties the order is the same
                got = page["neuron"](torch.from_numpy(flat.reshape(1, *image.shape)))
                assert float(got) == pytest.approx(expected, abs=1e-3)


def test_a_softmax_would_hide_the_neuron(page: dict[str, Any]) -> None:
    assert np.ptp(page["responses"]) > 0.1
    assert np.all(np.array(page["flipping"](**{**page["call"], "softmax": True})) == 1)


def test_localization_is_that_of_our_metrics(page: dict[str, Any]) -> None:
    quantus = pytest.importorskip("quantus")
    one, mask = page["one"], page["masks"].mask_x
    heat = page["explain"](page["neuron"], one["x_batch"], one["y_batch"], one["explain_func_kwargs"]["gallery"])[0, 0]
    scores = {
        "RelevanceMassAccuracy": cs.metrics.relevance_mass_accuracy,
        "RelevanceRankAccuracy": cs.metrics.relevance_rank_accuracy,
        "PointingGame": cs.metrics.pointing_game,
    }
    assert 0 < mask.mean() < 0.5
    for name, ours in scores.items():
        theirs = getattr(quantus, name)(disable_warnings=True)(**one, s_batch=mask[None, None])
        assert float(theirs[0]) == pytest.approx(float(ours(heat, mask)), abs=1e-4), name


def test_randomization_reaches_the_encoder(page: dict[str, Any]) -> None:
    found = page["correlations"]
    assert np.allclose(found["0.model.classifier"], 1)  # behind the layer
    assert np.mean(found["0.model.features.0"]) < 0.3
    network = copy.deepcopy(page["encoder"].model)
    for layer in (network.classifier, network.features[16]):
        torch.manual_seed(43)  # as Quantus does before each
        layer.reset_parameters()
    random = maps_by_hand(page, cs.LatentEncoder(network, page["encoder"].layer))
    for heat, other, r in zip(maps_by_hand(page, page["encoder"]), random, found["0.model.features.16"], strict=True):
        assert spearmanr(heat.ravel(), other.ravel())[0] == pytest.approx(r, abs=1e-3)


def test_a_pair_side_by_side_has_one_scale(page: dict[str, Any]) -> None:
    """Captum divides by the 98th percentile of both, whereas each alone would be divided by its own."""
    shown = page["axes"][1].images[1].get_array()
    heat = page["heat"]
    assert shown.shape == heat.shape == (96, 192)
    level = np.sort(heat.ravel())[np.where(np.cumsum(np.sort(heat.ravel())) >= heat.sum() * 0.98)[0][0]]
    assert np.allclose(shown, np.clip(heat / level, -1, 1), atol=1e-5)


def test_statistics_are_those_of_all_maps(page: dict[str, Any]) -> None:
    data, weight = page["data"], page["weight"]
    pairs = [(data.images[k : k + 1], page["gallery"][:1]) for k in page["drivers"]]
    maps = [page["method"].attribute(pair, readout=weight) for pair in pairs]
    for summary, of_side in zip((page["of_images"], page["of_references"]), zip(*maps, strict=True), strict=True):
        stack = torch.stack(of_side)
        assert torch.allclose(summary["max"].float(), stack.amax(0))
        assert torch.allclose(summary["mean"].float(), stack.mean(0), atol=1e-7)
        assert torch.allclose(summary["std_dev"].float(), stack.std(0, unbiased=False), atol=1e-6)
    by_class = ca.ClassSummarizer([ca.Mean()])
    for label, some in zip("aabb", maps, strict=True):
        by_class.update(some, label)
    assert torch.allclose(by_class.class_summaries["a"][0]["mean"].float(), (maps[0][0] + maps[1][0])[0] / 2, atol=1e-7)


def test_the_most_influential_image_is_the_reference(page: dict[str, Any]) -> None:
    best = [(page["latents"][:40] * page["latents"][k] * page["weight"]).sum(1).argmax() for k in page["drivers"]]
    assert page["found"].ravel().tolist() == [int(one) for one in best]
