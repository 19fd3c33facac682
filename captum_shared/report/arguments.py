"""What a command is asked for, checked before any work: before a network is made or weights are downloaded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from captum_shared.checks import check_integer, check_number
from captum_shared.encoder.latents import POOLS
from captum_shared.folders import MANIFEST, ReportFolder
from captum_shared.labels import read_labels
from captum_shared.networks.registry import check_model
from captum_shared.selection import rule_names
from captum_shared.similarity import SIMILARITIES
from captum_shared.study.category import check_membership
from captum_shared.study.contents import example_of
from captum_shared.study.settings import (
    ENGINES,
    CategorySettings,
    RecordingSettings,
    Settings,
    make_settings,
    split_options,
)

if TYPE_CHECKING:
    from typing import TypedDict

    from typing_extensions import Required

    class ImageOptions(TypedDict, total=False):
        """How images are prepared, as for `load_network`."""

        image_size: int | None
        mean: Sequence[float] | None
        std: Sequence[float] | None

    class NetworkOptions(ImageOptions, total=False):
        """Which network a command takes, as for `load_network`, and where it computes."""

        model: Required[str]
        weights: str | Path | None
        device: str | None

    class LabelledOptions(TypedDict, total=False):
        """Labelled images, and where the report on them goes."""

        images: Required[str | Path]
        labels: Required[str | Path]
        progress: bool
        out: str | Path
        overwrite: bool


Chosen = TypeVar("Chosen", bound=Settings)

LEAST = {
    "batch_size": 1, "crops": 1, "image_size": 1, "n_steps": 1, "pca": 0, "rare": 1, "seed": 0, "sheets": 0, "top": 1,
}  # fmt: skip
MOST_CELLS = 64
"""The longest side of a grid: if it had more cells than the map, latents would be repeated and memory would fill up."""


def known_choices() -> dict[str, tuple[str, ...]]:
    """The names that an option may have, by option: those that are known only once torch is there."""
    return {"rule": tuple(rule_names()), "similarity": tuple(SIMILARITIES), "engine": ENGINES}


def check_category(images: str, labels: str, preferred: str, **options: Any) -> None:
    """The arguments of ``captum-shared category``, the label file, and that images are there, one of them readable."""
    check_common(**options)
    _check_pool(options["pool"], POOLS)
    settings = _check_settings(CategorySettings, options)
    paths, categories = read_labels(images, labels)
    check_membership(categories, preferred, settings.folds)
    example_of(paths)


def check_selectivity(images: str, labels: str, **options: Any) -> None:
    """The arguments of ``captum-shared selectivity``; of the files, as in `check_category`."""
    check_integer("top", options["top"], 2)
    threshold = check_number("class_threshold", options["class_threshold"])
    if not 0 < threshold <= 1:
        raise ValueError(f"`class_threshold` must be in (0, 1], got {threshold}")
    if not all(options["layers"]):
        raise ValueError(f"`layers` must be names separated by commas, got an empty name in {options['layers']}")
    check_common(**options)
    example_of(read_labels(images, labels)[0])


def check_recording(**options: Any) -> None:
    """The arguments of ``captum-shared recording``; the recording itself is read before the network anyway."""
    check_common(**options)
    if options["pool"] is not None:
        _check_pool(options["pool"], ("avg", "max"))
    if options["n_jobs"] == 0:
        raise ValueError("`n_jobs` must be a number of processes, or -1 for all cores, got 0")
    _check_settings(RecordingSettings, options)


def find_device(name: str | None) -> torch.device:
    """The device of this name; without one, a CUDA device if there is one, else the CPU.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device.type == "meta":
            raise RuntimeError("it has shapes, but no values")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"`device` must be one that this machine has, such as 'cpu', got {name!r}: {error}") from error
    return device


def _check_settings(kind: type[Chosen], options: dict[str, Any]) -> Chosen:
    return make_settings(kind, split_options(kind, options)[0], "this command")


def check_common(**options: Any) -> None:
    """What all commands take that write a report."""
    for name in [name for name in LEAST if options.get(name) is not None]:
        check_integer(name, options[name], LEAST[name])
    for name in ("mean", "std"):
        _check_channels(name, options.get(name))
    out = Path(options["out"])
    for folder in (out, *out.parents):
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"`out` must be a folder, got the file {folder}")
    if out.is_dir() and not os.path.lexists(out / MANIFEST):
        ReportFolder(out, {}).refuse_foreign()
    _check_writable(out)
    find_device(options["device"])
    if "model" in options:
        check_model(options["model"], options["weights"])


def _check_writable(out: Path) -> None:
    """Refuse a folder in which no file can be made; or whose parent is such, where it is still to be made."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise ValueError(
            f"`out` must be a folder in which files can be made, got {out}: {error.strerror} in {there}"
        ) from error


def _check_channels(name: str, values: Sequence[float] | None) -> None:
    for value in values or ():
        check_number(name, value)
        if name == "std" and value <= 0:
            raise ValueError(f"`std` must be positive, got {value}")


def _check_pool(pool: Any, names: Sequence[str]) -> None:
    if pool not in names and not (isinstance(pool, int) and 0 < pool <= MOST_CELLS):
        raise ValueError(
            f"`pool` must be one of {tuple(names)} or a grid's side from 1 to {MOST_CELLS}, such as 4, got {pool!r}"
        )
