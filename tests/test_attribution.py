"""ParallelBackprop against slow oracles: one image at a time, and the explicit Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.attr as ca
import pytest
import torch
from captum._utils.models.linear_model import SkLearnLinearRegression
from captum.attr._utils.approximation_methods import approximation_parameters
from torch import Tensor, nn

from captum_shared import LatentEncoder, ParallelBackprop, shared_weights

RTOL = 1e-6


def jacobian(encoder: nn.Module, x: Tensor) -> Tensor:
    """The explicit Jacobian (D, ...) of the latents of one image (1, ...), a row per latent."""
    leaf = x.clone().requires_grad_()
    return torch.stack([torch.autograd.grad(encoder(leaf)[0, k], leaf)[0][0] for k in range(encoder(x).shape[1])])


def gradient_oracle(encoder: nn.Module, x: Tensor, c: Tensor, baseline: Tensor) -> Tensor:
    return torch.einsum("d,d...->...", c, jacobian(encoder, x[None]))


def integrated_oracle(encoder: nn.Module, x: Tensor, c: Tensor, baseline: Tensor, n_steps: int = 20) -> Tensor:
    sizes, alphas = (rule(n_steps) for rule in approximation_parameters("gausslegendre"))
    path = sum(s * jacobian(encoder, (baseline + a * (x - baseline))[None]) for s, a in zip(sizes, alphas, strict=True))
    return (x - baseline) * torch.einsum("d,d...->...", c, path)


def close(a: Tensor, b: Tensor, rtol: float = RTOL) -> bool:
    return bool((a - b).abs().max() <= rtol * b.abs().max())


@pytest.mark.parametrize("baseline", [0.0, 0.3])
@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_maps_are_the_explicit_jacobians(
    method: str, baseline: float, encoder: LatentEncoder, pair: Any, w: Tensor
) -> None:
    oracle, engine = {
        "gradient": (gradient_oracle, ca.Saliency),
        "integrated": (integrated_oracle, ca.IntegratedGradients),
    }[method]
    options = {} if method == "gradient" else {"n_steps": 20, "baselines": baseline}
    maps = ParallelBackprop(encoder, engine=engine).attribute(pair, readout=w, **options)
    for n in range(3):
        z, z_ref = (encoder(x[n : n + 1])[0] for x in pair)
        c = (w * z * z_ref).detach()
        for x, found in zip(pair, maps, strict=True):
            assert close(found[n], oracle(encoder, x[n], c, torch.full_like(x[n], baseline)))


class Scalar(nn.Module):
    """c . z(x) for one fixed c: what a careful user would write by hand."""

    def __init__(self, encoder: nn.Module, c: Tensor) -> None:
        super().__init__()
        self.encoder, self.c = encoder, c

    def forward(self, x: Tensor) -> Tensor:
        return (self.encoder(x) * self.c).sum(1)


ENGINES: dict[str, tuple[Callable[[nn.Module], Any], dict[str, Any]]] = {
    "IntegratedGradients": (ca.IntegratedGradients, {"n_steps": 16}),
    "IntegratedGradients, chunked": (ca.IntegratedGradients, {"n_steps": 16, "internal_batch_size": 3}),
    "IntegratedGradients, riemann": (ca.IntegratedGradients, {"n_steps": 9, "method": "riemann_trapezoid"}),
    "Saliency": (ca.Saliency, {"abs": False}),
    "Saliency, absolute": (ca.Saliency, {"abs": True}),
    "InputXGradient": (ca.InputXGradient, {}),
    "GuidedBackprop": (ca.GuidedBackprop, {}),
    "Deconvolution": (ca.Deconvolution, {}),
    "DeepLift": (ca.DeepLift, {"baselines": 0.1}),
    "LRP": (ca.LRP, {}),
    "Occlusion": (ca.Occlusion, {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2), "baselines": 0.0}),
    "FeatureAblation": (ca.FeatureAblation, {"feature_mask": torch.arange(64).reshape(1, 1, 8, 8) // 16}),
}
SAMPLING = {
    "DeepLiftShap": (
        ca.DeepLiftShap,
        {"baselines": torch.linspace(-1, 1, 4 * 192).reshape(4, 3, 8, 8).double()},
    ),
    "GradientShap": (
        ca.GradientShap,
        {"baselines": torch.zeros(4, 3, 8, 8).double(), "n_samples": 4, "stdevs": 0.1},
    ),
    "KernelShap": (
        ca.KernelShap,
        {"feature_mask": torch.arange(64).reshape(1, 1, 8, 8) // 16, "n_samples": 20},
    ),
    "Lime": (
        lambda f: ca.Lime(f, interpretable_model=SkLearnLinearRegression()),
        {"feature_mask": torch.arange(64).reshape(1, 1, 8, 8) // 16, "n_samples": 20},
    ),
    "SmoothGrad inside": (
        lambda f: ca.NoiseTunnel(ca.Saliency(f)),
        {"nt_samples": 4, "stdevs": 0.1, "abs": False},
    ),
    "noisy IG inside": (lambda f: ca.NoiseTunnel(ca.IntegratedGradients(f)), {"nt_samples": 3, "n_steps": 5}),
}


def per_image(options: dict[str, Any]) -> dict[str, Any]:
    """As Captum wants a tensor among the arguments of a pair: one for each image."""
    return {k: (v, v) if isinstance(v, Tensor) and k == "baselines" else v for k, v in options.items()}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_engine_is_the_loop_over_single_images(name: str, encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    engine, options = ENGINES[name]
    maps = ParallelBackprop(encoder, engine=engine).attribute(pair, readout=w, **per_image(options))
    c = (w * encoder(pair[0]) * encoder(pair[1])).detach()
    for x, found in zip(pair, maps, strict=True):
        for n in range(3):
            scalar = Scalar(encoder, c[n])
            expected = engine(scalar).attribute(x[n : n + 1].clone(), **{**options, **chunk_of_one(options)})
            assert close(found[n], expected[0])


def chunk_of_one(options: dict[str, Any]) -> dict[str, Any]:
    return {"internal_batch_size": 1} if "internal_batch_size" in options else {}


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sampling_engines_are_the_same_with_the_same_seed(
    name: str, encoder: LatentEncoder, pair: Any, w: Tensor
) -> None:
    engine, options = SAMPLING[name]
    single = tuple(x[:1] for x in pair)
    pb = ParallelBackprop(encoder, engine=engine)
    c = pb.shared_weights(single, w)
    seed_everything()
    maps = pb.attribute(single, readout=w, **per_image(options))
    seed_everything()
    for x, found in zip(single, maps, strict=True):
        assert isinstance(found, Tensor)
        expected = engine(Scalar(encoder, c[0])).attribute(x.clone(), **options)
        assert close(found, expected)
        assert found.abs().max() > 0


def seed_everything() -> None:
    import numpy as np

    torch.manual_seed(3)
    np.random.seed(3)


def test_batch_equals_one_at_a_time(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    pb = ParallelBackprop(encoder)
    readouts = torch.stack([w, -w, 2 * w])
    together = pb.attribute(pair, readout=readouts, n_steps=7)
    for n in range(3):
        alone = pb.attribute(tuple(x[n : n + 1] for x in pair), readout=readouts[n], n_steps=7)
        assert all(close(t[n : n + 1], a) for t, a in zip(together, alone, strict=True))


def test_swapping_the_pair_swaps_the_maps(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    pb = ParallelBackprop(encoder)
    map_x, map_ref = pb.attribute(pair, readout=w, n_steps=7)
    swapped = pb.attribute((pair[1], pair[0]), readout=w, n_steps=7)
    assert torch.equal(map_x, swapped[1])
    assert torch.equal(map_ref, swapped[0])


def test_maps_are_linear_in_the_readout(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    pb = ParallelBackprop(encoder)
    other = torch.randn_like(w)
    combined = pb.attribute(pair, readout=2 * w - 3 * other, n_steps=7)
    parts = [pb.attribute(pair, readout=v, n_steps=7) for v in (w, other)]
    for k in range(2):
        assert close(combined[k], 2 * parts[0][k] - 3 * parts[1][k])


def test_integrated_gradients_are_complete_with_the_frozen_c(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    pb = ParallelBackprop(encoder)
    maps, delta = pb.attribute(pair, readout=w, n_steps=400, return_convergence_delta=True)
    c = pb.shared_weights(pair, w)
    for x, heat in zip(pair, maps, strict=True):
        rise = (c * (encoder(x) - encoder(torch.zeros_like(x)))).sum(1)
        assert torch.allclose(heat.sum(dim=(1, 2, 3)), rise, rtol=2e-3, atol=2e-4)
    assert delta.shape == (3,)
    by_hand = pb.compute_convergence_delta(maps, (0.0, 0.0), pair, additional_forward_args=(c,))
    assert torch.allclose(delta, by_hand, atol=1e-12)


def test_closed_form_on_captums_linear_model() -> None:
    models = pytest.importorskip("captum.testing.helpers.basic_models", reason="captum 0.8 ships no test helpers")
    model = models.BasicLinearModel2(5, 3)
    x, x_ref, w = torch.randn(2, 5), torch.randn(2, 5), torch.randn(3)
    c = w * model(x) * model(x_ref)
    maps = ParallelBackprop(model, engine=ca.Saliency).attribute((x, x_ref), readout=w)
    assert torch.allclose(maps[0], (c @ model.linear.weight).detach(), atol=1e-6)
    assert torch.equal(maps[0], maps[1])


def test_signed_gradients_are_the_default_of_saliency(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    signed = ParallelBackprop(encoder, engine=ca.Saliency).attribute(pair, readout=w)[0]
    assert signed.min() < 0 < signed.max()


@pytest.mark.parametrize("rule", ["centered", "contrast"])
def test_rules_with_a_center(rule: str, encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    center = torch.rand(6, dtype=torch.float64)
    maps = ParallelBackprop(encoder, engine=ca.Saliency, rule=rule, center=center).attribute(pair, readout=w)
    again = ParallelBackprop(encoder, engine=ca.Saliency, rule=rule).attribute(pair, readout=w, center=center)
    factor = w**2 if rule == "centered" else w.abs()
    c = (factor * (encoder(pair[1]) - center)).detach()
    assert close(maps[0][0], gradient_oracle(encoder, pair[0][0], c[0], pair[0][0]))
    assert torch.equal(maps[0], again[0])


def test_mean_of_references_is_the_mean_map(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    pb = ParallelBackprop(encoder, engine=ca.Saliency)
    x = pair[0][:1]
    references = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    each = [pb.attribute((x, y[None]), readout=w)[0] for y in references]
    mean = encoder(references).mean(0)
    together = pb.attribute((x, references[:1]), readout=w, reference_latents=mean)[0]
    assert close(together, torch.stack(each).mean(0))


def test_images_of_two_sizes(encoder: LatentEncoder, w: Tensor) -> None:
    x, x_ref = torch.randn(2, 3, 8, 8).double(), torch.randn(2, 3, 12, 10).double()
    maps = ParallelBackprop(encoder).attribute((x, x_ref), readout=w, n_steps=5)
    assert [m.shape for m in maps] == [x.shape, x_ref.shape]
    c = (w * encoder(x) * encoder(x_ref)).detach()
    assert close(maps[1][1], integrated_oracle(encoder, x_ref[1], c[1], torch.zeros_like(x_ref[1]), 5))


def test_baselines_for_each_image(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    pb = ParallelBackprop(encoder)
    both = pb.attribute(pair, readout=w, n_steps=5, baselines=(0.5, torch.ones_like(pair[1])))
    assert torch.equal(both[0], pb.attribute(pair, readout=w, n_steps=5, baselines=0.5)[0])
    assert torch.equal(both[1], pb.attribute(pair, readout=w, n_steps=5, baselines=1.0)[1])


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        (ca.Saliency, {}),
        (ca.Saliency, {"abs": True}),
        (ca.IntegratedGradients, {"n_steps": 11}),
        (ca.IntegratedGradients, {"n_steps": 11, "internal_batch_size": 5, "baselines": 0.2}),
        (ca.IntegratedGradients, {"n_steps": 6, "method": "riemann_left", "baselines": (0.2, -0.1)}),
        (lambda f: ca.IntegratedGradients(f, multiply_by_inputs=False), {"n_steps": 6}),
        (ca.InputXGradient, {}),
        (ca.DeepLift, {}),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_neurons_equal_single_calls(engine: Any, options: Any, encoder: LatentEncoder, pair: Any) -> None:
    readouts = torch.randn(4, 6, dtype=torch.float64)
    pb = ParallelBackprop(encoder, engine=engine)
    together = pb.attribute_neurons(pair, readouts, **options)
    for k in range(4):
        alone = pb.attribute(pair, readout=readouts[k], **options)
        assert all(close(t[:, k], a) for t, a in zip(together, alone, strict=True))
    assert together[0].shape == (3, 4, 3, 8, 8)


def test_neurons_with_a_center_each(encoder: LatentEncoder, pair: Any) -> None:
    readouts, centers = torch.randn(2, 6).double(), torch.rand(2, 6).double()
    pb = ParallelBackprop(encoder, engine=ca.Saliency, rule="contrast")
    together = pb.attribute_neurons(pair, readouts, center=centers)
    alone = pb.attribute(pair, readout=readouts[1], center=centers[1])
    assert close(together[0][:, 1], alone[0])


@pytest.mark.parametrize("engine", [ca.Saliency, ca.IntegratedGradients])
def test_neurons_share_forward_passes(engine: Any, net: nn.Module, pair: Any) -> None:
    calls = []
    net.conv1.register_forward_hook(lambda *_: calls.append(1))
    encoder = LatentEncoder(net, "relu2")
    pb = ParallelBackprop(encoder, engine=engine)
    pb.attribute_neurons(pair, torch.randn(1, 6).double())  # the first of a size also measures its activations
    counts = []
    for k in (1, 8):
        calls.clear()
        pb.attribute_neurons(pair, torch.randn(k, 6).double())
        counts.append(len(calls))
    assert counts[0] == counts[1]


def test_plain_gradients_need_one_forward_pass_for_each_image(net: nn.Module, pair: Any, w: Tensor) -> None:
    calls = []
    net.conv1.register_forward_hook(lambda *_: calls.append(1))
    ParallelBackprop(LatentEncoder(net, "relu2"), engine=ca.Saliency).attribute(pair, readout=w)
    assert len(calls) == 2


def test_shared_weights_method_is_the_rule(encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    c = ParallelBackprop(encoder).shared_weights(pair, w)
    assert torch.equal(c, shared_weights(encoder(pair[0]), encoder(pair[1]), w).detach())
    assert not c.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("engine", [ca.Saliency, ca.IntegratedGradients])
def test_dtype_is_the_inputs(dtype: torch.dtype, engine: Any, net: nn.Module) -> None:
    encoder = LatentEncoder(net.to(dtype), "relu2")
    x, y = torch.randn(2, 3, 8, 8).to(dtype), torch.randn(2, 3, 8, 8).to(dtype)
    maps = ParallelBackprop(encoder, engine=engine).attribute((x, y), readout=torch.randn(6))
    many = ParallelBackprop(encoder, engine=engine).attribute_neurons((x, y), torch.randn(2, 6))
    for m in (*maps, *many):
        assert m.dtype == dtype
        assert m.isfinite().all()
        assert m.device == x.device


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_inside_no_grad_and_inference_mode(context: Any, encoder: LatentEncoder, pair: Any, w: Tensor) -> None:
    pb = ParallelBackprop(encoder)
    expected = pb.attribute(pair, readout=w, n_steps=5)
    with context():
        pair_inside = tuple(x.clone() for x in pair)
        found = pb.attribute(pair_inside, readout=w, n_steps=5)
        many = pb.attribute_neurons(pair_inside, w[None], n_steps=5)
    assert torch.equal(found[0], expected[0])
    assert close(many[1][:, 0], expected[1])


def test_a_rule_of_ones_own_makes_the_maps_of_its_constant() -> None:
    encoder = nn.Linear(5, 4).double()
    x, x_ref, w = (torch.randn(2, n, dtype=torch.float64) for n in (5, 5, 4))
    pb = ParallelBackprop(encoder, rule=lambda z, z_ref, w, center: w * torch.minimum(z, z_ref))
    c = w * torch.minimum(encoder(x), encoder(x_ref)).detach()
    for got, image in zip(pb.attribute((x, x_ref), readout=w), (x, x_ref), strict=True):
        assert torch.allclose(got, c @ encoder.weight * image)
