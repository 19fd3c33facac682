"""One forward pass that ends behind the layers: nothing left behind, threads, modes, compiled and scripted networks."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import any_networks
import captum.attr as ca
import joblib
import pytest
import torch
import torchvision
from any_networks import LAYER, Plain, by_hook
from recordings import explain, files_of
from torch import Tensor, nn

from captum_shared import LatentEncoder, ParallelBackprop
from captum_shared.encoder.images import evaluating
from captum_shared.encoder.layers import LayerScan
from captum_shared.encoder.reading import Reader, _running
from captum_shared.selectivity.layers import LayerReader

X, Y = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def net() -> Any:
    return any_networks.make("plain")


@pytest.fixture
def switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def hooks(net: nn.Module) -> list[Any]:
    return [hook for module in net.modules() for hook in module._forward_hooks.values()]


# Exceptions.


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("first", [True, False])
def test_nothing_is_left_behind_after_an_exception(net: Any, error: type[BaseException], first: bool) -> None:
    encoder = LatentEncoder(net, LAYER)
    if not first:
        encoder(X)

    def fail(*_: Any) -> None:
        raise error("enough")

    with net.first.register_forward_hook(fail), pytest.raises(error, match="enough"):
        encoder(X)
    assert hooks(net) == []
    assert _running.get() == ()
    assert torch.is_grad_enabled()
    assert torch.equal(encoder.layer_output(X), by_hook(net, X))


def test_a_keyboard_interrupt_behind_the_layer_counts(net: Any) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with net.head.register_forward_hook(fail), pytest.raises(KeyboardInterrupt):
        LatentEncoder(net, LAYER)(X)
    assert torch.is_grad_enabled()
    assert hooks(net) == []


@pytest.mark.parametrize("name", ["Try", "BareExcept", "FinallyReturns"])
def test_an_error_of_what_is_taken_is_not_swallowed(name: str) -> None:
    def take(name: str, output: Tensor) -> None:
        raise TypeError(f"not {name}")

    net = any_networks.make(name)
    with pytest.raises(TypeError, match=r"not body\.last"):
        Reader().read(net, [LAYER], X, take)
    assert hooks(net) == []


def test_saved_tensor_hooks_of_a_block_that_was_left_are_gone() -> None:
    """The checkpoint's own would otherwise pack what is computed afterwards."""
    encoder = LatentEncoder(any_networks.make("CheckpointAround"), LAYER)
    for _ in range(3):
        assert encoder(X.clone().requires_grad_()).requires_grad
        assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None


# Called once.


class Loop(Plain):
    times = 2

    def through(self, h: Tensor) -> Tensor:
        for _ in range(self.times):
            out = self.body(h)
            try:
                assert out.sum() < 1e9
            except Exception:
                out = h
        return out


@pytest.mark.parametrize("times", [0, 2, 3])
@pytest.mark.parametrize("read", [
    lambda net: LatentEncoder(net, LAYER)(X),
    lambda net: LayerScan(net, [LAYER], ["avg"])(X),
    lambda net: LayerReader(net, [LAYER, "first"]).read(X, lambda name, maps: maps.sum()),
])  # fmt: skip
def test_a_layer_that_is_not_called_once_is_refused(times: int, read: Any) -> None:
    net = Loop().double()
    net.times = times
    if times == 0:
        net.through = lambda h: h.new_zeros(len(h), 5, 8, 8)
    text = f"'body.last' is called {times} times in one forward pass" if times else r"'body\.last' was not called"
    with pytest.raises(ValueError, match=text):
        read(net)
    assert hooks(net) == []


def passes_to_the_end(net: Any, run: Any) -> int:
    calls: list[int] = []
    with net.head.register_forward_pre_hook(lambda *_: calls.append(1)):
        run()
    return len(calls)


def test_the_first_pass_goes_to_the_end_and_after_what_may_change_the_calls(net: Any) -> None:
    encoder = LatentEncoder(net, LAYER)
    assert [passes_to_the_end(net, lambda: encoder(X)) for _ in range(3)] == [1, 0, 0]
    for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert [passes_to_the_end(twin.model, lambda twin=twin: twin(X)) for _ in range(2)] == [1, 0]
    net.body.last = nn.Conv2d(4, 5, 1).double()
    assert [passes_to_the_end(net, lambda: encoder(X)) for _ in range(2)] == [1, 0]
    encoder.train()
    assert [passes_to_the_end(net, lambda: encoder(X)) for _ in range(2)] == [1, 0]
    encoder.layer = "first"
    assert [passes_to_the_end(net, lambda: encoder(X)) for _ in range(2)] == [1, 0]


