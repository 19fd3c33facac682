"""The device follows the model and the images: same numbers as on the CPU, no silent copies, clear errors.

On any machine the device is the stand-in of `other_device`; where there is CUDA or MPS, the same tests run there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum.attr as captum
import matplotlib
import numpy as np
import other_device
import pytest
import torch
import torchvision
from captum.metrics import infidelity
from conftest import SmallNet
from other_device import traffic, without_float64
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import captum_shared as cs
from captum_shared import LatentEncoder, LayerParallelBackprop, ParallelBackprop, ReferenceMatcher, metrics, selectivity

CPU = torch.device("cpu")
D = 6
Pair = tuple[Tensor, Tensor]
Case = Callable[[LatentEncoder, Pair, Tensor], Any]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A small network in single precision, which MPS has, too."""
    torch.manual_seed(0)
    model = SmallNet(D).eval()
    model.bn.running_mean.uniform_(-0.5, 0.5)
    model.bn.running_var.uniform_(0.5, 2.0)
    return model


@pytest.fixture
def encoder(network: nn.Module) -> LatentEncoder:
    return LatentEncoder(copy.deepcopy(network), "relu2")


@pytest.fixture
def away(encoder: LatentEncoder, device: str) -> LatentEncoder:
    """The encoder on the device."""
    return copy.deepcopy(encoder).to(device)


@pytest.fixture
def counted(device: str) -> str:
    """The device, if what goes between it and the CPU is counted."""
    if device != "other":
        pytest.skip("only the stand-in counts")
    return device


@pytest.fixture
def pair() -> Pair:
    return torch.rand(2, 3, 12, 12), torch.rand(2, 3, 12, 12)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(D)


def moved(tensors: Any, device: str) -> Any:
    return tuple(tensor.to(device) for tensor in tensors)


def agree(found: Any, expected: Any, device: str | torch.device) -> None:
    """The same numbers, on the device."""
    found, expected = ((part,) if isinstance(part, Tensor) else tuple(part) for part in (found, expected))
    for one, other in zip(found, expected, strict=True):
        assert one.device.type == torch.device(device).type
        assert other.device == CPU
        tolerance = 1e-5 if one.device.type in ("cpu", "other") else 1e-3
        scale = float(other.detach().double().nan_to_num().abs().max()) or 1.0
        torch.testing.assert_close(one.detach().cpu(), other.detach(), rtol=0, atol=tolerance * scale, equal_nan=True)


def maps(*engine: Any, rule: str = "product", **options: Any) -> Case:
    def case(encoder: LatentEncoder, pair: Pair, weight: Tensor) -> Any:
        center = None if rule == "product" else torch.full((D,), 0.1, device=weight.device)
        found = ParallelBackprop(encoder, *engine, rule=rule, center=center).attribute(pair, readout=weight, **options)
        return (*found[0], found[1]) if isinstance(found[0], tuple) else found

    return case


def of_neurons(*engine: Any, **options: Any) -> Case:
    return lambda encoder, pair, weight: ParallelBackprop(encoder, *engine).attribute_neurons(
        pair, torch.stack([weight, -weight, weight.square()]), **options
    )


def with_baselines(engine: Any) -> Case:
    return lambda encoder, pair, weight: ParallelBackprop(encoder, engine).attribute(
        pair, tuple(x.flip(0) for x in pair), readout=weight
    )


def with_mask(encoder: LatentEncoder, pair: Pair, weight: Tensor) -> Pair:
    cells = torch.arange(16, device=weight.device).view(1, 1, 4, 4).repeat_interleave(3, 2).repeat_interleave(3, 3)
    return ParallelBackprop(encoder, captum.FeatureAblation).attribute(pair, readout=weight, feature_mask=cells)


def held(encoder: LatentEncoder, pair: Pair, weight: Tensor) -> Pair:
    method = ParallelBackprop(encoder)
    c = method.shared_weights(pair, weight)
    assert c.device == weight.device
    return method.attribute(pair, additional_forward_args=(c,), n_steps=4)


