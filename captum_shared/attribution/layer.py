"""`LayerParallelBackprop`: coarse maps at the encoder's layer, similar to Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_shared.attribution.base import PairAttribution
from captum_shared.attribution.engine import differentiable
from captum_shared.attribution.inputs import Pair, Readout, Target, check_pair
from captum_shared.attribution.shares import position_shares, why_not_linear
from captum_shared.checks import check_encoded, check_tensor
from captum_shared.encoder import LatentEncoder
from captum_shared.encoder.layers import SharedPass
from captum_shared.similarity import Rule, origin_of


class LayerParallelBackprop(PairAttribution):
    """Parallel backpropagation down to the encoder's layer: a coarse map of where the shared features are.

    Where the pooling is a sum over positions ("avg", "flatten", a grid) and the encoder's transform is affine, the map
    at p is c . a(p), where a(p) is the position's share of the latents: what it contributes to them, with the offset of
    the transform split among the positions (see `LayerCorrespondence`). The map sums to c . z, with the center
    subtracted from the latents for the rules "product" and "dot" if one is given, and the gallery's mean for
    `moment_rule`. Without a transform and a center this is, for pool="avg", Grad-CAM of c . z(x) before its positive
    part is taken (Selvaraju et al. 2017), and for the others HiResCAM (Draelos & Carin 2020). Other poolings also give
    HiResCAM: A * dc.z/dA summed over channels, with A the layer's output. The paper only has maps of pixels; this one
    is ours.

    Each image goes through the network once, and only the pooling is differentiated, where it is not linear.

    Parameters
    ----------
    encoder : LatentEncoder
        In evaluation mode.
    rule, center, constants
        As in `ParallelBackprop`.

    Raises
    ------
    TypeError
        If the encoder is no `LatentEncoder`.

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

    def __init__(
        self,
        encoder: nn.Module,
        rule: str | Rule = "product",
        center: Tensor | None = None,
        constants: str = "common",
    ) -> None:
        super().__init__(encoder, rule, center, constants)
        self._maps = check_map_encoder(encoder)

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: the map contains the layer's output as a factor."""
        return True

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Pair,
        target: Target | None = None,
        additional_forward_args: Tensor | tuple[Tensor, ...] | None = None,
        relu_attributions: bool = False,
        *,
        readout: Readout | None = None,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
    ) -> Pair:
        """Compute the two coarse maps of each pair.

        Parameters
        ----------
        inputs : tuple of two Tensors (N, C, H, W)
            Out-of-category images and their references, as in `ParallelBackprop.attribute`.
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
            seen = [see_layer(self._maps, x) for x in pair]
            with torch.no_grad():
                z, z_ref = (
                    check_encoded(self._maps.latents(one.output, one.size), len(x))
                    for one, x in zip(seen, pair, strict=True)
                )
                shared = recipe(z, z_ref)
            origin = origin_of(self.rule, self.center if center is None else center)
            maps = [_coarse_maps(self._maps, one, c.unsqueeze(1), origin) for one, c in zip(seen, shared, strict=True)]
        return (maps[0].relu(), maps[1].relu()) if relu_attributions else (maps[0], maps[1])


@dataclass(frozen=True)
class LayerOutput:
    """What the encoder's layer gave for images of `size` (H, W): kept, it serves any number of maps."""

    output: object
    size: torch.Size


def see_layer(encoder: nn.Module, x: Tensor) -> LayerOutput:
    """The layer's output for images `x`, (N, C, H, W), from one forward pass and without gradients."""
    with torch.no_grad():
        return LayerOutput(check_map_encoder(encoder).layer_output(x), x.shape[-2:])


def see_layers(together: SharedPass, x: Tensor) -> list[LayerOutput]:
    """What several encoders' layers gave for images `x`, (N, C, H, W), from one forward pass and without gradients."""
    if len(together.encoders) == 1:
        return [see_layer(together.encoders[0], x)]
    return [LayerOutput(output, x.shape[-2:]) for output in together.outputs(x)]


def layer_maps(encoder: nn.Module, seen: LayerOutput, shared: Tensor, origin: Tensor | None = None) -> Tensor:
    """Maps (K, h, w) of one image for constants (K, D), with no pass back through the network.

    As `LayerParallelBackprop` gives them one by one; `origin` (D,) are the latents that count as nothing.
    """
    return _coarse_maps(check_map_encoder(encoder), seen, shared.unsqueeze(0), origin)[0]


def _coarse_maps(encoder: LatentEncoder, seen: LayerOutput, shared: Tensor, origin: Tensor | None) -> Tensor:
    """(N, Q, h, w) of N images' layer outputs for Q constants of each, (N, Q, D)."""
    features = encoder.as_map(seen.output, seen.size)  # a layer of vectors has no positions: refused here
    if why_not_linear(encoder, features):
        output = check_tensor("output", seen.output)
        return torch.stack([_differentiated_map(encoder, output, seen.size, c) for c in shared.unbind(1)], dim=1)
    return position_shares(encoder, features, origin).heat(shared).detach()


def _differentiated_map(encoder: LatentEncoder, output: Tensor, size: torch.Size, shared: Tensor) -> Tensor:
    """A * dc.z/dA, summed over channels, (N, h, w)."""
    leaf = output.detach().requires_grad_()
    with torch.enable_grad(), differentiable(encoder):
        scalar = (encoder.latents(leaf, size) * shared).sum()
        gradient = torch.autograd.grad(scalar, leaf)[0]
    if gradient.any() and not encoder.as_map(gradient, size).any():
        raise ValueError(
            "the latents read only tokens without a position, such as the class token (pool='cls'); expected a "
            "pool over positions, or ParallelBackprop, which goes down to the pixels"
        )
    return encoder.as_map(output * gradient, size).sum(dim=1)


def check_map_encoder(encoder: object) -> LatentEncoder:
    """The encoder, if its layer has a map."""
    if not isinstance(encoder, LatentEncoder):
        raise TypeError(f"`encoder` must be a LatentEncoder, whose layer has a map, got {type(encoder).__name__}")
    return encoder
