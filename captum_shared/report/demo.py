"""The demo: a creature neuron, the objects that excite it, and what they share with creatures, known exactly."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from torch import Tensor
from tqdm import tqdm

from captum_shared.checks import check_integer
from captum_shared.folders import ReportFolder, report_folder
from captum_shared.report.arguments import find_device
from captum_shared.report.html import Picture, Section, gallery, page, settings_table, table, text
from captum_shared.report.pair_views import LIKE_CONTROL, ImageShelf, hub_warnings, pair_view
from captum_shared.report.viewer import MapView, NeuronView, density, inline_viewer
from captum_shared.study.demo import (
    RULE,
    Case,
    DemoFigures,
    DemoStudy,
    find_cases,
    find_swap,
    heat_by_kind,
    look_at_references,
    map_methods,
    name_of,
    open_demo,
    share_of_heat,
    shares_all,
    summarize,
)
from captum_shared.study.looks import Look
from captum_shared.synthetic import render
from captum_shared.tables import aligned
from captum_shared.visualization import pair_figure
from captum_shared.visualization.rows import PairRow, pairs_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SHARP = 384
"""Pixels of the images that are shown; the network sees 96."""
SWAP_WIDTH = 7.2
"""Inches."""
ALL_SHARED = "Like its control: the reference has every part of this image that drives the neuron."
PLURAL = {"ear": "ears", "limb": "legs"}
"""Kinds that come in pairs."""


class DemoChoices(TypedDict):
    """What a user chooses."""

    preferred: str
    top: int
    standardize: bool
    seed: int


class DemoSummary(DemoFigures):
    """The content of ``summary.json``."""

    command: str
    preferred: str
    standardized: bool
    seed: int
    passed_over_without_shared_part: int


def run_demo(
    *,
    out: str | Path = "demo",
    preferred: str = "creature",
    top: int = 6,
    standardize: bool = False,
    seed: int = 0,
    device: str | None = None,
    batch_size: int = 32,
    progress: bool = True,
    overwrite: bool = False,
) -> DemoSummary:
    """Explain the objects that excite a category neuron most, on synthetic images whose every part is known.

    The network ships with the package. For each of the strongest out-of-category images, kinds of objects
    taking turns, the reference is found, and what both share is established by removing parts: the kinds of part that
    are in both images and without which the response falls by 0.05 or more in both (the category's being about 1, the
    others' 0). Images that share no such part with their reference are counted and passed over.

    Into `out` go ``swap.png``, ``pair_*.png``, ``index.html``, ``summary.json``, ``manifest.json`` and ``shares.csv``.
    Latents are not standardized by default: the demo network's are zero where a kind of part is absent; centred,
    sharing an absence would count as sharing. `seed` is that of the images and the folds.

    Raises
    ------
    ValueError
        If an argument is out of range, or `out` holds other files or a report of another configuration.
    """
    check_integer("top", top)
    study = open_demo(preferred, standardize, seed, find_device(device), batch_size=batch_size, progress=progress)
    asked: DemoChoices = {"preferred": preferred, "top": top, "standardize": standardize, "seed": seed}
    with report_folder(out, {"command": "demo", "configuration": asked}, overwrite) as folder:
        if not folder.finished:
            _explain(study, asked, folder, progress)
        summary = cast(DemoSummary, folder.read_json("summary.json"))
        _print_table(folder / "shares.csv", summary)
    return summary


def _explain(study: DemoStudy, asked: DemoChoices, folder: ReportFolder, progress: bool) -> None:
    """Explain the cases, writing each picture as soon as it is ready, then the report."""
    cases, passed_over = find_cases(study, asked["top"])
    methods, preferred = map_methods(study), asked["preferred"]
    swap = _draw_swap(study, folder, preferred)
    shares, pictures, maps = [], [], []
    for rank, case in enumerate(tqdm(cases, disable=not progress, unit="pair"), start=1):
        maps.append({name: method(case.images) for name, method in methods.items()})
        shares.append({name: share_of_heat(pair, case.shared) for name, pair in maps[-1].items()})
        figure, caption, alt = _draw(case, maps[-1]["ParallelBackprop"], shares[-1], preferred)
        pictures.append(Picture(folder.write_figure(f"pair_{rank:02d}.png", figure, 100), caption, alt))
    summary: DemoSummary = {
        "command": "demo", "preferred": preferred, "standardized": asked["standardize"], "seed": asked["seed"],
        "passed_over_without_shared_part": passed_over, **summarize(study, cases, shares),
    }  # fmt: skip
    _write_report(folder, summary, _table(cases, shares), swap, pictures, _viewer(study, preferred, cases, maps))


def _draw(case: Case, maps: Sequence[Tensor], shares: dict[str, float], preferred: str) -> tuple[Figure, str, str]:
    """The figure of a pair, its caption and its text alternative."""
    figure = pair_figure(
        [render(scene, SHARP)[0] for scene in case.scenes],
        [m.cpu() for m in maps],
        titles=(f"{case.name} that excites the neuron", f"{preferred} most similar for it"),
        neuron=preferred,
        similarity=case.similarity,
        response=case.response,
        show_images=True,
    )
    truth = _parts(case)
    caption = f"Truly shared: {truth}. Share of heat there: {shares['ParallelBackprop']:.2f}{_miss(case, maps, shares)}"
    alt = f"A {case.name} and a {preferred} that share {truth}, plain above, with heat on what they share below"
    return figure, caption, alt


def _viewer(
    study: DemoStudy, preferred: str, cases: Sequence[Case], maps: Sequence[Mapping[str, Sequence[Tensor]]]
) -> Section:
    """The pairs with five references each, and with the maps of each method for the best."""
    hubs, pairs = hub_warnings([case.places[1] for case in cases]), []
    names = [f"{name_of(study.scene(place))} {place}" for place in range(len(study.latents))]
    shelf = ImageShelf(lambda place: render(study.scene(place), SHARP)[0], names, study.data.categories)
    for case, looks, methods in zip(cases, look_at_references(study, cases), maps, strict=True):
        x, reference = ({name: both[i].cpu().sum(0).numpy() for name, both in methods.items()} for i in (0, 1))
        pixel = x.pop("ParallelBackprop"), reference.pop("ParallelBackprop")
        pair = pair_view(looks, shelf.number, study.responses, RULE, pixel, hubs)
        views = [
            replace(view, warnings=_warnings(study, case, look, view.warnings))
            for look, view in zip(looks, pair.references, strict=True)
        ]
        others = {f"pixels, {name}": MapView(x[name], reference[name]) for name in x}
        views[0] = replace(views[0], maps={**views[0].maps, **others})
        pairs.append(replace(pair, references=views))
    return inline_viewer(shelf.views, (), [NeuronView(preferred, {}, pairs)], RULE)


def _warnings(study: DemoStudy, case: Case, look: Look, warnings: Sequence[str]) -> list[str]:
    """Those of a pair, with what the demo knows besides."""
    said = [] if look.similarity > 0 else ["Similarity: it is not positive."]
    said += warnings
    if LIKE_CONTROL in said and shares_all(study, case, look):
        said[said.index(LIKE_CONTROL)] = ALL_SHARED
    return said


def _draw_swap(study: DemoStudy, folder: ReportFolder, preferred: str) -> list[Picture]:
    """One image with two references: the heat moves with the reference, which a method of one image cannot do."""
    swap = find_swap(study)
    if swap is None:
        return []
    first, second = (_parts(case) for case in swap.cases)
    name, rows = swap.cases[0].name, []
    for case, maps, kind in zip(swap.cases, swap.maps, (first, second), strict=True):
        images = [(render(scene, SHARP)[0].permute(1, 2, 0) * 255).byte().numpy() for scene in case.scenes]
        heats = [density(m.cpu().sum(0).numpy()) for m in maps]
        labels = f"the same {name}", f"a {preferred} that shares its {kind}"
        rows.append(PairRow((images[0], images[1]), (heats[0], heats[1]), labels))
    titles = (f"the {name}", "its heat", "the reference's heat", "the reference")
    png = folder.write_figure("swap.png", pairs_figure(rows, SWAP_WIDTH, titles), 180)
    (a, b), (c, d) = swap.shares
    caption = (
        f"One image, two references. With the one that shares its {first}, {a:.2f} of the image's heat lies on the "
        f"{first} and {b:.2f} on the {second}; with the one that shares its {second}, {c:.2f} and {d:.2f}. A method "
        f"that sees the image alone gives it the same map twice. This is the clearest of {swap.tried} such swaps among "
        "the strongest images; the pairs below are not chosen."
    )
    return [
        Picture(
            png, caption, f"The heat on one {name} moves from its {first} to its {second} when the reference is swapped"
        )
    ]


def _parts(case: Case) -> str:
    """The truly shared parts in words."""
    return " and ".join(PLURAL.get(kind, kind) for kind in case.shared.kinds)


def _miss(case: Case, maps: Sequence[Tensor], shares: dict[str, float]) -> str:
    """Where the heat is, if another method puts more of it on what is shared."""
    name, best = max(shares.items(), key=lambda item: item[1])
    if name == "ParallelBackprop":
        return ""
    elsewhere = {k: v for k, v in heat_by_kind(maps, case).items() if k not in case.shared.kinds}
    if not elsewhere:
        return f". A miss: {name} has {best:.2f} there"
    kind, share = next(iter(elsewhere.items()))
    return (
        f". A miss: {name} has {best:.2f} there. Of the heat here {share:.2f} lies on the {kind}, which is not among "
        "the parts that both responses depend on."
    )


def _table(cases: Sequence[Case], shares: Sequence[dict[str, float]]) -> list[list[float | str]]:
    """The share of the heat on what each pair shares, by each method, below a header."""
    header: list[float | str] = ["pair", "image", "truly shared", "area", *(shares[0] if shares else ())]
    return [header] + [
        [f"pair_{rank:02d}", case.name, ", ".join(case.shared.kinds), case.area, *row.values()]
        for rank, (case, row) in enumerate(zip(cases, shares, strict=True), start=1)
    ]


def _print_table(path: Path, summary: DemoSummary) -> None:
    """The table of shares, with two decimals and the means below."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    mean = ["mean", "", "", summary["mean_area"], *summary["mean_share"].values()]
    rows: list[Sequence[object]] = [header, *([*line[:3], *map(float, line[3:])] for line in lines), mean]
    print("Share of heat on the truly shared part, mean of both images:")
    print(aligned([[f"{value:.2f}" if isinstance(value, float) else str(value) for value in row] for row in rows]))


def _write_report(
    folder: ReportFolder,
    summary: DemoSummary,
    shares: Sequence[Sequence[float | str]],
    swap: Sequence[Picture],
    pictures: Sequence[Picture],
    viewer: Section,
) -> None:
    (header, *rows), (lead, *methods) = shares, _methods_text(summary)
    columns = [str(name) for name in header]
    sections = [
        *([gallery("The reference decides", swap, wide=True)] if swap else []),
        viewer,
        text(methods, "What is known, and how"),
        gallery("Pairs", pictures),
        table("Share of heat on the truly shared part, mean of both images", columns, rows),
        settings_table(summary),
    ]
    folder.write_csv("shares.csv", columns, rows)
    title = f"What excites a {summary['preferred']} neuron?"
    folder.write_text("index.html", page(title, [lead], sections))
    folder.write_json("summary.json", summary)


def _methods_text(s: DemoSummary) -> list[str]:
    plural = s["preferred"] if s["preferred"] == "furniture" else f"{s['preferred']}s"
    scaled = "standardized over all images" if s["standardized"] else "as the network gives them, not standardized"
    fitted = (
        "The neuron was fitted on images in which any category can have any body, so that it cannot go by the body. "
        "The images here are others, drawn so that a person sees at once what they are. The benchmark on synthetic "
        "images (python -m benchmarks.shared_parts) uses images of the former kind."
    )
    return [
        f"A linear neuron on the latents of a small network prefers {plural} (cross-validated area under the "
        f"ROC curve {s['cv_auc']:.2f}), and yet other things excite it. Heat marks what such a thing shares with a "
        f"{s['preferred']}, for this neuron.",
        "These are the strongest images of other categories, kinds of objects taking turns, each with the "
        f"{s['preferred']} that is most similar for this neuron. Images are composed of parts, so the truth is known: "
        "a part is truly shared if it is in both images and the response falls by at least "
        f"{s['least_drop']} without it in both. Images without such a part are passed over, here "
        f"{s['passed_over_without_shared_part']}. The methods that see the readout alone cannot know the reference.",
        *([fitted] if s["preferred"] == "creature" else []),
        f"Latents are {scaled}. The network was trained so that a few of its channels stand for each kind of part, "
        "which suits a product channel by channel; ordinary networks are not so kind.",
    ]
