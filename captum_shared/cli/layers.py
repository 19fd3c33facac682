"""``captum-shared layers``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_shared.cli.shared import add_command, add_weights

if TYPE_CHECKING:
    from captum_shared.cli.shared import Commands

EXAMPLES = (
    r"""
    captum-shared layers --model resnet50
        where resnet50 can be cut; random weights will do, so nothing is downloaded
    """,
    r"""
    captum-shared layers --model timm:vit_base_patch16_224 --all
        all layers of a network of timm, with the reason why it cannot be cut at some
    """,
    r"""
    captum-shared layers --model my_networks:make --image-size 128
        your own network: the function `make` of my_networks.py
    """,
)


def add(commands: Commands) -> None:
    """Add the command to those that there are."""
    command = add_command(
        commands, "layers", "list a network's layers: their outputs, and how to pool those at which it can be cut",
        _run, EXAMPLES,
    )  # fmt: skip
    add_weights(command.add_argument_group("required"), command, default="none")
    command.add_argument(
        "--all", dest="everything", action="store_true",
        help="also list layers at which the network cannot be cut, with the reason",
    )  # fmt: skip


def _run(model: str, weights: str, image_size: int | None, everything: bool) -> str:
    from captum_shared.report.layer_table import run_layers

    return run_layers(model=model, weights=weights, image_size=image_size, everything=everything)