def averaged(encoder: LatentEncoder, pair: Pair, weight: Tensor) -> Pair:
    mean = encoder(pair[1]).mean(0)
    return ParallelBackprop(encoder, captum.Saliency).attribute(pair, readout=weight, reference_latents=mean)


def coarse(encoder: LatentEncoder, pair: Pair, weight: Tensor) -> Pair:
    return LayerParallelBackprop(encoder).attribute(pair, readout=weight)


def by_target(encoder: LatentEncoder, pair: Pair, weight: Tensor) -> Pair:
    readout = cs.LinearReadout(torch.stack([weight, -weight]))
    return ParallelBackprop(encoder).attribute(pair, readout=readout, target=[0, 1], n_steps=4)


def captums_own(encoder: LatentEncoder, pair: Pair, weight: Tensor) -> Tensor:
    neuron = nn.Sequential(encoder, cs.LinearReadout(weight))
    return captum.IntegratedGradients(neuron).attribute(pair[0], target=0, n_steps=4)


def unfaithful(encoder: LatentEncoder, pair: Pair, weight: Tensor) -> Tensor:
    method = ParallelBackprop(encoder, captum.Saliency)
    return infidelity(
        method.forward_func,
        lambda inputs, *_: (moved(inputs, inputs[0].device), moved((0.9 * x for x in inputs), inputs[0].device)),
        pair,
        method.attribute(pair, readout=weight),
        additional_forward_args=(method.shared_weights(pair, weight),),
    )


def of_moments(encoder: LatentEncoder, pair: Pair, weight: Tensor) -> Any:
    """A gallery on the CPU, wherever the images are, and one where the images are."""
    gallery = torch.rand(300, D, generator=torch.Generator().manual_seed(0)).square()
    rule = cs.moment_rule(gallery)
    results = [ParallelBackprop(encoder, captum.Saliency, rule=rule).attribute(pair, readout=weight)]
    for own in (rule.to(weight.device), cs.moment_rule(gallery.to(weight.device))):
        pb = ParallelBackprop(encoder, captum.Saliency, rule=own, constants="crossed")
        results.append(pb.attribute(pair, readout=weight))
        results.append(cs.LayerCorrespondence(encoder, own).attribute(pair, readout=weight))
        match = ReferenceMatcher(gallery.to(weight.device), similarity=own).match(encoder(pair[0]), weight)
        results.append(match.similarity)
    return [part for result in results for part in ([result] if isinstance(result, Tensor) else result)]


CASES: dict[str, Case] = {
    "gradients": maps(captum.Saliency),
    "integrated gradients": maps(n_steps=8),
    "in chunks": maps(n_steps=8, internal_batch_size=2),
    "default steps": maps(),
    "automatic steps": maps(n_steps="auto"),
    "automatic steps, many": maps(n_steps="auto", tolerance=1e-4),
    "convergence delta": maps(n_steps=4, return_convergence_delta=True),
    "baselines": with_baselines(captum.IntegratedGradients),
    "neurons, gradients": of_neurons(captum.Saliency),
    "neurons, integrated gradients": of_neurons(n_steps=8),
    "neurons, automatic steps": of_neurons(n_steps="auto", baselines=0.5),
    **{engine.__name__: maps(engine) for engine in (captum.InputXGradient, captum.GuidedBackprop, captum.Deconvolution, captum.DeepLift, captum.LRP)},
    "DeepLiftShap": with_baselines(captum.DeepLiftShap),
    "Occlusion": maps(captum.Occlusion, sliding_window_shapes=(3, 4, 4), strides=(3, 4, 4)),
    "FeatureAblation": with_mask,
    **{f"rule {rule}": maps(captum.Saliency, rule=rule) for rule in cs.RULES},
    "rule of moments": of_moments,
    "crossed": lambda encoder, pair, weight: ParallelBackprop(encoder, captum.Saliency, rule="dot", constants="crossed").attribute(pair, readout=weight),
    "correspondence": lambda encoder, pair, weight: cs.LayerCorrespondence(encoder).attribute(pair, readout=weight),
    "shared weights held": held,
    "references averaged": averaged,
    "coarse maps": coarse,
    "LinearReadout and target": by_target,
    "the neuron's own model": captums_own,
    "infidelity": unfaithful,
}  # fmt: skip
NOISY: dict[str, Case] = {
    "noise inside": maps(lambda f: captum.NoiseTunnel(captum.IntegratedGradients(f)), nt_samples=3, n_steps=4),
    "noise around": lambda encoder, pair, weight: captum.NoiseTunnel(ParallelBackprop(encoder)).attribute(pair, readout=weight, nt_samples=3, n_steps=4),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [*CASES, *NOISY])
