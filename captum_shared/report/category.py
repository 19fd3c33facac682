"""Explain a category neuron on labelled photographs: which parts of other images excite it, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from torch import Tensor
from tqdm import tqdm

from captum_shared.attribution import LayerParallelBackprop
from captum_shared.encoder import LatentEncoder, load_encoder
from captum_shared.encoder.identity import ImageTransform
from captum_shared.files import figure_bytes
from captum_shared.folders import ReportFolder, report_folder
from captum_shared.labels import split_labels
from captum_shared.report.device import find_device
from captum_shared.report.html import Section, page, table, text
from captum_shared.report.pair_views import ImageShelf, hub_warnings, reference_view
from captum_shared.report.pictures import black_and_white, pictures_of
from captum_shared.report.viewer import ColumnView, NeuronView, PairView, ReferenceView, inline_viewer
from captum_shared.report.wording import explanation
from captum_shared.selection import make_rule
from captum_shared.study.category import (
    CategoryFindings,
    CategoryStudy,
    CategorySummary,
    area_under_curve,
    category_manifest,
    cells_of,
    explain_pairs,
    open_category,
    pair_maps,
    summarise,
)
from captum_shared.study.looks import LookRequest, Memory, References, other_rules
from captum_shared.study.network import transform_image
from captum_shared.study.settings import CategoryOptions, CategorySettings, make_settings
from captum_shared.visualization import pair_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Required, Unpack

    class CategoryArguments(CategoryOptions, total=False):
        """What `explain_category` takes by name, apart from the network."""

        images: Required[str | Path]
        labels: Required[str | Path]
        preferred: Required[str]
        progress: bool
        out: str | Path
        overwrite: bool


LEAD = (
    "Heat marks what an image and its reference share for the neuron. Where there is no heat, nothing is said: the "
    "neuron may still respond to it."
)
COLUMNS = (ColumnView("cv_auc", "area under the ROC curve"), ColumnView("layer", "layer", "choice"))
PAIR_COLUMNS = ("image", "reference", "similarity", "response")


def run_category(
    *,
    model: str,
    layer: str,
    weights: str | Path | None = "DEFAULT",
    pool: str | int = "avg",
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | None = None,
    **options: Unpack[CategoryArguments],
) -> CategorySummary:
    """`load_encoder`, then `explain_category` with the rest of the options."""
    encoder, transform = load_encoder(
        model, layer, pool, weights, image_size=image_size, mean=mean, std=std, seed=options.get("seed", 0)
    )
    encoder.to(find_device(device))
    network = {"model": model, "weights": str(weights), "layer": layer, "pool": pool}
    return explain_category(encoder=encoder, transform=transform, about=network, **options)


def explain_category(
    images: str | Path,
    labels: str | Path,
    preferred: str,
    encoder: LatentEncoder,
    transform: ImageTransform,
    *,
    progress: bool = True,
    about: Mapping[str, object] | None = None,
    out: str | Path = "category",
    overwrite: bool = False,
    **options: Unpack[CategoryOptions],
) -> CategorySummary:
    """Fit a readout for a category, and draw what its strongest out-of-category images share with the category.

    The neuron is a ridge regression of membership (1 or 0) on the latents. Responses are out-of-fold predictions: an
    image's response comes from a readout that has not seen it. Latents are standardised over all images by default,
    since similarity and shared weights are products, which depend on their scale.

    Parameters
    ----------
    images, labels : path
        A folder, and a CSV file with the columns `file` and `category`.
    preferred : str
        The neuron's category.
    encoder, transform
        As `load_encoder` returns them. The standardisation becomes the encoder's `transform`.
    progress : bool, default True
        Whether to show progress bars.
    about : dict, optional
        What to note about the network.
    out : path
        Gets ``pairs.csv``, ``pair_*.png``, ``index.html``, ``summary.json``, ``manifest.json``, and ``.cache`` with the
        latents, so that an interrupted run can be resumed.
    overwrite : bool, default False
        Whether a report of another configuration in `out` is replaced.
    **options
        The choices, each documented with its default in `CategorySettings`.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If an argument is wrong, files are missing, there are too few images, the network or the transform is
        random, or `out` holds other files or a report of another configuration (the difference is shown).
    """
    settings = make_settings(CategorySettings, options, "explain_category")
    asked = (images, labels, preferred, (encoder, transform), settings)
    with report_folder(out, category_manifest(*asked, about), overwrite) as folder:
        if folder.finished:
            return cast(CategorySummary, folder.read_json("summary.json"))
        study = open_category(*asked, cache=folder / ".cache", progress=progress, about=about)
        findings = explain_pairs(study)
        pairs, shelf = draw_pairs(study, findings, folder, progress)
        viewer = inline_viewer(shelf.views, COLUMNS, [neuron_view(study, findings, pairs)], study.settings.rule)
        return write_report(study, findings, folder, viewer)


def draw_pairs(
    study: CategoryStudy, findings: CategoryFindings, folder: ReportFolder, progress: bool
) -> tuple[list[PairView], ImageShelf]:
    """Explain the pairs, writing each picture as soon as it is ready; return what the viewer shows of them."""
    ends, views = black_and_white(study.transform), []
    shelf = ImageShelf(
        lambda place: pictures_of(transform_image(study.transform, study.paths[place]), ends),
        [path.name for path in study.paths],
        [", ".join(split_labels(category)) for category in study.categories],
    )
    look = _Looks(study, findings, shelf)
    maps = pair_maps(study, findings)
    for rank, kinds in enumerate(tqdm(maps, total=len(findings.pairs.images), disable=not progress, unit="pair")):
        for kind, both in kinds.items():
            ending = "" if kind == study.settings.maps[0] else f"_{kind}"
            figure = _draw_pair(study, findings, rank, both)
            for suffix in study.settings.formats:
                folder.write(f"pair_{rank + 1:02d}{ending}.{suffix}", figure_bytes(figure, kind=suffix))
        views.append(look.pair(rank, kinds.get("pixel")))
    return views, shelf


class _Looks:
    """Views of a category neuron's pairs, with their best references."""

    def __init__(self, study: CategoryStudy, findings: CategoryFindings, shelf: ImageShelf) -> None:
        self.study, self.findings, self.shelf = study, findings, shelf
        cells = cells_of(study.encoder)
        self.rule = make_rule(study.settings.rule, study.latents, cells)
        others = other_rules(self.rule, study.latents, cells)
        self.memory = Memory([study.encoder], [self.rule], study.transform, [others])
        references = References(study.latents, self.rule, study.settings.similarity)
        self.requests = references.requests(findings.drivers, findings.weight)
        self.hubs = hub_warnings([best[0].reference for best in self.requests])

    def pair(self, rank: int, pixel: tuple[Tensor, Tensor] | None) -> PairView:
        """The pair of this rank; the map of pixels is that of the first reference."""
        flat = None if pixel is None else (pixel[0].sum(0).numpy(), pixel[1].sum(0).numpy())
        requests = self.requests[rank]
        references = [self._reference(each, flat if each is requests[0] else None) for each in requests]
        image = requests[0].image
        return PairView(self.shelf.number(image), float(self.findings.responses[image]), references)

    def _reference(self, request: LookRequest, pixel: tuple[np.ndarray, np.ndarray] | None) -> ReferenceView:
        paths = self.study.paths
        look = self.memory.look(request, paths[request.image], paths[request.reference])
        said = [self.hubs[request.reference]] if request.reference in self.hubs else []
        response = float(self.findings.responses[request.reference])
        shown = self.shelf.number(request.reference)
        return reference_view(look, shown, self.rule, pixel, response=response, warnings=said)


