"""What ``captum-shared category`` would do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from captum_shared.folders import foresee
from captum_shared.labels import members, read_labels
from captum_shared.report.category import ask_category, draw_pairs, write_report
from captum_shared.report.forecast.forecast import FINISHED, Forecast, bytes_of, scratch, timed
from captum_shared.report.forecast.images import MOST_ROWS, encoding_time, growth, latents_like, readable_images
from captum_shared.report.forecast.network import load_offline
from captum_shared.study.category import (
    CategoryFindings,
    CategoryStudy,
    category_manifest,
    check_membership,
    explain_pairs,
    standardized,
)
from captum_shared.study.network import device_of
from captum_shared.study.settings import CategorySettings, make_settings, split_options
from captum_shared.tables import counted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from captum_shared.report.category import CategoryCommand

TIMED = 2  # pairs


def forecast_category(**options: Unpack[CategoryCommand]) -> Forecast:
    """What `run_category` would do with the same options, how long it would take, and what it would write.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `run_category` raises them before its work.
    """
    asked, notes = load_offline(ask_category, options)
    settings = make_settings(CategorySettings, split_options(CategorySettings, asked)[0], "this command")
    images, labels, preferred = asked["images"], asked["labels"], asked["preferred"]
    network, about, out = (asked["encoder"], asked["transform"]), asked["about"], asked.get("out", "category")
    manifest = category_manifest(images, labels, preferred, network, settings, about)
    state = "new" if notes else foresee(out, manifest, asked.get("overwrite", False))
    paths, categories, unread = readable_images(*read_labels(images, labels))
    check_membership(categories, preferred, settings.folds)
    study = CategoryStudy(
        paths, categories, members(categories, preferred), Tensor(), *network, preferred, settings, about=about
    )
    pairs, place = counted(settings.top, "pair"), f"{about['layer']} of {about['model']}"
    task = f"explain {pairs} of {preferred} among {len(paths)} images, at {place}"
    if state == FINISHED:
        return Forecast(task, out, state)
    stages, n_bytes = _measured(study)
    return Forecast(task, out, state, device_of(study.encoder).type, stages, n_bytes, [*notes, *unread])


def _measured(study: CategoryStudy) -> tuple[list[tuple[str, float]], int]:
    """The stages with their seconds, and the bytes of the files; `study` has no latents yet."""
    n, top = len(study.paths), min(study.settings.top, int((~study.member).sum()))
    per_image, latents = encoding_time(study.encoder, study.paths, study.transform, study.settings.batch_size)
    small = _small(study, latents)
    m, d = small.latents.shape
    fitting, findings = timed(lambda: explain_pairs(small))
    drawing, n_bytes = _drawing(small, findings, top)
    stages = [(f"read and encode {n} images", per_image * n), ("fit the readout", fitting * growth(n, m, d)), *drawing]
    return stages, n_bytes + n * d * latents.element_size()  # latents are kept in .cache


def _small(study: CategoryStudy, latents: Tensor) -> CategoryStudy:
    """A study of some images, in and outside the category as they are among all, with latents like those given."""
    order = np.argsort(study.member, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, min(len(order), MOST_ROWS)).astype(int)]
    raw = latents_like(latents, len(rows), study.settings.seed)
    return replace(
        study,
        paths=[study.paths[row] for row in rows],
        categories=[study.categories[row] for row in rows],
        member=study.member[rows],
        latents=standardized(study.encoder, raw) if study.settings.standardize else raw,
        settings=replace(study.settings, top=min(TIMED, study.settings.top)),
    )


def _drawing(study: CategoryStudy, findings: CategoryFindings, top: int) -> tuple[list[tuple[str, float]], int]:
    """Maps and figures of `top` pairs, and the page: seconds and bytes, from a pair or two."""
    with scratch() as folder:
        whole, shown = timed(lambda: draw_pairs(study, findings, folder, False))
        n = len(findings.pairs.images)
        times = sorted(path.stat().st_mtime for path in folder.path.glob("pair_*"))
        made = times[:: len(times) // n]  # when each pair was begun to be written
        per_pair = made[1] - made[0] if len(made) > 1 else whole
        fixed = max(0.0, whole - per_pair * n)
        writing, _ = timed(lambda: write_report(study, findings, folder, *shown))
        n_bytes = bytes_of(folder, "pair_*") + bytes_of(folder, "index.html")
    stages = [
        (f"make and draw {counted(top, 'pair')}", fixed + per_pair * top),
        ("write the page", writing * top / n),
    ]
    return stages, n_bytes * top // n
