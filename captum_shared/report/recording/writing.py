"""Tables, figures and the page of a report, from what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from captum_shared.folders import ReportFolder
from captum_shared.readout import ceiling_corrected
from captum_shared.recording import Recording
from captum_shared.report.category import black_and_white, pictures_of
from captum_shared.report.html import LinkedPicture
from captum_shared.report.recording import figures
from captum_shared.report.recording.encoding import Encoding
from captum_shared.report.recording.explanation import file_stem, map_path
from captum_shared.report.recording.methods import methods_text
from captum_shared.report.recording.network import ImageTransform, Network, transform_image
from captum_shared.report.recording.neurons import Neuron
from captum_shared.report.recording.page import report_page
from captum_shared.report.recording.settings import Settings
from captum_shared.report.recording.tables import (
    LAYER_COLUMNS,
    NEURON_COLUMNS,
    PAIR_COLUMNS,
    candidate_names,
    layer_rows,
    model_name,
    neuron_rows,
    pair_rows,
    summarise,
)
from captum_shared.report.recording.units import Unit, run_units

Panel = tuple[str, Any, str, str]


def write_report(
    recording: Recording,
    network: Network,
    encoding: Encoding,
    neurons: Sequence[Neuron],
    reliability: np.ndarray,
    settings: Settings,
    estimator: Any,
    manifest: dict[str, Any],
    notes: Sequence[str],
    folder: ReportFolder,
    n_jobs: int | None,
    progress: bool,
) -> dict[str, Any]:
    """Write everything but the maps and the manifest; the summary."""
    rows = neuron_rows(neurons, network, encoding, reliability)
    summary = summarise(neurons, recording, network, encoding, reliability)
    folder.write_csv("neurons.csv", NEURON_COLUMNS, rows)
    folder.write_csv("pairs.csv", PAIR_COLUMNS, pair_rows(neurons, recording, encoding))
    folder.write_csv("layers.csv", LAYER_COLUMNS, layer_rows(neurons, network, encoding))
    _draw_neurons(recording, network, encoding, neurons, reliability, folder, n_jobs, progress)
    population = _draw_population(recording, encoding, neurons, reliability, summary, folder)
    layers = candidate_names(network)
    about = manifest["configuration"]["network"]
    folder.write_json("summary.json", summary)
    page = report_page(
        f"What out-of-category stimuli share with the preferred category: {len(neurons)} neurons",
        _numbers(summary),
        notes,
        population,
        [dict(zip(NEURON_COLUMNS, row, strict=True)) for row in rows],
        [_thumbnail(neuron, recording) for neuron in neurons],
        methods_text(settings, summary, about, estimator, layers, manifest["versions"]),
        [(key, str(value)) for key, value in {**settings.as_json(), **about, **manifest["versions"]}.items()],
    )
    folder.write_text("index.html", page)
    return summary


def _numbers(s: dict[str, Any]) -> list[tuple[str, Any]]:
    shown = [
        ("neurons explained", f"{s['n_explained']} of {s['n_neurons']}"), ("stimuli", s["n_stimuli"]),
        ("pairs", s["n_pairs"]), ("median reliability", s["median_reliability"]),
        ("median cross-validated r", s["median_cv_r"]), ("median r / noise ceiling", s["median_cv_r_corrected"]),
        ("median generalization r", s["median_generalization_r"]),
        ("median generalization r / ceiling", s["median_generalization_r_corrected"]),
    ]  # fmt: skip
    return [(name, "unknown" if value is None else value) for name, value in shown]


def _draw_neurons(
    recording: Recording,
    network: Network,
    encoding: Encoding,
    neurons: Sequence[Neuron],
    reliability: np.ndarray,
    folder: ReportFolder,
    n_jobs: int | None,
    progress: bool,
) -> None:
    corrected = ceiling_corrected(encoding.cv_r, reliability)
    responses, categories = recording.mean_responses, np.array(recording.categories)
    ends = black_and_white(network.transform)

    def arguments(n: Neuron) -> tuple[Any, ...]:
        k = n.index
        heading = (
            f"neuron {n.name}   ·   prefers {n.preferred} (d' {n.d_prime:.2f})   ·   r {encoding.cv_r[k]:.2f}"
            + (f", {corrected[k]:.2f} of the noise ceiling" if np.isfinite(corrected[k]) else "")
            + f"   ·   {model_name(network, int(encoding.candidate[k]))}"
        )
        use = np.isfinite(responses[k]) & np.isfinite(encoding.predictions[:, k])
        plots = {
            "heading": heading, "tuning": _tuning(responses[k], categories), "preferred": str(n.preferred),
            "recorded": responses[k][use], "predicted": encoding.predictions[use, k],
            "member": categories[use] == n.preferred,
        }  # fmt: skip
        paths = [(recording.stimuli[p.image], recording.stimuli[p.reference]) for p in n.pairs]
        titles = [
            (f"{categories[p.image]}, {responses[k, p.image]:.3g}",
             f"{categories[p.reference]}, {responses[k, p.reference]:.3g}")
            for p in n.pairs
        ]  # fmt: skip
        maps = np.load(map_path(folder, n), mmap_mode="r", allow_pickle=False)
        return plots, paths, titles, np.array(maps), network.transform, ends

    units = [
        Unit(tuple(_picture_path(folder, kind, n) for kind in ("figures", "thumbnails")), _draw, partial(arguments, n))
        for n in neurons
        if n.explained
    ]
    run_units(units, "figures", folder, n_jobs, progress)


def _draw(
    plots: dict[str, Any],
    paths: Sequence[tuple[Path, Path]],
    titles: Sequence[tuple[str, str]],
    maps: np.ndarray,
    transform: ImageTransform,
    ends: tuple[Tensor, Tensor],
) -> tuple[bytes, bytes]:
    """The figure of a neuron and its thumbnail, as PNG."""
    seen = {path: pictures_of(transform_image(transform, path), ends) for path in {p for pair in paths for p in pair}}
    images = [(seen[image], seen[reference]) for image, reference in paths]
    picture = figures.NeuronPicture(**plots, images=images, titles=titles, maps=maps)
    small = figures.thumbnail(images[0], maps[0])
    return figures.png_bytes(figures.neuron_figure(picture)), figures.png_bytes(small, dpi=120)


def _tuning(responses: np.ndarray, categories: np.ndarray) -> list[tuple[str, float, float]]:
    """Category, mean response and standard error, strongest first."""
    rows = []
    for name in sorted(set(categories.tolist())):
        own = responses[(categories == name) & np.isfinite(responses)]
        if len(own):
            rows.append((name, float(own.mean()), float(own.std(ddof=1) / np.sqrt(len(own))) if len(own) > 1 else 0.0))
    return sorted(rows, key=lambda row: -row[1])


def _draw_population(
    recording: Recording,
    encoding: Encoding,
    neurons: Sequence[Neuron],
    reliability: np.ndarray,
    summary: dict[str, Any],
    folder: ReportFolder,
) -> list[LinkedPicture]:
    responses = recording.mean_responses
    explained = [n for n in neurons if n.explained]
    general = encoding.generalization_r
    corrected = ceiling_corrected(general, reliability)
    means = [float(np.nanmean(responses[n.index])) for n in explained]
    driven = [[float(responses[n.index, p.image]) for p in n.pairs] for n in explained]
    above = sum(value > mean for mean, values in zip(means, driven, strict=True) for value in values)
    reuse = Counter(summary["reference_counts"]).most_common()
    panels: list[Panel] = [
        ("generalization", partial(figures.generalization_figure, general, corrected),
         "Readouts fitted on the preferred category alone predict the responses to all other stimuli; one count per "
         "neuron.", f"Histogram of generalization correlations, median {summary['median_generalization_r']}"),
        ("drivers", partial(figures.drivers_figure, means, driven),
         f"Responses to the chosen drivers against the neuron's mean; {above} of {summary['n_pairs']} lie above.",
         "Scatter of driver responses against mean responses, with the line of equality"),
        ("reliability", partial(figures.reliability_figure, reliability, encoding.cv_r,
                                np.array([n.explained for n in neurons])),
         "No model can be above the noise ceiling but by chance.",
         f"Scatter of cross-validated r, median {summary['median_cv_r']}, against reliability, "
         f"median {summary['median_reliability']}"),
        ("reuse", partial(figures.reuse_figure, reuse),
         f"{summary['n_pairs']} pairs use {len(reuse)} references. One that serves everybody is a hub.",
         "Bars: how often each reference was chosen"),
    ]  # fmt: skip
    pictures = []
    for name, draw, caption, alt in panels:
        path = folder / "figures" / f"population_{name}.png"
        figure = draw()
        folder.write(path, figures.png_bytes(figure, dpi=150))
        width, height = (round(150 * float(side)) for side in figure.get_size_inches())
        pictures.append(LinkedPicture(f"figures/{path.name}", f"figures/{path.name}", alt, caption, (width, height)))
    return pictures


def _thumbnail(neuron: Neuron, recording: Recording) -> LinkedPicture | None:
    if not neuron.explained:
        return None
    first, names = neuron.pairs[0], recording.stimulus_names
    alt = (
        f"Neuron {neuron.name}: heat on {names[first.image]} and on its reference {names[first.reference]} of "
        f"{neuron.preferred}, where they share what drives the neuron"
    )
    name = _picture_path(Path(), "", neuron).name
    return LinkedPicture(f"thumbnails/{name}", f"figures/{name}", alt, size=(293, 144))


def _picture_path(folder: Path | ReportFolder, kind: str, neuron: Neuron) -> Path:
    return folder / kind / f"neuron_{file_stem(neuron.name)}.png"
