"""The renderer's masks and removals, the demo network, its training, category neurons and their shared parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from captum_shared import synthetic
from captum_shared.synthetic import (
    CATEGORIES,
    KINDS,
    Part,
    category_neuron,
    demo_images,
    demo_network,
    footprint,
    make_images,
    planted_neuron,
    removal_effects,
    render,
    render_scenes,
    sample_scene,
    shared_masks,
    typical_scene,
)
from captum_shared.synthetic import train as training
from captum_shared.synthetic.images import SyntheticImages
from captum_shared.synthetic.layout import compose_scene
from captum_shared.synthetic.network import WEIGHTS, DemoNetwork
from captum_shared.synthetic.scene import Scene
from captum_shared.synthetic.styles import STYLES
from captum_shared.synthetic.train import evaluate, place_targets, train

seeds = st.integers(0, 2**32 - 1)
categories = st.sampled_from(CATEGORIES)
Sampler = Callable[[str, int], Scene]
samplers: st.SearchStrategy[Sampler] = st.sampled_from([sample_scene, typical_scene])


@pytest.fixture(scope="module")
def held_out() -> SyntheticImages:
    return make_images(200, seed=987_654)


@pytest.fixture(scope="module")
def network() -> DemoNetwork:
    return demo_network()


def latents_of(network: DemoNetwork, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network.flatten(network.pool(network.features(images)))


# --- renderer --------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(seeds, categories, samplers)
def test_same_seed_gives_same_bytes(seed: int, category: str, sample: Sampler) -> None:
    first, second = (render(sample(category, seed), 48) for _ in range(2))
    assert first[0].numpy().tobytes() == second[0].numpy().tobytes()
    assert first[1].keys() == second[1].keys()
    assert all((first[1][kind] == second[1][kind]).all() for kind in first[1])


@settings(max_examples=15)
@given(seeds, categories, samplers)
def test_images_are_eight_bit_levels_and_masks_are_disjoint(seed: int, category: str, sample: Sampler) -> None:
    image, masks = render(sample(category, seed), 48)
    assert image.shape == (3, 48, 48)
    assert image.dtype == torch.float32
    torch.testing.assert_close(255 * image, (255 * image).round(), rtol=0, atol=1e-4)
    assert image.min() >= 0
    assert image.max() <= 1
    assert sum(mask.astype(int) for mask in masks.values()).max() == 1
    assert all(mask.any() for mask in masks.values())


@settings(max_examples=25)
@given(seeds, categories, samplers, st.data())
def test_removing_a_kind_changes_only_its_footprint(
    seed: int, category: str, sample: Sampler, data: st.DataObject
) -> None:
    scene = sample(category, seed)
    kind = data.draw(st.sampled_from(scene.kinds))
    image, masks = render(scene, 64)
    image_without, masks_without = render(scene.without(kind), 64)
    touched = np.logical_or.reduce([footprint(part, 64) for part in scene.parts if part.kind == kind])
    changed = (image != image_without).any(dim=0).numpy()
    assert not (changed & ~touched).any()
    assert kind not in masks_without
    removed = masks.get(kind, np.zeros((64, 64), dtype=bool))
    for other, mask in masks_without.items():
        before = masks.get(other, np.zeros((64, 64), dtype=bool))
        assert not (before & ~mask).any()
        assert not (mask & ~before & ~removed).any()
    assert not (removed & ~touched).any()


def test_masks_of_two_discs_are_the_discs() -> None:
    background = sample_scene("tool", 0).background
    behind = Part("wheel", (0.4, 0.5), 0.2)
    front = Part("wheel", (0.6, 0.5), 0.2)
    scene = synthetic.Scene("tool", (behind, dataclasses.replace(front, kind="head", form=1.0)), background)
    _, masks = render(scene, 100)
    y, x = np.mgrid[:100, :100] + 0.5
    head = np.hypot(x - 60, y - 50) <= 20
    wheel = (np.hypot(x - 40, y - 50) <= 20) & ~head
    assert (masks["head"] == head).all()
    assert (masks["wheel"] == wheel).all()


def test_every_kind_and_style_paints_inside_its_reach() -> None:
    plain = [(kind, "", entry) for kind, entry in KINDS.items()]
    styled = [(kind, style, entry) for kind, styles in STYLES.items() for style, entry in styles.items()]
    for kind, style, entry in plain + styled:
        for form in (-1.0, 1.0):
            touched = footprint(Part(kind, (0.5, 0.5), 0.15, form=form, style=style), 128)
            y, x = np.nonzero(touched)
            assert len(x) > 50
            assert np.hypot(x + 0.5 - 64, y + 0.5 - 64).max() < entry.reach * 0.15 * 128 + 1, (kind, style)


def test_typical_objects_are_a_body_of_some_style_with_at_most_two_kinds_of_animal_parts() -> None:
    drawn: set[tuple[str, str]] = set()
    counts: set[int] = set()
    for seed in range(60):
        for category, body in (("vehicle", "chassis"), ("furniture", "cabinet"), ("tool", "shaft")):
            scene = typical_scene(category, seed)
            drawn |= {(part.kind, part.style) for part in scene.parts if part.kind == body}
            animal = [kind for kind in scene.kinds if kind in synthetic.SHARED_KINDS]
            counts.add(len(animal))
            assert set(scene.kinds) == {body, *animal, *(["wheel"] if category == "vehicle" else [])}
    assert drawn == {(kind, style) for kind, styles in STYLES.items() for style in styles}
    assert counts == {0, 1, 2}
    assert all("torso" in typical_scene("creature", seed).kinds for seed in range(5))


def test_the_network_knows_typical_objects_too(network: DemoNetwork) -> None:
    made = make_images(80, seed=3, typical=True)
    presence, logits = made.presence(), network(made.images).detach()
    for kind in synthetic.SHARED_KINDS:
        here = presence[:, list(KINDS).index(kind)] > 0
        scores = logits[:, synthetic.LABELS.index(kind)]
        assert (scores[here][:, None] > scores[~here]).float().mean() > 0.9, kind  # area under the ROC curve


def test_adding_a_part_and_removing_it_is_the_identity() -> None:
    scene = find_scene("creature", set())
    scene = scene.without("star") if "star" in scene.kinds else scene
    more = scene.with_parts(Part("star", (0.3, 0.3), 0.05))
    assert more.without("star") == scene
    assert not torch.equal(render(more, 48)[0], render(scene, 48)[0])


def test_a_longer_set_starts_with_the_shorter_and_categories_take_turns() -> None:
    short, long = make_images(3, seed=5, size=32), make_images(6, seed=5, size=32)
    assert torch.equal(long.images[:3], short.images)
    assert long.categories == [*CATEGORIES, *CATEGORIES[:2]]
    assert len(short) == 3


def test_presence_and_place_targets_agree_with_the_masks(held_out: SyntheticImages) -> None:
    presence, places = held_out.presence(), place_targets(held_out)
    index = list(KINDS).index("head")
    for row, masks in enumerate(held_out.masks):
        assert presence[row, index] == ("head" in masks)
        expected = masks["head"].sum() if "head" in masks else 0
        assert places[row, index].sum().item() * 64 == pytest.approx(expected)


def test_every_kind_occurs_and_shared_kinds_occur_on_both_sides(held_out: SyntheticImages) -> None:
    creature = np.array(held_out.categories) == "creature"
    presence = held_out.presence().numpy().astype(bool)
    assert presence.any(axis=0).all()
    for kind in synthetic.SHARED_KINDS:
        here = presence[:, list(KINDS).index(kind)]
        assert here[creature].mean() > here[~creature].mean() > 0


# --- network and training --------------------------------------------------------------------------------------------


def test_shipped_weights_are_small_and_load(network: DemoNetwork) -> None:
    assert WEIGHTS.stat().st_size <= 1_000_000
    assert not network.training
    assert network(torch.rand(2, 3, 96, 96)).shape == (2, len(synthetic.LABELS))
    assert network.locate(torch.rand(1, 3, 96, 96)).shape == (1, len(KINDS), 12, 12)
    modules = [module for module in network.modules() if not list(module.children())]
    assert len(modules) == len(set(modules))
    assert dict(network.named_modules())[synthetic.DEMO_LAYER] is network.features[-1]


def test_shipped_network_detects_parts_on_held_out_images(network: DemoNetwork, held_out: SyntheticImages) -> None:
    scores = evaluate(network, held_out)
    assert np.mean([scores[kind][0] for kind in synthetic.SHARED_KINDS]) > 0.95
    assert np.mean([scores[kind][0] for kind in KINDS]) > 0.90
    assert all(scores[category][0] > 0.90 for category in CATEGORIES)


def test_training_is_reproducible_and_resumes_identically(tmp_path: Path) -> None:
    train_epoch = training._train_epoch

    def interrupted(*arguments: Any) -> None:
        if arguments[3] == 1:  # the second epoch
            raise KeyboardInterrupt
        train_epoch(*arguments)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    arguments = {"seed": 3, "n_images": 12, "epochs": 2, "batch_size": 6, "progress": False}
    try:
        train(tmp_path / "a", **arguments)
        train(tmp_path / "b", **arguments)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "_train_epoch", interrupted)
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path / "c", **arguments)
        assert not (tmp_path / "c").exists()
        with pytest.raises(ValueError, match="was made with"):
            train(tmp_path / "c", **{**arguments, "seed": 4})
        train(tmp_path / "c", **arguments)
        train(tmp_path / "d", **{**arguments, "seed": 4})
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "d").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]
    assert load_file(tmp_path / "a")["features.0.weight"].dtype == torch.float16
    assert not demo_network(tmp_path / "a").training


# --- neurons ---------------------------------------------------------------------------------------------------------


def test_the_command_trains_saves_and_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], held_out: SyntheticImages
) -> None:
    """Its settings of the process, threads and denormals, are not those of the other tests."""
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    monkeypatch.setattr(torch, "set_flush_denormal", lambda on: None)
    monkeypatch.setattr(training, "make_images", lambda n, seed: held_out)
    words = ["train", "--out", str(tmp_path / "net.safetensors"), "--images", "12", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", words)
    training.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(synthetic.LABELS)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_category_neuron_separates_held_out_images(network: DemoNetwork, held_out: SyntheticImages) -> None:
    from sklearn.metrics import roc_auc_score

    other = make_images(200, seed=55)
    first, second = latents_of(network, other.images), latents_of(network, held_out.images)
    scale = first.std(0)
    for category in ("creature", "vehicle"):
        neuron = category_neuron(first / scale, other.categories, category)
        member = [name == category for name in held_out.categories]
        assert roc_auc_score(member, neuron(second / scale)) > 0.85


def test_category_neuron_is_weighted_ridge() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    names = ["a"] * 5 + ["b"] * 15
    neuron = category_neuron(latents, names, "a", alpha=0.7)
    target = torch.tensor([1.0] * 5 + [0.0] * 15, dtype=torch.float64)
    weight = torch.tensor([2.0] * 5 + [2 / 3] * 15, dtype=torch.float64)
    center = (weight[:, None] * latents).sum(0) / weight.sum()
    z, y = latents - center, target - (weight * target).sum() / weight.sum()
    expected = torch.linalg.solve(z.T @ (weight[:, None] * z) + 0.7 * torch.eye(3).double(), z.T @ (weight * y))
    torch.testing.assert_close(neuron.weight, expected)
    torch.testing.assert_close(neuron.bias, float((weight * target).sum() / weight.sum() - center @ expected))


def test_planted_neuron_is_the_weighted_sum_of_logits(network: DemoNetwork, held_out: SyntheticImages) -> None:
    images = held_out.images[:4]
    neuron = planted_neuron(network, {"head": 1.0, "tail": 0.5})
    with torch.no_grad():
        logits = network(images)
    head, tail = (synthetic.LABELS.index(kind) for kind in ("head", "tail"))
    torch.testing.assert_close(
        neuron(latents_of(network, images)), logits[:, head] + 0.5 * logits[:, tail], rtol=1e-4, atol=1e-4
    )


def find_scene(category: str, present: set[str]) -> Scene:
    for seed in range(1000):
        scene = sample_scene(category, seed)
        if set(present) <= render(scene, 48)[1].keys():
            return scene
    raise LookupError(present)


def test_removal_effect_is_the_drop_of_the_response() -> None:
    scene = find_scene("vehicle", {"head", "wheel"})
    image, without = render(scene, 48)[0], render(scene.without("head"), 48)[0]
    effects = removal_effects(scene, lambda images: (images - without).abs().mean(dim=(1, 2, 3)), size=48)
    assert effects.keys() == render(scene, 48)[1].keys()
    assert effects["head"] == pytest.approx((image - without).abs().mean().item())
    assert max(effects, key=effects.get) == "head"


def test_shared_masks_of_a_planted_neuron_are_its_part(network: DemoNetwork) -> None:
    neuron = planted_neuron(network, {"head": 1.0})
    x, ref = find_scene("vehicle", {"head", "wheel", "tail"}), find_scene("creature", {"head", "tail"})
    (_, masks_x), (_, masks_ref) = render(x), render(ref)

    def response(images: torch.Tensor) -> torch.Tensor:
        return neuron(latents_of(network, images))

    effects = [removal_effects(scene, response)["head"] for scene in (x, ref)]
    shared = shared_masks(x, ref, response, min_drop=0.5 * min(effects))
    assert shared.kinds == ("head",)
    assert (shared.mask_x == masks_x["head"]).all()
    assert (shared.mask_ref == masks_ref["head"]).all()
    everything = shared_masks(x, ref, response, min_drop=-1e6)
    assert set(everything.kinds) == masks_x.keys() & masks_ref.keys()
    assert (everything.mask_x == np.logical_or.reduce([masks_x[kind] for kind in everything.kinds])).all()
    nothing = shared_masks(x, ref, response, min_drop=1e6)
    assert nothing.kinds == ()
    assert not nothing.mask_x.any()


def test_demo_images_are_gallery_then_others() -> None:
    data = demo_images("tool", n_gallery=2, n_others=3, seed=1, size=32)
    assert data.categories == ["tool", "tool", "creature", "vehicle", "furniture"]
    assert data.images.shape == (5, 3, 32, 32)
    again = demo_images("tool", n_gallery=2, n_others=3, seed=1, size=32)
    assert torch.equal(data.images, again.images)


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_scene("plant", 0), r"`category` must be one of creature, .* got 'plant'"),
        (lambda: typical_scene("plant", 0), r"`category` must be one of creature, .* got 'plant'"),
        (lambda: typical_scene("tool", 0, clutter=-1), r"`clutter` must be at least 0, got -1"),
        (
            lambda: footprint(Part("cabinet", (0.5, 0.5), 0.1, style="sofa")),
            r"style of a cabinet must be one of 'table', 'chair', 'shelf', got 'sofa'",
        ),
        (lambda: footprint(Part("head", (0.5, 0.5), 0.1, style="odd")), r"style of a head must be one of '', got 'odd'"),
        (lambda: sample_scene("tool", 0, clutter=-1), r"`clutter` must be at least 0, got -1"),
        (lambda: make_images(0), r"`n` must be a positive integer, got 0"),
        (lambda: make_images(2, []), r"`categories` must name at least one category"),
        (lambda: make_images(2, ["plant"]), r"got 'plant'"),
        (lambda: make_images(1, size=8), r"`size` must be at least 16 pixels, got 8"),
        (lambda: render_scenes([]), r"`scenes` must hold at least one scene"),
        (lambda: sample_scene("tool", 0).without("halo"), r"no part of kind 'halo'; it has"),
        (lambda: Part("head", (0.5, float("nan")), 0.1), r"must be finite"),
        (lambda: Part("head", (0.5, 0.5), 0.0), r"`scale` must be positive, got 0.0"),
        (lambda: footprint(Part("halo", (0.5, 0.5), 0.1)), r"kind must be one of head, .* got 'halo'"),
        (lambda: demo_images("plant"), r"`preferred` must be one of .* got 'plant'"),
        (lambda: category_neuron(torch.zeros(3), ["a"] * 3, "a"), r"`latents` must be \(n, D\).* got \(3,\)"),
        (lambda: category_neuron(torch.zeros(3, 2), ["a"], "a"), r"got \(3, 2\) and 1 categories"),
        (lambda: category_neuron(torch.full((2, 2), torch.nan), ["a", "b"], "a"), r"`latents` must be finite"),
        (lambda: category_neuron(torch.zeros(2, 2), ["a", "a"], "a"), r"must hold 'a' and others, got a"),
        (lambda: category_neuron(torch.zeros(2, 2), ["a", "b"], "c"), r"must hold 'c' and others, got a, b"),
        (lambda: planted_neuron(demo_network(), {}), r"`kinds` must give at least one"),
        (lambda: planted_neuron(demo_network(), {"halo": 1.0}), r"`kinds` must be among .* got 'halo'"),
        (lambda: removal_effects(sample_scene("tool", 0), lambda x: x.mean(), size=32), r"must return \(\d+,\) responses"),
        (lambda: compose_scene(["head", "halo"], 0), r"`kinds` must be among .* got 'halo'"),
        (lambda: train("nowhere", epochs=0), r"`epochs` must be a positive integer, got 0"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_missing_or_foreign_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found none at"):
        demo_network(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("not weights")
    with pytest.raises(ValueError, match="must hold a DemoNetwork's state"):
        demo_network(tmp_path / "text")
