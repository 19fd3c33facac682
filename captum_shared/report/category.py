"""Explain a category neuron on labelled photographs: which parts of other images excite it, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import Tensor
from tqdm import tqdm

from captum_shared.encoder import LatentEncoder
from captum_shared.files import figure_bytes
from captum_shared.folders import ReportFolder, report_folder
from captum_shared.identity import ImageTransform
from captum_shared.labels import split_labels
from captum_shared.networks import load_encoder
from captum_shared.report.arguments import find_device
from captum_shared.report.html import page, settings_table, table, text
from captum_shared.report.pair_views import ImageShelf, hub_warnings, pair_view, references_of
from captum_shared.report.pictures import enlarged, seen_pictures
from captum_shared.report.viewer import ColumnView, ImageView, NeuronView, PairView, inline_viewer
from captum_shared.report.wording import explanation
from captum_shared.study.category import (
    CategoryFindings,
    CategoryStudy,
    CategorySummary,
    category_manifest,
    cells_of,
    explain_pairs,
    open_category,
    pair_maps,
    summarize,
)
from captum_shared.study.looks import Memory
from captum_shared.study.settings import CategoryOptions, CategorySettings, make_settings
from captum_shared.visualization import pair_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Required, Unpack

    from captum_shared.report.arguments import LabelledOptions, NetworkOptions

    class CategoryArguments(CategoryOptions, LabelledOptions, total=False):
        """What `explain_category` takes by name, apart from the network."""

        preferred: Required[str]

    class CategoryCommand(CategoryArguments, NetworkOptions, total=False):
        """What `run_category` takes by name."""

        layer: Required[str]
        pool: str | int

    class CategoryAsked(CategoryArguments):
        """What `explain_category` takes by name."""

        encoder: LatentEncoder
        transform: ImageTransform
        about: dict[str, object]


LEAD = (
    "Heat marks what an image and its reference share for the neuron. Where there is no heat, nothing is said: the "
    "neuron may still respond to it."
)
COLUMNS = (ColumnView("cv_auc", "area under the ROC curve"), ColumnView("layer", "layer", "choice"))
PAIR_COLUMNS = ("image", "reference", "similarity", "response")


def run_category(**options: Unpack[CategoryCommand]) -> CategorySummary:
    """`load_encoder`, then `explain_category` with the rest of the options."""
    return explain_category(**ask_category(**options))


def ask_category(
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
) -> CategoryAsked:
    """Load the network that `run_category` is given, with the same options."""
    encoder, transform = load_encoder(
        model, layer, pool, weights, image_size=image_size, mean=mean, std=std, seed=options.get("seed", 0)
    )
    about: dict[str, object] = {"model": model, "weights": str(weights), "layer": layer, "pool": pool}
    return {**options, "encoder": encoder.to(find_device(device)), "transform": transform, "about": about}


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
    image's response comes from a readout that has not seen it. Latents are standardized over all images by default,
    since similarity and shared weights are products, which depend on their scale.

    Parameters
    ----------
    images, labels : path
        A folder, and a CSV file with the columns `file` and `category`.
    preferred : str
        The neuron's category.
    encoder, transform
        As `load_encoder` returns them. The standardization becomes the encoder's `transform`.
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
        images_shown, pairs = draw_pairs(study, findings, folder, progress)
        return write_report(study, findings, folder, images_shown, pairs)


def draw_pairs(
    study: CategoryStudy, findings: CategoryFindings, folder: ReportFolder, progress: bool
) -> tuple[list[ImageView], list[PairView]]:
    """Explain the pairs, writing each picture as soon as it is ready; return the images and pairs of the viewer."""
    picture, views = seen_pictures(study.transform), []
    shelf = ImageShelf(
        lambda place: picture(study.paths[place]),
        [path.name for path in study.paths],
        [", ".join(split_labels(category)) for category in study.categories],
    )
    references, others = references_of(study.latents, study.settings, cells_of(study.encoder))
    memory = Memory([study.encoder], [references.rule], study.image, [others])
    requests = references.requests(findings.drivers, findings.weight)
    hubs = hub_warnings([best[0].reference for best in requests])
    maps = pair_maps(study, findings)
    for rank, kinds in enumerate(tqdm(maps, total=len(findings.pairs.images), disable=not progress, unit="pair")):
        for kind, both in kinds.items():
            ending = "" if kind == study.settings.maps[0] else f"_{kind}"
            figure = _draw_pair(study, findings, rank, both, picture)
            for suffix in study.settings.formats:
                folder.write(f"pair_{rank + 1:02d}{ending}.{suffix}", figure_bytes(figure, kind=suffix))
        looks = [memory.look(request) for request in requests[rank]]
        pixel = (kinds["pixel"][0].sum(0).numpy(), kinds["pixel"][1].sum(0).numpy()) if "pixel" in kinds else None
        views.append(pair_view(looks, shelf.number, findings.responses, references.rule, pixel, hubs))
    return shelf.views, views


def _draw_pair(
    study: CategoryStudy,
    findings: CategoryFindings,
    rank: int,
    maps: tuple[Tensor, Tensor],
    picture: Callable[[Path], Tensor],
) -> Figure:
    image, reference = (study.paths[i] for i in (findings.pairs.images[rank], findings.pairs.references[rank, 0]))
    pictures = [picture(image), picture(reference)]
    return pair_figure(
        pictures,
        [enlarged(heat[None], one.shape[1:])[0] for heat, one in zip(maps, pictures, strict=True)],
        titles=(image.stem, f"reference: {reference.stem}"),
        neuron=study.preferred,
        similarity=float(findings.pairs.similarity[rank, 0]),
        response=float(findings.responses[findings.pairs.images[rank]]),
    )


def write_report(
    study: CategoryStudy,
    findings: CategoryFindings,
    folder: ReportFolder,
    images: Sequence[ImageView],
    pairs: Sequence[PairView],
) -> CategorySummary:
    """Write the table of pairs, the page and the summary; images and pairs are those that the viewer shows."""
    summary, found = summarize(study, findings), findings.pairs
    columns = (found.images, found.references[:, 0], found.similarity[:, 0])
    neuron = NeuronView(
        study.preferred, {"cv_auc": summary["cv_auc"], "layer": str(study.about.get("layer", ""))}, pairs
    )
    rows = [
        (study.paths[i].name, study.paths[j].name, float(similarity), float(findings.responses[i]))
        for i, j, similarity in zip(*columns, strict=True)
    ]
    folder.write_csv("pairs.csv", PAIR_COLUMNS, rows)
    sections = [
        inline_viewer(images, COLUMNS, [neuron], study.settings.rule),
        text(_methods(study.settings, summary), "Methods"),
        table("How often each reference was chosen", ("reference", "pairs"), list(summary["reference_counts"].items())),
        settings_table(summary),
    ]
    title = f"What other images share with {study.preferred}, for a {study.preferred} neuron"
    folder.write_text("index.html", page(title, [LEAD], sections))
    folder.write_json("summary.json", summary)
    return summary


def _methods(settings: CategorySettings, s: CategorySummary) -> list[str]:
    scaled = "standardized over all images" if s["standardized"] else "as the network gives them, not standardized"
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
