"""Work is counted, not timed: a second forward pass in the gradient path fails here on any machine.

The network has two convolutions up to its layer, so that two convolutions are one forward pass.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import captum.attr as ca
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed import floors
from captum_shared import LatentEncoder, LayerParallelBackprop, ParallelBackprop
from captum_shared.attribution import engine
from captum_shared.attribution.quadrature import Path, refine

CONVOLUTIONS = 2


class Count(TorchDispatchMode):
    """Counts operations, those of autograd's backward passes included, and notes the batches of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.batches: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[str(func.overloadpacket)] += 1
        if func is torch.ops.aten.convolution.default:
            self.batches.append(len(args[0]))
        if func is torch.ops.aten.convolution_backward.default:
            assert not args[-1][1], "gradients of weights, which nobody asked for"
        return func(*args, **(kwargs or {}))


def work(run: Callable[[], Any]) -> tuple[int, int]:
    """Forward and backward passes of the network up to its layer."""
    with Count() as count:
        run()
    forwards, backwards = count.calls["aten.convolution"], count.calls["aten.convolution_backward"]
    assert forwards % CONVOLUTIONS == backwards % CONVOLUTIONS == 0
    return forwards // CONVOLUTIONS, backwards // CONVOLUTIONS


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    return torch.randn(1, 3, 8, 8, dtype=torch.float64), torch.randn(1, 3, 8, 8, dtype=torch.float64)


@pytest.fixture
def readouts() -> Tensor:
    return torch.randn(4, 6, dtype=torch.float64)


def close(found: Any, expected: Any, rtol: float = 1e-9) -> bool:
    return all(bool((a - b).abs().max() <= rtol * b.abs().max()) for a, b in zip(found, expected, strict=True))


def test_pair_gradient(encoder: LatentEncoder, pair: Any, readouts: Tensor) -> None:
    pb = ParallelBackprop(encoder, engine=ca.Saliency)
    assert work(lambda: pb.attribute(pair, readout=readouts[0])) == (2, 2)


@pytest.mark.parametrize("k", [1, 4])
def test_neurons_gradient(k: int, encoder: LatentEncoder, pair: Any, readouts: Tensor) -> None:
    pb = ParallelBackprop(encoder, engine=ca.Saliency)
    assert work(lambda: pb.attribute_neurons(pair, readouts[:k])) == (2, 2 * k)


@pytest.mark.parametrize(("chunk", "chunks"), [(3, (2, 3, 2, 3)), (10, (10,)), (None, (10,)), (1, (1,) * 10)])
@pytest.mark.parametrize("k", [1, 4])
def test_integrated_gradients(
    chunk: int | None, chunks: tuple[int, ...], k: int, encoder: LatentEncoder, pair: Any, readouts: Tensor
) -> None:
    """A backward pass for each neuron and chunk, of which as many as a chunk has points share the first convolution."""
    pb = ParallelBackprop(encoder)
    options = {"n_steps": 10, "internal_batch_size": chunk}
    constant, passes = 2, 2 * len(chunks)  # forward passes that give c; and of both images
    assert work(lambda: pb.attribute(pair, readout=readouts[0], **options)) == (constant + passes, passes)
    with Count() as count:
        pb.attribute_neurons(pair, readouts[:k], **options)
    assert count.calls["aten.convolution"] == CONVOLUTIONS * (constant + passes)
    first = 2 * sum(math.ceil(k / n_points) for n_points in chunks)
    assert count.calls["aten.convolution_backward"] == first + (CONVOLUTIONS - 1) * passes * k


