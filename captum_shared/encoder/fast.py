"""A faster copy of an encoder: batch norms folded, channels last, half precision where asked for."""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import ExitStack, nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._pytree import tree_leaves, tree_map

from captum_shared.encoder.latents import LatentEncoder
from captum_shared.encoder.memory_format import channels_last

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}
PROBE_SIZE = 224

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fast_encoder(
    encoder: LatentEncoder, autocast: torch.dtype | None = None, probe: Tensor | None = None
) -> LatentEncoder:
    """Make a copy of an encoder that computes the same latents and maps in less time, and check that it does.

    Batch norms are folded into the convolutions before them, kernels are laid out channels last, and the network runs
    under autocast if asked to. Latents are returned in the precision of the images. The copy is read-only: it has its
    own parameters, which need no gradient, and is in evaluation mode.

    Parameters
    ----------
    encoder : LatentEncoder
        In evaluation mode. It is left as it is.
    autocast : {torch.bfloat16, torch.float16}, optional
        Precision of the network's products; None for that of its parameters. In bfloat16 maps correlate with the
        encoder's own at 0.94 to 0.99, pixel by pixel. float16 is for GPUs, and small gradients may vanish in it.
    probe : Tensor (N, C, H, W), optional
        Images for which both encoders must agree; preferably some of those to be explained. Default: two images of
        noise, of 224 x 224 pixels. A batch norm is folded if, for these images, nothing else that gradients pass uses
        the output of its convolution.

    Returns
    -------
    LatentEncoder
        Includes a copy of the transform; it can be pickled.

    Raises
    ------
    TypeError
        If `encoder` is not a `LatentEncoder`.
    ValueError
        If a part of the network is in training mode, `autocast` is another type, or the layer's output for the probe
        differs from the encoder's by more than 1e-3 of its norm (1e-8 in float64, 0.05 in float16, 0.2 in bfloat16).

    Examples
    --------
    >>> import torch, torchvision
    >>> encoder = LatentEncoder(torchvision.models.resnet18().eval(), layer="layer2")
    >>> x = torch.rand(2, 3, 64, 64)
    >>> torch.allclose(fast_encoder(encoder)(x), encoder(x), atol=1e-5)
    True
    """
    _check_encoder(encoder, autocast)
    probe = _noise(encoder.model) if probe is None else probe
    with torch.inference_mode(False), torch.no_grad():
        twin = FastEncoder(copy.deepcopy(encoder), autocast)
        _fold(twin, probe)
        channels_last(twin)
        _check_same(twin, encoder, probe)
    return twin.requires_grad_(False)


class FastEncoder(LatentEncoder):
    """An encoder, made of the parts of another, that computes under autocast and returns the precision it was given."""

    def __init__(self, encoder: LatentEncoder, autocast: torch.dtype | None) -> None:
        super().__init__(encoder.model, encoder.layer, encoder.pool, encoder.transform, encoder.layout)
        self.autocast = autocast

    def layer_output(self, x: Tensor) -> object:
        """The layer's output for images `x`, (N, C, H, W), in their dtype."""
        with torch.autocast(x.device.type, dtype=self.autocast) if self.autocast else nullcontext():
            output = super().layer_output(x)
        return tree_map(lambda part: part.to(x.dtype) if _is_real(part) else part, output)

    def extra_repr(self) -> str:
        """Layer, pooling, layout and precision."""
        return f"{super().extra_repr()}, autocast={self.autocast}"


def _is_real(part: object) -> bool:
    return isinstance(part, Tensor) and part.is_floating_point()


def _fold(encoder: LatentEncoder, probe: Tensor) -> None:
    """Fold batch norms into the convolutions before them, where the batch norm alone uses what they give."""
    model, names = encoder.model, _foldable(encoder.model)
    made: dict[Node | None, nn.Module] = {}  # which made an output, by its node in the graph: none behind the layer

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        made[output.grad_fn] = module

    with ExitStack() as hooks, torch.enable_grad():
        for module in names:
            hooks.enter_context(module.register_forward_hook(note))
        uses = _uses(tree_leaves(encoder.layer_output(probe.detach().clone().requires_grad_())))
    calls = Counter(made.values())
    for node, norm in made.items():
        before = node.next_functions[0][0] if node and isinstance(norm, _BATCH_NORMS) else None
        conv = made.get(before)
        if isinstance(conv, _CONVOLUTIONS) and uses[before] == calls[conv] == calls[norm] == 1:
            model.set_submodule(names[conv], fuse_conv_bn_eval(conv, norm))  # type: ignore[arg-type]
            model.set_submodule(names[norm], nn.Identity().eval())


def _uses(outputs: list[object]) -> Counter[Node | None]:
    """How many operations use what each node of the graph of gradients gives; None stands for what needs none."""
    uses = Counter(part.grad_fn for part in outputs if isinstance(part, Tensor))
    ahead = list(uses)
    while ahead:
        nodes = [node for node, _ in getattr(ahead.pop(), "next_functions", ())]
        ahead += set(nodes) - set(uses)
        uses.update(nodes)
    return uses


def _foldable(model: nn.Module) -> dict[nn.Module, str]:
    """Convolutions and batch norms with their names, where nothing about themselves forbids it."""
    # A subclass of a convolution may compute its weights, and so may hooks. Without running statistics a batch norm is
    # no constant. What has two names would stay under one of them.
    named = list(model.named_modules(remove_duplicate=False))
    times = Counter(module for _, module in named)
    kinds = *_CONVOLUTIONS, *_BATCH_NORMS
    return {
        module: name
        for name, module in named
        if type(module) in kinds and times[module] == 1 and getattr(module, "running_mean", module) is not None
        and not (module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
    }  # fmt: skip


def _check_same(twin: FastEncoder, encoder: LatentEncoder, probe: Tensor) -> None:
    """Refuse a copy whose layer gives something else."""
    tolerance = TOLERANCE[twin.autocast or probe.dtype]
    fast, expected = (tree_leaves(one.layer_output(probe)) for one in (twin, encoder))
    for part, exact in zip(fast, expected, strict=True):
        difference = float((part - exact).double().norm() / exact.double().norm())
        if not difference <= tolerance:
            raise ValueError(
                f"the fast copy differs from the encoder by {difference:.2g} of the norm of {encoder.layer!r} on the "
                f"probe; expected at most {tolerance:g}. Use the encoder itself"
            )


def _noise(model: nn.Module) -> Tensor:
    """Two images for the network's first convolution."""
    channels = next((part.in_channels for part in model.modules() if isinstance(part, _CONVOLUTIONS)), 3)
    x = torch.randn(2, channels, PROBE_SIZE, PROBE_SIZE, generator=torch.Generator().manual_seed(0))
    return x.to(next(model.parameters(), x))


def _check_encoder(encoder: object, autocast: object) -> None:
    if not isinstance(encoder, LatentEncoder):
        raise TypeError(f"`encoder` must be a LatentEncoder, got {type(encoder).__name__}")
    if autocast not in (None, torch.float16, torch.bfloat16):
        raise ValueError(f"`autocast` must be torch.float16, torch.bfloat16 or None, got {autocast!r}")
    for name, module in encoder.model.named_modules():
        if module.training:
            raise ValueError(
                "the encoder must be in evaluation mode, since batch norms are folded with their running statistics; "
                f"got {name or 'the network'!r} in training mode. Call encoder.eval() first"
            )
