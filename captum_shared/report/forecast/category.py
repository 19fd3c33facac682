"""What ``captum-shared category`` would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from captum_shared.encoder import LatentEncoder, load_encoder
from captum_shared.encoder.identity import ImageTransform
from captum_shared.folders import foresee
from captum_shared.labels import members, read_labels
from captum_shared.readout import ReadoutFit, fit_readout
from captum_shared.report.category import COLUMNS, draw_pairs, neuron_view, write_report
from captum_shared.report.device import find_device
from captum_shared.report.forecast.forecast import FINISHED, Forecast, Nowhere, timed
from captum_shared.report.forecast.images import encoding_time, latents_like, left_out, scaled_fit, unreadable_images
from captum_shared.report.forecast.network import load_offline
from captum_shared.report.viewer import inline_viewer
from captum_shared.selection import find_drivers, find_pairs
from captum_shared.study.category import (
    CategoryFindings,
    CategoryStudy,
    category_manifest,
    check_membership,
    standardized,
)
from captum_shared.study.settings import CategoryOptions, CategorySettings, make_settings, split_options
from captum_shared.tables import counted

if TYPE_CHECKING:
    from typing_extensions import Required, Unpack

    class CategoryCommand(CategoryOptions, total=False):
        """What the command takes."""

        images: Required[str | Path]
        labels: Required[str | Path]
        preferred: Required[str]
        layer: Required[str]
        pool: str | int
        image_size: int | None
        mean: Sequence[float] | None
        std: Sequence[float] | None
        out: str | Path
        overwrite: bool


TIMED = 2  # pairs


def forecast_category(
    *, model: str, weights: str | Path | None = "DEFAULT", device: str | None = None,
    **options: Unpack[CategoryCommand],
) -> Forecast:  # fmt: skip
    """What `run_category` would do with the same options, how long it would take, and what it would write.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `run_category` raises them before its work.
    """
    chosen, asked = split_options(CategorySettings, options)
    settings = make_settings(CategorySettings, chosen, "this command")
    layer, pool, where = asked["layer"], asked.get("pool", "avg"), find_device(device)
    given = {name: asked.get(name) for name in ("image_size", "mean", "std")}
    (encoder, transform), notes = load_offline(
        lambda real: load_encoder(model, layer, pool, real, seed=settings.seed, **given), model, weights
    )
    encoder.to(where)
    images, labels, preferred = asked["images"], asked["labels"], asked["preferred"]
    about = {"model": model, "weights": str(weights), "layer": layer, "pool": pool}
    manifest = category_manifest(images, labels, preferred, (encoder, transform), settings, about)
    out, state = asked.get("out", "category"), "new"
    if not notes:
        state = foresee(out, manifest, asked.get("overwrite", False))
    study, unread = _readable(images, labels, preferred, (encoder, transform), settings)
    task = (
        f"explain {counted(settings.top, 'pair')} of {preferred} among {len(study.paths)} images, at {layer} of {model}"
    )
    if state == FINISHED:
        return Forecast(task, out, state)
    stages, n_bytes = _measured(study)
    return Forecast(task, out, state, where.type, stages, n_bytes, [*notes, *unread])


def _readable(
    images: str | Path,
    labels: str | Path,
    preferred: str,
    network: tuple[LatentEncoder, ImageTransform],
    settings: CategorySettings,
) -> tuple[CategoryStudy, list[str]]:
    """The study of the images that can be read, without latents yet, and a note about the others."""
    paths, categories = read_labels(images, labels)
    failures = unreadable_images(paths)
    kept = [(path, name) for path, name in zip(paths, categories, strict=True) if path not in failures]
    names = [name for _, name in kept]
    check_membership(names, preferred, settings.folds)
    member = members(names, preferred)
    study = CategoryStudy([path for path, _ in kept], names, member, Tensor(), *network, preferred, settings)
    return study, left_out(failures)


def _measured(study: CategoryStudy) -> tuple[list[tuple[str, float]], int]:
    """The stages with their seconds, and the bytes of the files."""
    settings, n = study.settings, len(study.paths)
    per_image, some = encoding_time(study.encoder, study.paths, study.transform, settings.batch_size)
    raw = latents_like(some, n, settings.seed)
    latents = standardized(study.encoder, raw) if settings.standardize else raw
    study = CategoryStudy(
        study.paths, study.categories, study.member, latents, study.encoder, study.transform, study.preferred, settings
    )
    fits: list[ReadoutFit] = []
    fitting = scaled_fit(lambda m: fits.append(_fit(study, m)), n, latents.shape[1])
    findings = _findings(study, fits[0].readout.weight[0].detach())
    drawing, n_bytes = _drawing(study, findings, min(settings.top, int((~study.member).sum())))
    stages = [(f"read and encode {n} images", per_image * n), ("fit the readout", fitting), *drawing]
    return stages, n_bytes + latents.nbytes  # which are kept in .cache


def _fit(study: CategoryStudy, m: int) -> ReadoutFit:
    """The fit on m of the images, in and outside the category as they are among all."""
    order = np.argsort(study.member, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, m).astype(int)]
    target = study.member[rows].astype(float)
    return fit_readout(study.latents[rows], target, cv=study.settings.folds, seed=study.settings.seed)


def _findings(study: CategoryStudy, weight: Tensor) -> CategoryFindings:
    """Some pairs, from random responses."""
    settings = study.settings
    responses = np.random.default_rng(settings.seed).normal(size=len(study.paths)) + study.member
    drivers = find_drivers(responses, study.member, top=min(TIMED, settings.top), references=settings.references)
    pairs = find_pairs(
        study.latents, drivers, weight, similarity=settings.similarity, n_references=settings.references_averaged
    )
    return CategoryFindings(weight, responses, drivers, pairs)


def _drawing(study: CategoryStudy, findings: CategoryFindings, top: int) -> tuple[list[tuple[str, float]], int]:
    """Maps and figures of `top` pairs, and the page: seconds and bytes, from a pair or two."""
    nowhere = Nowhere()
    whole, (pairs, shelf) = timed(lambda: draw_pairs(study, findings, nowhere, False))
    made = sorted(nowhere.times.values())[:: len(nowhere.times) // len(pairs)]  # when each pair was begun to be written
    per_pair = made[1] - made[0] if len(made) > 1 else whole
    per_pair_bytes = sum(nowhere.sizes.values()) / len(pairs)
    fixed = max(0.0, whole - per_pair * len(pairs))

    def page() -> object:
        viewer = inline_viewer(shelf.views, COLUMNS, [neuron_view(study, findings, pairs)], study.settings.rule)
        return write_report(study, findings, nowhere, viewer)

    writing, _ = timed(page)
    page_bytes = nowhere.sizes["index.html"] * top / len(pairs)
    stages = [
        (f"make and draw {counted(top, 'pair')}", fixed + per_pair * top),
        ("write the page", writing * top / len(pairs)),
    ]
    return stages, int(per_pair_bytes * top + page_bytes)