def test_maps_are_those_of_the_cpu(
    name: str, encoder: LatentEncoder, away: LatentEncoder, pair: Pair, weight: Tensor, device: str
) -> None:
    case = {**CASES, **NOISY}[name]
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for results, model, where in ((expected, encoder, "cpu"), (found, away, device)):
        torch.manual_seed(0)
        result = case(model, moved(pair, where), weight.to(where))
        results.extend([result] if isinstance(result, Tensor) else result)
    assert max(float(value.detach().abs().max()) for value in expected) > 0
    if name in CASES or device == "other":  # real devices have generators of their own
        agree(found, expected, device)
    assert [value.device.type for value in found] == [device] * len(found)


@pytest.mark.parametrize(
    ("model", "layer", "pool"),
    [
        (lambda: torchvision.models.resnet18(weights=None), "layer2", "avg"),
        (lambda: torchvision.models.squeezenet1_0(weights=None), "features.4", 2),
        (lambda: torchvision.models.VisionTransformer(16, 4, 2, 2, 12, 24), "encoder.layers.encoder_layer_1", "avg"),
        (lambda: torchvision.models.VisionTransformer(16, 4, 2, 2, 12, 24), "encoder.layers.encoder_layer_1", "cls"),
        (lambda: Branching(), "net.relu2", "avg"),
        (cs.synthetic.demo_network, cs.synthetic.DEMO_LAYER, "max"),
    ],
    ids=["resnet18", "squeezenet1_0", "vit", "vit cls", "untraceable", "demo"],
)
def test_networks(model: Callable[[], nn.Module], layer: str, pool: Any, device: str) -> None:
    torch.manual_seed(0)
    encoder = LatentEncoder(model().eval(), layer, pool)
    size = 16 if "encoder" in layer else 32
    pair = torch.rand(1, 3, size, size), torch.rand(1, 3, size, size)
    away, w = copy.deepcopy(encoder).to(device), torch.randn(encoder(pair[0]).shape[1])
    found = ParallelBackprop(away).attribute(moved(pair, device), readout=w.to(device), n_steps=3)
    agree(found, ParallelBackprop(encoder).attribute(pair, readout=w, n_steps=3), device)


