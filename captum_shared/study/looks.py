"""A driver beside each of its best references: layer maps, their control, and correspondences.

None of this needs a backward pass through the network, and each image takes one forward pass for all neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor, nn

from captum_shared.attribution import LayerCorrespondence
from captum_shared.attribution.layer import LayerOutput, layer_maps, see_layers
from captum_shared.attribution.shares import Shares
from captum_shared.checks import check_tensor
from captum_shared.encoder import LatentEncoder
from captum_shared.encoder.layers import SharedPass
from captum_shared.selection import MOMENTS, NEEDS_DRIVERS, Drivers, Pairs, find_pairs, make_rule, rule_center
from captum_shared.selection.centers import reference_weights
from captum_shared.similarity import FEW_IMAGES, MomentRule, Rule, origin_of, shared_weights
from captum_shared.study.network import device_of

N_REFERENCES = 5
"""How many references of a driver can be looked at, the most similar first."""
MOST_PLACES = 8
"""The longest side of each image's grid in a correspondence."""
OTHER_RULES = ("product", "dot", "matched")
"""By which reports have layer maps, besides their own rule and that of moments."""
_MOST_CHANNELS = 1024  # in a cell, for which the rule of moments takes about a second to make
_MOST_WORK = 2**24  # images x latents x cells, for which its shared weights take some milliseconds
_MOST_BYTES = 2**30  # bytes of what is kept of images

Maps = tuple[np.ndarray, np.ndarray]
"""Signed maps (h, w) at the layer: of a driver, and of its reference."""


@dataclass(frozen=True)
class Look:
    """A driver and one reference, by their indices; without maps if the layer has no positions."""

    image: int
    reference: int
    similarity: float
    layer: Maps | None  # by the rule
    # With an average partner: for the driver the mean of the other candidates, for the reference that of other drivers.
    control: Maps | None
    # What each place of the one and each of the other contribute together to the similarity, (h, w, h', w'), at most 8
    # on a side; None if the similarity is no sum over positions.
    part: np.ndarray | None
    others: Mapping[str, Maps] = field(default_factory=dict)  # by other rules; none with `part`


@dataclass(frozen=True)
class LookRequest:
    """A driver and a reference to look at, by their indices."""

    image: int
    reference: int
    similarity: float
    weight: Tensor  # (D,), the neuron's readout
    constants: Tensor  # (4, D), shared weights of the driver and the reference, and those of their controls
    center: Tensor | None = None  # (D,), of the rule "matched"


@dataclass(frozen=True)
class References:
    """The best references of neurons that share their latents."""

    latents: Tensor  # (n, D), of all images
    rule: str | Rule  # as `make_rule` gives it
    similarity: str

    def best(self, drivers: Drivers, weight: Tensor) -> Pairs:
        """Each driver with its best references."""
        return find_pairs(self.latents, drivers, weight, similarity=self.similarity, n_references=N_REFERENCES)

    def requests(self, drivers: Drivers, weight: Tensor) -> list[list[LookRequest]]:
        """For each driver a request for each of its best references, the most similar first."""
        best = self.best(drivers, weight)
        m, k = best.references.shape
        images, references = best.images.repeat(k), best.references.reshape(-1)
        constants = self.constants(drivers, images, references, weight)
        center = rule_center("matched", self.latents, drivers) if m else None
        requests = [
            LookRequest(int(i), int(j), float(s), weight, c, center)
            for i, j, s, c in zip(images, references, best.similarity.reshape(-1), constants, strict=True)
        ]
        return [requests[row * k : (row + 1) * k] for row in range(m)]

    def constants(self, drivers: Drivers, images: np.ndarray, references: np.ndarray, weight: Tensor) -> Tensor:
        """Shared weights of m pairs, (m, 4, D): of the driver and the reference, and those of their controls."""
        center = rule_center(self.rule, self.latents, drivers)
        z, z_ref = self.latents[images], self.latents[references]
        others_ref = self._means_without(drivers.candidates, references, images)
        others = self._means_without(drivers.outside, images, references)
        common = weight.to(z), self.rule, center
        sides = [
            shared_weights(z, z_ref, *common),
            reference_weights(z, z_ref, *common),
            shared_weights(z, others_ref, *common),
            reference_weights(others, z_ref, *common),
        ]
        return torch.stack(sides, dim=1)

    def _means_without(self, places: np.ndarray, left_out: np.ndarray, partners: np.ndarray) -> Tensor:
        """For each image at `places`, the mean latents of the others but its partner; its own if there are no others.

        A partner is at `places`, too, if drivers are paired with one another.
        """
        inside = torch.from_numpy(np.isin(partners, places)).to(self.latents)[:, None]
        total = self.latents[places].sum(0) - self.latents[left_out] - inside * self.latents[partners]
        count = len(places) - 1 - inside
        return torch.where(count > 0, total / count.clamp(min=1), self.latents[left_out])


