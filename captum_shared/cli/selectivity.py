"""``captum-shared selectivity``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from captum_shared.cli.shared import add_command, add_common, add_dry_run, add_images, add_model, where
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
