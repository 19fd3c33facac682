"""What Captum and its users rely on: composition with its tools, and a network that is left as it was."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import captum.attr as ca
import pytest
import torch
from captum.attr import visualization
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor, nn

import captum_shared as cs
from captum_shared import LatentEncoder, LayerCorrespondence, LayerParallelBackprop, LinearReadout, ParallelBackprop

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, 8, 8).double(), torch.randn(2, 3, 8, 8).double()


@pytest.fixture
def readout() -> LinearReadout:
    return LinearReadout(torch.randn(4, 6).double(), torch.zeros(4).double())


def test_is_a_captum_attribution(encoder: LatentEncoder) -> None:
    pb = ParallelBackprop(encoder)
    assert isinstance(pb, ca.GradientAttribution)
    assert isinstance(pb, ca.Attribution)
    names = list(inspect.signature(pb.attribute).parameters)
    assert names[:4] == ["inputs", "baselines", "target", "additional_forward_args"]
    assert pb.attribute.__wrapped__ is not None
    assert pb.multiplies_by_inputs
    assert pb.has_convergence_delta()
    assert not ParallelBackprop(encoder, engine=ca.Saliency).has_convergence_delta()
    assert ParallelBackprop.get_name() == "Parallel Backprop"
    for method in (pb, LayerParallelBackprop(encoder)):
        with pytest.raises(NotImplementedError, match="attribute_future"):
            method.attribute_future()


def test_readout_and_target_as_in_captum(encoder: LatentEncoder, pair: Any, readout: LinearReadout) -> None:
    pb = ParallelBackprop(encoder, engine=ca.Saliency)
    by_tensor = pb.attribute(pair, readout=readout.weight[[2, 1]])
    for target in ([2, 1], torch.tensor([2, 1]), (2, 1)):
        assert torch.equal(pb.attribute(pair, readout=readout, target=target)[0], by_tensor[0])
    one = pb.attribute(pair, readout=readout, target=3)
    assert torch.equal(one[0], pb.attribute(pair, readout=readout, target=torch.tensor(3))[0])
    assert torch.equal(one[0], pb.attribute(pair, readout=readout.weight[3])[0])
    assert torch.equal(one[1], pb.attribute(pair, readout=readout.weight[3].numpy())[1])


def test_noise_tunnel_around_recomputes_c(encoder: LatentEncoder, pair: Any, readout: LinearReadout) -> None:
    pb = ParallelBackprop(encoder, engine=ca.Saliency)
    torch.manual_seed(1)
    smooth = ca.NoiseTunnel(pb).attribute(pair, nt_samples=3, stdevs=0.2, readout=readout, target=torch.tensor([2, 1]))
    torch.manual_seed(1)
    noisy = [x.repeat_interleave(3, 0) + torch.normal(0, torch.full((6, 3, 8, 8), 0.2)).double() for x in pair]
    each = pb.attribute(tuple(noisy), readout=readout, target=torch.tensor([2, 2, 2, 1, 1, 1]))
    for found, expected in zip(smooth, each, strict=True):
        assert torch.allclose(found, expected.unflatten(0, (2, 3)).mean(1))


def test_noise_tunnel_around_with_frozen_c(encoder: LatentEncoder, pair: Any, readout: LinearReadout) -> None:
    pb = ParallelBackprop(encoder, engine=ca.Saliency)
    c = pb.shared_weights(pair, readout, target=[2, 1])
    around = ca.NoiseTunnel(pb)
    inside = ParallelBackprop(encoder, engine=lambda f: ca.NoiseTunnel(ca.Saliency(f)))
    torch.manual_seed(1)
    frozen = around.attribute(pair, nt_samples=4, stdevs=0.2, additional_forward_args=(c,))
    torch.manual_seed(1)  # NoiseTunnel draws for the image, then for the reference, in both cases
    expected = inside.attribute(pair, nt_samples=4, stdevs=0.2, readout=readout, target=[2, 1])
    assert torch.allclose(frozen[0], expected[0])
    assert torch.allclose(frozen[1], expected[1])


def test_noise_tunnel_with_a_convergence_delta(encoder: LatentEncoder, pair: Any, readout: LinearReadout) -> None:
    tunnel = ca.NoiseTunnel(ParallelBackprop(encoder))
    maps, delta = tunnel.attribute(
        pair,
        nt_samples=3,
        stdevs=0.1,
        readout=readout,
        target=0,
        n_steps=8,
        baselines=(0.0, 0.0),
        return_convergence_delta=True,
    )
    assert maps[0].shape == pair[0].shape
    assert delta.shape == (6,)


def test_infidelity_is_zero_on_a_linear_encoder() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 5, bias=False)).double()
    x, y, w = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 4, 4).double(), torch.randn(5).double()
    pb = ParallelBackprop(linear, engine=ca.Saliency)
    maps, c = pb.attribute((x, y), readout=w), pb.shared_weights((x, y), w)

    def perturb(inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        noise = tuple(0.1 * torch.randn_like(value) for value in inputs)
        return noise, tuple(value - n for value, n in zip(inputs, noise, strict=True))

    score = infidelity(pb.forward_func, perturb, (x, y), maps, additional_forward_args=(c,), n_perturb_samples=5)
    assert score.abs().max() < 1e-20
    wrong = infidelity(pb.forward_func, perturb, (x, y), (maps[0], 2 * maps[1]), additional_forward_args=(c,))
    assert wrong.min() > 1e-12


def test_sensitivity_max(encoder: LatentEncoder, pair: Any, readout: LinearReadout) -> None:
    pb = ParallelBackprop(encoder, engine=ca.Saliency)
    target = torch.tensor([2, 1])
    still = sensitivity_max(pb.attribute, pair, perturb_func=lambda x, r: x, readout=readout, target=target)
    moved = sensitivity_max(pb.attribute, pair, perturb_radius=0.1, readout=readout, target=target)
    frozen = sensitivity_max(
        pb.attribute,
        pair,
        perturb_radius=0.1,
        additional_forward_args=(pb.shared_weights(pair, readout, target),),
    )
    assert torch.equal(still, torch.zeros_like(still))
    assert moved.shape == frozen.shape == (2,)
    assert moved.min() > 0
    assert frozen.min() > 0


def test_captum_visualization_draws_a_map(encoder: LatentEncoder, pair: Any, readout: LinearReadout) -> None:
    import matplotlib

    matplotlib.use("Agg")
    heat = ParallelBackprop(encoder).attribute(pair, readout=readout, target=0, n_steps=4)[0][0]
    figure, _ = visualization.visualize_image_attr(
        heat.permute(1, 2, 0).numpy(),
        pair[0][0].permute(1, 2, 0).sigmoid().numpy(),
        "heat_map",
        "positive",
        use_pyplot=False,
    )
    assert figure is not None


def test_neuron_model_works_with_captums_own_methods(encoder: LatentEncoder, pair: Any, readout: LinearReadout) -> None:
    neuron = nn.Sequential(encoder, readout)
    heat = ca.IntegratedGradients(neuron).attribute(pair[0], target=2, n_steps=5)
    assert heat.shape == pair[0].shape


ENGINES = [
    ca.IntegratedGradients,
    ca.Saliency,
    ca.GuidedBackprop,
    ca.Deconvolution,
    ca.DeepLift,
    ca.LRP,
    lambda f: ca.NoiseTunnel(ca.DeepLift(f)),
]


def state(module: nn.Module) -> list[Any]:
    """Everything of a network that an attribution must leave as it was."""
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        (name, m.training, sorted(m.__dict__), [list(getattr(m, t)) for t in tables], m.__dict__.get("rule"))
        for name, m in module.named_modules()
    ] + [
        (name, p.requires_grad, p.grad is None or p.grad.clone(), p.detach().clone().flatten().tolist())
        for name, p in module.named_parameters()
    ]


class Bomb(nn.Module):
    """Explodes in the n-th forward pass, or in the first backward pass."""

    def __init__(self, n: int, backward: bool = False) -> None:
        super().__init__()
        self.fuse, self.backward = [n], backward

    def forward(self, x: Tensor) -> Tensor:
        self.fuse[0] -= 1
        if self.fuse[0] == 0 and not self.backward:
            raise RuntimeError("boom")
        if self.backward and x.requires_grad:
            x.register_hook(self._explode)
        return x

    def _explode(self, grad: Tensor) -> None:
        raise RuntimeError("boom")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fuse", [0, 1, 2, 3, 4, -1])
def test_the_network_is_left_as_it_was(
    engine: Any, fuse: int, net: nn.Module, pair: Any, readout: LinearReadout
) -> None:
    net.relu1.register_forward_hook(lambda *_: None)
    net.conv1.weight.requires_grad_(False)
    net.head.train()
    bomb = Bomb(fuse, backward=fuse < 0)
    encoder = nn.Sequential(
        net.conv1, net.relu1, bomb, net.conv2, net.relu2, nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    pb = ParallelBackprop(encoder, engine=engine)
    x = pair[0].clone().requires_grad_()
    x.grad = torch.ones_like(x)
    before = state(encoder)
    try:
        pb.attribute((x, pair[1]), readout=readout, target=0)
        exploded = False
    except (RuntimeError, TypeError) as error:
        exploded = "boom" in str(error) or "Bomb" in str(error)
        assert exploded
    passes = 2 if engine is ca.Saliency else 4  # at least
    assert exploded == (
        fuse < 0 or 0 < fuse <= passes or engine is ca.LRP
    )  # LRP refuses the unknown module, leaving rules behind
    assert state(encoder) == before
    assert x.requires_grad
    assert torch.equal(x.grad, torch.ones_like(x))


def test_lrp_keeps_a_users_rule_for_both_images(net: nn.Module, pair: Any, readout: LinearReadout) -> None:
    from captum.attr._utils.lrp_rules import GammaRule

    encoder = LatentEncoder(net, "relu2")
    pb = ParallelBackprop(encoder, engine=ca.LRP)
    plain = pb.attribute(pair, readout=readout, target=0)
    net.conv2.rule = GammaRule(gamma=3.0)
    maps = pb.attribute(pair, readout=readout, target=0)
    swapped = pb.attribute((pair[1], pair[0]), readout=readout, target=0)
    assert torch.equal(maps[0], swapped[1])
    assert torch.equal(maps[1], swapped[0])
    assert not torch.allclose(maps[1], plain[1])
    assert isinstance(net.conv2.rule, GammaRule)


def test_outputs_are_detached(encoder: LatentEncoder, pair: Any, readout: LinearReadout) -> None:
    x = pair[0].clone().requires_grad_()
    for method in (ParallelBackprop(encoder), LayerParallelBackprop(encoder)):
        assert not any(m.requires_grad for m in method.attribute((x, pair[1]), readout=readout, target=1))


def test_no_warning_from_captum_about_gradients(encoder: LatentEncoder, pair: Any, readout: LinearReadout) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ParallelBackprop(encoder, engine=ca.Saliency).attribute(pair, readout=readout, target=0)
        ParallelBackprop(encoder).attribute(pair, readout=readout, target=0, n_steps=3)


def test_training_mode_warns_at_the_users_line(encoder: LatentEncoder, pair: Any, readout: LinearReadout) -> None:
    encoder.train()
    gradient, integrated = ParallelBackprop(encoder, engine=ca.Saliency), ParallelBackprop(encoder)
    for run in (
        lambda: gradient.attribute(pair, readout=readout, target=0),
        lambda: integrated.attribute(pair, readout=readout, target=0, n_steps=3),
        lambda: integrated.attribute_neurons(pair, readout, n_steps=3),
        lambda: integrated.shared_weights(pair, readout, target=0),
        lambda: LayerParallelBackprop(encoder).attribute(pair, readout=readout, target=0),
        lambda: LayerCorrespondence(encoder).attribute(pair, readout=readout, target=0),
        lambda: ca.NoiseTunnel(gradient).attribute(pair, nt_samples=1, readout=readout, target=0),
    ):
        with pytest.warns(UserWarning, match=r"training mode.*encoder.eval\(\)") as caught:
            run()
        assert {warning.filename for warning in caught} == {__file__}


def test_public_names_of_the_design() -> None:
    for name in ("LatentEncoder", "load_encoder", "encode_images", "LinearReadout", "fit_readout", "latent_transform",
                 "neuron_similarity", "shared_weights", "ReferenceMatcher", "ParallelBackprop", "LayerParallelBackprop",
                 "pair_figure", "overlay", "RULES", "SIMILARITIES", "metrics"):  # fmt: skip
        assert hasattr(cs, name)
    assert list(cs.RULES) == ["product", "dot", "centered", "contrast", "matched"]
    assert list(cs.SIMILARITIES) == ["dot", "cosine"]
