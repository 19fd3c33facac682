"""A category neuron on labelled photographs: the images outside the category that excite it, and what they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TypedDict, cast

import captum.attr
import numpy as np
from torch import Tensor

from captum_shared.attribution import LayerParallelBackprop, ParallelBackprop
from captum_shared.attribution.inputs import Pair
from captum_shared.encoder import LatentEncoder, encode_images
from captum_shared.identity import ImageTransform
from captum_shared.labels import members, read_labels, split_labels
from captum_shared.readout import fit_readout, latent_transform
from captum_shared.selection import Drivers, Pairs, find_drivers, find_pairs, is_crossed, make_rule, rule_center
from captum_shared.study.contents import describe_images, describe_network
from captum_shared.study.network import device_of, transform_image
from captum_shared.study.settings import CategorySettings


@dataclass(frozen=True)
class CategoryStudy:
    """The question; nothing in it changes while it is answered."""

    paths: list[Path]  # of the n images that can be read
    categories: list[str]
    member: np.ndarray  # (n,) bool: in the preferred category
    latents: Tensor  # (n, D), standardized if the settings say so, as are the encoder's own
    encoder: LatentEncoder
    transform: ImageTransform
    preferred: str
    settings: CategorySettings
    unreadable: list[str] = field(default_factory=list)  # files that were left out
    about: dict[str, object] = field(default_factory=dict)  # what to note about the network

    def image(self, place: int) -> Tensor:
        """An image as the network sees it, (C, H, W)."""
        return transform_image(self.transform, self.paths[place])


@dataclass(frozen=True)
class CategoryFindings:
    """The neuron, and the pairs that explain it."""

    weight: Tensor  # (D,), its readout
    responses: np.ndarray  # (n,), from readouts that have not seen the image
    drivers: Drivers
    pairs: Pairs


def category_manifest(
    images: str | Path,
    labels: str | Path,
    preferred: str,
    network: tuple[LatentEncoder, ImageTransform],
    settings: CategorySettings,
    about: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Everything the findings depend on; arguments as in `explain_category`.

    Refused if files are missing, categories have too few images, or the network or the transform is random.
    """
    paths, categories = read_labels(images, labels)
    check_membership(categories, preferred, settings.folds)
    return {
        "command": "category",
        "configuration": {
            "preferred": preferred, "settings": settings.as_json(), "network": dict(about or {}),
            **describe_network(*network, paths),
        },
        "images": describe_images(paths, categories),
    }  # fmt: skip


def open_category(
    images: str | Path,
    labels: str | Path,
    preferred: str,
    network: tuple[LatentEncoder, ImageTransform],
    settings: CategorySettings,
    *,
    cache: Path | None = None,
    progress: bool = True,
    about: Mapping[str, object] | None = None,
) -> CategoryStudy:
    """Read and encode the photographs; arguments as in `explain_category`."""
    encoder, transform = network
    paths, categories = read_labels(images, labels)
    check_membership(categories, preferred, settings.folds)
    latents = encode_images(encoder, paths, transform, settings.batch_size, progress=progress, cache=cache)
    readable = ~latents.isnan().any(1).numpy()
    kept, latents = list(compress(categories, readable)), latents[readable]
    check_membership(kept, preferred, settings.folds)
    return CategoryStudy(
        list(compress(paths, readable)),
        kept,
        members(kept, preferred),
        standardized(encoder, latents) if settings.standardize else latents,
        encoder,
        transform,
        preferred,
        settings,
        [path.name for path in compress(paths, ~readable)],
        dict(about or {}),
    )


def explain_pairs(study: CategoryStudy) -> CategoryFindings:
    """Fit the readout, and pair the strongest images outside the category with references within it."""
    settings = study.settings
    fit = fit_readout(study.latents, study.member.astype(float), cv=settings.folds, seed=settings.seed)
    weight, responses = fit.readout.weight[0], fit.predictions[:, 0]
    drivers = find_drivers(responses, study.member, top=settings.top, references=settings.references)
    pairs = find_pairs(
        study.latents, drivers, weight, similarity=settings.similarity, n_references=settings.references_averaged
    )
    return CategoryFindings(weight, responses, drivers, pairs)