class Branching(nn.Module):
    """No tracer follows a choice by value."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet(D)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.sum() > -1e9 else x


def numbers(shapes: list[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def test_a_pair_of_gradients_copies_nothing(away: LatentEncoder, pair: Pair, weight: Tensor, counted: str) -> None:
    inputs, w = moved(pair, counted), weight.to(counted)
    with traffic() as seen:
        ParallelBackprop(away, captum.Saliency).attribute(inputs, readout=w)
    assert seen.to_device == seen.to_host == []
    assert len(seen.waits) <= 4  # are they finite: images, references, readout, c
    with traffic() as seen:
        LayerParallelBackprop(away).attribute(inputs, readout=w)
    assert seen.to_device == seen.to_host == []
    assert len(seen.waits) <= 4 + 4  # does the gradient have positions: twice two


@pytest.mark.parametrize("options", [{}, {"internal_batch_size": 2}, {"internal_batch_size": None}])
@pytest.mark.parametrize("neurons", [False, True])
def test_no_step_waits_for_the_device(
    options: dict[str, Any], neurons: bool, away: LatentEncoder, pair: Pair, weight: Tensor, counted: str
) -> None:
    inputs, w = moved(pair, counted), torch.stack([weight, -weight]).to(counted)
    waits = set()
    for n_steps in (2, 16):
        method = ParallelBackprop(away)
        with traffic() as seen:
            if neurons:
                method.attribute_neurons(inputs, w, n_steps=n_steps, **options)
            else:
                method.attribute(inputs, readout=w[0], n_steps=n_steps, **options)
        assert seen.to_host == []
        assert numbers(seen.to_device) <= 2 * (n_steps + 1)  # of each image: the steps' weights, and a baseline
        assert not neurons or len(seen.to_device) <= 4  # Captum's own copies the weights of each chunk
        waits.add(len(seen.waits))
    assert len(waits) == 1
    assert waits.pop() <= 5


def test_automatic_steps_wait_once_a_round(away: LatentEncoder, pair: Pair, weight: Tensor, counted: str) -> None:
    inputs, w = moved(pair, counted), weight.to(counted)
    with traffic() as seen:
        ParallelBackprop(away).attribute(inputs, readout=w, n_steps="auto", tolerance=1e-9, max_steps=144)
    rounds = 5  # 9, 18 ... 144 gradients
    assert len(seen.waits) <= 4 + 2 * rounds
    assert numbers(seen.to_host) <= 2 * rounds * len(pair[0])
    assert numbers(seen.to_device) <= 2 * (1 + 144)


def test_readouts_and_centers_may_be_anywhere(
    encoder: LatentEncoder, away: LatentEncoder, pair: Pair, weight: Tensor, device: str
) -> None:
    """They are few, and come from latents and fits on the CPU; images are not copied for them."""
    own = {"center": torch.ones(D), "reference_latents": torch.rand(2, D)}
    expected = ParallelBackprop(encoder, rule="matched").attribute(pair, readout=weight, n_steps=3, **own)
    method, inputs = ParallelBackprop(away, rule="matched"), moved(pair, device)
    for readout in (weight, weight.numpy(), weight.double(), cs.LinearReadout(weight)):
        with traffic() as seen:
            agree(method.attribute(inputs, readout=readout, n_steps=3, **own), expected, device)
        assert all(numbers([shape]) <= 2 * D for shape in seen.to_device)
    weights = torch.stack([weight, -weight])
    expected_neurons = ParallelBackprop(encoder, rule="matched").attribute_neurons(pair, weights, n_steps=3, **own)
    for readouts in (weights, cs.LinearReadout(weights)):
        agree(method.attribute_neurons(inputs, readouts, n_steps=3, **own), expected_neurons, device)
    at_home = ParallelBackprop(encoder, rule="matched").attribute(
        pair, readout=weight.to(device), n_steps=3, **{name: value.to(device) for name, value in own.items()}
    )
    agree(at_home, expected, "cpu")


def test_mixtures_of_devices_are_refused(
    encoder: LatentEncoder, away: LatentEncoder, pair: Pair, weight: Tensor, device: str
) -> None:
    inputs, w, name = moved(pair, device), weight.to(device), f"{device}:0"
    method = ParallelBackprop(away)
    for wrong, mixed in ((method, pair), (ParallelBackprop(encoder), inputs)):
        with pytest.raises(ValueError, match=r"images are on \S+, the encoder is on \S+; expected one device"):
            wrong.attribute(mixed, readout=w)
    with pytest.raises(ValueError, match=f"references are on cpu, the encoder is on {name}"):
        method.attribute((inputs[0], pair[1]), readout=w)
    with pytest.raises(ValueError, match=f"images are on {name}, references are on cpu; expected one device"):
        ParallelBackprop(nn.Flatten()).attribute((inputs[0], pair[1]), readout=w)
    with pytest.raises(ValueError, match=f"images are on cpu, the encoder is on {name}"):
        LayerParallelBackprop(away).attribute(pair, readout=w)
    for options in ({}, {"n_steps": "auto"}):
        for baselines in (pair[0], (inputs[0], pair[1])):
            with pytest.raises(ValueError, match=f"`baselines` must be on the device of the images, {name}, got cpu"):
                method.attribute(inputs, baselines, readout=w, **options)
    with pytest.raises(ValueError, match=f"`baselines` must be on the device of the images, {name}, got cpu"):
        method.attribute_neurons(inputs, w[None], baselines=pair[0])
    with pytest.raises(ValueError, match=f"`feature_mask` must be on the device of the images, {name}, got cpu"):
        ParallelBackprop(away, captum.FeatureAblation).attribute(
            inputs, readout=w, feature_mask=torch.zeros(1, 3, 12, 12).long()
        )
    with pytest.raises(
        ValueError, match=f"shared weights c in .* must be on the device of the images, {name}, got cpu"
    ):
        method.attribute(inputs, additional_forward_args=(torch.rand(2, D),))
    with pytest.raises(
        ValueError, match=f"expected one device, got `query` on {name}, `gallery` on cpu, `weight` on {name}"
    ):
        cs.neuron_similarity(torch.rand(2, D, device=device), torch.rand(2, D), w)
    with pytest.raises(ValueError, match=f"expected one device, got `z` on {name}, `z_ref` on {name}, `weight` on cpu"):
        cs.shared_weights(torch.rand(2, D, device=device), torch.rand(2, D, device=device), weight)
    with pytest.raises(ValueError, match=f"expected one device, got `gallery` on {name}, `weight` on cpu"):
        cs.category_centers(torch.rand(2, D, device=device), weight, ["a", "b"], "a")
    with pytest.raises(ValueError, match=f"`latents` are on {name}, the LinearReadout is on cpu; expected one"):
        cs.LinearReadout(weight)(torch.rand(2, D, device=device))
    with pytest.raises(ValueError, match=f"`baseline` must be on the device of `image`, {name}, got cpu"):
        metrics.deletion_curve(torch.rand(12, 12), inputs[0][0], lambda x: away(x)[:, 0], baseline=pair[0][0])


def test_a_transform_stays_behind_if_it_is_not_moved(
    network: nn.Module, device: str, pair: Pair, weight: Tensor
) -> None:
    scaler = StandardScaler().fit(torch.randn(20, D).double().numpy())
    own = LatentEncoder(network, "relu2", transform=cs.latent_transform(scaler))
    expected = ParallelBackprop(own).attribute(pair, readout=weight, n_steps=3)
    own = LatentEncoder(copy.deepcopy(network).to(device), "relu2", transform=cs.latent_transform(scaler))
    with pytest.raises(ValueError, match=f"`latents` are on {device}:0, the Elementwise is on cpu.* by its `.to"):
        own(pair[0].to(device))
    agree(ParallelBackprop(own.to(device)).attribute(moved(pair, device), readout=weight, n_steps=3), expected, device)


@pytest.mark.skipif(not other_device.AVAILABLE, reason="needs the stand-in")
def test_a_device_without_float64(encoder: LatentEncoder, pair: Pair, weight: Tensor) -> None:
    """Transforms and readouts from scikit-learn are in float64, which Apple's MPS has not."""
    latents = torch.randn(20, D).double().numpy()
    transform = cs.latent_transform(StandardScaler().fit(latents), PCA(4).fit(latents))
    readout = cs.LinearReadout.from_estimator(Ridge().fit(latents[:, :4], latents[:, 0]))
    encoder.transform = transform
    z = encoder(pair[0])
    expected = ParallelBackprop(encoder).attribute(pair, readout=readout, n_steps="auto"), readout(z)
    assert transform[0].shift.dtype == readout.weight.dtype == torch.float64
    gallery = torch.randn(30, D)
    recorded, kinds = gallery[:, :3], ["a", "b", "c"] * 10
    with without_float64():
        encoder.to("other"), readout.to("other")
        assert transform[0].shift.dtype == readout.weight.dtype == torch.float32
        inputs = moved(pair, "other")
        agree(ParallelBackprop(encoder).attribute(inputs, readout=readout, n_steps="auto"), expected[0], "other")
        agree(readout(encoder(inputs[0])), expected[1], "other")
        ReferenceMatcher(gallery.to("other")).match(gallery.double(), weight.double())
        cs.fit_readout(gallery.to("other"), recorded.to("other"), cv=3)
        selectivity.category_d_prime(recorded.to("other"), kinds, "a")
        selectivity.TopActivations.from_responses(recorded.to("other"), k=3).rectified()
        metrics.density_contrast(*moved((torch.rand(5, 5), torch.eye(5) > 0, torch.eye(5) == 0), "other"))


