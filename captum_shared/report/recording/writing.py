"""Tables, figures and the page of a recording's report, from a study and its findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from captum_shared.files import figure_bytes
from captum_shared.folders import ReportFolder
from captum_shared.labels import members, split_labels
from captum_shared.manifests import versions
from captum_shared.readout import ceiling_corrected
from captum_shared.report.html import LinkedPicture, linked_gallery, numbers, page, settings_table, text
from captum_shared.report.pair_views import preference
from captum_shared.report.pictures import enlarged, seen_pictures
from captum_shared.report.recording import figures
from captum_shared.report.recording.effects import TITLE, effects_text
from captum_shared.report.recording.methods import lead_text, methods_text, title_text
from captum_shared.report.recording.views import write_views
from captum_shared.study.interventions import Effects, summarize_effects
from captum_shared.study.maps import file_stem, load_maps, map_path
from captum_shared.study.neurons import Findings, NeuronFindings
from captum_shared.study.run import Job, Run, Share
from captum_shared.study.settings import WEAK_D_PRIME
from captum_shared.study.study import Study
from captum_shared.study.tables import (
    LAYER_COLUMNS,
    NEURON_COLUMNS,
    RecordingSummary,
    layer_rows,
    model_name,
    neuron_rows,
    pair_columns,
    pair_rows,
    summarize,
)
from captum_shared.study.tuning import category_means

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Panel = tuple[str, Callable[[], Figure], str, str]


DRIVERS = "its drivers"
"""What figures call the stimuli that are set apart, if that is not a category."""


def write_report(study: Study, findings: Findings, run: Run, effects: Effects | None = None) -> RecordingSummary:
    """Write everything but the maps and the manifest; the summary. Effects are those of interventions, if any."""
    folder, rows, summary = run.folder, neuron_rows(study, findings), summarize(study, findings)
    tested = None if effects is None else summarize_effects(effects)
    if tested is not None:
        summary["interventions"] = tested
    folder.write_csv("neurons.csv", NEURON_COLUMNS, rows)
    folder.write_csv("pairs.csv", pair_columns(effects), pair_rows(study, findings, effects))
    folder.write_csv("layers.csv", LAYER_COLUMNS, layer_rows(study, findings))
    _draw_neurons(study, findings, run)
    population = _draw_population(study, findings, summary, folder)
    packages = versions()
    folder.write_json("summary.json", summary)
    named = [dict(zip(NEURON_COLUMNS, row, strict=True)) for row in rows]
    views = write_views(study, findings, run, named, _pictures(study, findings), effects)
    settings = {**study.settings.as_json(), **study.about, **packages}
    sections = [
        numbers(_numbers(study, summary)),
        text(study.notes),
        views,
        *([] if effects is None else [text(effects_text(tested), TITLE)]),
        linked_gallery("Population", population),
        text(methods_text(study, summary, packages), "Methods"),
        settings_table(settings, "Settings and versions"),
    ]
    title = f"{title_text(study.settings)}: {len(findings.neurons)} neurons"
    folder.write_text("index.html", page(title, [lead_text(study.settings)], sections))
    return summary


def _numbers(study: Study, s: RecordingSummary) -> list[tuple[str, object]]:
    shown: list[tuple[str, object]] = [
        ("neurons explained", f"{s['n_explained']} of {s['n_neurons']}"),
        (f"of these with d\u2032 below {WEAK_D_PRIME:g}", s["n_weak_preference"]), ("stimuli", s["n_stimuli"]),
        ("pairs", s["n_pairs"]), ("median reliability", s["median_reliability"]),
        ("median cross-validated r", s["median_cv_r"]), ("median r / noise ceiling", s["median_cv_r_corrected"]),
        ("median generalization r", s["median_generalization_r"]),
        ("median generalization r / ceiling", s["median_generalization_r_corrected"]),
    ]  # fmt: skip
    if study.recording.categories is None:
        shown = [(name, value) for name, value in shown if "generalization" not in name and "d\u2032" not in name]
    return [(name, "unknown" if value is None else value) for name, value in shown]


def _draw_neurons(study: Study, findings: Findings, run: Run) -> None:
    see = seen_pictures(study.network.transform)

    def arguments(neuron: NeuronFindings, share: Share) -> tuple[object, ...]:
        stimuli, shown = study.recording.stimuli, neuron.shown
        paths = [(stimuli[image], stimuli[reference]) for image, reference, _ in shown]
        maps = [load_maps(map_path(run.folder, neuron), kind) for kind in study.settings.maps]
        return _plots(study, findings, neuron), paths, maps, see, study.settings.formats

    jobs = [
        Job(tuple(run.folder / name for name in names), _draw, partial(arguments, findings.neurons[index]))
        for index, names in _pictures(study, findings).items()
    ]
    run.carry_out(jobs, "figures")


def _pictures(study: Study, findings: Findings) -> dict[int, list[str]]:
    """The files of the figure, in each format, and of the thumbnail of each neuron that has them, by its index.

    They are the best predicted of those that are explained.
    """
    best = sorted(findings.explained, key=lambda neuron: -findings.models.cv_r[neuron.index])
    chosen = {neuron.index: f"neuron_{file_stem(neuron.name)}" for neuron in best[: study.settings.figures]}
    return {
        index: [*(f"figures/{stem}.{kind}" for kind in study.settings.formats), f"thumbnails/{stem}.png"]
        for index, stem in sorted(chosen.items())
    }


def _plots(study: Study, findings: Findings, n: NeuronFindings) -> figures.NeuronPicture:
    """What the figure of a neuron shows, apart from images and maps."""
    k, models, responses, s = n.index, findings.models, study.responses[n.index], study.settings
    corrected = ceiling_corrected(models.cv_r, findings.tuning.ceiling)[k]
    liked = "" if n.preferred is None else f"   ·   {preference(n.preferred, n.d_prime, s.pole)}"
    heading = (
        f"neuron {n.name}{liked}   ·   r {models.cv_r[k]:.2f}"
        + (f", {corrected:.2f} of the noise ceiling" if np.isfinite(corrected) else "")
        + f"   ·   {model_name(study.network, int(models.candidate[k]))}"
    )
    known = np.isfinite(responses) & np.isfinite(models.predictions[:, k])
    titles = [(_caption(study, image, k), _caption(study, reference, k)) for image, reference, _ in n.shown]
    member, name = members(study.categories, str(n.preferred)), str(n.preferred)
    if s.pairs == "drivers" and n.drivers is not None:
        member, name = np.isin(np.arange(len(responses)), n.drivers.everywhere), DRIVERS
    return figures.NeuronPicture(
        heading=heading,
        tuning=category_means(responses, study.categories),
        preferred=name,
        recorded=responses[known],
        predicted=models.predictions[known, k],
        member=member[known],
        titles=titles,
    )


def _caption(study: Study, place: int, k: int) -> str:
    """Categories of a stimulus, or its name, and the response of neuron `k` to it."""
    labels = ", ".join(split_labels(str(study.categories[place]))) or study.recording.stimulus_names[place]
    return f"{labels}, {study.responses[k, place]:.3g}"


def _draw(
    picture: figures.NeuronPicture,
    paths: Sequence[tuple[Path, Path]],
    maps: Sequence[np.ndarray],
    see: Callable[[Path], Tensor],
    formats: Sequence[str],
) -> list[bytes]:
    """The figure of a neuron in each format, then its thumbnail; `maps` has the maps (P, 2, h, w) of each kind."""
    seen = {path: see(path) for path in {path for pair in paths for path in pair}}
    images = [(seen[image], seen[reference]) for image, reference in paths]
    larger = [enlarged(torch.from_numpy(each), images[0][0].shape[1:]).numpy() for each in maps]
    figure = figures.neuron_figure(replace(picture, images=images, maps=larger))
    small = figures.thumbnail(images[0], larger[0][0])
    contents = [figures.png_bytes(figure) if kind == "png" else figure_bytes(figure, 110, kind) for kind in formats]
    return [*contents, figures.png_bytes(small, dpi=120)]


def _draw_population(
    study: Study, findings: Findings, summary: RecordingSummary, folder: ReportFolder
) -> list[LinkedPicture]:
    pictures = []
    for name, draw, caption, alt in _panels(study, findings, summary):
        path = folder / "figures" / f"population_{name}.png"
        figure = draw()
        folder.write(path, figures.png_bytes(figure, dpi=150))
        width, height = (round(150 * float(side)) for side in figure.get_size_inches())
        pictures.append(LinkedPicture(f"figures/{path.name}", f"figures/{path.name}", alt, caption, (width, height)))
    return pictures


def _panels(study: Study, findings: Findings, summary: RecordingSummary) -> list[Panel]:
    """Name, drawing, caption and description of each figure of the population."""
    responses, models, reliability = study.responses, findings.models, findings.tuning.ceiling
    general = models.generalization_r
    means = [float(np.nanmean(responses[n.index])) for n in findings.explained]
    driven = [[float(responses[n.index, image]) for image, _, _ in n.shown] for n in findings.explained]
    sign, side = study.settings.sign, "above" if study.settings.sign > 0 else "below"
    beyond = sum(sign * (value - mean) > 0 for mean, values in zip(means, driven, strict=True) for value in values)
    reuse = Counter(summary["reference_counts"]).most_common()
    explained = np.array([n.explained for n in findings.neurons])
    known = reliability[np.isfinite(reliability)]
    median = f", median {np.median(known):.3g}" if len(known) else ""
    panels: list[Panel] = [
        ("generalization", partial(figures.generalization_figure, general, ceiling_corrected(general, reliability)),
         "Readouts fitted on the preferred category alone predict the responses to all other stimuli; one count per "
         "neuron.", f"Histogram of generalization correlations, median {summary['median_generalization_r']}"),
        ("drivers", partial(figures.drivers_figure, means, driven),
         f"Responses to the chosen drivers against the neuron's mean; {beyond} of {summary['n_pairs']} lie {side}.",
         "Scatter of driver responses against mean responses, with the line of equality"),
        ("reliability", partial(figures.reliability_figure, reliability, models.cv_r, explained),
         "Only by chance can a model lie above the noise ceiling.",
         f"Scatter of cross-validated r, median {summary['median_cv_r']}, against the reliability of the mean "
         f"responses{median}"),
        ("reuse", partial(figures.reuse_figure, reuse),
         f"{summary['n_pairs']} pairs use {len(reuse)} references. A reference reused for most drivers is a hub.",
         "Bars: how often each reference was chosen"),
    ]  # fmt: skip
    return panels if study.recording.categories is not None else panels[1:]
