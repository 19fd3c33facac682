"""``captum-shared selectivity``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from captum_shared.cli.shared import add_command, add_common, add_dry_run, add_images, add_model, add_value, where
from captum_shared.tables import counted

if TYPE_CHECKING:
    from captum_shared.cli.shared import Commands

EXAMPLES = (
    r"""
    captum-shared selectivity --images photos/ --labels photos/labels.csv \
        --model resnet50 --layers layer1,layer3 --out units
        what each unit is selective for: colour, class, orientation, symmetry; open units/index.html
    """,
)


def add(commands: Commands) -> None:
    """Add the command to those that there are."""
    command = add_command(
        commands, "selectivity", "index what every unit of a network's layers is selective for", _run, EXAMPLES
    )
    required = command.add_argument_group("required")
    add_images(required)
    add_model(required, command)
    required.add_argument(
        "--layers", required=True, type=_names, metavar="A,B",
        help="names of the layers, as in model.named_modules(), separated by commas",
    )  # fmt: skip
    value = partial(add_value, command)
    value("--top", 100, "strongest images to use for each unit")
    value("--crops", 10, "how many of these to turn and mirror, at two forward passes each")
    value("--sheets", 6, "draw a sheet for each layer's N most colour-selective and N most class-selective units")
    greys = ("luminance", "opponent")
    value("--grey", "luminance", "the grey that colour selectivity compares with", None, choices=greys)
    threshold = "share of the weight that the classes must reach in the base-rate-corrected class index"
    value("--class-threshold", 0.8, threshold, "F")
    value("--rare", 10, "leave classes with fewer images out of the base-rate-corrected class index")
    add_dry_run(command)
    add_common(command, out="selectivity")


def _run(dry_run: bool, **options: Any) -> str:
    from captum_shared.report import run_selectivity
    from captum_shared.report.arguments import check_selectivity

    check_selectivity(**options)
    if dry_run:
        from captum_shared.report.forecast import forecast_selectivity

        return str(forecast_selectivity(**options))
    summary = run_selectivity(**options)
    layers = summary["layers"]
    units = counted(sum(layer["n_units"] for layer in layers.values()), "unit")
    said = [f"{units} of {counted(len(layers), 'layer')}"]
    for name, what in (("color_selectivity", "colour"), ("class_selectivity_normalized", "class")):
        ends = list(dict.fromkeys([next(iter(layers)), list(layers)[-1]]))
        means = [layers[layer]["indices"][name].get("mean") for layer in ends]
        shown = ["unknown" if mean is None else f"{mean:.2f}" for mean in means]
        said.append(f"mean {what} selectivity {', '.join(map('{} in {}'.format, shown, ends))}")
    return f"{'; '.join(said)}; {where(options)}"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