@pytest.mark.parametrize("kind", list(cs.SIMILARITIES))
@pytest.mark.parametrize(("gallery_at", "query_at"), [("device", "device"), ("device", "cpu"), ("cpu", "device")])
def test_the_search_is_where_the_gallery_is(kind: str, gallery_at: str, query_at: str, device: str) -> None:
    gallery, query, weights = torch.randn(50, D), torch.randn(9, D), torch.randn(2, D)
    places = {"device": device, "cpu": "cpu"}
    for exclude in (None, torch.arange(9), np.eye(9, 50, dtype=bool)):
        expected = ReferenceMatcher(gallery, kind).match(query, weights, k=3, exclude=exclude)
        matcher = ReferenceMatcher(gallery.to(places[gallery_at]), kind)
        own_query, own_weights = query.to(places[query_at]), weights.to(places[query_at])
        with traffic() as seen:
            match = matcher.match(own_query, own_weights, k=3, exclude=exclude)
        for part in ("index", "similarity", "counts"):
            agree(getattr(match, part), getattr(expected, part), places[gallery_at])
        assert (50, D) not in seen.to_device + seen.to_host  # the gallery is never copied
        assert len(seen.to_device) + len(seen.to_host) <= (0 if gallery_at == query_at else 2) + (exclude is not None)