@pytest.mark.parametrize(("images", "chunks"), [(1000, (8, 2)), (5, (5, 5)), (0, (4, 4, 2))])
def test_the_default_chunk_fills_the_bytes(
    encoder: LatentEncoder, pair: Any, readouts: Tensor, images: int, chunks: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As many images as the memory holds, but no fewer than four, nor more than eight, at a time."""
    pb = ParallelBackprop(encoder)
    monkeypatch.setattr(engine, "_CPU_BYTES", images * pb.forward_module.kept_bytes(pair[0]))
    with Count() as count:
        found = pb.attribute(pair, readout=readouts[0], n_steps=10)
    assert count.batches[2 * CONVOLUTIONS :] == [n for n in 2 * chunks for _ in range(CONVOLUTIONS)]
    assert close(found, pb.attribute(pair, readout=readouts[0], n_steps=10, internal_batch_size=None))
    other = ParallelBackprop(encoder)
    with Count() as count:
        other.attribute(pair, readout=readouts[0], n_steps=10)
    measured = 1  # the first call with images of a size measures the activations, once for both images
    assert count.calls["aten.convolution"] == CONVOLUTIONS * (measured + 2 + 2 * len(chunks))


@pytest.mark.parametrize("given", [{}, {"internal_batch_size": 4}])
@pytest.mark.parametrize("n_steps", [6, pytest.param("auto", marks=pytest.mark.slow)])  # dozens of gradients
def test_no_forward_pass_keeps_more_than_a_chunk_however_many_pairs(
    n_steps: Any, given: dict[str, int], encoder: LatentEncoder, readouts: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eleven pairs in chunks of four images; where one pair goes by itself, several of its steps go together."""
    monkeypatch.setattr(engine, "_CPU_IMAGES", (4, 4))
    x, y, baselines = torch.randn(3, 11, 3, 8, 8, dtype=torch.float64)
    pb = ParallelBackprop(encoder)
    c = pb.shared_weights((x, y), readouts[0])
    options: dict[str, Any] = {"n_steps": n_steps, "baselines": (baselines, 0.1)}
    runs: list[Callable[[], Any]] = [
        lambda: pb.attribute((x, y), readout=readouts[0], **options, **given),
        lambda: pb.attribute_neurons((x, y), readouts, **options, **given),
    ]
    for run in runs:
        with Count() as count:
            run()
        kept = [batch for batch in count.batches if batch != 11]  # all eleven at once only for c and c . z
        assert set(kept) <= {1, 2, 3, 4}
        assert kept.count(4) > len(kept) / 2
    found, delta = pb.attribute((x, y), readout=readouts[0], return_convergence_delta=True, **options, **given)
    for i in range(11):
        one = {"n_steps": n_steps, "baselines": (baselines[i : i + 1], 0.1), "internal_batch_size": None}
        own, own_delta = pb.attribute(
            (x[i : i + 1], y[i : i + 1]), additional_forward_args=(c[i : i + 1],), return_convergence_delta=True, **one
        )
        assert close([side[i : i + 1] for side in found], own)
        assert delta[i] == pytest.approx(own_delta.item(), rel=1e-6, abs=1e-9)
    several = pb.attribute_neurons((x, y), readouts, **options, **given)
    whole = pb.attribute_neurons((x, y), readouts, **options, internal_batch_size=None)
    assert close(several, whole)


def test_kept_bytes_are_those_of_the_activations(encoder: LatentEncoder) -> None:
    """Counted by hand: saved are the image, conv1, bn's output and relu1 (one storage each), the pool, conv2, relu2."""
    forward = ParallelBackprop(encoder).forward_module
    found = forward.kept_bytes(torch.randn(3, 3, 8, 8, dtype=torch.float64))
    least = 8 * (3 * 64 + 5 * 64 + 5 * 64 + 5 * 16 + 6 * 16)  # image, conv1, relu1, pool, relu2
    assert least <= found <= 2 * least
    assert forward.kept_bytes(torch.randn(1, 3, 16, 16, dtype=torch.float64)) == pytest.approx(4 * found, rel=0.2)
    assert work(lambda: forward.kept_bytes(torch.randn(7, 3, 8, 8, dtype=torch.float64))) == (0, 0)


def test_references_averaged(encoder: LatentEncoder, readouts: Tensor) -> None:
    """One backward pass for each image of the pair, however many references."""
    pb = ParallelBackprop(encoder, engine=ca.Saliency)
    x, references = torch.randn(1, 3, 8, 8).double(), torch.randn(5, 3, 8, 8).double()

    def run() -> Any:
        with torch.no_grad():
            mean = encoder(references).mean(0)
        return pb.attribute((x, references[:1]), readout=readouts[0], reference_latents=mean)

    assert work(run) == (3, 2)
    assert close(run(), floors.references_gradient(encoder.layer_output, x, references, readouts[0]))


def test_coarse_maps(encoder: LatentEncoder, pair: Any, readouts: Tensor) -> None:
    assert work(lambda: LayerParallelBackprop(encoder).attribute(pair, readout=readouts[0])) == (2, 0)


def test_nothing_behind_the_layer_runs(net: nn.Module, pair: Any, readouts: Tensor) -> None:
    encoder = LatentEncoder(net, layer="pool")
    encoder(pair[0])  # the first pass goes to the end
    for engine_class in (ca.Saliency, ca.IntegratedGradients):
        with Count() as count:
            maps = ParallelBackprop(encoder, engine=engine_class).attribute(pair, readout=readouts[0][:5])
        assert count.calls["aten.convolution"] > 0
        assert count.calls["aten.convolution"] == count.calls["aten.max_pool2d_with_indices"]  # conv2 never runs
        assert "aten.addmm" not in count.calls
    gradient = ParallelBackprop(encoder, engine=ca.Saliency).attribute(pair, readout=readouts[0][:5])
    assert close(gradient, floors.through_the_whole_network(net, "pool", *pair, readouts[0][:5]))
    assert maps[0].shape == pair[0].shape


def test_paths_equal_the_floors(encoder: LatentEncoder, pair: Any, readouts: Tensor) -> None:
    gradient, integrated = ParallelBackprop(encoder, engine=ca.Saliency), ParallelBackprop(encoder)
    w, body = readouts[0], encoder.layer_output
    assert close(gradient.attribute(pair, readout=w), floors.pair_gradient(body, *pair, w))
    assert close(gradient.attribute_neurons(pair, readouts), floors.neurons_gradient(body, *pair, readouts))
    one = integrated.attribute(pair, readout=w, n_steps=9)  # Captum holds the steps in single precision
    assert close(one, floors.pair_integrated(body, *pair, w, n_steps=9, chunk=4), rtol=1e-6)
    found = integrated.attribute_neurons(pair, readouts, n_steps=9)
    assert close(found, floors.neurons_integrated(body, *pair, readouts, n_steps=9, chunk=2))


# Steps chosen by the completeness error.


def graded_rule(encoder: nn.Module, x: Tensor, c: Tensor, steps: int) -> Tensor:
    """Slow: every gradient of the trapezoid rule in the square root of alpha, one by one."""
    total = torch.zeros_like(x)
    for u in torch.linspace(0, 1, steps + 1, dtype=torch.float64)[1:]:
        leaf = (x * u**2).requires_grad_()
        weight = 2 * u / steps if u < 1 else 1 / steps
        total += weight * torch.autograd.grad(encoder(leaf) @ c, leaf, torch.ones(1).to(x))[0]
    return total * x


def relative_errors(encoder: nn.Module, x: Tensor, c: Tensor, steps: int) -> tuple[Tensor, float]:
    """The rule's map, and the larger of its two errors."""
    with torch.no_grad():
        difference = ((encoder(x) - encoder(0 * x)) @ c)[0]
    before, found = graded_rule(encoder, x, c, steps // 2), graded_rule(encoder, x, c, steps)
    change = (found - before).norm() / math.sqrt(3) / found.norm()
    return found, float(torch.maximum(change, abs(found.sum() / difference - 1)))


def slow_refinement(encoder: nn.Module, x: Tensor, c: Tensor, tolerance: float, most: int) -> tuple[Tensor, int]:
    steps = 18
    while True:
        found, error = relative_errors(encoder, x, c, steps)
        if error <= tolerance or 2 * steps > most:
            return found, steps
        steps *= 2


def test_automatic_steps_are_the_slow_refinement(encoder: LatentEncoder) -> None:
    x, y = 3 * torch.randn(2, 3, 3, 8, 8, dtype=torch.float64)
    c = torch.rand(3, 6, dtype=torch.float64)
    path = Path(x, torch.zeros_like(x), c.unsqueeze(1))
    errors = [relative_errors(encoder, x[n : n + 1], c[n], 18)[1] for n in range(3)]
    tolerance = 1.0001 * sorted(errors)[1]  # reached as soon as can be by two of the three images
    steps = refine(encoder, path, 5, tolerance=tolerance, max_steps=80).n_steps
    assert sorted(steps.tolist())[:2] == [18, 18]
    assert steps.max() > 18
    found = ParallelBackprop(encoder).attribute(
        (x, y), additional_forward_args=(c,), n_steps="auto", tolerance=tolerance, max_steps=80, internal_batch_size=5
    )
    for n in range(3):
        expected, counted = slow_refinement(encoder, x[n : n + 1], c[n], tolerance, 80)
        assert close([found[0][n : n + 1]], [expected])
        assert steps[n] == counted


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x**2


@pytest.mark.parametrize(("tolerance", "steps"), [(0.02, 18), (0.004, 36), (0.001, 72), (1e-9, 144)])
def test_automatic_steps_in_closed_form(tolerance: float, steps: int) -> None:
    """Of squares, where the sum of k^3 gives the rule: (1 + 1 / n^2) x^2, which changes by 3 / n^2 in the last round."""
    x = torch.rand(2, 5, dtype=torch.float64)
    path = Path(x, torch.zeros_like(x), torch.ones(2, 1, 5).double())
    integral = refine(Square(), path, None, tolerance=tolerance, max_steps=150)
    assert integral.n_steps.tolist() == [steps, steps]
    assert (math.sqrt(3) / (steps**2 + 1) <= tolerance) == (steps < 144)
    assert torch.allclose(integral.mean[:, 0] * x, (1 + 1 / steps**2) * x**2, rtol=1e-12)
    assert torch.allclose(integral.delta[:, 0], (x**2).sum(1) / steps**2, rtol=1e-9)


def test_automatic_steps_of_a_linear_model_are_exact() -> None:
    x = torch.randn(2, 5, dtype=torch.float64)
    linear = nn.Linear(5, 4).double()
    c = torch.rand(2, 3, 4, dtype=torch.float64)
    integral = refine(linear, Path(x, torch.ones_like(x), c), None)
    assert integral.n_steps.tolist() == [18, 18]
    assert torch.allclose(integral.mean, c @ linear.weight, rtol=1e-12)
    same = refine(linear, Path(x, x, c), None)  # an image that is its baseline: nothing to explain, no division by zero
    assert same.n_steps.tolist() == [18, 18]
    assert same.delta.abs().max() == 0


@pytest.mark.slow  # a thousand gradients
def test_automatic_steps_converge_to_captum(encoder: LatentEncoder, readouts: Tensor) -> None:
    """Twice the tolerance bounds the error of each map, here of rectified convolutions; as does Captum's finest rule."""
    x, y = torch.randn(2, 3, 3, 8, 8, dtype=torch.float64)
    pb = ParallelBackprop(encoder)
    fine = pb.attribute((x, y), readout=readouts[0], n_steps=1000)
    for tolerance in (0.03, 0.003):
        found = pb.attribute((x, y), readout=readouts[0], n_steps="auto", tolerance=tolerance, max_steps=4096)
        for own, exact in zip(found, fine, strict=True):
            assert ((own - exact).flatten(1).norm(dim=1) <= 2 * tolerance * exact.flatten(1).norm(dim=1)).all()


def test_an_image_goes_on_until_all_neurons_are_fine(encoder: LatentEncoder) -> None:
    x, c = 2 * torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.rand(2, 3, 6, dtype=torch.float64)
    path = Path(x, torch.zeros_like(x), c)
    error = relative_errors(encoder, x[:1], c[0, 0], 36)[1]
    alone = [refine(encoder, Path(x, path.start, own), 4, tolerance=error).n_steps for own in c.split(1, dim=1)]
    together = refine(encoder, path, 4, tolerance=error)
    assert together.n_steps.tolist() == torch.stack(alone).amax(0).tolist()
    assert len(set(torch.stack(alone).flatten().tolist())) > 1


def test_automatic_steps_in_half_precision() -> None:
    """Gradients of 500: their sum over the points of a rule would overflow."""
    x = torch.rand(1, 3, 8, 8).half()
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 1)).half()
    nn.init.constant_(linear[1].weight, 500.0)
    integral = refine(
        linear, Path(x, torch.zeros_like(x), torch.ones(1, 1, 1).half()), 4, tolerance=-1.0
    )  # never reached
    assert integral.n_steps.tolist() == [288]
    assert torch.allclose(integral.mean.float(), torch.tensor(500.0), rtol=0.01)


