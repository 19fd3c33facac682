"""What all attributions of pairs have in common: an encoder, a rule, and the shared weights c."""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import GradientAttribution
from torch import Tensor, nn

from captum_shared.attribution.engine import SharedForward
from captum_shared.attribution.inputs import (
    Pair,
    Readout,
    Target,
    check_encoder,
    check_given_shared,
    check_pair,
    differentiable_copy,
    resolve_reference,
    resolve_weight,
)
from captum_shared.checks import check_choice, check_encoded, check_tensor, network_refusals
from captum_shared.similarity import Rule, find_rule, shared_weights, transposed

CONSTANTS = ("common", "crossed")
# Latents of images and references, (N, D) each, to the shared weights of images and of references.
Recipe = Callable[[Tensor, Tensor], Pair]


class PairAttribution(GradientAttribution):
    """What `ParallelBackprop` and `LayerParallelBackprop` have in common.

    `forward_func` is the pair-level scalar c . z(x) + c . z(x_ref), for Captum's `infidelity` and
    `compute_convergence_delta`, with ``additional_forward_args=(c,)``; with ``(c, c_ref)`` each image has its own.
    """

    def __init__(
        self,
        encoder: nn.Module,
        rule: str | Rule = "product",
        center: Tensor | None = None,
        constants: str = "common",
    ) -> None:
        find_rule(rule)
        self.encoder = check_encoder(encoder)
        self.forward_module = SharedForward(encoder)
        self.rule = rule
        self.center = None if center is None else check_tensor("center", center)
        self.constants = check_choice("constants", constants, CONSTANTS)
        super().__init__(self._pair_forward)

    def shared_weights(
        self,
        inputs: Pair,
        readout: Readout,
        target: Target | None = None,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
    ) -> Tensor | Pair:
        """Compute the constant c of each pair, (N, D): how much the two images share each latent, for the neuron.

        Parameters
        ----------
        inputs : tuple of two Tensors
            Images and references, (N, C, H, W) each; their sizes may differ.
        readout, target, center, reference_latents
            As in `attribute`.

        Returns
        -------
        Tensor (N, D), detached
            With ``constants="crossed"`` a tuple of two: the images' and the references'.
        """
        recipe = self._recipe(readout, target, None, center, reference_latents)
        shared = self._constant(check_pair(inputs, self.encoder), recipe)
        return shared[0] if self.constants == "common" else shared

    def attribute_future(self) -> None:
        """Not implemented, as for most of Captum's methods."""
        raise NotImplementedError(f"attribute_future is not implemented for {type(self).__name__}")

    def _pair_forward(self, x: Tensor, x_ref: Tensor, shared: Tensor, shared_ref: Tensor | None = None) -> Tensor:
        own: Tensor = self.forward_module(x, differentiable_copy(shared))
        other: Tensor = self.forward_module(x_ref, differentiable_copy(shared if shared_ref is None else shared_ref))
        return own + other

    def _recipe(
        self, readout: object, target: object, frozen: object, center: Tensor | None, reference_latents: object
    ) -> Recipe:
        """How c (N, D) of each image is made from both latents: by the rule, or given by the user as `frozen`."""
        if frozen is None:
            return lambda z, z_ref: self._shared(
                z, z_ref, resolve_weight(readout, target, z), center, reference_latents
            )
        if any(value is not None for value in (readout, target, center, reference_latents)):
            raise ValueError(
                "`additional_forward_args` already holds the shared weights c; expected no `readout`, `target`, "
                "`center` or `reference_latents`"
            )
        given = frozen if isinstance(frozen, tuple) and len(frozen) in (1, 2) else (frozen,)
        return lambda z, z_ref: (check_given_shared(given[0], z), check_given_shared(given[-1], z_ref))

    def _constant(self, pair: Pair, recipe: Recipe) -> Pair:
        """c of each image, from a forward pass of its own for each."""
        with torch.no_grad():
            return recipe(self._latents(pair[0]), self._latents(pair[1]))

    def _shared(
        self, z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor | None, reference_latents: object
    ) -> Pair:
        """By the rule: one constant for both images of each pair, or each image's from the other image."""
        other = z_ref.to(z) if reference_latents is None else resolve_reference(reference_latents, z).expand_as(z)
        if other.shape[1] != z.shape[1]:
            raise ValueError(
                f"images and references must have the same number of latents, got {z.shape[1]} and {other.shape[1]}; "
                "images of different sizes need a pool that does not depend on the size"
            )
        center = self.center if center is None else center
        center = center.detach().to(z) if isinstance(center, Tensor) else center
        shared = shared_weights(z, other, weight, self.rule, center)
        if self.constants == "common":
            return shared, shared
        return shared, shared_weights(other, z, weight, transposed(self.rule), center)

    def _latents(self, x: Tensor) -> Tensor:
        with network_refusals(x, self.encoder, "the encoder"):
            return check_encoded(self.encoder(x), len(x))
