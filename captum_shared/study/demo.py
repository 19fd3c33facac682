"""The demo's study: objects that excite a category neuron, and what they truly share with its category.

The neuron is fitted on images in which every category can have every body, so that the body alone does not tell it the
category. A creature neuron is then shown other images: objects that a person names at once, with a part or two of an
animal, and creatures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypedDict

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Saliency
from torch import Tensor, nn

from captum_shared.attribution import ParallelBackprop
from captum_shared.encoder import LatentEncoder, encode_images
from captum_shared.metrics import relevance_mass_accuracy
from captum_shared.readout import LinearReadout, fit_readout
from captum_shared.selection import Drivers, find_drivers, find_pairs
from captum_shared.similarity import neuron_similarity
from captum_shared.study.category import area_under_curve, standardized
from captum_shared.study.looks import Look, Memory, References, other_rules
from captum_shared.study.network import device_of
from captum_shared.synthetic import (
    DEMO_LAYER,
    DemoImages,
    Scene,
    SharedParts,
    demo_images,
    demo_network,
    removal_effects,
    render,
    shared_masks,
)
from captum_shared.visualization import display_heat

BASELINE = 0.8  # the mean brightness of the images; black would put heat on every bright background
N_STEPS = 32
RULE, SIMILARITY = "product", "dot"
N_GALLERY, N_OTHERS, N_SWAPPED = 40, 180, 40  # images of the category, others, and those tried for a swap
DRIVES = 0.05  # a part drives the neuron if the response falls by this share of the step from others to the category

Maps = Sequence[Tensor]


@dataclass(frozen=True)
class DemoStudy:
    """The neuron and its images."""

    data: DemoImages  # the images that are shown, the category's first
    encoder: LatentEncoder
    readout: LinearReadout
    latents: Tensor  # (n, D)
    responses: np.ndarray  # (n,), to images that the readout was not fitted on
    cv_auc: float  # area under the ROC curve for the category, out of fold, over the images of the fit

    @property
    def member(self) -> np.ndarray:
        """(n,) bool array: in the category."""
        return np.arange(len(self.data.images)) < len(self.data.gallery)

    @property
    def weight(self) -> Tensor:
        """The readout (D,), in the latents' dtype and on their device."""
        return self.readout.weight[0].detach().to(self.latents)

    def drivers(self, top: int | None = None) -> Drivers:
        """The `top` strongest images outside the category, or all; any image of the category can be a reference."""
        return find_drivers(self.responses, self.member, top=top, references="category")

    def respond(self, images: Tensor) -> Tensor:
        """Responses (n,) to images."""
        responses: Tensor = self.readout(self.encoder(images.to(device_of(self.encoder))))
        return responses[:, 0]

    def scene(self, place: int) -> Scene:
        """The scene of an image."""
        return [*self.data.gallery.scenes, *self.data.others.scenes][place]


@dataclass(frozen=True)
class Case:
    """An object that excites the neuron, its reference, and what they truly share."""

    places: tuple[int, int]  # of both among the study's images
    name: str
    images: tuple[Tensor, Tensor]
    scenes: tuple[Scene, Scene]
    shared: SharedParts
    similarity: float
    response: float

    @property
    def area(self) -> float:
        """Share of the image that the truly shared parts cover, averaged over both images."""
        return float(np.mean([self.shared.mask_x.mean(), self.shared.mask_ref.mean()]))


def open_demo(
    preferred: str, standardize: bool, seed: int, device: torch.device, *, batch_size: int = 32, progress: bool = True
) -> DemoStudy:
    """Draw the images, encode them and fit the readout."""
    fitted = demo_images(preferred, n_gallery=N_GALLERY, n_others=N_OTHERS, seed=seed)
    encoder = LatentEncoder(demo_network().to(device).requires_grad_(False), DEMO_LAYER, pool="avg")
    latents = encode_images(encoder, fitted.images, batch_size=batch_size, progress=progress)
    latents = standardized(encoder, latents) if standardize else latents
    member = np.array([category == preferred for category in fitted.categories])
    fit = fit_readout(latents, member.astype(float), seed=seed)
    responses = fit.predictions[:, 0]
    readout, auc = fit.readout.to(device), area_under_curve(member, responses)
    if preferred != "creature":  # typical creatures have no parts of objects
        return DemoStudy(fitted, encoder, readout, latents, responses, auc)

    data = demo_images(preferred, n_gallery=N_GALLERY, n_others=N_OTHERS, seed=seed, typical=True)
    latents = encode_images(encoder, data.images, batch_size=batch_size, progress=progress)
    with torch.no_grad():
        responses = readout(latents.to(readout.weight))[:, 0].cpu().numpy()
    return DemoStudy(data, encoder, readout, latents, responses, auc)


