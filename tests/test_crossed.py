"""constants="crossed": each image's constant from the other image, so that both maps belong to one similarity."""

from __future__ import annotations

from typing import Any

import captum.attr as ca
import pytest
import torch
from captum.metrics import infidelity
from torch import Tensor, nn

from captum_shared import (
    LatentEncoder,
    LayerParallelBackprop,
    LinearReadout,
    ParallelBackprop,
    moment_rule,
    neuron_similarity,
)

pytestmark = pytest.mark.filterwarnings("ignore:the third moments of")


def rules(encoder: LatentEncoder) -> dict[str, Any]:
    gallery = encoder(torch.randn(40, 3, 8, 8).double()).detach()
    return {"dot": "dot", "moments": moment_rule(gallery), "own": lambda z, z_ref, w, center: w.abs() * z_ref}


@pytest.mark.parametrize("rule", ["dot", "moments"])
def test_maps_are_the_gradients_of_the_similarity(rule: str, encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    own = rules(encoder)[rule]
    maps = ParallelBackprop(encoder, ca.Saliency, rule=own, constants="crossed").attribute(pair, readout=w)
    leaves = [x.clone().requires_grad_() for x in pair]
    for n in range(3):
        z, z_ref = (encoder(leaf[n : n + 1]) for leaf in leaves)
        neuron_similarity(z, z_ref, w, own).sum().backward()
    for leaf, found in zip(leaves, maps, strict=True):
        assert torch.allclose(found, leaf.grad, rtol=1e-9)


@pytest.mark.parametrize("rule", ["dot", "moments"])
def test_both_maps_sum_to_the_similarity_from_the_mean_image(rule: str) -> None:
    """Linear latents, integrated gradients from the image whose latents are the gallery's mean."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).double()
    images = torch.rand(300, 3, 2, 2).double() ** 3
    gallery = encoder(images).detach()
    mean = images.mean(0, keepdim=True)
    pair, w = (images[:4], images[4:8]), torch.randn(5).double()
    own = moment_rule(gallery) if rule == "moments" else "dot"
    center = gallery.mean(0) if rule == "dot" else None
    pb = ParallelBackprop(encoder, rule=own, center=center, constants="crossed")
    maps = pb.attribute(pair, readout=w, baselines=mean, n_steps=4)
    latents = gallery[:4], gallery[4:8]
    if center is not None:
        latents = latents[0] - center, latents[1] - center
    expected = neuron_similarity(*latents, w, own).diagonal()
    for found in maps:
        assert torch.allclose(found.sum((1, 2, 3)), expected, rtol=1e-9)


def test_layer_maps_sum_to_the_similarity(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    for rule in (v for k, v in rules(encoder).items() if k != "own"):
        maps = LayerParallelBackprop(encoder, rule=rule, constants="crossed").attribute(pair, readout=w)
        expected = neuron_similarity(*(encoder(x) for x in pair), w, rule).diagonal()
        for found in maps:
            assert torch.allclose(found.sum((1, 2, 3)), expected)


def test_the_papers_product_is_its_own(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    common, crossed = (
        ParallelBackprop(encoder, ca.Saliency, constants=constants).attribute(pair, readout=w)
        for constants in ("common", "crossed")
    )
    assert all(torch.equal(a, b) for a, b in zip(common, crossed, strict=True))


@pytest.mark.parametrize("engine", [ca.Saliency, ca.IntegratedGradients])
@pytest.mark.parametrize("rule", ["dot", "moments", "own"])
def test_each_image_has_the_constant_of_the_other(
    rule: str, engine: Any, encoder: LatentEncoder, pair: Any, w: Tensor
) -> None:
    own = rules(encoder)[rule]
    pb = ParallelBackprop(encoder, engine, rule=own, constants="crossed")
    z, z_ref = (encoder(x).detach() for x in pair)
    c, c_ref = pb.shared_weights(pair, w)
    swapped = {"dot": lambda: w * z, "moments": lambda: own.transposed(z_ref, z, w), "own": lambda: w.abs() * z}
    assert torch.allclose(c_ref, swapped[rule]())
    options = {} if engine is ca.Saliency else {"n_steps": 5}
    maps = pb.attribute(pair, readout=w, **options)
    for x, constant, found in zip(pair, (c, c_ref), maps, strict=True):
        one = ParallelBackprop(encoder, engine).attribute((x, x), additional_forward_args=(constant,), **options)
        assert torch.allclose(found, one[0])
    held = pb.attribute(pair, additional_forward_args=(c, c_ref), **options)
    assert all(torch.allclose(a, b) for a, b in zip(maps, held, strict=True))


@pytest.mark.parametrize("constants", ["common", "crossed"])
@pytest.mark.parametrize("engine", [ca.Saliency, ca.IntegratedGradients, ca.InputXGradient])
def test_many_neurons_are_as_many_calls(constants: str, engine: Any, encoder: LatentEncoder, pair: Any) -> None:
    weights, options = torch.randn(2, 6).double(), {"n_steps": 4} if engine is ca.IntegratedGradients else {}
    for rule in rules(encoder).values():
        pb = ParallelBackprop(encoder, engine, rule=rule, constants=constants)
        many = pb.attribute_neurons(pair, weights, **options)
        for k, w in enumerate(weights):
            one = pb.attribute(pair, readout=w, **options)
            assert all(torch.allclose(a[:, k], b) for a, b in zip(many, one, strict=True))


def test_references_averaged_and_centers_of_many_neurons(encoder: LatentEncoder, pair: Any) -> None:
    weights, centers, mean = torch.randn(2, 6).double(), torch.randn(2, 6).double(), torch.randn(3, 6).double()
    pb = ParallelBackprop(encoder, ca.Saliency, rule="dot", constants="crossed")
    many = pb.attribute_neurons(pair, weights, center=centers, reference_latents=mean)
    for k in range(2):
        one = pb.attribute(pair, readout=weights[k], center=centers[k], reference_latents=mean)
        assert all(torch.allclose(a[:, k], b) for a, b in zip(many, one, strict=True))
    c, c_ref = pb.shared_weights(pair, weights[0], reference_latents=mean[0])
    assert torch.allclose(c, weights[0] * mean[0].expand(3, 6))
    assert torch.allclose(c_ref, weights[0] * encoder(pair[0]))


def test_infidelity_of_the_pair(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    """Of a perturbation that is small the exact maps have hardly any."""
    pb = ParallelBackprop(encoder, ca.Saliency, rule="dot", constants="crossed")
    maps, constants = pb.attribute(pair, readout=w), pb.shared_weights(pair, w)
    small = [1e-5 * torch.randn_like(x) for x in pair]

    def perturb(inputs: Any) -> Any:
        repeats = len(inputs[0]) // 3
        noise = tuple(s.repeat_interleave(repeats, 0) for s in small)
        return noise, tuple(x - s for x, s in zip(inputs, noise, strict=True))

    change = pb.forward_func(*pair, *constants) - pb.forward_func(pair[0] - small[0], pair[1] - small[1], *constants)
    found = infidelity(pb.forward_func, perturb, pair, maps, additional_forward_args=constants, n_perturb_samples=2)
    assert (found <= 1e-6 * change.square()).all()
    wrong = infidelity(
        pb.forward_func, perturb, pair, maps, additional_forward_args=(constants[0],), n_perturb_samples=2
    )
    assert (wrong > 100 * found).all()


def test_noise_around_and_inside(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    readout = LinearReadout(w[None])
    pb = ParallelBackprop(encoder, ca.Saliency, rule="dot", constants="crossed")
    around = ca.NoiseTunnel(pb).attribute(pair, nt_samples=2, stdevs=1e-9, readout=readout, target=0)
    inside = ParallelBackprop(encoder, lambda f: ca.NoiseTunnel(ca.Saliency(f)), rule="dot", constants="crossed")
    noisy = inside.attribute(pair, nt_samples=2, stdevs=1e-9, readout=w)
    plain = pb.attribute(pair, readout=w)
    held = ca.NoiseTunnel(pb).attribute(
        pair, nt_samples=2, stdevs=1e-9, additional_forward_args=pb.shared_weights(pair, w)
    )
    for maps in (around, noisy, held):
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(maps, plain, strict=True))


def test_plain_gradients_take_one_forward_pass_an_image(
    net: nn.Module, encoder: LatentEncoder, pair: Any, w: Tensor
) -> None:
    passes = []
    net.conv1.register_forward_hook(lambda *_: passes.append(1))
    ParallelBackprop(encoder, ca.Saliency, rule="dot", constants="crossed").attribute(pair, readout=w)
    assert len(passes) == 2


def test_convergence_delta_is_that_of_both(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    pb = ParallelBackprop(encoder, rule="dot", constants="crossed")
    maps, delta = pb.attribute(pair, readout=w, n_steps=7, return_convergence_delta=True)
    constants = pb.shared_weights(pair, w)
    zero = torch.zeros_like(pair[0])
    gained = pb.forward_func(*pair, *constants) - pb.forward_func(zero, zero, *constants)
    assert torch.allclose(sum(m.sum((1, 2, 3)) for m in maps) - gained, delta)
