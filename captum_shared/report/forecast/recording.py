"""What ``captum-shared recording`` would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import joblib
import numpy as np
import torch

from captum_shared.encoder.images import evaluating
from captum_shared.folders import foresee
from captum_shared.labels import members, split_labels
from captum_shared.readout.nested import fit_candidate
from captum_shared.report.forecast.forecast import FINISHED, Forecast, bytes_of, scratch, size, timed
from captum_shared.report.forecast.images import MOST_ROWS, growth, latents_like
from captum_shared.report.forecast.network import load_offline
from captum_shared.report.recording.explain import ask_recording, make_findings
from captum_shared.report.recording.writing import write_report
from captum_shared.similarity import origin_of
from captum_shared.study.encoding import Latents, blocks_of, without_empty_dimensions
from captum_shared.study.image_maps import explain_images
from captum_shared.study.maps import make_maps
from captum_shared.study.run import Job, Run
from captum_shared.study.settings import MIN_IMAGES
from captum_shared.study.shards import find_shards
from captum_shared.study.study import Study
from captum_shared.study.tuning import Tuning, find_tuning
from captum_shared.tables import counted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from captum_shared.report.recording.explain import RecordingCommand

N_STIMULI, N_PAIRS, N_CANDIDATES = 48, 2, 3
"""Of the small study that is carried out: of so many stimuli, a neuron is explained in so many pairs; and how many
layers' maps are timed."""
_PER_CATEGORY = 12


@dataclass(frozen=True)
class TimedRun(Run):
    """A run that notes how many seconds each kind of job takes."""

    seconds: dict[str, float] = field(default_factory=dict)

    def carry_out(self, jobs: Sequence[Job], noun: str) -> None:
        """As `Run` does."""
        spent, _ = timed(lambda: super(TimedRun, self).carry_out(jobs, noun))
        self.seconds[noun] = self.seconds.get(noun, 0.0) + spent


class Small(NamedTuple):
    """What a small study took."""

    seconds: dict[str, float]  # for the latents of an image, the figure and the view of a neuron, and all else written
    map_seconds: tuple[float, float]  # for an image, and for each of its maps
    pairs: int  # of its neuron
    n_bytes: dict[str, float]  # of the files of its neuron, by folder, and of an image


def forecast_recording(**options: Unpack[RecordingCommand]) -> Forecast:
    """What `run_recording` would do with the same options, how long it would take, and what it would write.

    A small study of some of the stimuli is carried out for it in a temporary folder.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `run_recording` raises them before its work.
    """
    asked, notes = load_offline(ask_recording, options)
    out, part = asked.folder, asked.part
    with evaluating(asked.encoder):
        study = asked.open_study()
        state = "new" if notes else foresee(out, study.manifest(), asked.overwrite)
        if asked.gather:
            found = len(find_shards(asked.out))
            notes.append(f"what {found} shards have made would be taken over, so that it takes less")
        tuning = find_tuning(study)
        counts = most_pairs(study, tuning)
        task = (
            f"explain at most {len(counts)} of {counted(study.recording.n_neurons, 'neuron')} in at most "
            f"{counted(sum(counts), 'pair')}, from {study.recording.n_stimuli} stimuli, by "
            f"{counted(len(study.network.candidates), 'pooled layer')} of {study.about.get('model', 'the network')}"
        )
        if state == FINISHED:
            return Forecast(task, out, state)
        small = try_out(study)
        fits = fit_seconds(study, tuning)
    jobs = max(1, joblib.effective_n_jobs(asked.n_jobs or 1))
    stages = _stages(study, counts, small, fits, jobs)
    if part is not None:
        stages = [*stages[:2], (f"make part {part} of the maps", stages[2][1] / part.of)]
    work = 4 * study.recording.n_stimuli * sum(study.network.widths)
    notes.append(f"while it runs, {size(work)} more for latents")
    return Forecast(task, out, state, study.network.device.type, stages, _bytes(study, counts, small), notes)


def most_pairs(study: Study, tuning: Tuning) -> list[int]:
    """In how many pairs each neuron may be explained, for those that may: as many as it has drivers, at most.

    What is not known before the fits is not subtracted.
    """
    s, counts = study.settings, []
    for k in np.flatnonzero(tuning.usable):
        reliable = not tuning.reliability[k] < s.min_reliability
        if not reliable or (s.pairs == "category" and tuning.d_prime[k] < s.min_d_prime):
            continue
        r = study.drive[k]
        drivers = r >= np.nanmean(r) + s.threshold * np.nanstd(r)
        if s.pairs == "category":
            drivers &= ~members(study.categories, str(tuning.preferred[k]))
        counts.append(min(s.drivers, int(drivers.sum())))
    return [count for count in counts if count]


def fit_seconds(study: Study, tuning: Tuning) -> float:
    """Of the fits of all candidates: the widest and the narrowest are timed, once each, with random latents."""
    n, settings = study.recording.n_stimuli, study.settings
    widths, blocks = study.network.widths, blocks_of(study.responses, tuning.usable)
    y = np.random.default_rng(0).normal(size=(n, max((len(block.neurons) for block in blocks), default=1)))

    def once(d: int) -> float:
        m = min(n, MOST_ROWS)
        z = latents_like(torch.randn(8, d), m).double().numpy()
        seconds, _ = timed(lambda: fit_candidate(without_empty_dimensions(z)[0], y[:m], [], None, settings.pca))
        return seconds * growth(n, m, d)

    ends = sorted({min(widths), max(widths)})
    fit_candidate(np.eye(8), np.eye(8), [], None, None)  # imports what it needs
    seconds = np.interp(widths, ends, [once(d) for d in ends])
    return float(seconds.sum()) * (settings.folds + 1.5) * len(blocks)  # a half for those within categories