def test_a_gallery_on_disk_serves_queries_from_the_device(tmp_path: Path, device: str) -> None:
    gallery, query, weights = torch.randn(6000, D), torch.randn(9, D), torch.randn(2, D)
    np.save(tmp_path / "gallery.npy", gallery.numpy())
    matcher = ReferenceMatcher(np.load(tmp_path / "gallery.npy", mmap_mode="r"))
    match = matcher.match(query.to(device), weights.to(device), k=2)
    agree((match.index, match.similarity), (lambda m: (m.index, m.similarity))(ReferenceMatcher(gallery).match(query, weights, k=2)), "cpu")  # fmt: skip


def test_the_search_waits_twice_a_block(counted: str) -> None:
    gallery, query, weights = torch.randn(3 * 4096, D), torch.randn(9, D), torch.randn(2, D)
    matcher = ReferenceMatcher(gallery.to(counted))
    inputs = moved((query, weights), counted)
    with traffic() as seen:
        matcher.match(*inputs, k=3)
    assert seen.to_device == seen.to_host == []
    assert len(seen.waits) <= 3 * 2 + 2 * 2 + 1  # blocks; are queries and readouts finite; counts


@pytest.mark.parametrize("images_at", ["cpu", "device"])
def test_latents_come_back_and_images_follow_the_encoder(
    images_at: str, encoder: LatentEncoder, away: LatentEncoder, device: str, tmp_path: Path
) -> None:
    images = torch.rand(5, 3, 12, 12)
    expected = cs.encode_images(encoder, images)
    own = images.to(device if images_at == "device" else "cpu")
    with traffic() as seen:
        agree(cs.encode_images(away, own, batch_size=2), expected, "cpu")
    if device == "other":
        assert seen.to_device == ([] if images_at == "device" else [(2, 3, 12, 12)] * 2 + [(1, 3, 12, 12)])
        assert seen.to_host == [(2, D), (2, D), (1, D)]
    for _ in range(2):
        agree(cs.encode_images(away, own, batch_size=2, cache=tmp_path), expected, "cpu")
    agree(cs.encode_images(copy.deepcopy(encoder), own, device=device), expected, "cpu")
    agree(cs.encode_images(encoder, own), expected, "cpu")