@dataclass(frozen=True)
class Seen:
    """What is kept of an image: its layer's output and, where latents are sums over positions, its shares."""

    output: LayerOutput
    shares: Shares | None
    parts: Tensor | None  # (h, w, D), the shares of at most 8 x 8 places
    has_origin: bool = False  # whether the shares are those of the latents minus the rule's origin

    @property
    def n_bytes(self) -> int:
        """Its size in memory."""
        kept = [value for value in (self.output.output, self.parts) if isinstance(value, Tensor)]
        return sum(value.numel() * value.element_size() for value in kept)


def other_rules(rule: str | Rule, latents: Tensor, cells: int = 1) -> dict[str, str | Rule]:
    """The rules of layer maps that a report has besides its own, by name; `latents` (n, D) are those of all images.

    That of moments is among them if the images suffice for it and it is quick: not for a grid of many cells, unless it
    is the report's own.
    """
    rules: dict[str, str | Rule] = {name: name for name in OTHER_RULES if name != rule}
    n, d = latents.shape
    quick = d // cells <= _MOST_CHANNELS and n * d * cells <= _MOST_WORK
    if not isinstance(rule, MomentRule) and n >= FEW_IMAGES and quick:
        rules[MOMENTS] = make_rule(MOMENTS, latents, cells)
    return rules


class Memory:
    """Encoders of one network, each with a rule, that remember images: one forward pass serves them all.

    In another process it begins with no images. `load` gives an image (C, H, W) by its index; each encoder has a rule
    as of `make_rule`, and `others` as of `other_rules`.
    """

    def __init__(
        self,
        encoders: Sequence[LatentEncoder],
        rules: Sequence[str | Rule],
        load: Callable[[int], Tensor],
        others: Sequence[Mapping[str, str | Rule]] | None = None,
    ) -> None:
        self.together, self.rules, self.load = SharedPass(encoders), list(rules), load
        self.others = [{} for _ in rules] if others is None else list(others)
        self._token = uuid4().hex  # so that a worker that is used again does not confuse it with that of another run
        self._wanted: dict[int, set[int]] = {}
        self._seen: dict[int, dict[int, Seen]] = {}
        self._n_bytes = 0

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_seen": {}, "_n_bytes": 0}

    def expect(self, place: int, number: int) -> None:
        """Note that encoder `number` is going to see an image, so that any pass of the image is made for it, too."""
        self._wanted.setdefault(place, set()).add(number)

    def see(self, place: int, number: int = 0) -> Seen:
        """What a look by encoder `number` needs of an image."""
        self.expect(place, number)
        seen = self._seen.get(place, {})
        if number not in seen:
            seen = self._look(place)
            n_bytes = sum(each.n_bytes for each in seen.values())
            if self._n_bytes + n_bytes > _MOST_BYTES:
                self._seen, self._n_bytes = {}, 0
            self._seen[place] = seen
            self._n_bytes += n_bytes
        return seen[number]

    def _look(self, place: int) -> dict[int, Seen]:
        encoders = self.together.encoders
        outputs = see_layers(self.together, self.load(place)[None].to(device_of(encoders[0])))
        return {k: known_of(encoders[k], self.rules[k], outputs[k]) for k in sorted(self._wanted[place])}

    def look(self, request: LookRequest, number: int = 0) -> Look:
        """Look at a driver and a reference by encoder `number`."""
        both = self.see(request.image, number), self.see(request.reference, number)
        return look_at(self.together.encoders[number], self.rules[number], both, request, self.others[number])


