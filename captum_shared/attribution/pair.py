"""`ParallelBackprop`: two images, one neuron, two maps of what they share."""

from __future__ import annotations

import warnings
from typing import Any, Literal, overload

import torch
from captum.attr import GradientAttribution, IntegratedGradients
from captum.log import log_usage
from torch import Tensor, nn

from captum_shared.attribution.engine import (
    EngineFactory,
    SharedForward,
    check_arguments,
    make_engine,
    run_engine,
    split_arguments,
)
from captum_shared.attribution.inputs import (
    Pair,
    check_encoder,
    check_finite,
    check_latents,
    check_pair,
    check_shared,
    resolve_weight,
    resolve_weights,
)
from captum_shared.attribution.neurons import neuron_maps
from captum_shared.similarity import RULES, shared_weights


class PairAttribution(GradientAttribution):
    """What every attribution of pairs has: an encoder, a rule, and the shared weights c.

    `forward_func` is the pair-level scalar c . z(x) + c . z(x_ref), for Captum's `infidelity` and
    `compute_convergence_delta`, with ``additional_forward_args=(c,)``.
    """

    def __init__(self, encoder: nn.Module, rule: str = "product", center: Tensor | None = None) -> None:
        if rule not in RULES:
            raise ValueError(f"unknown rule {rule!r}; expected one of {list(RULES)}")
        self.encoder = check_encoder(encoder)
        self.forward_module = SharedForward(encoder)
        self.rule = rule
        self.center = center
        super().__init__(self._pair_forward)

    def shared_weights(
        self,
        inputs: Pair,
        readout: Tensor | nn.Module,
        target: Any = None,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
    ) -> Tensor:
        """The constant c of each pair, (N, D): how much the two images share each latent, for the neuron.

        Parameters
        ----------
        inputs : tuple of two Tensors
            Images and references, (N, C, H, W) each; their sizes may differ.
        readout, target, center, reference_latents
            As in `attribute`.

        Returns
        -------
        Tensor (N, D), detached
        """
        x, x_ref = check_pair(inputs, self.encoder)
        z = self._latents(x)
        weight = resolve_weight(readout, target, z)
        z_ref = self._latents(x_ref) if reference_latents is None else reference_latents.detach().to(z)
        return self._combined(z, z_ref, weight, center)

    def attribute_future(self) -> None:
        """Not implemented, as for most of Captum's methods."""
        raise NotImplementedError(f"attribute_future is not implemented for {type(self).__name__}")

    def _pair_forward(self, x: Tensor, x_ref: Tensor, shared: Tensor) -> Tensor:
        return self.forward_module(x, shared) + self.forward_module(x_ref, shared)

    def _shared(
        self, inputs: Pair, readout: Any, target: Any, frozen: Any, center: Any, reference_latents: Any
    ) -> Tensor:
        """c computed from the pair, or given by the user as `frozen`."""
        if frozen is None:
            return self.shared_weights(inputs, readout, target, center, reference_latents)
        if any(value is not None for value in (readout, target, center, reference_latents)):
            raise ValueError(
                "`additional_forward_args` holds the shared weights c, which leave nothing to compute; expected no "
                "`readout`, `target`, `center` or `reference_latents` beside it"
            )
        return check_shared(frozen[0] if isinstance(frozen, tuple) and len(frozen) == 1 else frozen, len(inputs[0]))

    def _combined(self, z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor | None) -> Tensor:
        center = self.center if center is None else center
        if z_ref.shape[-1] != z.shape[1]:
            raise ValueError(
                f"images and references must have as many latents, got {z.shape[1]} and {z_ref.shape[-1]}; "
                "images of different sizes need a pool that does not depend on the size"
            )
        center = center.detach().to(z) if isinstance(center, Tensor) else center
        return check_finite(shared_weights(z, z_ref, weight, self.rule, center))

    def _latents(self, x: Tensor) -> Tensor:
        _warn_if_training(self.encoder)
        with torch.no_grad():
            return check_latents(self.encoder(x), len(x))


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
        ``lambda f: NoiseTunnel(IntegratedGradients(f))``. `Saliency` is called with ``abs=False`` unless told
        otherwise: the map is signed. The paper uses gradients and integrated gradients.
    rule : str, default "product"
        How c is made, a name in `RULES`; "product" is the paper's.
    center : Tensor (D,), optional
        What the rules "centered" and "contrast" compare the reference with.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of the above.

    Notes
    -----
    Inside `NoiseTunnel` (``engine=lambda f: NoiseTunnel(...)``) c is that of the clean pair. Around it
    (``NoiseTunnel(ParallelBackprop(...))``), and in `sensitivity_max`, c is computed anew for each noisy pair; to hold
    it, pass ``additional_forward_args=(c,)`` with `c` from `shared_weights`.

    Captum's `LRP` starts from the gradient at the network's last module, which is c, where c z(x) would be the
    relevance that is conserved: its maps are no decomposition of c . z(x).

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
        rule: str = "product",
        center: Tensor | None = None,
    ) -> None:
        super().__init__(encoder, rule, center)
        self.engine = make_engine(engine, self.forward_module)

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether the engine multiplies by the inputs."""
        return bool(self.engine.multiplies_by_inputs)

    def has_convergence_delta(self) -> bool:
        """Whether the engine gives a convergence delta."""
        return bool(self.engine.has_convergence_delta())

    @overload
    def attribute(
        self,
        inputs: Pair,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        return_convergence_delta: Literal[True],
        readout: Any = None,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
        **engine_arguments: Any,
    ) -> tuple[Pair, Tensor]: ...

    @overload
    def attribute(
        self,
        inputs: Pair,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        return_convergence_delta: Literal[False] = False,
        readout: Any = None,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
        **engine_arguments: Any,
    ) -> Pair: ...

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Pair,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        return_convergence_delta: bool = False,
        readout: Any = None,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
        **engine_arguments: Any,
    ) -> Pair | tuple[Pair, Tensor]:
        """The two maps of what each pair shares for the neuron.

        Parameters
        ----------
        inputs : tuple of two Tensors
            Out-of-category images and their references, (N, C, H, W) each. Their sizes may differ.
        baselines : number, Tensor or tuple of two, optional
            As in Captum, for the engines that take baselines; a tuple holds one for each image of the pair. Captum's
            default is zero, for normalised images the mean colour. The paper leaves it open.
        target : int or one int per pair, optional
            The neuron, if `readout` is a `LinearReadout`.
        additional_forward_args : tuple of one Tensor (N, D), optional
            Shared weights c to be used as they are, instead of `readout`.
        return_convergence_delta : bool, default False
            Also return the sum of both images' deltas, (N,), for engines that have one.
        readout : Tensor (D,) or (N, D), or LinearReadout
            The neuron's readout w, or one per pair.
        center : Tensor (D,) or (N, D), optional
            Instead of the center given to the class.
        reference_latents : Tensor (D,) or (N, D), optional
            Instead of z(x_ref) in c, such as the mean latents of several references: one backward pass serves all.
        **engine_arguments
            Passed to the engine: `n_steps`, `sliding_window_shapes`, `nt_samples` ... As in Captum, `feature_mask`,
            `stdevs`, `strides` and `sliding_window_shapes` may be a tuple of two, one for each image. Integrated
            gradients run in chunks of about 16 images of 224 x 224 unless `internal_batch_size` is given.

        Returns
        -------
        maps : tuple of two Tensors
            Signed, in the shapes and the dtype of the inputs.
        delta : Tensor
            If `return_convergence_delta`.

        Raises
        ------
        TypeError, ValueError
            If an input is malformed, saying what was received and what was expected.
        """
        arguments = self._engine_arguments(baselines, return_convergence_delta, engine_arguments)
        with torch.inference_mode(mode=False):
            pair = check_pair(inputs, self.encoder)
            shared = self._shared(pair, readout, target, additional_forward_args, center, reference_latents)
            sides = split_arguments(arguments)
            results = [
                run_engine(self.engine, self.forward_module, x, shared, own) for x, own in zip(pair, sides, strict=True)
            ]
        if return_convergence_delta:
            (map_x, delta), (map_ref, delta_ref) = results
            return (map_x, map_ref), delta + delta_ref
        return results[0], results[1]

    def attribute_neurons(
        self,
        inputs: Pair,
        readouts: Tensor | nn.Module,
        baselines: Any = None,
        *,
        center: Tensor | None = None,
        reference_latents: Tensor | None = None,
        **engine_arguments: Any,
    ) -> Pair:
        """The maps of K neurons on each pair, equal to K calls of `attribute`.

        Forward passes are shared between the neurons for gradients and integrated gradients.

        Parameters
        ----------
        inputs, baselines, reference_latents, **engine_arguments
            As in `attribute`.
        readouts : Tensor (K, D) or LinearReadout
        center : Tensor (D,) or (K, D), optional

        Returns
        -------
        tuple of two Tensors (N, K, C, H, W)
        """
        if engine_arguments.pop("return_convergence_delta", False):
            raise ValueError("attribute_neurons gives no convergence delta; expected return_convergence_delta=False")
        arguments = self._engine_arguments(baselines, False, engine_arguments)
        with torch.inference_mode(mode=False):
            pair = check_pair(inputs, self.encoder)
            shared = self._shared_by_neuron(pair, readouts, center, reference_latents)
            sides = split_arguments(arguments)
            maps = [
                neuron_maps(self.engine, self.forward_module, x, shared, own)
                for x, own in zip(pair, sides, strict=True)
            ]
        return maps[0], maps[1]

    def _shared_by_neuron(self, pair: Pair, readouts: Any, center: Any, reference_latents: Any) -> Tensor:
        """Shared weights (N, K, D)."""
        z, z_ref = (self._latents(x) for x in pair)
        weights = resolve_weights(readouts, z)
        z_ref = z_ref if reference_latents is None else reference_latents.detach().to(z)
        each = isinstance(center, Tensor) and center.ndim == 2
        if each and len(center) != len(weights):
            raise ValueError(
                f"`center` must be (D,) or (K, D) with K = {len(weights)}, got shape {tuple(center.shape)}"
            )
        centers = center if each else [center] * len(weights)
        return torch.stack([self._combined(z, z_ref, w, m) for w, m in zip(weights, centers, strict=True)], dim=1)

    def _engine_arguments(self, baselines: Any, delta: bool, engine_arguments: dict[str, Any]) -> dict[str, Any]:
        arguments = dict(engine_arguments)
        if baselines is not None:
            arguments["baselines"] = baselines
        if delta:
            if not self.has_convergence_delta():
                raise ValueError(f"engine {type(self.engine).__name__} has no convergence delta; expected False")
            arguments["return_convergence_delta"] = True
        check_arguments(self.engine, arguments)
        return arguments


def _warn_if_training(encoder: nn.Module) -> None:
    if any(module.training for module in encoder.modules() if _depends_on_mode(module)):
        warnings.warn(
            "the encoder is in training mode: dropout and batch normalisation make the maps depend on the batch and on "
            "chance; call encoder.eval()",
            stacklevel=5,
        )


def _depends_on_mode(module: nn.Module) -> bool:
    return isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd))
