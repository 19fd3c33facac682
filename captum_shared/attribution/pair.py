"""`ParallelBackprop`: two images, one neuron, two maps of what they share."""

from __future__ import annotations

from functools import partial
from typing import Literal, overload

import torch
from captum.attr import IntegratedGradients
from captum.log import log_usage
from torch import Tensor, nn

from captum_shared.attribution.base import PairAttribution, Recipe
from captum_shared.attribution.engine import (
    Attributed,
    EngineFactory,
    check_arguments,
    differentiable,
    is_plain_gradient,
    make_engine,
    run_engine,
    split_arguments,
    with_defaults,
)
from captum_shared.attribution.inputs import (
    Arguments,
    Baselines,
    Pair,
    Readout,
    Target,
    check_pair,
    resolve_reference,
    resolve_weights,
)
from captum_shared.attribution.neurons import neuron_maps, vector_jacobian_products
from captum_shared.attribution.quadrature import integrated_maps, is_automatic, without_limits
from captum_shared.similarity import Rule


class ParallelBackprop(PairAttribution):
    """Parallel backpropagation for shared-feature visualization (Lappe et al., NeurIPS 2024), as a Captum method.

    For an image x, a reference y and the readout w of a neuron, the shared weights c = w z(x) z(y) are held constant,
    and c . z(.) is attributed to the pixels of both: M(x) = J(x)^T c, M(y) = J(y)^T c (J: Jacobian of the latents).

    Parameters
    ----------
    encoder : nn.Module
        Images to latents, (N, C, H, W) -> (N, D), such as a `LatentEncoder`; in evaluation mode.
    engine : class or callable, default captum.attr.IntegratedGradients
        A Captum class, or any callable that takes the forward module and returns a Captum method:
        ``lambda f: NoiseTunnel(IntegratedGradients(f))``. `Saliency` is called with ``abs=False`` by default, so that
        the map is signed. The paper uses gradients and integrated gradients.
    rule : str or callable, default "product"
        How c is made: a name in `RULES` ("product" is the paper's), or your own rule, as in `shared_weights`.
    center : Tensor (D,), optional
        What the latents are compared with, as in `shared_weights`.
    constants : {"common", "crossed"}, default "common"
        "common" is the paper's: one c for both images. "crossed": each image's constant is made from the other image,
        c for x from y and c for y from x, so that both maps are gradients of one similarity (with the rule "dot", the
        paper's similarity: w z(y) for x and w z(x) for y). The rule "product" makes the same c either way.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of the above.

    Notes
    -----
    With `NoiseTunnel` as the engine (``engine=lambda f: NoiseTunnel(...)``), c is that of the clean pair. With
    `NoiseTunnel` around this class (``NoiseTunnel(ParallelBackprop(...))``), and in `sensitivity_max`, c is recomputed
    for each noisy pair; to keep it fixed, pass ``additional_forward_args=(c,)`` with `c` from `shared_weights`.

    Captum's `LRP` starts from the gradient at the network's last module, which is c, although the relevance to conserve
    would be c z(x): its maps do not decompose c . z(x).

    Examples
    --------
    >>> import torch
    >>> encoder = torch.nn.Linear(4, 3, bias=False)
    >>> pb = ParallelBackprop(encoder)
    >>> x, x_ref, w = torch.rand(1, 4), torch.rand(1, 4), torch.rand(3)
    >>> map_x, map_ref = pb.attribute((x, x_ref), readout=w)
    >>> c = w * encoder(x) * encoder(x_ref)
    >>> torch.allclose(map_x, c @ encoder.weight * x, atol=1e-6)
    True
    """

    def __init__(
        self,
        encoder: nn.Module,
        engine: EngineFactory = IntegratedGradients,
        rule: str | Rule = "product",
        center: Tensor | None = None,
        constants: str = "common",
    ) -> None:
        super().__init__(encoder, rule, center, constants)
        self.engine = make_engine(engine, self.forward_module)

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether the engine multiplies by the inputs."""
        return bool(self.engine.multiplies_by_inputs)

    def has_convergence_delta(self) -> bool:
        """Whether the engine returns a convergence delta."""
        return bool(self.engine.has_convergence_delta())

    @overload
    def attribute(
        self,
        inputs: Pair,
        baselines: Baselines | None = None,
        target: Target | None = None,
        additional_forward_args: Tensor | tuple[Tensor, ...] | None = None,
        *,
        return_convergence_delta: Literal[True],
        readout: Readout | None = None,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
        **engine_arguments: object,
    ) -> tuple[Pair, Tensor]: ...

    @overload
    def attribute(
        self,
        inputs: Pair,
        baselines: Baselines | None = None,
        target: Target | None = None,
        additional_forward_args: Tensor | tuple[Tensor, ...] | None = None,
        *,
        return_convergence_delta: Literal[False] = False,
        readout: Readout | None = None,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
        **engine_arguments: object,
    ) -> Pair: ...

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Pair,
        baselines: Baselines | None = None,
        target: Target | None = None,
        additional_forward_args: Tensor | tuple[Tensor, ...] | None = None,
        *,
        return_convergence_delta: bool = False,
        readout: Readout | None = None,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
        **engine_arguments: object,
    ) -> Pair | tuple[Pair, Tensor]:
        """Compute the two maps of what each pair shares for the neuron.

        Parameters
        ----------
        inputs : tuple of two Tensors
            Out-of-category images and their references, (N, C, H, W) each, on the encoder's device; baselines and masks
            must be there, too. The sizes of the two may differ.
        baselines : number, Tensor or tuple of two, optional
            As in Captum, for engines that take baselines; a tuple holds one for each image of the pair. Captum's
            default is zero, the mean colour of normalized images. The paper leaves it open.
        target : int or one int per pair, optional
            The neuron, if `readout` is a `LinearReadout`.
        additional_forward_args : tuple of one or two Tensors (N, D), optional
            Shared weights c to use as they are, instead of `readout`: one for both images, or one for each.
        return_convergence_delta : bool, default False
            Also return the sum of both images' deltas, (N,), for engines that have one.
        readout : Tensor (D,) or (N, D), or LinearReadout
            The neuron's readout w, or one per pair. `readout`, `center` and `reference_latents` may be on any device:
            they are small, often made on the CPU, and are copied to the images' device.
        center : Tensor (D,) or (N, D), optional
            Used instead of the center given to the class.
        reference_latents : Tensor (D,) or (N, D), optional
            Used instead of z(x_ref) in c, such as the mean latents of several references, at the cost of one backward
            pass for all of them.
        **engine_arguments
            Passed to the engine: `n_steps`, `sliding_window_shapes`, `nt_samples` ... As in Captum, `feature_mask`,
            `stdevs`, `strides` and `sliding_window_shapes` may be a tuple of two, one for each image.

            Unless `internal_batch_size` is given, integrated gradients run in chunks of four to eight images whose
            activations fill 128 MB (on devices other than the CPU, of as many as fill 2 GB), measured with one forward
            pass per image size: several steps of all pairs, or one step of some of them. With ``n_steps="auto"``, each
            image takes the steps it needs: 18, then 36, 72 ..., until both the completeness error, relative to the
            difference in c . z between image and baseline, and the estimated relative error of the map are at most
            `tolerance` (default 0.015), or the next number would exceed `max_steps` (default 288); in
            `attribute_neurons`, until this holds for all neurons. The points are dense near the baseline: 36 of them
            are as good as 50 of Captum's.

        Returns
        -------
        maps : tuple of two Tensors
            Signed, with the shapes, dtype and device of the inputs.
        delta : Tensor
            If `return_convergence_delta`.

        Raises
        ------
        TypeError, ValueError
            If an input is malformed; the message says what was received and what was expected.
        """
        arguments = self._engine_arguments(baselines, return_convergence_delta, engine_arguments)
        recipe = self._recipe(readout, target, additional_forward_args, center, reference_latents)
        with torch.inference_mode(mode=False):
            pair = check_pair(inputs, self.encoder)
            if is_plain_gradient(self.engine):
                maps = self._gradient_maps(pair, recipe, arguments)
                return maps[0].squeeze(1), maps[1].squeeze(1)
            shared = self._constant(pair, recipe)
            sides = split_arguments(self.engine, arguments, pair)
            results = [self._one_side(x, c, side) for x, c, side in zip(pair, shared, sides, strict=True)]
        (map_x, delta), (map_ref, delta_ref) = results
        return (map_x, map_ref) if delta is None or delta_ref is None else ((map_x, map_ref), delta + delta_ref)

    def attribute_neurons(
        self,
        inputs: Pair,
        readouts: Readout,
        baselines: Baselines | None = None,
        *,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
        **engine_arguments: object,
    ) -> Pair:
        """Compute the maps of K neurons for each pair; they equal those of K calls to `attribute`.

        With gradients and integrated gradients, the neurons share forward passes.

        Parameters
        ----------
        inputs, baselines, reference_latents, **engine_arguments
            As in `attribute`.
        readouts : Tensor (K, D) or LinearReadout
            The readouts of the neurons.
        center : Tensor (D,) or (K, D), optional
            For all neurons, or one for each.

        Returns
        -------
        tuple of two Tensors (N, K, C, H, W)
        """
        if engine_arguments.pop("return_convergence_delta", False):
            raise ValueError("attribute_neurons gives no convergence delta; expected return_convergence_delta=False")
        arguments = self._engine_arguments(baselines, False, engine_arguments)
        recipe = partial(self._shared_by_neuron, readouts=readouts, center=center, reference_latents=reference_latents)
        with torch.inference_mode(mode=False):
            pair = check_pair(inputs, self.encoder)
            if is_plain_gradient(self.engine):
                return self._gradient_maps(pair, recipe, arguments)
            shared = self._constant(pair, recipe)
            sides = split_arguments(self.engine, arguments, pair)
            maps = [
                neuron_maps(self.engine, self.forward_module, x, c, side)
                for x, c, side in zip(pair, shared, sides, strict=True)
            ]
        return maps[0], maps[1]

    def _one_side(self, x: Tensor, shared: Tensor, arguments: Arguments) -> Attributed:
        """The map of one image of each pair, with its convergence delta if requested."""
        if not is_automatic(arguments):
            return run_engine(self.engine, self.forward_module, x, shared, arguments)
        complete = with_defaults(self.engine, self.forward_module, x, arguments)
        maps, delta = integrated_maps(self.engine, self.forward_module.encoder, x, shared.unsqueeze(1), complete)
        if delta is None or not complete.get("return_convergence_delta"):
            return maps.squeeze(1), None
        return maps.squeeze(1), delta.squeeze(1)

    def _gradient_maps(self, pair: Pair, recipe: Recipe, arguments: Arguments) -> Pair:
        """Plain gradients (N, K, ...) for c (N, K, D), or (N, D) if K = 1: one forward pass gives c and the graph."""
        leaves = [x.detach().requires_grad_() for x in pair]
        with torch.enable_grad(), differentiable(self.encoder):
            latents = [self._latents(leaf) for leaf in leaves]
            shared = recipe(latents[0].detach(), latents[1].detach())
            maps = [
                vector_jacobian_products(z, leaf, c.reshape(len(z), -1, z.shape[1]))
                for z, leaf, c in zip(latents, leaves, shared, strict=True)
            ]
        return (maps[0].abs(), maps[1].abs()) if arguments.get("abs") else (maps[0], maps[1])

    def _shared_by_neuron(
        self, z: Tensor, z_ref: Tensor, readouts: object, center: Tensor | None, reference_latents: object
    ) -> Pair:
        """Shared weights (N, K, D) of images and references: each neuron with each pair, all at once."""
        weights = resolve_weights(readouts, z)
        n, k = len(z), len(weights)
        if isinstance(center, Tensor) and center.ndim == 2:
            if len(center) != k:
                raise ValueError(f"`center` must be (D,) or (K, D) with K = {k}, got shape {tuple(center.shape)}")
            center = center.repeat(n, 1)
        if reference_latents is not None:
            reference_latents = resolve_reference(reference_latents, z).expand_as(z).repeat_interleave(k, 0)
        z, z_ref = z.repeat_interleave(k, 0), z_ref.repeat_interleave(k, 0)
        shared = self._shared(z, z_ref, weights.repeat(n, 1), center, reference_latents)
        return shared[0].unflatten(0, (n, k)), shared[1].unflatten(0, (n, k))

    def _engine_arguments(self, baselines: object, delta: bool, engine_arguments: Arguments) -> Arguments:
        arguments = dict(engine_arguments)
        if baselines is not None:
            arguments["baselines"] = baselines
        if delta:
            if not self.has_convergence_delta():
                raise ValueError(f"engine {type(self.engine).__name__} has no convergence delta; expected False")
            arguments["return_convergence_delta"] = True
        check_arguments(self.engine, without_limits(self.engine, arguments))
        return arguments
