"""The command ``captum-shared``: arguments only; the work is done in `captum_shared.report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from captum_shared import __version__
from captum_shared.console import Parser, check_spelling, closing_pipes, complain, warnings_in_one_line
from captum_shared.study.settings import ENGINES, CategorySettings, RecordingSettings, Settings

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Choices
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[Parser]

EPILOG = """examples:
  captum-shared demo --out demo
      synthetic creatures and objects, no download; open demo/index.html

  captum-shared category --images photos/ --labels photos/labels.csv --preferred dog \\
      --model resnet50 --layer layer4 --out dogs
      your photographs (labels.csv: columns file, category); torchvision's weights are downloaded

  captum-shared recording --recording my_recording/ --model resnet50 --layer auto --out report
      a whole population (my_recording/: responses.npy, stimuli.csv, stimuli/); open report/index.html

  captum-shared category --images photos/ --labels photos/labels.csv --preferred dog \\
      --model my_networks:make --weights my_weights.pth --image-size 128 --layer features.7
      your own network: the function `make` of my_networks.py

  captum-shared selectivity --images photos/ --labels photos/labels.csv \\
      --model resnet50 --layers layer1,layer3 --out units
      what each unit is selective for: colour, class, orientation, symmetry; open units/index.html
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        The exit status: 0 only on success, 2 for an error that the user can correct, 1 if the machine or the program
        failed, 130 if interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    with closing_pipes():
        if not words:
            parser.print_help()
            return 0
        check_spelling(parser, words)
        options = vars(parser.parse_args(words))
        run: Callable[..., str] = options.pop("run")
        flags: dict[str, str] = options.pop("command").flags()
        with_traceback = options.pop("traceback", False)
        try:
            with warnings_in_one_line(flags):
                print(run(**options))
        except (Exception, KeyboardInterrupt) as error:
            return complain(error, with_traceback, flags)
    return 0


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="captum-shared",
        description="Show in two heat maps what an out-of-category image shares with a neuron's preferred category.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"captum-shared {__version__}")
    _add_traceback(parser)
    commands = parser.add_subparsers(metavar="command", required=True)
    parser.commands = commands.choices
    _add_demo(commands)
    _add_category(commands)
    _add_selectivity(commands)
    _add_recording(commands)
    _add_figure(commands)
    return parser


def _add_demo(commands: Commands) -> None:
    command = _command(commands, "demo", "explain a creature neuron on synthetic images with known truth", _demo)
    command.add_argument(
        "--preferred", default="creature", metavar="NAME", help="the neuron's category (default: creature)"
    )
    command.add_argument("--top", type=int, default=6, metavar="N", help="how many pairs to explain (default: 6)")
    command.add_argument(
        "--standardize", action="store_true",
        help="standardise the latents (default: no, since the demo network's are zero where a part is absent)",
    )  # fmt: skip
    _add_common(command, out="demo")


def _add_category(commands: Commands) -> None:
    command = _command(commands, "category", "explain a category neuron on your labelled photographs", _category)
    required = command.add_argument_group("required")
    _add_images(required)
    required.add_argument("--preferred", required=True, metavar="NAME", help="the neuron's category")
    _add_network(required, command)
    command.add_argument(
        "--top", type=int, default=CategorySettings.top, metavar="N",
        help=f"how many pairs to explain (default: {CategorySettings.top})",
    )  # fmt: skip
    _add_explanation(command, CategorySettings)
    _add_common(command, out="category")


def _add_explanation(choices: Choices, defaults: type[Settings]) -> None:
    """What `category` and `recording` have in common."""

    def choice(flag: str, text: str, metavar: str = "NAME", **options: Any) -> None:
        default = getattr(defaults, options.get("dest", flag[2:].replace("-", "_")))
        shown = ",".join(default) if isinstance(default, tuple) else default
        choices.add_argument(flag, default=shown, metavar=metavar, help=f"{text} (default: {shown})", **options)

    choice("--references", "choose references among the drivers in the category, or in the whole category",
           metavar="WHERE", choices=("drivers", "category"))  # fmt: skip
    choice("--references-averaged", "compare an image with the mean of its N most similar references", "N", type=int)
    choice("--similarity", "how references are chosen: dot, as in the paper, or cosine", "KIND")
    choice("--rule", "what counts as shared: product, as in the paper, dot, centered, contrast, matched or moments")
    choice("--maps", "maps of pixels, of the layer, or both: pixel,layer", "KINDS")
    choice("--format", "files of the figures: png,svg,pdf", "KINDS", dest="formats")
    choice("--engine", f"Captum method for maps of pixels: {', '.join(ENGINES)}")
    choice("--steps", "steps of integrated gradients", "N", type=int, dest="n_steps")
    choices.add_argument(
        "--no-standardize", dest="standardize", action="store_false",
        help="leave the latents as they are (default: standardise them over all images)",
    )  # fmt: skip