def pair_maps(study: CategoryStudy, findings: CategoryFindings) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Maps of each pair, (C, H, W) for "pixel" and (1, h, w) for "layer", of image and reference, on the CPU."""
    device, pairs, methods = device_of(study.encoder), findings.pairs, _methods(study, findings)
    for image, references in zip(pairs.images, pairs.references, strict=True):
        places = (int(image), int(references[0]))
        inputs = tuple(study.image(place)[None].to(device) for place in places)
        z_ref = study.latents[references].mean(0)
        maps = {}
        for kind, attribute in methods.items():
            sides = attribute(inputs, readout=findings.weight, reference_latents=z_ref)
            maps[kind] = (sides[0][0].cpu(), sides[1][0].cpu())
        yield maps


def _methods(study: CategoryStudy, findings: CategoryFindings) -> dict[str, Callable[..., Pair]]:
    """The function that makes each kind of map."""
    settings = study.settings
    rule = make_rule(settings.rule, study.latents, cells_of(study.encoder))
    choices = rule, rule_center(rule, study.latents, findings.drivers), "crossed" if is_crossed(rule) else "common"
    layer = LayerParallelBackprop(study.encoder, *choices)
    pixel = ParallelBackprop(study.encoder, getattr(captum.attr, settings.engine), *choices)
    methods = {"layer": layer.attribute, "pixel": partial(pixel.attribute, **settings.engine_arguments)}
    return {kind: cast(Callable[..., Pair], methods[kind]) for kind in settings.maps}


class CategorySummary(TypedDict):
    """The content of ``summary.json``, which has what was noted about the network, too."""

    command: str
    preferred: str
    cv_auc: float
    n_images: int
    n_preferred: int
    n_latents: int
    standardized: bool
    references: str
    n_candidates: int
    references_averaged: int
    similarity: str
    rule: str
    maps: list[str]
    engine: str
    n_steps: int
    folds: int
    seed: int
    unreadable: list[str]
    reference_counts: dict[str, int]


def summarize(study: CategoryStudy, findings: CategoryFindings) -> CategorySummary:
    """The content of ``summary.json``."""
    s, references = study.settings, [study.paths[i].name for i in findings.pairs.references[:, 0]]
    summary: dict[str, object] = {
        "command": "category", "preferred": study.preferred,
        "cv_auc": area_under_curve(study.member, findings.responses),
        "n_images": len(study.paths), "n_preferred": int(study.member.sum()), **study.about,
        "n_latents": study.latents.shape[1], "standardized": s.standardize, "references": s.references,
        "n_candidates": len(findings.drivers.candidates), "references_averaged": s.references_averaged,
        "similarity": s.similarity, "rule": s.rule, "maps": list(s.maps), "engine": s.engine, "n_steps": s.n_steps,
        "folds": s.folds, "seed": s.seed, "unreadable": study.unreadable,
        "reference_counts": dict(Counter(references).most_common()),
    }  # fmt: skip
    return cast(CategorySummary, summary)


def standardized(encoder: LatentEncoder, latents: Tensor) -> Tensor:
    """Standardize latents (n, D) over all n images, and make the encoder do so from now on."""
    from sklearn.preprocessing import StandardScaler

    scale = latent_transform(StandardScaler().fit(latents.double().numpy()))
    standard: Tensor = scale(latents)  # on the latents' device: the encoder's copy may move to another
    encoder.transform = scale.to(device_of(encoder))
    return standard


def area_under_curve(member: np.ndarray, responses: np.ndarray) -> float:
    """Area under the ROC curve of responses (n,) for membership (n,)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(member, responses))


def check_membership(categories: Sequence[str], preferred: str, folds: int) -> None:
    """Refuse a category that is unknown, or too small, or too large, for `folds` folds."""
    counts = Counter(name for category in categories for name in split_labels(category))
    if preferred not in counts:
        raise ValueError(
            f"`preferred` must be a category of the label file, got {preferred!r}; expected one of {sorted(counts)}"
        )
    if counts[preferred] < folds or len(categories) - counts[preferred] < folds:
        raise ValueError(
            f"`preferred` must have at least {folds} images, and so must the rest, for {folds}-fold cross-validation; "
            f"got {counts[preferred]} of {preferred!r} and {len(categories) - counts[preferred]} others"
        )


def cells_of(encoder: LatentEncoder) -> int:
    """How many cells of a grid the latents describe; 1 without a grid."""
    return encoder.pool**2 if isinstance(encoder.pool, int) else 1
