"""`LayerParallelBackprop`: coarse maps at the encoder's layer, in the manner of Grad-CAM."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_shared.attribution.base import PairAttribution
from captum_shared.attribution.engine import differentiable
from captum_shared.attribution.inputs import Pair, check_pair
from captum_shared.similarity import Rule


@runtime_checkable
class MapEncoder(Protocol):
    """An encoder whose layer has positions, such as a `LatentEncoder`."""

    def layer_output(self, x: Tensor) -> Tensor: ...
    def latents(self, output: Tensor, image_size: torch.Size) -> Tensor: ...
    def as_map(self, output: Tensor, image_size: torch.Size) -> Tensor: ...


class LayerParallelBackprop(PairAttribution):
    """Parallel backpropagation down to the encoder's layer: where on its map, coarse, the shared features are.

    The map is A * dc.z/dA summed over channels, A the layer's output. With pool="avg" this is Grad-CAM of the scalar
    c . z(x) before its positive part is taken (Selvaraju et al. 2017); for other pools it keeps the positions apart
    (HiResCAM, Draelos & Carin 2020). Its sum is c . z, up to the offset of the encoder's transform. The paper has maps
    of pixels only; this one is ours.

    Parameters
    ----------
    encoder : LatentEncoder
    rule, center
        As in `ParallelBackprop`.

    Raises
    ------
    TypeError
        If the encoder has no `feature_map`.

    Examples
    --------
    >>> from captum_shared import LatentEncoder
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.ReLU())
    >>> lpb = LayerParallelBackprop(LatentEncoder(model, "1"))
    >>> map_x, map_ref = lpb.attribute((torch.rand(1, 3, 33, 33), torch.rand(1, 3, 33, 33)), readout=torch.rand(8))
    >>> map_x.shape, lpb.interpolate(map_x, (33, 33)).shape
    (torch.Size([1, 1, 8, 8]), torch.Size([1, 1, 33, 33]))
    """

    interpolate = staticmethod(LayerAttribution.interpolate)

    def __init__(self, encoder: nn.Module, rule: str | Rule = "product", center: Tensor | None = None) -> None:
        super().__init__(encoder, rule, center)
        if not isinstance(encoder, MapEncoder):
            raise TypeError(f"`encoder` must be a LatentEncoder, whose layer has a map, got {type(encoder).__name__}")
        self._maps: MapEncoder = encoder

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: the layer's output is multiplied in."""
        return True

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Pair,
        target: Any = None,
        additional_forward_args: Any = None,
        relu_attributions: bool = False,
        *,
        readout: Any = None,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
    ) -> Pair:
        """The two coarse maps of each pair.

        Parameters
        ----------
        inputs : tuple of two Tensors (N, C, H, W)
        target, additional_forward_args, readout, center, reference_latents
            As in `ParallelBackprop.attribute`.
        relu_attributions : bool, default False
            Whether to keep the positive part only.

        Returns
        -------
        tuple of two Tensors (N, 1, h, w)
            `LayerParallelBackprop.interpolate(map, (H, W))` enlarges them.

        Raises
        ------
        TypeError, ValueError
            As `ParallelBackprop.attribute`; also if the layer gives vectors, or only a class token is pooled.
        """
        with torch.inference_mode(mode=False):
            pair = check_pair(inputs, self.encoder)
            recipe = self._recipe(readout, target, additional_forward_args, center, reference_latents)
            shared = self._constant(pair, recipe)
            maps = [_coarse_maps(self._maps, x, shared) for x in pair]
        return tuple(m.relu() for m in maps) if relu_attributions else (maps[0], maps[1])  # type: ignore[return-value]


def layer_maps(encoder: nn.Module, x: Tensor, shared: Tensor) -> Tensor:
    """Maps of one image for many constants, from one forward pass and none back through the network.

    Parameters
    ----------
    encoder : LatentEncoder
    x : Tensor (1, C, H, W)
    shared : Tensor (K, D)

    Returns
    -------
    Tensor (K, h, w)
        As `LayerParallelBackprop` gives them one by one.
    """
    if not isinstance(encoder, MapEncoder):
        raise TypeError(f"`encoder` must be a LatentEncoder, whose layer has a map, got {type(encoder).__name__}")
    return _coarse_maps(encoder, x, shared)[:, 0]


def _coarse_maps(encoder: Any, x: Tensor, shared: Tensor) -> Tensor:
    """(K, 1, h, w) of K images, or of one image for `shared` (K, D)."""
    size = x.shape[-2:]
    with torch.no_grad():
        output = encoder.layer_output(x)
    encoder.as_map(output, size)  # a layer of vectors has no positions: refused here
    leaf = output.detach().expand(len(shared), *output.shape[1:]).requires_grad_()
    with torch.enable_grad(), differentiable(encoder):
        scalar = (encoder.latents(leaf, size) * shared).sum()
        gradient = torch.autograd.grad(scalar, leaf)[0]
    if gradient.any() and not encoder.as_map(gradient, size).any():
        raise ValueError(
            "the latents read only tokens without a position, such as the class token (pool='cls'); expected a "
            "pool over positions, or ParallelBackprop, which goes down to the pixels"
        )
    return encoder.as_map(output * gradient, size).sum(dim=1, keepdim=True)
