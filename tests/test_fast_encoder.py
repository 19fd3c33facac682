"""`fast_encoder`: the same latents and maps, without batch norms."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torchvision
from captum.attr import Saliency
from torch import Tensor, nn

from captum_shared import LatentEncoder, ParallelBackprop, encode_images, fast_encoder
from captum_shared.identity import identify_network

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

SLOW = pytest.mark.slow  # without instructions for it, bfloat16 takes a processor seconds


def batch_norms(module: nn.Module) -> int:
    return sum(isinstance(part, BATCH_NORMS) for part in module.modules())


def batch_norms_that_run(encoder: nn.Module, x: Tensor) -> int:
    """In a second pass, which ends at the layer."""
    calls: list[nn.Module] = []
    encoder(x)
    for part in encoder.modules():
        if isinstance(part, BATCH_NORMS):
            part.register_forward_hook(lambda module, inputs, output: calls.append(module))
    encoder(x)
    return len(calls)


def ran(encoder: nn.Module, x: Tensor) -> set[str]:
    """Names of the operations of one forward pass."""
    with torch.profiler.profile() as profile:
        encoder(x)
    return {event.key for event in profile.key_averages()}


def disturbed(model: nn.Module) -> nn.Module:
    """Batch norms as if trained: statistics, scale and shift that are not trivial."""
    for part in model.modules():
        if isinstance(part, BATCH_NORMS):
            part.running_mean.uniform_(-0.5, 0.5)
            part.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return model.eval()


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


class Shared(nn.Module):
    """A convolution called twice, one whose output is used twice, one without a batch norm, and one to fold."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(3, 3, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(4))
        self.used_twice, self.alone, self.last = (nn.Conv2d(3, 3, 1, bias=bias) for bias in (True, True, False))
        self.end = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[1](self.twice(self.norms[0](self.twice(x))))
        x = self.used_twice(x)
        x = x + self.norms[2](x)
        return self.end(self.norms[3](self.last(self.alone(x))))


class Branching(nn.Module):
    """No tracer follows a choice by value."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.sum() > -1e9 else x


@pytest.mark.parametrize(
    ("name", "layer", "left"),
    [("resnet18", "layer2", 0), ("mobilenet_v2", "features.3", 0), ("squeezenet1_0", "features.5", 0),
     ("regnet_y_400mf", "trunk_output.block2", 0), ("densenet121", "features.denseblock1.denselayer1", 1)],
)  # fmt: skip
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_folded_latents_are_the_same(name: str, layer: str, left: int, dtype: torch.dtype, tolerance: float) -> None:
    """densenet: its first convolution is folded, and what stands before a convolution cannot be; one more can."""
    model = disturbed(torchvision.models.get_model(name, weights=None)).to(dtype)
    encoder, x = LatentEncoder(model, layer), torch.randn(2, 3, 64, 64, dtype=dtype)
    fast = fast_encoder(encoder, probe=x)
    assert relative(fast(x), encoder(x)) < tolerance
    assert batch_norms_that_run(fast, x) == left
    assert fast(x).dtype == dtype


def test_no_batch_norm_runs(x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(torchvision.models.resnet18(weights=None)), "layer1")
    fast = fast_encoder(encoder)
    assert any("batch_norm" in name for name in ran(encoder, x))
    assert not any("batch_norm" in name for name in ran(fast, x))


def test_only_what_can_be_folded_is(x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(Shared()), "end")
    fast = fast_encoder(encoder)
    assert batch_norms(fast) == 3
    assert relative(fast(x), encoder(x)) < 1e-5


@pytest.mark.parametrize("engine", [{}, {"engine": Saliency}])
@pytest.mark.parametrize(("autocast", "tolerance"), [(None, 1e-4), pytest.param(torch.bfloat16, 0.3, marks=SLOW)])
def test_maps_are_close(engine: dict[str, type], autocast: torch.dtype | None, tolerance: float, x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(torchvision.models.resnet18(weights=None)), "layer1")
    w, steps = torch.randn(64), {} if engine else {"n_steps": 4}
    maps = ParallelBackprop(fast_encoder(encoder, autocast), **engine).attribute((x, x.flip(0)), readout=w, **steps)
    expected = ParallelBackprop(encoder, **engine).attribute((x, x.flip(0)), readout=w, **steps)
    for found, own in zip(maps, expected, strict=True):
        assert found.dtype == torch.float32
        assert relative(found, own) < tolerance


@SLOW
def test_half_precision_is_used_and_left_again(x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(torchvision.models.resnet18(weights=None)), "layer1")
    fast = fast_encoder(encoder, torch.bfloat16)
    dtypes = []
    fast.model.layer1.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    assert fast(x).dtype == torch.float32
    assert dtypes == [torch.bfloat16]
    assert 0 < relative(fast(x), encoder(x)) < 0.05


def test_the_original_is_as_it_was(x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(torchvision.models.resnet18(weights=None)), "layer1")
    state, latents = copy.deepcopy(encoder.state_dict()), encoder(x)
    strides = [p.stride() for p in encoder.parameters()]
    fast = fast_encoder(encoder)
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.zero_()
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert torch.equal(encoder(x), latents)
    assert [p.stride() for p in encoder.parameters()] == strides
    assert all(p.requires_grad for p in encoder.parameters())
    assert not any(p.requires_grad for p in fast.parameters())


@pytest.mark.parametrize("autocast", [None, pytest.param(torch.bfloat16, marks=SLOW)])
def test_pickle_and_deepcopy(autocast: torch.dtype | None, x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(torchvision.models.resnet18(weights=None)), "layer1", transform=nn.Tanh())
    fast = fast_encoder(encoder, autocast)
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(twin(x), fast(x))
        assert [m.training for m in twin.modules()] == [m.training for m in fast.modules()]


def test_made_in_inference_mode_it_gives_maps_outside(x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(torchvision.models.resnet18(weights=None)), "layer1")
    with torch.inference_mode():
        fast = fast_encoder(encoder, probe=torch.randn(2, 3, 32, 32))
    assert batch_norms_that_run(fast, x) == 0
    c = torch.randn(64)
    maps = [
        torch.autograd.grad((one(y) * c).sum(), y)[0] for one in (fast, encoder) for y in [x.clone().requires_grad_()]
    ]
    assert relative(maps[0], maps[1]) < 1e-4


def test_what_stands_behind_the_layer_is_left_alone(x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(torchvision.models.resnet18(weights=None)), "layer1")
    left = [
        name for name, part in fast_encoder(encoder, probe=x).model.named_modules() if isinstance(part, nn.BatchNorm2d)
    ]
    assert left == [name for name, part in encoder.model.named_modules()
                    if isinstance(part, nn.BatchNorm2d) and name.startswith(("layer2", "layer3", "layer4"))]  # fmt: skip


def test_fast_of_fast_is_the_same(x: Tensor) -> None:
    fast = fast_encoder(LatentEncoder(disturbed(torchvision.models.resnet18(weights=None)), "layer1"))
    assert torch.equal(fast_encoder(fast)(x), fast(x))


@SLOW
def test_latents_are_kept_apart_by_precision() -> None:
    encoder = LatentEncoder(disturbed(torchvision.models.resnet18(weights=None)), "layer1")
    encoders = encoder, fast_encoder(encoder), fast_encoder(encoder, torch.bfloat16)
    plain, folded, rough = (identify_network(own, torch.rand(3, 32, 32)) for own in encoders)
    assert not any(one.matches(other) for one, other in ((plain, folded), (plain, rough), (folded, rough)))
    images = torch.rand(3, 3, 32, 32)
    assert relative(encode_images(encoders[1], images), encode_images(encoder, images)) < 1e-5


def test_networks_that_cannot_be_traced(x: Tensor) -> None:
    net = disturbed(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    encoder = LatentEncoder(Branching(net), "net.1").eval()
    fast = fast_encoder(encoder, probe=x)
    assert batch_norms(fast) == 0
    assert relative(fast(x), encoder(x)) < 1e-5


class Odd(nn.Module):
    """Changes its convolution's output in place before the batch norm, or keeps it, or has a hook on the batch norm."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv, self.norm = kind, nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        if kind == "hook":
            self.norm.register_forward_hook(_negative)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        if self.kind == "in place":
            h.relu_()
        z = self.norm(h)
        return z * h.view(h.shape).sigmoid() if self.kind == "kept" else z