def neuron_view(study: CategoryStudy, findings: CategoryFindings, pairs: list[PairView]) -> NeuronView:
    """What the viewer shows of the neuron."""
    auc = area_under_curve(study.member, findings.responses)
    return NeuronView(study.preferred, {"cv_auc": auc, "layer": str(study.about.get("layer", ""))}, pairs)


def _draw_pair(study: CategoryStudy, findings: CategoryFindings, rank: int, maps: tuple[Tensor, Tensor]) -> Figure:
    ends = black_and_white(study.transform)
    image, reference = (study.paths[i] for i in (findings.pairs.images[rank], findings.pairs.references[rank, 0]))
    pictures = [pictures_of(transform_image(study.transform, one), ends) for one in (image, reference)]
    return pair_figure(
        pictures,
        [_enlarged(one, picture) for one, picture in zip(maps, pictures, strict=True)],
        titles=(image.stem, f"reference: {reference.stem}"),
        neuron=study.preferred,
        similarity=float(findings.pairs.similarity[rank, 0]),
        response=float(findings.responses[findings.pairs.images[rank]]),
    )


def _enlarged(heat: Tensor, picture: Tensor) -> Tensor:
    """A map at the size of its picture; maps of pixels have it already."""
    if heat.shape[1:] == picture.shape[1:]:
        return heat
    result: Tensor = LayerParallelBackprop.interpolate(heat[None], tuple(picture.shape[1:]), "bilinear")[0]
    return result


def write_report(
    study: CategoryStudy, findings: CategoryFindings, folder: ReportFolder, viewer: Section
) -> CategorySummary:
    """Write the table of pairs, the page and the summary."""
    summary, pairs = summarise(study, findings), findings.pairs
    columns = (pairs.images, pairs.references[:, 0], pairs.similarity[:, 0])
    rows = [
        (study.paths[i].name, study.paths[j].name, float(similarity), float(findings.responses[i]))
        for i, j, similarity in zip(*columns, strict=True)
    ]
    folder.write_csv("pairs.csv", PAIR_COLUMNS, rows)
    sections = [
        viewer,
        text(_methods(study.settings, summary), "Methods"),
        table("How often each reference was chosen", ("reference", "pairs"), list(summary["reference_counts"].items())),
        table("Settings", ("setting", "value"), [(key, str(value)) for key, value in summary.items()]),
    ]
    title = f"What other images share with {study.preferred}, for a {study.preferred} neuron"
    folder.write_text("index.html", page(title, [LEAD], sections))
    folder.write_json("summary.json", summary)
    return summary


def _methods(settings: CategorySettings, s: CategorySummary) -> list[str]:
    scaled = "standardised over all images" if s["standardized"] else "as the network gives them, not standardised"
    drivers = "those that respond at least as much as the weakest image explained, and at least half of them"
    gallery_text = drivers if s["references"] == "drivers" else "all of them"
    return [
        explanation(settings),
        f"The neuron is a ridge regression of '{s['preferred']}' (1 or 0) on {s['n_latents']} latents, {scaled}; "
        f"cross-validated over {s['folds']} folds, its area under the ROC curve is {s['cv_auc']:.3f} over "
        f"{s['n_images']} images ({s['n_preferred']} of {s['preferred']}). Responses are predictions for images that "
        "the readout has not seen.",
        f"References are the most similar images of the category by the {s['similarity']} similarity, among "
        f"{s['n_candidates']}: {gallery_text}.",
        *([f"Unreadable and left out: {', '.join(s['unreadable'])}."] if s["unreadable"] else []),
    ]
