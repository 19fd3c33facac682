"""Inputs at the door: what does not fit is refused by a ValueError or TypeError that names it, never by torch's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum.attr as ca
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import captum_shared as cs
from captum_shared import metrics, selectivity
from captum_shared.networks.weights import read_state
from captum_shared.readout import ceiling_corrected, noise_ceiling, split_half_reliability

torch.manual_seed(0)
NET = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU()).eval()
DEEP = nn.Sequential(nn.Conv2d(3, 4, 5), nn.MaxPool2d(4), nn.Conv2d(4, 6, 5)).eval()
HALF = copy.deepcopy(NET).half()
ENCODER = cs.LatentEncoder(NET, "3")
X, W, C = torch.rand(2, 3, 12, 12), torch.rand(6), torch.rand(2, 6)
READOUT = cs.LinearReadout(torch.rand(2, 6))
Z = torch.rand(5, 6)

Refusal = tuple[type[Exception], str]


def explain(
    images: Tensor = X, encoder: nn.Module = ENCODER, engine: Any = ca.IntegratedGradients, **options: Any
) -> Any:
    if not {"readout", "additional_forward_args"} & set(options):
        options["readout"] = W
    return cs.ParallelBackprop(encoder, engine).attribute((images, images), **options)


def refuses(error: type[Exception], text: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=text):
        call()


# How the same images come to a network: through an encoder, the other ways in, and networks that are no LatentEncoder.
WAYS: dict[str, Callable[[nn.Module, str, Tensor], Any]] = {
    "encoder": lambda net, layer, x: cs.LatentEncoder(net, layer)(x),
    "feature map": lambda net, layer, x: cs.LatentEncoder(net, layer).feature_map(x),
    "encode_images": lambda net, layer, x: cs.encode_images(cs.LatentEncoder(net, layer), x),
    "attribute": lambda net, layer, x: explain(x, cs.LatentEncoder(net, layer)),
    "plain gradients": lambda net, layer, x: explain(x, cs.LatentEncoder(net, layer), ca.Saliency),
    "user's encoder": lambda net, layer, x: explain(x, nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten())),
    "layer maps": lambda net, layer, x: cs.LayerParallelBackprop(cs.LatentEncoder(net, layer)).attribute(
        (x, x), readout=W
    ),
    "top_activations": lambda net, layer, x: selectivity.top_activations(net, layer, x),
}
IMAGES: dict[str, tuple[nn.Module, str, Tensor, type[Exception], str]] = {
    "unbatched": (NET, "3", X[0], ValueError, r"must be \(N, C, H, W\), got shape \(3, 12, 12\); a batch of one image is image\[None\]"),
    "float64": (NET, "3", X.double(), TypeError, r"images are torch.float64, the network is torch.float32; expected one dtype: images.to\(torch.float32\)"),
    "half-precision network": (HALF, "3", X, TypeError, "images are torch.float32, the network is torch.float16"),
    "grey": (NET, "3", X[:, :1], ValueError, r"must have 3 channels for this network, got shape \(2, 1, 12, 12\); grey images become RGB by"),
    "six channels": (NET, "3", X.repeat(1, 2, 1, 1), ValueError, r"must have 3 channels for this network, got shape \(2, 6, 12, 12\)$"),
    "too small for a convolution": (DEEP, "2", X, ValueError, r"images of 12 x 12 pixels are too small for (layers? .*'2'|the encoder).*\(2 x 2\). Kernel size: \(5 x 5\)"),
    "too small for a pool": (DEEP, "2", X[..., :6, :7], ValueError, r"images of 6 x 7 pixels are too small for .*\(4x2x3\)"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("images", IMAGES)
def test_images_that_do_not_suit_the_network(images: str, way: str) -> None:
    net, layer, x, error, text = IMAGES[images]
    refuses(error, text, lambda: WAYS[way](net, layer, x))


def test_what_suits_the_network_passes() -> None:
    assert cs.LatentEncoder(HALF, "3")(X.half()).dtype == torch.float16
    assert cs.LatentEncoder(copy.deepcopy(NET).double(), "3")(X.double()).dtype == torch.float64
    assert cs.encode_images(ENCODER, X, autocast=torch.bfloat16).shape == (2, 6)

    class Casts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = NET

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.float())

    assert torch.equal(cs.LatentEncoder(Casts(), "net")(X.double()), ENCODER(X))


def test_a_head_of_another_size_is_named() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 6))
    refuses(
        ValueError,
        "images of 12 x 12 pixels do not fit layer '1'; expected another size",
        lambda: cs.LatentEncoder(net, "1")(X),
    )


def test_errors_that_say_nothing_of_the_images_pass() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("the user's own mistake")

    refuses(RuntimeError, "^the user's own mistake$", lambda: cs.LatentEncoder(nn.Sequential(Broken()), "0")(X))


def inference(make: Callable[[], Any]) -> Any:
    with torch.inference_mode():
        return make()


NETWORKS: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "scripted": (TypeError, "network that runs in Python, got a scripted or traced one", lambda: cs.LatentEncoder(torch.jit.script(NET), "3")),
    "traced": (TypeError, "network that runs in Python, got a scripted or traced one", lambda: cs.LatentEncoder(torch.jit.trace(NET, X), "3")),
    "scripted, its units": (TypeError, "network that runs in Python", lambda: selectivity.top_activations(torch.jit.script(NET), "3", X)),
    "made in inference mode": (ValueError, r"made in torch.inference_mode\(\), and no gradient", lambda: cs.LatentEncoder(inference(lambda: copy.deepcopy(NET)), "3")(X)),
    "made in inference mode, explained": (ValueError, r"made in torch.inference_mode\(\)", lambda: cs.ParallelBackprop(inference(lambda: nn.Linear(4, 2)))),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("case", NETWORKS)
def test_networks(case: str) -> None:
    refuses(*NETWORKS[case])


def test_a_network_made_in_inference_mode_encodes() -> None:
    encoder = cs.LatentEncoder(inference(lambda: copy.deepcopy(NET)), "3")
    assert torch.equal(cs.encode_images(encoder, X), cs.encode_images(ENCODER, X))


def test_state_dict_with_integer_keys(tmp_path: Path) -> None:
    torch.save(dict(enumerate(NET.state_dict().values())), tmp_path / "weights.pth")
    refuses(
        ValueError,
        r"by the names of a network's parameters, got keys such as \[0, 1, 2\]",
        lambda: read_state(tmp_path / "weights.pth"),
    )


ARGUMENTS: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    **{f"n_steps={v!r}": (ValueError, f"`n_steps` must be a positive integer or 'auto', got {v!r}", {"n_steps": v}) for v in (0, -1, None, "8", 2.5)},
    "max_steps": (ValueError, "`max_steps` must be a positive integer, got '9'", {"n_steps": "auto", "max_steps": "9"}),
    "tolerance": (TypeError, "`tolerance` must be a number, got None", {"n_steps": "auto", "tolerance": None}),
    "method": (ValueError, "`method` must be one of .*'gausslegendre'.*, got 'simpson'", {"method": "simpson"}),
    "NaN baseline": (ValueError, "`baselines` must be finite, got nan", {"baselines": float("nan")}),
    "NaN baselines": (ValueError, "`baselines` must be finite", {"baselines": X * torch.nan}),
    "one NaN baseline of two": (ValueError, "`baselines` must be finite", {"baselines": (0.0, X * torch.nan)}),
    "baselines of another size": (ValueError, r"or of the images' shape, \(2, 3, 12, 12\), .*, got shape \(2, 3, 5, 5\)", {"baselines": torch.zeros(2, 3, 5, 5)}),
    "unbatched baseline": (ValueError, r"`baselines` must be .*, got shape \(3, 12, 12\)", {"baselines": X[0]}),
    "three baselines for two": (ValueError, r"`baselines` must be .*, got shape \(3, 3, 12, 12\)", {"baselines": torch.zeros(3, 3, 12, 12)}),
    "float64 baselines": (TypeError, "`baselines` must be of the images' dtype, torch.float32, got torch.float64", {"baselines": X.double()}),
    "baselines of integers": (TypeError, "dtype, torch.float32, got torch.int64", {"baselines": X.long()}),
    "baselines as an array": (TypeError, "`baselines` must be a number or a tensor, got ndarray", {"baselines": X.numpy()}),
    "baseline by name": (TypeError, "`baselines` must be a number or a tensor, got str", {"baselines": "zero"}),
    "target of truth values": (TypeError, r"`target` must be an int or one int per pair, \(2,\), got \[True, False\]", {"readout": READOUT, "target": [True, False]}),
    "target, a mask": (TypeError, r"got tensor\(\[ True, False\]\)", {"readout": READOUT, "target": torch.tensor([True, False])}),
    "target of names": (TypeError, r"`target` must be .*, got \['a', 'b'\]", {"readout": READOUT, "target": ["a", "b"]}),
    "target of fractions": (TypeError, r"`target` must be .*, got \[0.0, 1.0\]", {"readout": READOUT, "target": [0.0, 1.0]}),
    "reference latents as an array": (TypeError, "`reference_latents` must be a tensor, got ndarray; use torch.as_tensor", {"reference_latents": W.numpy()}),
    "reference latents as a list": (TypeError, "`reference_latents` must be a tensor, got list", {"reference_latents": W.tolist()}),
    "reference latents, a number": (ValueError, r"`reference_latents` must be \(D,\) = \(6,\) or \(N, D\) = \(2, 6\), got shape \(\)", {"reference_latents": torch.tensor(1.0)}),
    "reference latents, NaN": (ValueError, "`reference_latents` must be finite", {"reference_latents": W * torch.nan}),
}  # fmt: skip


@pytest.mark.parametrize("case", ARGUMENTS)
def test_attribute(case: str) -> None:
    error, text, options = ARGUMENTS[case]
    refuses(error, text, lambda: explain(**options))
    if "target" not in options:
        refuses(error, text, lambda: cs.ParallelBackprop(ENCODER).attribute_neurons((X, X), W[None], **options))


def test_center() -> None:
    refuses(
        TypeError,
        "`center` must be a tensor, got str",
        lambda: cs.ParallelBackprop(ENCODER, rule="centered", center="mean"),
    )


def test_distributions_of_baselines_are_not_one_for_each_image() -> None:
    maps = explain(
        encoder=nn.Sequential(NET, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        engine=ca.DeepLiftShap,
        baselines=torch.zeros(3, 3, 12, 12),
    )
    assert maps[0].shape == X.shape


ENGINES = (ca.Saliency, ca.IntegratedGradients, ca.InputXGradient, ca.DeepLift, ca.GuidedBackprop, ca.LRP)


@pytest.mark.filterwarnings("ignore:Setting")
@pytest.mark.parametrize("engine", ENGINES)
def test_shared_weights_made_in_inference_mode(engine: Any) -> None:
    c = inference(lambda: C.clone())
    maps, expected = (explain(engine=engine, additional_forward_args=(shared,)) for shared in (c, C))
    assert torch.equal(maps[0], expected[0])
    leaf = X.clone().requires_grad_()
    torch.autograd.grad(cs.ParallelBackprop(ENCODER).forward_func(leaf, X, c).sum(), leaf)


LATENTS: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "similarity of two dtypes": (TypeError, "expected one dtype, got `query` of torch.float32, `gallery` of torch.float64, `weight` of torch.float32", lambda: cs.neuron_similarity(Z, Z.double(), W)),
    "similarity, weight": (TypeError, "`weight` of torch.float64", lambda: cs.neuron_similarity(Z, Z, W.double())),
    "similarity, kind": (ValueError, r"unknown similarity \['dot'\]", lambda: cs.neuron_similarity(Z, Z, W, kind=["dot"])),
    "rule": (ValueError, r"unknown rule \['product'\]", lambda: cs.shared_weights(Z, Z, W, rule=["product"])),
    "centers of two dtypes": (TypeError, "expected one dtype, got `gallery` of torch.float32, `weight` of torch.float64", lambda: cs.category_centers(Z, W.double(), list("aabbc"), "a")),
    "centers, one name": (TypeError, "`categories` must be a sequence of names, got str", lambda: cs.category_centers(Z, W, "aabbc", "a")),
    "centers, no names": (TypeError, "`categories` must be a sequence of names, got NoneType", lambda: cs.category_centers(Z, W, None, "a")),
    "matcher, similarity": (ValueError, r"unknown similarity \['dot'\]", lambda: cs.ReferenceMatcher(Z, ["dot"])),
    "exclude, a mask of uint8": (TypeError, r"integer indices or boolean, got torch.uint8: pass exclude.bool\(\) if it is a mask, exclude.long\(\)", lambda: match(torch.eye(2, 5, dtype=torch.uint8))),
    "exclude, indices of uint8": (TypeError, "got torch.uint8", lambda: match(np.array([0, 1], np.uint8))),
    "exclude, a name": (TypeError, "`exclude` must be integer indices or boolean, got a str", lambda: match("self")),
    "exclude, None inside": (TypeError, "`exclude` must be integer indices or boolean, got a list", lambda: match([None, 1])),
    "exclude, fractions": (TypeError, "`exclude` must be integer indices or boolean, got torch.float32", lambda: match(torch.zeros(2))),
    "exclude, complex": (TypeError, "`exclude` must be integer indices or boolean, got torch.complex64", lambda: match(torch.tensor([1j, 1j]))),
    "readout of an array": (TypeError, "`latents` must be a tensor, got ndarray; use torch.as_tensor", lambda: READOUT(np.ones((2, 6), np.float32))),
    "readout of a list": (TypeError, "`latents` must be a tensor, got list", lambda: READOUT([[1.0] * 6])),
    "estimator by name": (TypeError, r"`estimator` must be a scikit-learn estimator such as Ridge\(\), got 'ridge'", lambda: cs.fit_readout(np.ones((9, 2)), np.ones(9), estimator="ridge")),
    "estimator's class": (TypeError, "scikit-learn estimator .*, got the class Tensor", lambda: cs.fit_readout(np.ones((9, 2)), np.ones(9), estimator=Tensor)),
    "complex latents": (ValueError, "`latents` must be numeric: got complex128", lambda: cs.fit_readout(np.ones((9, 2)) * 1j, np.ones(9))),
    "folds": (TypeError, "`cv` must be an int, .*, got bool", lambda: cs.fit_readout(np.ones((9, 2)), np.ones(9), cv=True)),
    "reliability of None": (TypeError, "`reliability` must be real numbers, got None", lambda: noise_ceiling(None)),
    "reliability of a name": (TypeError, "`r` must be real numbers, got a str", lambda: ceiling_corrected("x", [0.5])),
    "reliabilities of others": (ValueError, r"must both be \(K,\), got shapes \(3,\) and \(2,\)", lambda: ceiling_corrected([0.1] * 3, [0.5] * 2)),
    "responses of None": (TypeError, "`responses` must be real numbers, got None", lambda: split_half_reliability(None)),
}  # fmt: skip


def match(exclude: Any) -> Any:
    return cs.ReferenceMatcher(Z).match(Z[:2], W, exclude=exclude)


@pytest.mark.parametrize("case", LATENTS)
def test_latents(case: str) -> None:
    refuses(*LATENTS[case])


def total(images: Tensor) -> Tensor:
    return images.sum((1, 2, 3))


HEAT, MASK, PICTURE = torch.rand(4, 4), torch.eye(4) > 0, torch.rand(3, 4, 4)
IMAGES_8, LABELS = torch.rand(8, 3, 12, 12), ["a", "b"] * 4
TOP = selectivity.top_activations(NET, "3", IMAGES_8, k=4)
# Every function, with arguments that it takes.
SCORES: dict[Callable[..., Any], tuple[Any, ...]] = {
    metrics.relevance_mass_accuracy: (HEAT, MASK),
    metrics.relevance_rank_accuracy: (HEAT, MASK),
    metrics.pointing_game: (HEAT, MASK, 1.0),
    metrics.heat_density: (HEAT, MASK),
    metrics.density_contrast: (HEAT, MASK, ~MASK),
    metrics.leakage: (HEAT, MASK, ~MASK),
    metrics.p_vs_q_auroc: (HEAT, MASK, ~MASK),
    metrics.swap_accuracy: (HEAT, HEAT, MASK, ~MASK),
    metrics.curve_area: (torch.rand(4),),
    metrics.rank_correlation: (HEAT[None], HEAT[None]),
    metrics.deletion_curve: (HEAT, PICTURE, total),
    metrics.insertion_curve: (HEAT, PICTURE, total),
    metrics.cascading_randomization: (NET, lambda net: net(X)),
    metrics.readout_randomization: (W, lambda w: w * Z),
    metrics.reference_swap: (X, X, lambda y: y),
    metrics.bootstrap_interval: ([1.0, 2.0],),
    selectivity.base_rates: (TOP, LABELS),
    selectivity.class_distribution: (TOP, LABELS),
    selectivity.class_selectivity_index: (TOP, LABELS, 0.5),
    selectivity.population_code: (TOP, LABELS, 0.1),
    selectivity.morcos_class_selectivity: (torch.rand(8, 3), LABELS),
    selectivity.category_d_prime: (torch.rand(8, 3), LABELS),
    selectivity.response_loss: (TOP.activations, TOP.activations),
    selectivity.neuron_feature: (torch.rand(2), torch.rand(2, 3, 4, 4)),
    selectivity.color_selectivity_index: (NET, TOP, IMAGES_8),
    selectivity.orientation_selectivity_index: (NET, TOP, IMAGES_8),
    selectivity.symmetry_selectivity_index: (NET, TOP, IMAGES_8),
    selectivity.transform_selectivity_index: (NET, TOP, IMAGES_8, lambda crops: crops),
    selectivity.TopActivations.from_responses: (torch.rand(8, 3), 2),
}
WRONG: tuple[Any, ...] = (None, "x", object(), {"a": 1})


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.__name__)
def test_wrong_types_are_named(score: Callable[..., Any]) -> None:
    """In every place of every score: an error that says what was received, not one of Python's own."""
    right = SCORES[score]
    more = ("a",) if score is selectivity.category_d_prime else ()
    score(*right, *more)
    for place in range(len(right)):
        for wrong in WRONG:
            arguments = [*right[:place], wrong, *right[place + 1 :], *more]
            with pytest.raises((TypeError, ValueError), match="must |expected ") as caught:
                score(*arguments)
            assert caught.value.__suppress_context__ or caught.value.__context__ is caught.value.__cause__