def test_the_first_pass_leaves_no_traces_of_what_is_behind_the_layer() -> None:
    class Statistics(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.behind = nn.BatchNorm2d(4), nn.BatchNorm2d(5)

        def middle(self, h: Tensor) -> Tensor:
            return self.before(h)

        def end(self, h: Tensor) -> Tensor:
            return super().end(nn.functional.dropout(self.behind(h), 0.5, training=True))

    net = Statistics().double().train()
    plain, encoder = copy.deepcopy(net), LatentEncoder(net, LAYER)
    torch.manual_seed(0)
    expected = by_hook(plain, X)
    torch.manual_seed(0)
    assert torch.equal(encoder.layer_output(X), expected)
    drawn = torch.randn(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.randn(3))
    assert torch.equal(net.before.running_mean, plain.before.running_mean)
    assert net.before.num_batches_tracked == 1
    assert net.behind.num_batches_tracked == 0
    assert not net.behind.running_mean.any()
    assert net.training


def test_the_first_pass_keeps_no_graph_behind_the_layer(net: Any) -> None:
    seen: list[bool] = []
    with net.head.register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad)):
        assert LatentEncoder(net, LAYER)(X).requires_grad
    assert seen == [False]


# One pass inside another.


def test_a_hook_may_run_another_encoder_of_the_same_network(net: Any) -> None:
    expected = by_hook(net, X)
    inner = LatentEncoder(net, LAYER, "max")
    found: list[Tensor] = []

    def also(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if not found:
            found.append(inputs[0])
            found.append(inner(Y))

    outer = LatentEncoder(net, LAYER)
    with net.first.register_forward_hook(also):
        for _ in range(2):
            found.clear()
            assert torch.equal(outer.layer_output(X), expected)
            assert torch.equal(found[1], by_hook(net, Y).amax((2, 3)))


def test_a_network_may_be_copied_during_a_pass(net: Any) -> None:
    expected = by_hook(net, X)
    copies: list[Any] = []

    def copy_it(*_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            with ThreadPoolExecutor(1) as pool:
                copies.append(pool.submit(lambda: pickle.loads(pickle.dumps(net.body))).result())
                copies.append(pool.submit(copy.deepcopy, net.body).result())

    handle = net.first.register_forward_hook(copy_it)
    assert torch.equal(LatentEncoder(net, LAYER).layer_output(X), expected)
    handle.remove()
    for twin in copies:
        assert torch.equal(twin(net.relu(net.first(X))), expected)


# Threads.


def test_encoders_of_one_network_at_other_layers_in_threads(net: Any, switching: None) -> None:
    layers = {name: LatentEncoder(net, name, "max") for name in ("first", "relu", "body.last", "body")}
    scan = LayerScan(net, ["first", "relu", "body"], ["max"])
    images = torch.randn(16, 2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = [(i, name, encoder(x)) for i, x in enumerate(images) for name, encoder in layers.items()]
        scanned = [scan(x) for x in images]

    def encode(case: tuple[int, str, Tensor]) -> bool:
        with torch.no_grad():
            return torch.equal(layers[case[1]](images[case[0]]), case[2])

    def scan_again(i: int) -> bool:
        return torch.equal(scan(images[i]), scanned[i])

    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(encode, expected), *pool.map(scan_again, list(range(16)) * 4)]
    assert all(found)
    assert hooks(net) == []


def test_threads_that_make_encoders_leave_modes_alone(switching: None) -> None:
    net = any_networks.make("Branch").train()
    net.relu.eval()
    before = [module.training for module in net.modules()]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: LatentEncoder(net, LAYER)(X), range(100)))
    assert [module.training for module in net.modules()] == before
    assert nn.Linear(2, 2)(torch.ones(1, 2)).shape == (1, 2)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_plain_encoder_waits_for_an_engine_with_hooks(net: Any, switching: None) -> None:
    """GuidedBackprop's hooks want gradients, which encoding without has not."""
    encoder, w = LatentEncoder(net, LAYER), torch.ones(5).double()
    guided = ParallelBackprop(encoder, engine=ca.GuidedBackprop)
    expected, latents = guided.attribute((X, Y), readout=w), encoder(X).detach()

    def encode(_: int) -> bool:
        with torch.no_grad():
            return torch.equal(encoder(X), latents)

    def explain(_: int) -> bool:
        return all(torch.equal(*maps) for maps in zip(guided.attribute((X, Y), readout=w), expected, strict=True))

    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(explain if i % 4 == 0 else encode, i) for i in range(64)]
    assert all(future.result() for future in found)


