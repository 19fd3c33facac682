"""What users do wrong with an attribution of pairs, and what they are told."""

from __future__ import annotations

import math
from typing import Any

import captum.attr as ca
import pytest
import torch
from torch import Tensor, nn

from captum_shared import LatentEncoder, LayerParallelBackprop, LinearReadout, ParallelBackprop
from captum_shared.checks import is_finite

X = torch.randn(2, 3, 8, 8).double()
W = torch.randn(6).double()


class Gradless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach().mean((2, 3)).round()


def nan(x: Tensor) -> Tensor:
    x = x.clone()
    x.view(-1)[5] = torch.nan
    return x


ATTRIBUTE: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "no readout": (ValueError, r"`readout` is missing: expected readout=w, \(D,\) or \(N, D\)", {"readout": None}),
    "not a pair": (TypeError, r"must be a tuple \(images, references\) of two tensors, got a Tensor", {"inputs": X}),
    "a list": (TypeError, "of two tensors, got a list", {"inputs": [X, X]}),
    "three": (TypeError, "of two tensors, got a tuple of 3", {"inputs": (X, X, X)}),
    "counts": (ValueError, "must come in pairs, got 2 images and 1 references", {"inputs": (X, X[:1])}),
    "integers": (TypeError, "images must be floating point, got torch.int64", {"inputs": (X.long(), X)}),
    "array": (TypeError, r"references must be a tensor \(N, C, H, W\), got ndarray", {"inputs": (X, X.numpy())}),
    "nan image": (ValueError, "images must be finite, got NaN or infinity", {"inputs": (nan(X), X)}),
    "nan reference": (ValueError, "references must be finite, got NaN or infinity", {"inputs": (X, nan(X))}),
    "no image": (ValueError, r"images must be \(N, C, H, W\) with N >= 1, got shape \(0, 3, 8, 8\)", {"inputs": (X[:0], X[:0])}),
    "vector image": (ValueError, r"images must be \(N, C, H, W\) .* got shape \(8,\)", {"inputs": (X[0, 0, 0], X[0, 0, 0])}),
    "other device": (ValueError, "images are on meta, the encoder is on cpu; expected one device", {"inputs": (torch.ones(2, 3, 8, 8, device="meta"), X)}),
    "readout size": (ValueError, r"`readout` must be \(D,\) = \(6,\) or \(N, D\) = \(2, 6\), got shape \(5,\)", {"readout": W[:5]}),
    "readout rows": (ValueError, r"got shape \(3, 6\). Under NoiseTunnel", {"readout": W.expand(3, 6)}),
    "readout nan": (ValueError, "`readout` must be finite", {"readout": nan(W)}),
    "readout list": (TypeError, "`readout` must be a tensor, an array or a LinearReadout, got list", {"readout": [1.0] * 6}),
    "readout int": (ValueError, r"`readout` must be floating point, \(D,\) or \(N, D\), got torch.int64", {"readout": W.long()}),
    "readout module": (TypeError, "must be a tensor or have a weight .* got ReLU", {"readout": nn.ReLU()}),
    "target missing": (ValueError, "`target` is missing: the readout has 3 neurons", {"readout": LinearReadout(torch.ones(3, 6))}),
    "target range": (ValueError, r"`target` must be in \[0, 2\], got 3", {"readout": LinearReadout(torch.ones(3, 6)), "target": 3}),
    "target negative": (ValueError, r"`target` must be in \[0, 2\], got -1", {"readout": LinearReadout(torch.ones(3, 6)), "target": -1}),
    "target count": (ValueError, r"one int per pair, \(2,\), got \[0, 1, 2\]", {"readout": LinearReadout(torch.ones(3, 6)), "target": [0, 1, 2]}),
    "target type": (TypeError, "`target` must be an int or one int per pair, .*, got '1'", {"readout": LinearReadout(torch.ones(3, 6)), "target": "1"}),
    "target superfluous": (ValueError, "`target` picks a neuron of a LinearReadout", {"target": 0}),
    "engine argument": (TypeError, r"engine IntegratedGradients takes no argument 'steps'; it takes \[.*'n_steps'", {"steps": 5}),
    "chunk zero": (ValueError, "`internal_batch_size` must be a positive integer or None, got 0", {"internal_batch_size": 0}),
    "chunk fraction": (ValueError, "`internal_batch_size` must be a positive integer or None, got 2.5", {"internal_batch_size": 2.5}),
    "c shape": (ValueError, r"`additional_forward_args` must be \(N, D\) = \(2, 6\), got shape \(6,\)", {"readout": None, "additional_forward_args": (W,)}),
    "c and readout": (ValueError, "already holds the shared weights c; expected no `readout`", {"additional_forward_args": (torch.ones(2, 6).double(),)}),
    "c nan": (ValueError, "the shared weights hold NaN", {"readout": None, "additional_forward_args": (nan(W).expand(2, 6),)}),
    "reference latents": (ValueError, r"`reference_latents` must be \(D,\) = \(6,\) or .*, got shape \(5,\)", {"reference_latents": W[:5]}),
    "baseline": (ValueError, "`baselines` must be a number, a tensor or a tuple of two, got a tuple of 3", {"baselines": (0, 0, 0)}),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTRIBUTE)
