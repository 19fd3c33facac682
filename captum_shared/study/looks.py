"""A driver beside each of its best references: layer maps, their control, and what goes with what.

None of it needs a backward pass through the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from captum_shared.attribution import LayerCorrespondence
from captum_shared.attribution.layer import LayerOutput, layer_maps, see_layer
from captum_shared.encoder.identity import ImageTransform
from captum_shared.selection import Drivers, Pairs, find_pairs, is_crossed, rule_center
from captum_shared.similarity import MomentRule, Rule, origin_of, shared_weights, transposed
from captum_shared.study.network import device_of, transform_image

_MOST_BYTES = 2**30  # of layers' outputs that are remembered
N_REFERENCES = 5
"""How many references of a driver can be looked at, the most similar first."""


@dataclass(frozen=True)
class Look:
    """A driver and one reference.

    Attributes
    ----------
    image, reference : int
        Their places among the images.
    similarity : float
    layer : pair of (h, w) arrays, or None
        Signed maps at the layer by the rule; None if the layer has no positions.
    control : pair of (h, w) arrays, or None
        The same with an average partner: the driver with the mean of the other candidates, the reference with the
        mean of the other drivers.
    part : (h, w, h', w') array, or None
        What each position of both contributes to their similarity; None if it is no sum over positions.
    """

    image: int
    reference: int
    similarity: float
    layer: tuple[np.ndarray, np.ndarray] | None
    control: tuple[np.ndarray, np.ndarray] | None
    part: np.ndarray | None


@dataclass(frozen=True)
class LookRequest:
    """A driver and a reference to look at.

    Attributes
    ----------
    image, reference : int
    similarity : float
    weight : Tensor (D,)
        The neuron's readout.
    constants : Tensor (4, D)
        Shared weights of the driver and the reference, and those of their controls.
    """

    image: int
    reference: int
    similarity: float
    weight: Tensor
    constants: Tensor


class References:
    """The best references of neurons that share their latents.

    Parameters
    ----------
    latents : Tensor (n, D)
        Of all images, as the encoder gives them.
    rule : str or callable
        As `make_rule` gives it.
    similarity : str
        A name in `SIMILARITIES`.
    """

    def __init__(self, latents: Tensor, rule: str | Rule, similarity: str) -> None:
        self.latents = latents
        self.rule = rule
        self.similarity = similarity

    def best(self, drivers: Drivers, weight: Tensor) -> Pairs:
        """Each driver with its best references."""
        return find_pairs(self.latents, drivers, weight, similarity=self.similarity, n_references=N_REFERENCES)

    def requests(self, drivers: Drivers, weight: Tensor) -> list[list[LookRequest]]:
        """For each driver a request for each of its best references, the most similar first."""
        best = self.best(drivers, weight)
        columns = zip(best.images.tolist(), best.references.tolist(), best.similarity.tolist(), strict=True)
        return [
            [LookRequest(i, j, s, weight, self.constants(drivers, (i, j), weight)) for j, s in zip(js, ss, strict=True)]
            for i, js, ss in columns
        ]

    def constants(self, drivers: Drivers, pair: tuple[int, int], weight: Tensor) -> Tensor:
        """Shared weights (4, D): of the driver and the reference, and those of their controls."""
        i, j = pair
        center = rule_center(self.rule, self.latents, drivers)
        z, z_ref = self.latents[i], self.latents[j]
        others_ref = self._mean_without(drivers.candidates, j)
        others = self._mean_without(drivers.outside, i)
        back = transposed(self.rule)  # for the reference, from the driver
        sides = [(z, z_ref, self.rule), (z_ref, z, back), (z, others_ref, self.rule), (z_ref, others, back)]
        if not is_crossed(self.rule):  # one constant for both, made from driver and reference in this order
            sides = [(a, b, self.rule) for a, b in ((z, z_ref), (z, z_ref), (z, others_ref), (others, z_ref))]
        return torch.cat([shared_weights(a[None], b[None], weight.to(a), rule, center) for a, b, rule in sides])

    def _mean_without(self, places: Sequence[int] | np.ndarray, left_out: int) -> Tensor:
        others = [int(place) for place in places if place != left_out] or [left_out]
        return self.latents[others].mean(0)


_seen: WeakKeyDictionary[nn.Module, dict[Path, LayerOutput]] = WeakKeyDictionary()


def remembered_output(encoder: nn.Module, transform: ImageTransform, path: Path) -> LayerOutput:
    """The layer's output for an image: of many neurons' jobs in one process, each image takes one forward pass.

    Raises
    ------
    TypeError
        If the encoder's layer has no map.
    """
    known = _seen.setdefault(encoder, {})
    if path not in known:
        seen = see_layer(encoder, transform_image(transform, path)[None].to(device_of(encoder)))
        each = seen.output.numel() * seen.output.element_size() if isinstance(seen.output, Tensor) else _MOST_BYTES
        if (len(known) + 1) * each > _MOST_BYTES:
            known.clear()
        known[path] = seen
    return known[path]


def look_at(
    encoder: nn.Module, rule: str | Rule, outputs: tuple[LayerOutput, LayerOutput], request: LookRequest
) -> Look:
    """A driver and a reference, by the layer's output for each."""
    places, similarity = (request.image, request.reference), request.similarity
    origin = origin_of(rule, None)
    try:
        x, x_ref = (
            layer_maps(encoder, seen, request.constants[side::2].to(seen.output), origin)
            for side, seen in enumerate(outputs)
        )
    except (TypeError, ValueError):  # a layer without positions
        return Look(*places, similarity, None, None, None)
    layer, control = ((x[k].cpu().numpy(), x_ref[k].cpu().numpy()) for k in (0, 1))
    return Look(*places, similarity, layer, control, _part(encoder, rule, outputs, request.weight))


def _part(
    encoder: nn.Module, rule: str | Rule, outputs: tuple[LayerOutput, LayerOutput], weight: Tensor
) -> np.ndarray | None:
    try:
        method = LayerCorrespondence(encoder, rule if isinstance(rule, MomentRule) else "dot")
        part: np.ndarray = method.of_outputs(outputs, weight).cpu().numpy()
        return part
    except (TypeError, ValueError):  # a pool such as the maximum, or a transform that is not affine
        return None