def test_autocast_is_that_of_the_device(encoder: LatentEncoder, away: LatentEncoder, pair: Pair, device: str) -> None:
    inputs = moved(pair, device)
    dtypes = []

    def see(module: nn.Module, args: Any, output: Tensor) -> None:
        dtypes.append(output.dtype)

    fast = cs.fast_encoder(away, torch.bfloat16)
    handles = [
        next(part for part in model.modules() if isinstance(part, nn.Conv2d)).register_forward_hook(see)
        for model in (fast, away)
    ]
    z = fast(inputs[0])
    assert dtypes == [torch.bfloat16]
    assert z.dtype == torch.float32
    cs.encode_images(away, pair[0], autocast=torch.bfloat16)
    cs.encode_images(away, pair[0], autocast=torch.float16)
    assert dtypes[1:] == [torch.bfloat16, torch.float16]
    for handle in handles:
        handle.remove()
    agree(z, cs.fast_encoder(encoder, torch.bfloat16)(pair[0]), device) if device == "other" else None
    w = torch.randn(D)
    found = ParallelBackprop(cs.fast_encoder(away)).attribute(inputs, readout=w, n_steps=4)
    agree(found, ParallelBackprop(encoder).attribute(pair, readout=w, n_steps=4), device)
    halves = ParallelBackprop(fast).attribute(inputs, readout=w, n_steps=4)
    assert [half.dtype for half in halves] == [torch.float32] * 2
    for half, full in zip(halves, found, strict=True):
        assert 0 < float((half - full).norm() / full.norm()) < 0.3


def test_readouts_move_fit_save_and_load(device: str, tmp_path: Path) -> None:
    latents = torch.randn(40, D)
    responses = latents @ torch.randn(D, 2)
    expected = cs.fit_readout(latents, responses)
    fit = cs.fit_readout(*moved((latents, responses), device))
    agree((fit.readout.weight, fit.readout.bias), (expected.readout.weight, expected.readout.bias), device)
    agree(fit.readout(latents.to(device)), expected.readout(latents), device)
    fit.readout.save(tmp_path / "readout.safetensors")
    loaded = cs.LinearReadout.load(tmp_path / "readout.safetensors")
    agree(loaded.weight, expected.readout.weight, "cpu")
    agree(cs.category_centers(latents.to(device), responses[0, 0] * fit.readout.weight[0], ["a", "b"] * 20, "a"),
          cs.category_centers(latents, responses[0, 0] * expected.readout.weight[0], ["a", "b"] * 20, "a"), device)  # fmt: skip


HEAT, INSIDE = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 6, 6).bool()
INSIDE[:, :2] = True


@pytest.mark.parametrize("score", ["relevance_mass_accuracy", "relevance_rank_accuracy", "pointing_game", "heat_density",
                                   "density_contrast", "leakage", "p_vs_q_auroc"])  # fmt: skip
def test_scores_come_back_wherever_map_and_mask_are(score: str, device: str) -> None:
    function = getattr(metrics, score)
    masks = (
        (INSIDE, ~INSIDE)
        if score in ("density_contrast", "p_vs_q_auroc")
        else (INSIDE,) + (INSIDE,) * (score == "leakage")
    )
    expected = function(HEAT, *masks)
    agree(function(HEAT.to(device), *masks), expected, "cpu")
    agree(function(HEAT.to(device), *moved(masks, device)), expected, "cpu")


