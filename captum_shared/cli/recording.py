"""``captum-shared recording``."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from captum_shared.cli.shared import (
    add_command,
    add_common,
    add_dry_run,
    add_explanation,
    add_network,
    add_number,
    add_value,
    where,
)
from captum_shared.study.settings import PAIRS, POLES, RecordingSettings
from captum_shared.tables import counted

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Choices

    from captum_shared.cli.shared import Commands

EXAMPLES = (
    """
    captum-shared recording --recording my_recording/ --model resnet50 --layer auto --out report
        a whole population (my_recording/: responses.npy, stimuli.csv, stimuli/); open report/index.html
    """,
    """
    captum-shared recording --recording my_recording/ --model resnet50 --layer auto --dry-run
        what that would do, for how long, and what it would write; nothing is written
    """,
    r"""
    captum-shared recording --recording session.nwb --stimuli images/ --model resnet50 \
        --layer layer2,layer3 --neurons 0,3,7-9 --jobs 4 --out some
        some neurons of an NWB file, two layers to choose from, four processes
    """,
    r"""
    captum-shared recording --recording natural_images/ --model resnet50 --layer layer3 \
        --pairs drivers --maps layer --out natural
        a recording without categories: pairs of images that drive a neuron and are otherwise unlike
    """,
    r"""
    captum-shared recording --recording assembly.nc --select region=IT --window 70 170 \
        --stimulus-set stimulus_set.csv --stimuli images/ --model resnet50 --layer auto --out it
        the neurons of one area in an assembly of Brain-Score, the mean from 70 to 170 ms
    """,
)


def add(commands: Commands) -> None:
    """Add the command to those that there are."""
    command = add_command(
        commands, "recording", "explain a whole recording, from raw responses to a report", _run, EXAMPLES
    )
    required = command.add_argument_group("required")
    required.add_argument(
        "--recording", required=True, metavar="PATH",
        help="folder (responses.npy or .csv, stimuli.csv with the columns file and category, stimuli/), or a file: "
        ".csv, .nc (also Brain-Score's), .nwb, THINGS_normMUA.mat, or .mat, .h5 or .npz with --mapping",
    )  # fmt: skip
    layers = "one layer, several separated by commas, or auto (the network's blocks); nested cross-validation chooses"
    add_network(required, command, None, "avg, max, or the side of a grid (default: choose among avg, 2, 4)", layers)
    add_data(command.add_argument_group("data"))
    _add_selection(command.add_argument_group("choices"))
    command.add_argument(
        "--jobs", dest="n_jobs", type=int, metavar="N", help="processes; -1 for all cores (default: 1)"
    )
    parts = command.add_mutually_exclusive_group()
    parts.add_argument("--shard", metavar="K/N", help="make the K-th of N parts of the maps, in a folder next to --out")
    parts.add_argument("--gather", action="store_true", help="collect what the shards have made, and write the report")
    add_dry_run(command)
    add_common(command, out="report")


def add_data(data: Choices) -> None:
    """How the recording is read."""
    data.add_argument(
        "--stimuli", metavar="DIR", help="folder or zip file of the images (default: stimuli, in or beside PATH)"
    )
    data.add_argument(
        "--labels", metavar="CSV",
        help="label file, if the recording has no categories; or folders: an image is in the categories named by the "
        "folders it is in, below that of the images",
    )  # fmt: skip
    missing = "if listed images do not exist: raise an error, or drop them"
    add_value(data, "--missing", "raise", missing, None, choices=("raise", "drop"))
    data.add_argument(
        "--select", metavar="NAME=VALUE", action="append", type=_property,
        help="only neurons with this property, such as region=IT or region=V4,IT; repeat it for others (default: all)",
    )  # fmt: skip
    data.add_argument(
        "--window", type=float, nargs=2, metavar=("START", "STOP"),
        help="NWB: seconds after the start in which spikes are counted or traces averaged (default: 0.05 0.25); "
        "Brain-Score: milliseconds, the time bins to average (default: the only one)",
    )  # fmt: skip

    def name(flag: str, text: str, metavar: str = "NAME") -> None:
        data.add_argument(flag, metavar=metavar, help=text)

    name("--intervals", "NWB: table of the presentations (default: trials, or the only one)")
    name("--traces", "NWB: name of the calcium traces (default: spikes, or the only traces)")
    name("--stimulus-column", "NWB: column of the presentations with the image file (default: stimulus)")
    name("--category-column", "NWB: column of the presentations with the category (default: category); Brain-Score: "
         "coordinate, or column of the stimulus set (default: category_name, category or object_name)")  # fmt: skip
    name("--stimulus-set", "Brain-Score: CSV of the stimulus set (default: the one beside the file); TVSD: "
         "things_imgs.mat (default: in _logs beside the file)", "FILE")  # fmt: skip
    name("--variable", "netCDF: name of the responses (default: the only one)")
    name("--areas", "TVSD: monkeyN, monkeyF or ranges of channels, such as V1=1-512,V4=513-1024 (default: by the name "
         "of the file's folder)", "RANGES")  # fmt: skip
    name("--mapping", "arrays in .mat, .h5 or .npz: which is what", "JSON")


def _property(text: str) -> tuple[str, list[str]]:
    """Name and values of a property."""
    name, mark, values = text.partition("=")
    if not (name and mark and values):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, such as region=IT, got {text!r}")
    return name, values.split(",")


def _add_selection(choices: Choices) -> None:
    """Which neurons, drivers and references, and which maps."""
    number = partial(add_number, choices, RecordingSettings)
    choices.add_argument(
        "--neurons",
        metavar="NAMES",
        help="neurons to study, by name, such as unit_3,unit_8 or 0,3,7-9; where no name is a number, numbers are "
        "positions from 0 (default: all)",
    )
    pairs = (
        "compare drivers outside the preferred category with those inside it, or, without categories, a neuron's "
        "drivers with one another: alike for the neuron and unlike otherwise"
    )
    add_value(choices, "--pairs", RecordingSettings.pairs, pairs, None, choices=PAIRS)
    pole = "explain what excites the neurons, or what silences them"
    add_value(choices, "--pole", RecordingSettings.pole, pole, None, choices=POLES)
    choices.add_argument(
        "--preferred", metavar="NAME", help="category that all neurons prefer (default: for each, the largest d')"
    )
    number("--drivers", int, "how many drivers (outside the preferred category) to explain per neuron, at most")
    number("--threshold", float, "level of a driver, in standard deviations above the mean, recorded and predicted")
    number("--min-reliability", float, "lowest split-half reliability of a neuron to explain")
    number("--min-r", float, "lowest cross-validated correlation", "min_cv_r")
    number(
        "--min-d-prime", float, "lowest d' of the preferred category; below 0.5 a neuron is explained with a warning"
    )
    add_explanation(choices, RecordingSettings)
    choices.add_argument(
        "--interventions", action="store_true",
        help="test every pair: remove the hottest tenth of its image, keep it alone, and see what a model at another "
        "layer makes of it; some 160 forward passes a pair (default: no)",
    )  # fmt: skip
    number("--figures", int, "neurons whose figures are drawn in advance, the best predicted first")
    number("--map-bits", int, "bits per number in the files of maps: 8, 16 or 32")
    number("--map-reduction", int, "sum maps of pixels over blocks of N x N pixels")
    number("--folds", int, "outer folds of cross-validation")
    number("--pca", int, "components before the ridge regression; 0 for no PCA")


def _run(dry_run: bool, **options: Any) -> str:
    from captum_shared.report import run_recording
    from captum_shared.report.arguments import check_recording

    options = {**options, "pca": options["pca"] or None, "select": dict(options["select"] or ()) or None}
    check_recording(**options)
    if dry_run:
        from captum_shared.report.forecast import forecast_recording

        return str(forecast_recording(**options))
    summary = run_recording(**options)
    if options["shard"]:
        return f"shard {summary['shard']} is done, in {summary['folder']}; when all are, rerun with --gather"
    neurons, pairs = counted(summary["n_neurons"], "neuron"), counted(summary["n_pairs"], "pair")
    said = [f"{summary['n_explained']} of {neurons} explained, {pairs}"]
    if summary["median_cv_r"] is not None:
        said.append(f"median cross-validated r {summary['median_cv_r']:.3f}")
    if summary["median_cv_r_corrected"] is not None:
        said.append(f"corrected for the noise ceiling {summary['median_cv_r_corrected']:.3f}")
    return f"{'; '.join(said)}; {where(options)}"