def test_automatic_steps_reach_the_tolerance(encoder: LatentEncoder, readouts: Tensor) -> None:
    x, y = torch.randn(2, 3, 3, 8, 8, dtype=torch.float64)
    pb = ParallelBackprop(encoder)
    for tolerance in (0.02, 0.001):
        maps, delta = pb.attribute(
            (x, y), readout=readouts[0], n_steps="auto", tolerance=tolerance, max_steps=4096, baselines=0.3,
            return_convergence_delta=True,
        )  # fmt: skip
        c = pb.shared_weights((x, y), readouts[0])
        total = 0.0
        for image, own in zip((x, y), maps, strict=True):
            with torch.no_grad():
                difference = ((encoder(image) - encoder(torch.full_like(image, 0.3))) * c).sum(1)
            error = own.flatten(1).sum(1) - difference
            assert (error.abs() <= 1.0001 * tolerance * difference.abs()).all()
            total = total + error
        assert torch.allclose(delta, total, atol=1e-10)


def test_automatic_steps_in_a_batch_are_those_of_one_at_a_time(encoder: LatentEncoder, readouts: Tensor) -> None:
    x, y = 2 * torch.randn(2, 3, 3, 8, 8, dtype=torch.float64)
    pb = ParallelBackprop(encoder)
    together = pb.attribute((x, y), readout=readouts[0], n_steps="auto", tolerance=1e-3)
    neurons = pb.attribute_neurons((x, y), readouts[:1], n_steps="auto", tolerance=1e-3)
    for n in range(3):
        alone = pb.attribute((x[n : n + 1], y[n : n + 1]), readout=readouts[0], n_steps="auto", tolerance=1e-3)
        assert close([t[n : n + 1] for t in together], alone)
        assert close([t[n : n + 1, 0] for t in neurons], alone)