def test_evaluation_lasts_until_no_thread_wants_it() -> None:
    net = any_networks.make("plain").train()
    net.relu.eval()
    before = [module.training for module in net.modules()]
    with ThreadPoolExecutor(1) as pool:
        ours, theirs = evaluating(net), evaluating(net.body)
        ours.__enter__()
        pool.submit(theirs.__enter__).result()
        ours.__exit__(None, None, None)
        assert net.training
        assert not any(module.training for module in net.body.modules())
        pool.submit(theirs.__exit__, None, None, None).result()
    assert [module.training for module in net.modules()] == before


@pytest.mark.slow  # explains a recording twice: ten seconds
def test_a_recording_explained_by_three_threads(recording: Path, tiny: nn.Module, switching: None) -> None:
    """All of them scan the layers of one network."""
    explain(recording, tiny, Path("one"), images_per_job=8, maps_per_job=1)
    with joblib.parallel_config(backend="threading", n_jobs=3):
        explain(recording, tiny, Path("three"), images_per_job=8, maps_per_job=1)
    assert files_of(Path("one")) == files_of(Path("three"))


# Engines whose hooks are on the layer itself.


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("engine", [ca.DeepLift, ca.DeepLiftShap, ca.GuidedBackprop, ca.Deconvolution, ca.LRP])
def test_the_layer_is_what_the_engine_hooks(engine: Any, inplace: bool) -> None:
    """The same as of a network that ends at the layer."""
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace), nn.Conv2d(4, 5, 3), nn.ReLU(inplace)).double()
    behind = nn.Sequential(nn.Flatten(), nn.Softsign(), nn.Linear(80, 2).double(), nn.ReLU(inplace=True))
    w = torch.rand(5).double()
    options = {"baselines": torch.zeros(3, 3, 8, 8).double()} if engine is ca.DeepLiftShap else {}
    found, expected = (
        ParallelBackprop(LatentEncoder(own, "3"), engine=engine).attribute((X, Y), readout=w, **options)
        for own in (nn.Sequential(*body, *behind), body)
    )
    for own, other in zip(found, expected, strict=True):
        assert own.any()
        assert torch.allclose(own, other, rtol=1e-9, atol=1e-14)


# Settings of torch.


def test_data_parallel_autocast_inference_and_channels_last(net: Any) -> None:
    expected = by_hook(net, X)
    parallel = LatentEncoder(nn.DataParallel(net), f"module.{LAYER}")
    with torch.inference_mode():
        for encoder in (parallel, LatentEncoder(net, LAYER)):
            assert all(torch.equal(encoder.layer_output(X), expected) for _ in range(2))
    assert torch.equal(nn.DataParallel(LatentEncoder(net, LAYER))(X), expected.mean((2, 3)))
    net.float().to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        rough = by_hook(net, X.float())
        found = LatentEncoder(net, LAYER).layer_output(X.float())
    assert rough.dtype == torch.bfloat16
    assert isinstance(found, Tensor)
    assert torch.equal(found, rough)
    assert found.stride() == rough.stride()


def test_a_network_made_in_inference_mode() -> None:
    with torch.inference_mode():
        net = any_networks.make("plain")
    encoder = LatentEncoder(net, LAYER)
    with torch.no_grad():
        for twin in (encoder, copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
            assert all(torch.equal(twin.layer_output(X), by_hook(net, X)) for _ in range(2))


@pytest.fixture
def _no_dynamo_cache() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_no_dynamo_cache")
@pytest.mark.parametrize("backend", [
    "eager",
    pytest.param("inductor", marks=pytest.mark.slow),  # compiles C++
])  # fmt: skip
def test_compiled_networks(net: Any, backend: str) -> None:
    expected = by_hook(net, X)
    compiled = torch.compile(net, backend=backend)
    compiled(X)
    for layer in (LAYER, f"_orig_mod.{LAYER}"):
        encoder = LatentEncoder(compiled, layer)
        assert all(torch.equal(encoder.layer_output(X), expected) for _ in range(2))
    around = torch.compile(LatentEncoder(net, LAYER), backend=backend)
    assert all(torch.allclose(around(X), expected.mean((2, 3))) for _ in range(3))
    assert hooks(net) == []
    net.first = torch.compile(net.first, backend=backend)
    before = LatentEncoder(net, LAYER)
    assert all(torch.allclose(before.layer_output(X), expected) for _ in range(2))
    net.body = torch.compile(net.body, backend=backend)
    with pytest.raises(TypeError, match="'body.last' is inside a compiled module.* before torch.compile"):
        before(X)
    net.compile(backend=backend)
    with pytest.raises(TypeError, match="'first' is inside a compiled module"):
        LatentEncoder(net, "first")


def test_scripted_networks() -> None:
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU()))
    net.double()
    expected = net[1][0](net[0](X))
    net[0] = torch.jit.script(net[0])
    assert torch.equal(LatentEncoder(net, "1.0").layer_output(X), expected)
    with pytest.raises(TypeError, match=r"layer '0\.0' is in a scripted module"):
        LatentEncoder(net, "0.0")


