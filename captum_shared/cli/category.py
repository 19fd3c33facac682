"""``captum-shared category``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from captum_shared.cli.shared import (
    add_command,
    add_common,
    add_dry_run,
    add_explanation,
    add_images,
    add_network,
    add_value,
    where,
)
from captum_shared.study.settings import CategorySettings
from captum_shared.tables import counted

if TYPE_CHECKING:
    from captum_shared.cli.shared import Commands

EXAMPLES = (
    r"""
    captum-shared category --images photos/ --labels photos/labels.csv --preferred dog \
        --model resnet50 --layer layer4 --out dogs
        your photographs (labels.csv: columns file, category); torchvision's weights are downloaded
    """,
    r"""
    captum-shared category --images photos/ --labels photos/labels.csv --preferred dog \
        --model my_networks:make --weights my_weights.pth --image-size 128 --layer features.7
        your own network: the function `make` of my_networks.py
    """,
    r"""
    captum-shared category --images photos/ --labels photos/labels.csv --preferred dog \
        --model resnet50 --layer layer4 --rule moments --maps pixel,layer --format png,pdf
        another rule, coarse maps of the layer as well, and figures as PDF
    """,
)


def add(commands: Commands) -> None:
    """Add the command to those that there are."""
    command = add_command(
        commands, "category", "explain a category neuron on your labelled photographs", _run, EXAMPLES
    )
    required = command.add_argument_group("required")
    add_images(required)
    required.add_argument("--preferred", required=True, metavar="NAME", help="the neuron's category")
    add_network(required, command)
    add_value(command, "--top", CategorySettings.top, "how many pairs to explain")
    add_explanation(command, CategorySettings)
    add_dry_run(command)
    add_common(command, out="category")


def _run(dry_run: bool, **options: Any) -> str:
    from captum_shared.report import run_category
    from captum_shared.report.arguments import check_category

    check_category(**options)
    if dry_run:
        from captum_shared.report.forecast import forecast_category

        return str(forecast_category(**options))
    summary = run_category(**options)
    pairs = counted(sum(summary["reference_counts"].values()), "pair")
    return f"{pairs}; cross-validated area under the ROC curve {summary['cv_auc']:.3f}; {where(options)}"