def test_no_gradient_is_computed_twice(encoder: LatentEncoder, readouts: Tensor) -> None:
    """Points of all rounds together are those of the last one, plus the forward passes of both ends."""
    x = 3 * torch.randn(1, 3, 8, 8, dtype=torch.float64)
    path = Path(x, torch.zeros_like(x), readouts[:1].unsqueeze(1))
    for most, steps in ((4, 4), (9, 9), (17, 9), (40, 36), (71, 36), (72, 72)):
        with Count() as count:
            integral = refine(encoder, path, None, tolerance=1e-9, max_steps=most)
        assert integral.n_steps.tolist() == [steps]
        assert sum(count.batches) == CONVOLUTIONS * (steps + 2)


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        (lambda f: ca.NoiseTunnel(ca.IntegratedGradients(f)), {"n_steps": "auto"}, "IntegratedGradients itself"),
        (ca.IntegratedGradients, {"n_steps": "auto", "method": "riemann_left"}, "a rule of its own"),
        (ca.IntegratedGradients, {"n_steps": "auto", "tolerance": 0.0}, "`tolerance` must be positive"),
        (ca.IntegratedGradients, {"n_steps": "auto", "max_steps": 0}, "`max_steps` must be a positive integer, got 0"),
    ],
)
def test_mistakes(factory: Any, options: Any, message: str, encoder: LatentEncoder, pair: Any) -> None:
    with pytest.raises(ValueError, match=message):
        ParallelBackprop(encoder, engine=factory).attribute(pair, readout=torch.ones(6), **options)


def test_the_limits_belong_to_automatic_steps(encoder: LatentEncoder, pair: Any) -> None:
    with pytest.raises(TypeError, match="takes no argument 'tolerance'"):
        ParallelBackprop(encoder).attribute(pair, readout=torch.ones(6), n_steps=20, tolerance=0.1)