def try_out(study: Study) -> Small:
    """Carry out a small study, with a neuron that is explained whatever its responses."""
    small = small_study(study)
    with scratch() as folder:
        run = TimedRun(folder, 1, False)
        findings = make_findings(small, run)
        make_maps(small, findings, run)
        whole, summary = timed(lambda: write_report(small, findings, run))
        rest = whole - run.seconds["figures"] - run.seconds["views"]
        maps = map_seconds(small, findings.latents)
        own = {"maps": "*", "figures": "neuron_*", "thumbnails": "*", "data": "neuron_*"}
        n_bytes: dict[str, float] = {name: bytes_of(folder, f"{name}/{pattern}") for name, pattern in own.items()}
        images = len(list(folder.path.glob("images/*")))
        n_bytes["image"] = bytes_of(folder, "images/*") / max(1, images)
    seconds = {**run.seconds, "images": run.seconds["images"] / small.recording.n_stimuli, "rest": rest}
    return Small(seconds, maps, summary["n_pairs"], n_bytes)


def small_study(study: Study) -> Study:
    """The study of one neuron with some of the stimuli, in which every stimulus is a driver."""
    s, recording = study.settings, study.recording
    places = some_stimuli(study)
    counts = np.isfinite(study.responses[:, places]).sum(1) * (np.nanstd(study.responses[:, places], axis=1) > 0)
    neuron = int(counts.argmax())
    preferred = s.preferred if s.preferred is None or isinstance(s.preferred, str) else (s.preferred[neuron],)
    settings = replace(
        s, neurons=None, preferred=preferred, min_reliability=-np.inf, min_cv_r=-np.inf, min_d_prime=-np.inf,
        threshold=-1e6, drivers=min(N_PAIRS, s.drivers), figures=1, folds=2, pca=None,
    )  # fmt: skip
    return replace(
        study, recording=recording.select(places).select_neurons([neuron]), settings=settings, estimator=None
    )


def some_stimuli(study: Study) -> np.ndarray:
    """Indices of stimuli: some of each of the largest categories, the preferred one first."""
    labels = [(split_labels(str(name)) or [""])[0] for name in study.categories]
    names, counts = np.unique(labels, return_counts=True)
    given = study.settings.preferred
    wanted = {given} if isinstance(given, str) else set(given or ())
    sizes = dict(zip(names.tolist(), counts.tolist(), strict=True))
    order = sorted(sizes, key=lambda name: (name not in wanted, -sizes[name]))
    most = _PER_CATEGORY if len(names) > 1 else N_STIMULI
    chosen: list[int] = []
    for name in order:
        if len(chosen) < N_STIMULI:
            chosen += [place for place, label in enumerate(labels) if label == name][: max(most, MIN_IMAGES)]
    return np.array(sorted(chosen[:N_STIMULI]))


def map_seconds(study: Study, latents: Latents) -> tuple[float, float]:
    """Seconds for an image, and for each of its maps; the mean of a few layers and poolings."""
    count = len(study.network.candidates)
    some = sorted({0, count // 2, count - 1})[:N_CANDIDATES]
    origins = {candidate: origin_of("product", None) for candidate in some}
    each = []
    for candidate in some:
        encoders = {candidate: latents.encoder(candidate).eval()}
        rows = np.random.default_rng(0).normal(size=(3, study.network.widths[candidate])).astype(np.float32)
        make = partial(explain_images, encoders, study.network.transform, study.recording.stimuli[:1])
        one, _ = timed(partial(make, [{candidate: rows[:1]}], study.settings, origins))
        three, _ = timed(partial(make, [{candidate: rows}], study.settings, origins))
        per_map = max((three - one) / 2, 0.0)
        each.append((max(one - per_map, 0.0), per_map))
    first, second = np.mean(each, axis=0)
    return float(first), float(second)


def _stages(study: Study, counts: list[int], small: Small, fits: float, jobs: int) -> list[tuple[str, float]]:
    n, neurons, pairs = study.recording.n_stimuli, len(counts), sum(counts)
    larger = pairs / max(1, neurons) / max(1, small.pairs)
    drawn = min(study.settings.figures, neurons)
    per_image, per_map = small.map_seconds
    maps = per_image * min(n, 2 * pairs) + per_map * 2 * pairs
    report = small.seconds["figures"] * drawn * (1 + larger) / 2 + small.seconds["views"] * neurons * larger
    return [
        (f"read and encode {n} stimuli", small.seconds["images"] * n / jobs),
        (f"fit {counted(study.recording.n_neurons, 'neuron')}", fits / jobs),
        (f"make {2 * pairs} maps", maps / jobs),
        ("draw and write the report", report / jobs + small.seconds["rest"]),
    ]


def _bytes(study: Study, counts: list[int], small: Small) -> int:
    pairs, drawn = sum(counts), min(study.settings.figures, len(counts))
    per_pair = (small.n_bytes["maps"] + small.n_bytes["data"]) / max(1, small.pairs)
    figures = (small.n_bytes["figures"] + small.n_bytes["thumbnails"]) * drawn
    shown = min(study.recording.n_stimuli, 6 * pairs)  # with five references each
    return int(per_pair * pairs + figures + small.n_bytes["image"] * shown)
