"""The protocol, one page to print, and the page with all pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from captum_shared.folders import ReportFolder
from captum_shared.report.html import LinkedPicture, Section, linked_gallery, numbers, page, table, text
from captum_shared.report.stimuli.sheets import pair_sheet
from captum_shared.report.stimuli.tables import NeuronSet, StimuliSummary
from captum_shared.stimuli.plan import in_words
from captum_shared.study.experiment import ExperimentSettings
from captum_shared.study.maps import file_stem
from captum_shared.tables import counted, listed

MOST_ROWS = 12
"""Of neurons in the protocol, which is to fit on one page."""
PROVES = (
    "A confirmed comparison shows that the marked part matters more to the neuron than a random part of the same shape "
    "and area. It shows no more than that. On a photograph of a single object any sensible map covers the object, so "
    "removing the part does not tell one method from another, nor what is shared from what merely drives the neuron. "
    "The transplant comes closer: the reference's part must do what the image's own part did. To tell methods apart, "
    "show composites or cluttered scenes that hold several objects, and compare one image's parts for two references."
)


def write_pages(
    folder: ReportFolder, sets: Sequence[NeuronSet], settings: ExperimentSettings, summary: StimuliSummary
) -> None:
    """Write ``index.html``, ``pictures.html`` and the sheets that it shows."""
    folder.write_text("index.html", protocol(sets, settings, summary))
    sheets: list[Section] = []
    for each in sets:
        pictures = []
        for pair in each.pairs:
            name = f"sheets/neuron_{file_stem(each.name)}_pair_{pair.number}.png"
            folder.write_figure(name, pair_sheet(pair, each.predicted), dpi=200)
            alt = f"Pictures of pair {pair.number} of neuron {each.name}"
            pictures.append(LinkedPicture(name, name, alt, f"pair {pair.number}: {pair.image} and {pair.reference}"))
        if pictures:
            sheets.append(linked_gallery(f"Neuron {each.name}", pictures))
    lead = (
        "The originals with their parts outlined, and what was made of them; above each picture the response that the "
        "neuron's encoding model predicts. The protocol is index.html."
    )
    folder.write_text("pictures.html", page("Stimuli", [lead], [*sheets, Section("sheet.html")]))


def protocol(sets: Sequence[NeuronSet], settings: ExperimentSettings, summary: StimuliSummary) -> str:
    """The page to print."""
    lead = (
        f"{summary['n_files']} pictures, in images/, test for {counted(summary['n_neurons'], 'neuron')} whether the "
        "parts that their maps mark are what drives them. What should happen is written down here, before the "
        "experiment; stimuli.csv and comparisons.csv say it for each file, pictures.html shows them all."
    )
    shown = [("neurons", summary["n_neurons"]), ("pairs", summary["n_pairs"]), ("pictures", summary["n_files"]),
             ("tests", summary["n_tests"]), ("trials", summary["trials"])]  # fmt: skip
    kinds = {one.comparison.kind: one.comparison.expected for each in sets for one in each.plan.comparisons}
    rows = [(kind, expected, in_words(kind, expected)) for kind, expected in kinds.items()]
    sections = [
        Section("protocol.html"), numbers(shown),
        table("What is expected", ("picture", "response", "compared with its controls"), rows),
        _plan_table(sets), Section("steps.html", {"heading": "The experiment", "steps": _steps(sets, settings)}),
        text(_reasons(sets, settings), "How the numbers were found"), text([PROVES], "What a result shows"),
    ]  # fmt: skip
    return page("Protocol: do the marked parts drive the neurons?", [lead], sections)


def _plan_table(sets: Sequence[NeuronSet]) -> Section:
    header = ("neuron", "pictures", "comparisons", "tests", "repeats", "trials", "least power", "trial variance",
              "error of predictions")  # fmt: skip
    rows = [
        (each.name, each.n_files, len(each.plan.comparisons), each.plan.n_tested, each.plan.repeats or "none",
         each.trials, "" if math.isnan(each.least_power) else f"{each.least_power:.2f}", _variance(each),
         f"{each.error:.2f}")
        for each in sets[:MOST_ROWS]
    ]  # fmt: skip
    more = f" (the first {MOST_ROWS} of {len(sets)}; all are in neurons.csv)" if len(sets) > MOST_ROWS else ""
    return table(f"Repeats of each picture{more}", header, rows)


def _variance(each: NeuronSet) -> str:
    floor, slope = each.noise.floor, each.noise.slope
    if floor == 0 or slope == 0:
        return f"{slope:.2f} \u00d7 mean" if slope else f"{floor:.2g}"
    return f"{floor:.2g} + {slope:.2f} \u00d7 mean"


def _steps(sets: Sequence[NeuronSet], settings: ExperimentSettings) -> list[str]:
    h, w = next(one.picture.shape[:2] for each in sets for pair in each.pairs for one in pair.stimuli.values())
    matched = " and ".join(
        what for what, done in (("luminance", settings.match_luminance), ("contrast", settings.match_contrast)) if done
    )
    equal = f" They are matched in mean {matched}." if matched else " Luminance and contrast are as they came out."
    return [
        f"Show the pictures ({w} x {h} pixels) as the stimuli of the recording were shown: same place, size and "
        f"duration.{equal}",
        "Show every picture of a neuron once before any comes again, in a new random order each time, until each was "
        "shown as often as the table says.",
        "Count responses in the time window of the recording. Leave the files and this page as they are.",
        "Collect a CSV file with the columns file, neuron, trial and response, or with file, neuron and one column per "
        "repeat; then run: captum-shared stimuli --out THIS_FOLDER --responses FILE.csv",
    ]


def _reasons(sets: Sequence[NeuronSet], settings: ExperimentSettings) -> list[str]:
    silent = [each.name for each in sets if not each.plan.n_tested]
    dark = [f"{each.name} (pair {', '.join(map(str, each.dark))})" for each in sets if each.dark]
    none = f" Nothing can be tested for: {_some(silent)}." if silent else ""
    left = f" Left out because a map has no heat: {_some(dark)}." if dark else ""
    return [
        f"Test: Welch's t test, two-sided, of the trials of a picture against the mean of its controls, at a level of "
        f"{settings.alpha:g} for all tests of a neuron together (Holm's correction). The repeats are those with which "
        f"each test finds its predicted difference with a probability of at least {settings.power:g}, at that level "
        "divided by the number of tests; the trial variance is that of the recording's own repeats. A comparison is "
        "tested if its predicted difference goes the expected way and "
        f"{settings.max_repeats} repeats can show it; the others are measured all the same.{none}",
        "Predictions come from the neuron's encoding model, fitted to the whole recording; their error is the root "
        "mean square over its stimuli, cross-validated. Pictures without a part are unlike those that the model knows. "
        "A difference half as large as predicted needs four times as many repeats.",
        f"Parts are the hottest {settings.area:.0%} of what the network sees, removed by {settings.fill}; controls "
        f"have the same shape at random places.{left}",
    ]


def _some(names: Sequence[str]) -> str:
    return listed(names, 5) + (", see neurons.csv" if len(names) > 5 else "")
