"""What commands have in common: how they are added, and flags that several of them take."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from captum_shared.console import Parser
from captum_shared.study.settings import ENGINES, Settings

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Choices
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[Parser]


def add_command(
    commands: Commands, name: str, summary: str, run: Callable[..., str], examples: Sequence[str]
) -> argparse.ArgumentParser:
    """A command without flags of its own yet; `run` takes what they are set to, and returns what is said at the end."""
    command = commands.add_parser(
        name, help=summary, description=summary.capitalize() + ".", epilog=examples_text(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(run=run, command=command)
    add_traceback(command)
    return command


def make_parser(**options: Any) -> Parser:
    """A parser that prints its epilog as it stands."""
    return Parser(formatter_class=argparse.RawDescriptionHelpFormatter, **options)


def examples_text(examples: Sequence[str]) -> str:
    """The examples as the last part of a help; each is a command and, indented, what it does."""
    return "examples:\n" + "\n\n".join(textwrap.indent(textwrap.dedent(one).strip(), "  ") for one in examples) + "\n"


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """``--traceback``, before or after the command's name."""
    parser.add_argument(
        "--traceback", action="store_true", default=argparse.SUPPRESS, help="show where an error occurred"
    )


def add_images(required: Choices) -> None:
    """A folder of images with a label file."""
    required.add_argument("--images", required=True, metavar="DIR", help="folder of images")
    required.add_argument(
        "--labels", required=True, metavar="CSV",
        help="label file with the columns file and category; or folders: an image is in the categories named by the "
        "folders it is in, below --images",
    )  # fmt: skip


def add_weights(required: Choices, command: argparse.ArgumentParser, default: str = "DEFAULT") -> None:
    """A network, its weights, and the size of its images."""
    required.add_argument(
        "--model", required=True, metavar="NAME",
        help="torchvision name, timm:NAME, hf:NAME (transformers), open_clip:NAME, or module:callable for your own",
    )  # fmt: skip
    command.add_argument(
        "--weights", default=default, metavar="PATH",
        help="state dict (.pth or .safetensors), for hf:NAME also a folder with config.json; none for random weights; "
        f"DEFAULT, or a name that torchvision or open_clip has for the network, to download (default: {default})",
    )  # fmt: skip
    command.add_argument("--image-size", type=int, metavar="N", help="side length of the network's input in pixels")


def add_model(required: Choices, command: argparse.ArgumentParser) -> None:
    """A network, its weights, and how images are prepared for it."""
    add_weights(required, command)
    for name in ("mean", "std"):
        command.add_argument(
            f"--{name}",
            type=float,
            nargs=3,
            metavar=("R", "G", "B"),
            help=f"{name} of the channels (default: the network's own, or ImageNet's)",
        )


def add_network(
    required: Choices,
    command: argparse.ArgumentParser,
    pool: str | None = "avg",
    pool_help: str = "avg, max, flatten, cls, or the side of a grid (default: avg)",
    layer_help: str = "name of the layer, as in model.named_modules()",
) -> None:
    """A network cut at a layer, and how the layer is pooled."""
    add_model(required, command)
    required.add_argument("--layer", required=True, metavar="NAME", help=layer_help)
    command.add_argument("--pool", type=_pool, default=pool, metavar="P", help=pool_help)


def add_value(group: Choices, flag: str, default: object, text: str, metavar: str | None = "N", **options: Any) -> None:
    """A flag with a default, which tells the type and ends the help."""
    options = {"type": type(default), "default": default, "metavar": metavar, **options}
    group.add_argument(flag, help=f"{text} (default: {default})", **options)


def add_number(
    choices: Choices, defaults: type[object], flag: str, kind: type, text: str, name: str | None = None
) -> None:
    """A number with its default in a class of settings, by the flag's name or another."""
    name = name or flag[2:].replace("-", "_")
    add_value(choices, flag, getattr(defaults, name), text, type=kind, dest=name)


def add_explanation(choices: Choices, defaults: type[Settings]) -> None:
    """How references are chosen and maps made: what `category` and `recording` have in common."""

    def value(flag: str, text: str, metavar: str = "NAME", **options: Any) -> None:
        default = getattr(defaults, options.get("dest", flag[2:].replace("-", "_")))
        add_value(choices, flag, ",".join(default) if isinstance(default, tuple) else default, text, metavar, **options)

    value("--references", "choose references among the drivers in the category, or in the whole category",
          "WHERE", choices=("drivers", "category"))  # fmt: skip
    value("--references-averaged", "compare an image with the mean of its N most similar references", "N")
    value("--similarity", "how references are chosen: dot, as in the paper, or cosine", "KIND")
    value("--rule", "what counts as shared: product, as in the paper, dot, centered, contrast, matched or moments")
    value("--maps", "maps of pixels, of the layer, or both: pixel,layer", "KINDS")
    value("--format", "files of the figures: png,svg,pdf", "KINDS", dest="formats")
    value("--engine", f"Captum method for maps of pixels: {', '.join(ENGINES)}")
    value("--steps", "steps of integrated gradients", dest="n_steps", metavar="N")
    choices.add_argument(
        "--no-standardize", dest="standardize", action="store_false",
        help="leave the latents as they are (default: standardize them over all images)",
    )  # fmt: skip


def add_common(command: argparse.ArgumentParser, out: str) -> None:
    """What every command takes that writes a report."""
    add_value(command, "--out", out, "folder for the results", "DIR")
    command.add_argument(
        "--overwrite", action="store_true", help="replace a report with another configuration in that folder"
    )
    add_value(command, "--seed", 0, "seed for everything random")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, mps ... (default: cuda if there is one)")
    add_value(command, "--batch-size", 32, "images per forward pass")


def add_dry_run(command: argparse.ArgumentParser) -> None:
    """``--dry-run``."""
    command.add_argument(
        "--dry-run", action="store_true",
        help="check everything, say what would be run, for how long, and what it would write; write nothing",
    )  # fmt: skip


def where(options: Mapping[str, object]) -> str:
    """Where the report is, as the end of what a command says."""
    return f"open {options['out']}/index.html"


def _pool(text: str) -> str | int:
    return int(text) if text.isdigit() else text