NUMBERS: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "level": (TypeError, "`level` must be a number, got None", lambda: metrics.bootstrap_interval([1.0], level=None)),
    "repeats": (ValueError, "`repeats` must be a positive integer, got 0", lambda: metrics.bootstrap_interval([1.0], repeats=0)),
    "values": (TypeError, "`values` must be finite numbers", lambda: metrics.bootstrap_interval(["a"])),
    "complex heat": (TypeError, "`heat` must hold real numbers, got torch.complex64", lambda: metrics.deletion_curve(HEAT * 1j, PICTURE, total)),
    "heat of names": (TypeError, "`heat` must hold real numbers, got <U1", lambda: metrics.heat_density(np.array([["a"]]), np.array([[True]]))),
    "uint8 image": (ValueError, "`image` must be floating point .*, got torch.uint8", lambda: metrics.deletion_curve(HEAT, PICTURE.to(torch.uint8), total)),
    "NaN baseline": (ValueError, "`baseline` must be finite", lambda: metrics.deletion_curve(HEAT, PICTURE, total, baseline=float("nan"))),
    "no baseline": (TypeError, "`baseline` must be a number, got None", lambda: metrics.insertion_curve(HEAT, PICTURE, total, baseline=None)),
    "baseline of another size": (ValueError, r"`baseline` must be a number or \(C, H, W\) = \(3, 4, 4\), got shape \(5, 5\)", lambda: metrics.deletion_curve(HEAT, PICTURE, total, baseline=torch.zeros(5, 5))),
    "no scores": (ValueError, r"`score` must return \(21,\) scores, got None", lambda: metrics.deletion_curve(HEAT, PICTURE, lambda images: None)),  # type: ignore[return-value]
    "threshold": (TypeError, "`threshold` must be a number, got None", lambda: selectivity.population_code(TOP, LABELS, threshold=None)),
    "labels of two types": (TypeError, "`labels` must be of one type, got int and str", lambda: selectivity.base_rates(TOP, ["a", 1] * 4)),
    "lists as labels": (TypeError, "`labels` must be str, int or None, got a list", lambda: selectivity.base_rates(TOP, [["a"], ["b"]] * 4)),
    "NaN labels": (ValueError, "`labels` must be str, int or None, got NaN; an image without a class is None", lambda: selectivity.base_rates(TOP, np.array([1.0, np.nan] * 4))),
    "infinite responses": (ValueError, "`responses` must be finite, got 24 NaN or infinite", lambda: selectivity.morcos_class_selectivity(torch.full((8, 3), torch.inf), LABELS)),
    "infinite recording": (ValueError, "`responses` must be finite, or NaN", lambda: selectivity.TopActivations.from_responses(np.array([[1.0], [np.inf]]))),
    "one angle": (TypeError, "`angles` must be a sequence of degrees, got 90", lambda: selectivity.orientation_selectivity_index(NET, TOP, IMAGES_8, angles=90)),
    "NaN axis": (ValueError, "`axes` must be finite, got nan", lambda: selectivity.symmetry_selectivity_index(NET, TOP, IMAGES_8, axes=(float("nan"),))),
}  # fmt: skip


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers(case: str) -> None:
    refuses(*NUMBERS[case])