def _negative(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return -output


@pytest.mark.parametrize("kind", ["in place", "kept", "hook"])
def test_operations_between_and_beside_are_the_users(kind: str, x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(nn.Sequential(Odd(kind))), "0")
    fast = fast_encoder(encoder, probe=x)
    assert batch_norms(fast) == 1
    assert relative(fast(x), encoder(x)) < 1e-5


class Gated(Odd):
    """Uses its convolution's output a second time, where no gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return self.norm(h) * h.detach().sigmoid()


class ReadsWeights(Odd):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.conv.weight.sum()


@pytest.mark.parametrize("kind", [ReadsWeights, Gated])
def test_a_copy_that_differs_is_refused(kind: type[Odd], x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(nn.Sequential(kind("none"))), "0")
    with pytest.raises(ValueError, match=r"differs from the encoder by [\d.e+-]+ of the norm of '0'.*at most 0\.001"):
        fast_encoder(encoder, probe=x)


def test_a_copy_in_half_precision_may_differ_more(x: Tensor) -> None:
    encoder = LatentEncoder(disturbed(torchvision.models.resnet18(weights=None)), "layer1")
    assert relative(fast_encoder(encoder, torch.bfloat16, probe=x)(x), encoder(x)) > 1e-3  # the limit of float32


def test_outputs_that_are_tuples_come_back_in_full_precision(x: Tensor) -> None:
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Identity()).eval()
    net[0].register_forward_hook(lambda module, inputs, output: (output, inputs[0]))
    encoder = LatentEncoder(net, "0", pool=lambda outputs: outputs[0].mean((2, 3)))
    outputs = fast_encoder(encoder, torch.bfloat16).layer_output(x)
    assert isinstance(outputs, tuple)
    assert [part.dtype for part in outputs] == [torch.float32] * 2


def test_mistakes() -> None:
    model = torchvision.models.resnet18(weights=None).eval()
    with pytest.raises(TypeError, match="`encoder` must be a LatentEncoder, got ResNet"):
        fast_encoder(model)
    with pytest.raises(ValueError, match=r"`autocast` must be .*, got torch.float32"):
        fast_encoder(LatentEncoder(model, "layer1"), torch.float32)
    with pytest.raises(ValueError, match=r"must be in evaluation mode.*in training mode\. Call encoder\.eval\(\)"):
        fast_encoder(LatentEncoder(model.train(), "layer1"))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 32, 32)