def find_cases(study: DemoStudy, top: int) -> tuple[list[Case], int]:
    """The `top` strongest out-of-category images with a shared part, and how many were passed over.

    Kinds of objects take turns: the strongest table, bus, hammer ... come first, then the second strongest of each.
    """
    pairs = find_pairs(study.latents, study.drivers(), study.weight, similarity=SIMILARITY)
    names = [name_of(study.scene(place)) for place in pairs.images.tolist()]
    cases: list[Case] = []
    for tried, rank in enumerate(in_turn(names)):
        if len(cases) == top:
            return cases, tried - top
        place, reference = int(pairs.images[rank]), int(pairs.references[rank, 0])
        case = _case(study, place, reference, float(pairs.similarity[rank, 0]))
        if case.shared.kinds:
            cases.append(case)
    return cases, len(names) - len(cases)


def in_turn(names: Sequence[str]) -> list[int]:
    """Places of the names, each name's first before any name's second, otherwise in their order.

    >>> in_turn(["bus", "bus", "saw", "bus", "saw"])
    [0, 2, 1, 4, 3]
    """
    return sorted(range(len(names)), key=lambda place: (names[:place].count(names[place]), place))


def look_at_references(study: DemoStudy, cases: Sequence[Case]) -> list[list[Look]]:
    """Each case's image beside its most similar references, the case's own first, with layer maps and controls."""
    requests = References(study.latents, RULE, SIMILARITY).requests(study.drivers(), study.weight)
    by_image = {each[0].image: each for each in requests}
    images, others = study.data.images, other_rules(RULE, study.latents)
    memory = Memory([study.encoder], [RULE], lambda place: images[place], [others])
    return [[memory.look(request) for request in by_image[case.places[0]]] for case in cases]


def shares_all(study: DemoStudy, case: Case, look: Look) -> bool:
    """Whether every part of the image that drives the neuron drives it in this reference too."""
    own = {kind for kind, effect in case.shared.effects_x.items() if effect >= DRIVES}
    effects = removal_effects(study.scene(look.reference), study.respond)
    return all(effects.get(kind, 0.0) >= DRIVES for kind in own)


@dataclass(frozen=True)
class Swap:
    """One image with two references, each of which shares another part with it."""

    cases: tuple[Case, Case]
    maps: tuple[Maps, Maps]  # of both images of each case
    shares: tuple[tuple[float, float], tuple[float, float]]  # for each case, of the image's heat on either part
    tried: int  # how many such swaps were compared; this is the clearest


def find_swap(study: DemoStudy) -> Swap | None:
    """The clearest swap among the strongest out-of-category images.

    Each reference shares exactly one part with the image, and is the most similar of those that share this part. A
    swap is clear if the image's heat moves with the reference, and the references' heat lies on what they share. None
    if no image has two such references.
    """
    method, swaps = map_methods(study)["ParallelBackprop"], []
    for cases in _with_two_references(study):
        maps = tuple(method(case.images) for case in cases)
        masks = [case.shared.mask_x for case in cases]
        shares = tuple(tuple(_on(m[0], mask) for mask in masks) for m in maps)
        on_references = (_on(m[1], case.shared.mask_ref) for m, case in zip(maps, cases, strict=True))
        clear = min(shares[0][0] - shares[0][1], shares[1][1] - shares[1][0], *on_references)
        swaps.append((clear, cases, maps, shares))
    if not swaps:
        return None
    _, cases, maps, shares = max(swaps, key=lambda swap: swap[0])
    return Swap(cases, maps, shares, len(swaps))  # type: ignore[arg-type]


def _with_two_references(study: DemoStudy) -> Iterator[tuple[Case, Case]]:
    data, n = study.data, len(study.data.gallery)
    effects = [removal_effects(scene, study.respond) for scene in data.gallery.scenes]
    for i in study.drivers(N_SWAPPED).outside.tolist():
        own = removal_effects(study.scene(i), study.respond)
        similarity = neuron_similarity(study.latents[[i]], study.latents[:n], study.weight, kind=SIMILARITY)[0]
        best: dict[str, int] = {}
        for j in similarity.argsort(descending=True).tolist():
            both = sorted(own.keys() & effects[j].keys())
            kinds = [kind for kind in both if min(own[kind], effects[j][kind]) >= DRIVES]
            if len(kinds) == 1:
                best.setdefault(kinds[0], j)
        for one, two in combinations(best.values(), 2):
            yield _case(study, i, one, float(similarity[one])), _case(study, i, two, float(similarity[two]))