def _add_selectivity(commands: Commands) -> None:
    command = _command(
        commands, "selectivity", "index what every unit of a network's layers is selective for", _selectivity
    )
    required = command.add_argument_group("required")
    _add_images(required)
    _add_model(required, command)
    required.add_argument(
        "--layers", required=True, type=_names, metavar="A,B",
        help="names of the layers, as in model.named_modules(), separated by commas",
    )  # fmt: skip
    command.add_argument(
        "--top", type=int, default=100, metavar="N", help="strongest images to use for each unit (default: 100)"
    )
    command.add_argument(
        "--crops", type=int, default=10, metavar="N",
        help="how many of these to turn and mirror, at two forward passes each (default: 10)",
    )  # fmt: skip
    command.add_argument(
        "--sheets", type=int, default=6, metavar="N",
        help="draw a sheet for each layer's N most colour-selective and N most class-selective units (default: 6)",
    )  # fmt: skip
    command.add_argument(
        "--grey", choices=("luminance", "opponent"), default="luminance",
        help="the grey that colour selectivity compares with (default: luminance)",
    )  # fmt: skip
    command.add_argument(
        "--class-threshold", type=float, default=0.8, metavar="F",
        help="share of the weight that the classes must reach in the base-rate-corrected class index (default: 0.8)",
    )  # fmt: skip
    command.add_argument(
        "--rare", type=int, default=10, metavar="N",
        help="leave classes with fewer images out of the base-rate-corrected class index (default: 10)",
    )  # fmt: skip
    _add_common(command, out="selectivity")


def _add_images(required: Choices) -> None:
    required.add_argument("--images", required=True, metavar="DIR", help="folder of images")
    required.add_argument(
        "--labels", required=True, metavar="CSV", help="label file with the columns file and category"
    )


def _add_recording(commands: Commands) -> None:
    command = _command(commands, "recording", "explain a whole recording, from raw responses to a report", _recording)
    required = command.add_argument_group("required")
    required.add_argument(
        "--recording", required=True, metavar="PATH",
        help="folder (responses.npy or .csv, stimuli.csv with the columns file and category, stimuli/), or a .csv, .nc "
        "or .nwb file",
    )  # fmt: skip
    layers = "one layer, several separated by commas, or auto (the network's blocks); nested cross-validation chooses"
    _add_network(required, command, None, "avg, max, or the side of a grid (default: choose among avg, 2, 4)", layers)
    data = command.add_argument_group("data")
    data.add_argument("--stimuli", metavar="DIR", help="folder of the images (default: stimuli, in or beside PATH)")
    data.add_argument("--labels", metavar="CSV", help="label file, if the recording has no categories")
    data.add_argument(
        "--missing", choices=("raise", "drop"), default="raise",
        help="if listed images do not exist: raise an error, or drop them (default: raise)",
    )  # fmt: skip
    data.add_argument(
        "--window", type=float, nargs=2, metavar=("START", "STOP"),
        help="NWB: seconds after a trial's start in which spikes are counted (default: 0.05 0.25)",
    )  # fmt: skip
    for flag, kind in (("--stimulus-column", "image file"), ("--category-column", "category")):
        data.add_argument(
            flag, metavar="NAME", help=f"NWB: column of the trials with the {kind} (default: {flag[2:].split('-')[0]})"
        )
    data.add_argument("--variable", metavar="NAME", help="netCDF: name of the responses (default: the only one)")
    _add_selection(command.add_argument_group("choices"))
    command.add_argument(
        "--jobs", dest="n_jobs", type=int, metavar="N", help="processes; -1 for all cores (default: 1)"
    )
    parts = command.add_mutually_exclusive_group()
    parts.add_argument("--shard", metavar="K/N", help="make the K-th of N parts of the maps, in a folder next to --out")
    parts.add_argument("--gather", action="store_true", help="collect what the shards have made, and write the report")
    _add_common(command, out="report")


def _add_selection(choices: Choices) -> None:
    def number(flag: str, kind: type, text: str, name: str = "") -> None:
        name = name or flag[2:].replace("-", "_")
        default = getattr(RecordingSettings, name)
        choices.add_argument(
            flag, dest=name, type=kind, default=default, metavar="N", help=f"{text} (default: {default})"
        )

    choices.add_argument(
        "--neurons", metavar="NAMES", help="neurons to study, by name or number, such as 0,3,7-9 (default: all)"
    )
    choices.add_argument(
        "--preferred", metavar="NAME", help="category that all neurons prefer (default: for each, the largest d')"
    )
    number("--drivers", int, "how many out-of-category drivers to explain per neuron, at most")
    number("--threshold", float, "level of a driver, in standard deviations above the mean, recorded and predicted")
    number("--min-reliability", float, "lowest split-half reliability of a neuron to explain")
    number("--min-r", float, "lowest cross-validated correlation", "min_cv_r")
    number(
        "--min-d-prime", float, "lowest d' of the preferred category; below 0.5 a neuron is explained with a warning"
    )
    _add_explanation(choices, RecordingSettings)
    number("--figures", int, "neurons whose figures are drawn in advance, the best predicted first")
    number("--map-bits", int, "bits per number in the files of maps: 8, 16 or 32")
    number("--map-reduction", int, "sum maps of pixels over blocks of N x N pixels")
    number("--folds", int, "outer folds of cross-validation")
    number("--pca", int, "components before the ridge regression; 0 for no PCA")