def test_attribute(name: str, net: nn.Module) -> None:
    error, text, change = ATTRIBUTE[name]
    arguments = {"inputs": (X, X), "readout": W, **change}
    inputs = arguments.pop("inputs")
    with pytest.raises(error, match=text):
        ParallelBackprop(LatentEncoder(net, "relu2")).attribute(inputs, **arguments)


def test_construction(net: nn.Module) -> None:
    encoder = LatentEncoder(net, "relu2")
    cases: list[tuple[type[Exception], str, Any]] = [
        (TypeError, r"`encoder` must be an nn.Module .* got function", lambda: ParallelBackprop(lambda x: x)),
        (ValueError, r"unknown rule 'sum'; expected one of \['product'", lambda: ParallelBackprop(encoder, rule="sum")),
        (ValueError, r"`constants` must be one of \('common', 'crossed'\), got 'both'", lambda: ParallelBackprop(encoder, constants="both")),
        (TypeError, "`engine` must be a Captum class or a callable .* got Saliency", lambda: ParallelBackprop(encoder, ca.Saliency(encoder))),
        (TypeError, "`engine` must be a Captum class or a callable .* got str", lambda: ParallelBackprop(encoder, "IG")),
        (TypeError, "`engine` LayerGradCam cannot be made from a forward module alone", lambda: ParallelBackprop(encoder, ca.LayerGradCam)),
        (TypeError, "`engine` must return a Captum method with `attribute`, got int", lambda: ParallelBackprop(encoder, lambda f: 3)),
        (TypeError, "`encoder` must be a LatentEncoder, whose layer has a map, got Sequential", lambda: LayerParallelBackprop(nn.Sequential())),
    ]  # fmt: skip
    for error, text, mistake in cases:
        with pytest.raises(error, match=text):
            mistake()


def test_encoder_output() -> None:
    with pytest.raises(ValueError, match=r"must return latents \(N, D\) = \(2, D\), got shape \(2, 3, 8, 8\)"):
        ParallelBackprop(nn.Identity()).attribute((X, X), readout=W)


@pytest.mark.parametrize("engine", [ca.IntegratedGradients, ca.Saliency, ca.GuidedBackprop])
def test_gradless_encoder(engine: Any) -> None:
    pb = ParallelBackprop(Gradless(), engine=engine)
    with pytest.raises(ValueError, match="gives no gradient with respect to the images"):
        pb.attribute((X, X), readout=W[:3])
    with pytest.raises(ValueError, match="gives no gradient with respect to the images"):
        pb.attribute_neurons((X, X), W[None, :3])


def test_gradless_encoder_is_fine_for_perturbations() -> None:
    pb = ParallelBackprop(Gradless(), engine=ca.FeatureAblation)
    maps = pb.attribute((10 * X[:1], 10 * X[:1]), readout=W[:3], feature_mask=torch.zeros(1, 1, 8, 8).long())
    assert maps[0].shape == (1, 3, 8, 8)


def test_delta_of_an_engine_without_one(net: nn.Module) -> None:
    pb = ParallelBackprop(LatentEncoder(net, "relu2"), engine=ca.Saliency)
    with pytest.raises(ValueError, match="engine Saliency has no convergence delta"):
        pb.attribute((X, X), readout=W, return_convergence_delta=True)
    with pytest.raises(TypeError, match="engine Saliency takes no argument 'baselines'"):
        pb.attribute((X, X), readout=W, baselines=0)


def test_half_precision_overflow(net: nn.Module) -> None:
    encoder = nn.Linear(3, 6).half()
    nn.init.ones_(encoder.weight)
    x = torch.ones(1, 3).half()
    with pytest.raises(ValueError, match=r"hold NaN or infinity \(torch.float16\)"):
        ParallelBackprop(encoder).attribute((x, x), readout=torch.full((6,), 6e4))


def test_neurons(net: nn.Module) -> None:
    pb = ParallelBackprop(LatentEncoder(net, "relu2"))
    for readouts, text in [
        (W, r"`readouts` must be \(K, D\) with D = 6, got shape \(6,\)"),
        (torch.ones(2, 5), r"must be \(K, D\) with D = 6, got shape \(2, 5\)"),
        (nan(W)[None], "`readouts` must be finite"),
    ]:
        with pytest.raises(ValueError, match=text):
            pb.attribute_neurons((X, X), readouts)
    with pytest.raises(ValueError, match="gives no convergence delta"):
        pb.attribute_neurons((X, X), W[None], return_convergence_delta=True)
    with pytest.raises(ValueError, match=r"`center` must be \(D,\) or \(K, D\) with K = 1, got shape \(2, 6\)"):
        ParallelBackprop(LatentEncoder(net, "relu2"), rule="centered").attribute_neurons(
            (X, X), W[None], center=torch.ones(2, 6)
        )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_finite_means_every_value(value: float) -> None:
    assert is_finite(torch.full((9,), 6e4, dtype=torch.float16))  # whose sum is infinite
    for other in (0.0, 6e4, -6e4, math.inf, -math.inf):
        assert not is_finite(torch.tensor([0.0, value, other], dtype=torch.float16))