def known_of(encoder: nn.Module, rule: str | Rule, output: LayerOutput) -> Seen:
    """What a look needs of an image, from the layer's output for it."""
    try:
        shares = _method(encoder, rule).shares(output)
    except (TypeError, ValueError):  # a pool such as the maximum, a transform that is not affine, no positions
        return Seen(output, None, None)
    return Seen(output, shares, shares.parts(0, MOST_PLACES), isinstance(rule, MomentRule))


def look_at(
    encoder: nn.Module,
    rule: str | Rule,
    both: tuple[Seen, Seen],
    request: LookRequest,
    others: Mapping[str, str | Rule] | None = None,
) -> Look:
    """Look at a driver and a reference."""
    places, similarity = (request.image, request.reference), request.similarity
    try:
        x, x_ref = (_maps(encoder, rule, seen, request.constants[side::2]) for side, seen in enumerate(both))
    except (TypeError, ValueError):  # a layer without positions
        return Look(*places, similarity, None, None, None)
    layer, control = ((x[k].cpu().numpy(), x_ref[k].cpu().numpy()) for k in (0, 1))
    if both[0].parts is None or both[1].parts is None:
        return Look(*places, similarity, layer, control, None)
    part: np.ndarray = _method(encoder, rule).of_parts(both[0].parts, both[1].parts, request.weight).cpu().numpy()
    origin = origin_of(rule, None)
    latents = [parts.sum((0, 1))[None] for parts in (both[0].parts, both[1].parts)]
    if origin is not None:
        latents = [z + origin.to(z) for z in latents]
    maps = _maps_by_others(encoder, others or {}, both, latents, request)
    return Look(*places, similarity, layer, control, part, maps)


def _maps_by_others(
    encoder: nn.Module,
    others: Mapping[str, str | Rule],
    both: tuple[Seen, Seen],
    latents: Sequence[Tensor],
    request: LookRequest,
) -> dict[str, Maps]:
    """Layer maps of both images by other rules, from their latents (1, D): those with the same origin at once."""
    constants = {}
    for name, rule in others.items():
        center = request.center.to(latents[0]) if rule in NEEDS_DRIVERS and request.center is not None else None
        weight, weigh = request.weight.to(latents[0]), (shared_weights, reference_weights)
        constants[name] = [function(latents[0], latents[1], weight, rule, center) for function in weigh]
    maps: dict[str, Maps] = {}
    for has_origin in (False, True):
        names = [name for name, rule in others.items() if (origin_of(rule, None) is not None) == has_origin]
        if names:
            sides = (torch.cat([constants[name][side] for name in names]) for side in (0, 1))
            first = others[names[0]]
            x, x_ref = (_maps(encoder, first, seen, c).cpu().numpy() for seen, c in zip(both, sides, strict=True))
            maps |= {name: (x[k], x_ref[k]) for k, name in enumerate(names)}
    return {name: maps[name] for name in others}


def _maps(encoder: nn.Module, rule: str | Rule, seen: Seen, constants: Tensor) -> Tensor:
    """Maps (k, h, w) for constants (k, D)."""
    origin = origin_of(rule, None)
    if seen.shares is None or origin is not None or seen.has_origin:
        return layer_maps(encoder, seen.output, constants.to(check_tensor("output", seen.output.output)), origin)
    return seen.shares.heat(constants.to(seen.shares.rest)[None])[0].detach()


def _method(encoder: nn.Module, rule: str | Rule) -> LayerCorrespondence:
    return LayerCorrespondence(encoder, rule if isinstance(rule, MomentRule) else "dot")