@pytest.mark.parametrize("curve", [metrics.deletion_curve, metrics.insertion_curve])
@pytest.mark.parametrize("baseline", [0.5, torch.full((3, 12, 12), 0.2)])
def test_curves(
    curve: Any, baseline: Any, encoder: LatentEncoder, away: LatentEncoder, device: str, pair: Pair
) -> None:
    image, heat = pair[0][0], pair[1][0, 0]
    expected = curve(heat, image, lambda x: encoder(x).sum(1), baseline=baseline, steps=4)
    own = baseline.to(device) if isinstance(baseline, Tensor) else baseline
    for where in (heat, heat.to(device)):
        agree(curve(where, image.to(device), lambda x: away(x).sum(1), baseline=own, steps=4), expected, "cpu")


def test_sanity_checks(encoder: LatentEncoder, away: LatentEncoder, pair: Pair, weight: Tensor, device: str) -> None:
    def explained(where: str) -> tuple[Any, Any]:
        inputs = moved(pair, where)
        by_model = lambda model: ParallelBackprop(model, captum.Saliency).attribute(inputs, readout=weight.abs())[0]  # noqa: E731
        model = encoder if where == "cpu" else away
        by_weight = lambda w: ParallelBackprop(model, captum.Saliency).attribute(inputs, readout=w)[0]  # noqa: E731
        return metrics.cascading_randomization(model, by_model), metrics.readout_randomization(
            weight.to(where), by_weight
        )

    agree(metrics.rank_correlation(*moved(pair, device)), metrics.rank_correlation(*pair), "cpu")
    (cascade, shuffled), (expected, expected_shuffled) = explained(device), explained("cpu")
    assert cascade == pytest.approx(expected, abs=0.01)
    assert shuffled == pytest.approx(expected_shuffled, abs=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_randomization_leaves_the_gpus_generator_alone(encoder: LatentEncoder) -> None:
    state = torch.cuda.get_rng_state()
    metrics.cascading_randomization(encoder.to("cuda"), lambda model: next(model.parameters()).flatten(1))
    assert torch.equal(torch.cuda.get_rng_state(), state)


@pytest.mark.parametrize("images_at", ["cpu", "device"])
def test_selectivity(images_at: str, network: nn.Module, device: str) -> None:
    images, kinds = torch.rand(12, 3, 12, 12), ["a", "b", "c"] * 4

    def everything(model: nn.Module, images: Tensor) -> dict[str, Any]:
        top = selectivity.top_activations(model, "relu2", images, k=4, batch_size=5)
        fields = selectivity.receptive_fields(model, "relu2", (12, 12))
        source = selectivity.PixelSource(images)
        grey = selectivity.changed_responses(model, top, images, selectivity.grey(), fields=fields)
        return {
            "top": (top.activations, top.images, top.positions), "fields": (fields.top, fields.left, fields.height, fields.width),
            "grey": (grey, selectivity.changed_responses(model, top, images, selectivity.grey(), pixelwise=True)),
            "classes": (selectivity.class_selectivity_index(top, kinds, threshold=0.5),),
            "feature": (selectivity.neuron_feature(top.activations[0], *selectivity.top_crops(top, fields, source, 0)),),
            "features": [feature for _, feature in selectivity.neuron_features(top, fields, source)],
        }  # fmt: skip

    expected = everything(network, images)
    own = images.to(device if images_at == "device" else "cpu")
    with traffic() as seen:
        found = everything(copy.deepcopy(network).to(device), own)
    for name, values in found.items():
        agree(values, expected[name], own.device if name.startswith("feature") else "cpu")
    # Of the maps only numbers come back; for the receptive fields, which positions see a pixel.
    assert max(numbers([shape]) for shape in seen.to_host or [()]) <= 12 * D * 6


def test_maps_are_drawn_from_anywhere(pair: Pair, device: str) -> None:
    matplotlib.use("Agg")

    def pixels(where: str) -> np.ndarray:
        images, heats = ([x[0].to(where) for x in some] for some in (pair, pair[::-1]))
        figure = cs.pair_figure(images, [heat.requires_grad_() for heat in heats])
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]

    assert np.array_equal(pixels(device), pixels("cpu"))
    np.testing.assert_array_equal(cs.display_heat(pair[0][0].to(device)), cs.display_heat(pair[0][0]))