def _add_network(
    required: Choices,
    command: argparse.ArgumentParser,
    pool: str | None = "avg",
    pool_help: str = "avg, max, flatten, cls, or the side of a grid (default: avg)",
    layer_help: str = "name of the layer, as in model.named_modules()",
) -> None:
    _add_model(required, command)
    required.add_argument("--layer", required=True, metavar="NAME", help=layer_help)
    command.add_argument("--pool", type=_pool, default=pool, metavar="P", help=pool_help)


def _add_model(required: Choices, command: argparse.ArgumentParser) -> None:
    required.add_argument(
        "--model", required=True, metavar="NAME", help="torchvision name, or module:callable for your own"
    )
    command.add_argument(
        "--weights", default="DEFAULT", metavar="PATH",
        help="state dict (.pth or .safetensors), or the name of torchvision weights to download (default: DEFAULT)",
    )  # fmt: skip
    command.add_argument("--image-size", type=int, metavar="N", help="side length of the network's input in pixels")
    for name in ("mean", "std"):
        command.add_argument(
            f"--{name}",
            type=float,
            nargs=3,
            metavar=("R", "G", "B"),
            help=f"{name} of the channels (default: ImageNet's)",
        )


def _add_common(command: argparse.ArgumentParser, out: str) -> None:
    command.add_argument("--out", default=out, metavar="DIR", help=f"folder for the results (default: {out})")
    command.add_argument(
        "--overwrite", action="store_true", help="replace a report with another configuration in that folder"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed for everything random (default: 0)")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, mps ... (default: cuda if there is one)")
    command.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="images per forward pass (default: 32)"
    )


def _add_figure(commands: Commands) -> None:
    command = _command(commands, "figure", "draw pairs of a report for a paper, as PDF, SVG or PNG", _figure)
    command.add_argument("--report", required=True, metavar="DIR", help="folder of a report of category or recording")
    command.add_argument("--neuron", required=True, metavar="NAME", help="the neuron, by its name in the report")
    command.add_argument("--pairs", default="1", metavar="N,N", help="its pairs, from 1 (default: 1)")
    command.add_argument(
        "--width", default="double", choices=("single", "double"),
        help="one column, 3.5 inches, or two, 7.2 inches (default: double)",
    )  # fmt: skip
    command.add_argument(
        "--map", dest="kind", metavar="NAME", help="which map, by its name in the report (default: the first there)"
    )
    command.add_argument("--out", default="figure.pdf", metavar="FILE", help="the file (default: figure.pdf)")


def _figure(**options: Any) -> str:
    from captum_shared.report.published import run_figure

    return f"open {run_figure(**options)}"


def _add_traceback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--traceback", action="store_true", default=argparse.SUPPRESS, help="show where an error occurred"
    )


def _command(commands: Commands, name: str, summary: str, run: Callable[..., str]) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=summary, description=summary.capitalize() + ".", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(run=run, command=command)
    _add_traceback(command)
    return command


def _demo(**options: Any) -> str:
    from captum_shared.report import run_demo
    from captum_shared.report.arguments import check_demo

    check_demo(**options)
    run_demo(**options)
    return _where(options)


def _category(**options: Any) -> str:
    from captum_shared.report import run_category
    from captum_shared.report.arguments import check_category

    check_category(**options)
    summary = run_category(**options)
    pairs = sum(summary["reference_counts"].values())
    return f"{pairs} pairs; cross-validated area under the ROC curve {summary['cv_auc']:.3f}; {_where(options)}"


def _selectivity(**options: Any) -> str:
    from captum_shared.report import run_selectivity
    from captum_shared.report.arguments import check_selectivity

    check_selectivity(**options)
    summary = run_selectivity(**options)
    units = sum(layer["n_units"] for layer in summary["layers"].values())
    return f"{units} units of {len(summary['layers'])} layers; {_where(options)}"


def _where(options: Mapping[str, object]) -> str:
    return f"open {options['out']}/index.html"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _recording(**options: Any) -> str:
    from captum_shared.report import run_recording
    from captum_shared.report.arguments import check_recording

    options = {**options, "pca": options["pca"] or None}
    check_recording(**options)
    summary = run_recording(**options)
    if options["shard"]:
        return f"shard {summary['shard']} is done, in {summary['folder']}; when all are, rerun with --gather"
    said = [f"{summary['n_explained']} of {summary['n_neurons']} neurons explained, {summary['n_pairs']} pairs"]
    if summary["median_cv_r"] is not None:
        said.append(f"median cross-validated r {summary['median_cv_r']:.3f}")
    if summary["median_cv_r_corrected"] is not None:
        said.append(f"corrected for the noise ceiling {summary['median_cv_r_corrected']:.3f}")
    return f"{'; '.join(said)}; {_where(options)}"


def _pool(text: str) -> str | int:
    return int(text) if text.isdigit() else text