# Whole families.


def same_as_hook(model: nn.Module, layer: str, x: Tensor) -> bool:
    """Bit for bit, in the first pass and later."""
    outputs: list[Tensor] = []
    encoder = LatentEncoder(model, layer)
    with torch.no_grad():
        with model.get_submodule(layer).register_forward_hook(lambda m, i, o: outputs.append(o.clone())):
            model(x)
        return len(outputs) == 1 and all(torch.equal(encoder.layer_output(x), outputs[0]) for _ in range(2))


def layers_called_once(model: nn.Module, x: Tensor, most: int = 6) -> list[str]:
    """Some, spread over the network, that give a tensor."""
    calls: list[tuple[str, bool]] = []
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: calls.append((name, isinstance(o, Tensor))))
        for name, module in model.named_modules() if name
    ]  # fmt: skip
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    names = [name for name, tensor in calls if tensor]
    once = [name for name in names if names.count(name) == 1]
    return once[:: max(1, len(once) // most)]


SIZES = {"maxvit_t": 224, "inception_v3": 96, "alexnet": 96, "squeezenet1_0": 64}
HUGE = {  # hundreds of MB of weights, up to 2.5 GB; images of two by two patches
    "vit_b_16": 32, "vit_b_32": 64, "vit_l_16": 32, "vit_l_32": 64, "vit_h_14": 28, "regnet_y_128gf": 32,
}  # fmt: skip
OTHERS = [
    name
    for module in (torchvision.models, torchvision.models.quantization)
    for name in torchvision.models.list_models(module=module)
    if name not in HUGE
]


@pytest.mark.slow  # builds each of torchvision's ninety networks
@pytest.mark.parametrize("name", OTHERS)
def test_torchvision(name: str) -> None:
    model = torchvision.models.get_model(name, weights=None).eval()
    x = torch.rand(1, 3, *2 * [SIZES.get(name.removeprefix("quantized_"), 64)])
    assert all(same_as_hook(model, layer, x) for layer in layers_called_once(model, x))


@pytest.mark.slow  # draws up to 600 million weights
@pytest.mark.parametrize("name", HUGE)
def test_the_largest_of_torchvision(name: str) -> None:
    size = HUGE[name]
    options = {"image_size": size} if name.startswith("vit") else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    x = torch.rand(1, 3, size, size)
    layers = layers_called_once(model, x, most=10**9)
    assert same_as_hook(model, layers[len(layers) // 2], x)


def test_a_small_vision_transformer_of_torchvision() -> None:
    model, x = torchvision.models.VisionTransformer(32, 8, 4, 2, 16, 32).eval(), torch.rand(2, 3, 32, 32)
    assert all(same_as_hook(model, layer, x) for layer in layers_called_once(model, x))


TIMM: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 2, "num_heads": 2, "embed_dim": 16},  # class token
    "vit_small_patch14_reg4_dinov2": {"img_size": 28, "depth": 2, "num_heads": 2, "embed_dim": 16},  # registers, too
    "swin_tiny_patch4_window7_224": {
        "img_size": 56,
        "embed_dim": 12,
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 1, 1),
    },
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)},
    "efficientnet_b0": {},
}


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    options = TIMM[name]
    model = timm.create_model(name, pretrained=False, num_classes=3, **options).eval()
    x = torch.rand(2, 3, *2 * [options.get("img_size", 32)])
    assert all(same_as_hook(model, layer, x) for layer in layers_called_once(model, x))


def test_a_layer_that_was_taken_away_is_named(net: Any) -> None:
    encoder = LatentEncoder(net, LAYER)
    encoder(X)
    path = LAYER.split(".")
    parent = net.get_submodule(".".join(path[:-1]))
    delattr(parent, path[-1])
    with pytest.raises(ValueError, match=f"unknown layer '{LAYER}'; expected a name of model.named_modules"):
        encoder(X)


def test_a_layer_of_units_must_return_a_tensor() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    reader = LayerReader(nn.Sequential(Pair()), ["0"])
    with pytest.raises(TypeError, match="layer '0' returned a tuple; expected a tensor: choose a layer inside"):
        reader.read(X, lambda _, maps: maps)