def _on(heat: Tensor, mask: np.ndarray) -> float:
    return float(relevance_mass_accuracy(display_heat(heat.cpu()), mask))


def _case(study: DemoStudy, i: int, j: int, similarity: float) -> Case:
    scenes, device = (study.scene(i), study.scene(j)), device_of(study.encoder)
    shared = shared_masks(*scenes, study.respond, min_drop=DRIVES)
    images = (study.data.images[[i]].to(device), study.data.images[[j]].to(device))
    return Case((i, j), name_of(scenes[0]), images, scenes, shared, similarity, float(study.responses[i]))


def name_of(scene: Scene) -> str:
    """What a scene shows: "table" rather than "furniture", where it can be seen."""
    return next((part.style for part in scene.parts if part.style), scene.category)


def heat_by_kind(maps: Maps, case: Case) -> dict[str, float]:
    """Share of the heat on the parts of each kind, averaged over both images; the largest first."""
    shares: dict[str, float] = {}
    for m, scene in zip(maps, case.scenes, strict=True):
        heat = display_heat(m.cpu())
        for kind, mask in render(scene)[1].items():
            shares[kind] = shares.get(kind, 0.0) + float(relevance_mass_accuracy(heat, mask)) / 2
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def map_methods(study: DemoStudy) -> dict[str, Callable[[tuple[Tensor, Tensor]], Maps]]:
    """ParallelBackprop, and Captum's methods on the readout alone: each takes a pair and returns two maps."""
    encoder, readout = study.encoder, study.readout
    neuron = nn.Sequential(encoder, readout)
    parallel, integrated, saliency = ParallelBackprop(encoder), IntegratedGradients(neuron), Saliency(neuron)
    grad_cam = LayerGradCam(neuron, encoder.model.get_submodule(DEMO_LAYER))

    def coarse(x: Tensor) -> Tensor:
        heat = grad_cam.attribute(x, target=0, relu_attributions=True)
        larger: Tensor = LayerAttribution.interpolate(heat, tuple(x.shape[-2:]), "bilinear")
        return larger

    def both(method: Callable[[Tensor], Tensor]) -> Callable[[tuple[Tensor, Tensor]], list[Tensor]]:
        return lambda pair: [method(x)[0].detach() for x in pair]

    return {
        "ParallelBackprop": lambda pair: [
            m[0] for m in parallel.attribute(pair, readout=readout, target=0, baselines=BASELINE, n_steps=N_STEPS)
        ],
        "Saliency": both(lambda x: saliency.attribute(x.clone().requires_grad_(), target=0)),
        "IntegratedGradients": both(lambda x: integrated.attribute(x, target=0, baselines=BASELINE, n_steps=N_STEPS)),
        "GradCAM": both(coarse),
    }


def share_of_heat(maps: Maps, shared: SharedParts) -> float:
    """Share of the heat on the truly shared parts, averaged over both images."""
    masks = (shared.mask_x, shared.mask_ref)
    each = [relevance_mass_accuracy(display_heat(m.cpu()), mask) for m, mask in zip(maps, masks, strict=True)]
    return float(torch.stack(each).mean())


class DemoFigures(TypedDict):
    """What the demo finds, and how."""

    cv_auc: float
    pairs: int
    mean_share: dict[str, float]
    mean_area: float
    layer: str
    rule: str
    similarity: str
    engine: str
    n_steps: int
    baseline: float
    least_drop: float


def summarize(study: DemoStudy, cases: Sequence[Case], shares: Sequence[dict[str, float]]) -> DemoFigures:
    """The numbers of ``summary.json``."""
    return {
        "cv_auc": study.cv_auc, "pairs": len(cases),
        "mean_share": {name: float(np.mean([row[name] for row in shares])) for name in (shares[0] if shares else ())},
        "mean_area": float(np.mean([case.area for case in cases])),
        "layer": DEMO_LAYER, "rule": RULE, "similarity": SIMILARITY, "engine": "IntegratedGradients",
        "n_steps": N_STEPS, "baseline": BASELINE, "least_drop": DRIVES,
    }  # fmt: skip
