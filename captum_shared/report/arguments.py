"""What a command was asked for, checked before any work: before weights are downloaded or images are encoded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from captum_shared.checks import check_integer, check_number
from captum_shared.encoder.latents import POOLS
from captum_shared.folders import MANIFEST, ReportFolder
from captum_shared.labels import read_labels
from captum_shared.report.device import find_device
from captum_shared.study.category import check_membership
from captum_shared.study.settings import CategorySettings, RecordingSettings, Settings, make_settings

Chosen = TypeVar("Chosen", bound=Settings)

LEAST = {
    "batch_size": 1, "crops": 1, "image_size": 1, "n_steps": 1, "rare": 1, "seed": 0, "sheets": 0, "top": 1,
}  # fmt: skip
MOST_CELLS = 64
"""The longest side of a grid: if it had more cells than the map, latents would be repeated and memory would fill up."""


def check_demo(**options: Any) -> None:
    """The arguments of the demo."""
    _check_common(options)


def check_category(images: str, labels: str, preferred: str, **options: Any) -> None:
    """The arguments of ``captum-shared category``, with the label file and the images it lists."""
    _check_common(options)
    _check_pool(options["pool"], POOLS)
    settings = _check_settings(CategorySettings, options)
    check_membership(read_labels(images, labels)[1], preferred, settings.folds)


def check_selectivity(images: str, labels: str, **options: Any) -> None:
    """The arguments of ``captum-shared selectivity``, with the label file and the images it lists."""
    check_integer("top", options["top"], 2)
    threshold = check_number("class_threshold", options["class_threshold"])
    if not 0 < threshold <= 1:
        raise ValueError(f"`class_threshold` must be in (0, 1], got {threshold}")
    if not all(options["layers"]):
        raise ValueError(f"`layers` must be names separated by commas, got an empty name in {options['layers']}")
    _check_common(options)
    read_labels(images, labels)


def check_recording(**options: Any) -> None:
    """The arguments of ``captum-shared recording``; the recording itself is read before the network anyway."""
    _check_common(options)
    if options["pool"] is not None:
        _check_pool(options["pool"], ("avg", "max"))
    if options["n_jobs"] == 0:
        raise ValueError("`jobs` must be a number of processes, or -1 for all cores, got 0")
    _check_settings(RecordingSettings, options)


def _check_settings(kind: type[Chosen], options: dict[str, Any]) -> Chosen:
    known = {field.name for field in fields(kind)}
    return make_settings(kind, {name: value for name, value in options.items() if name in known}, "this command")


def _check_common(options: dict[str, Any]) -> None:
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
    find_device(options["device"])


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
