"""What ``captum-shared recording`` would do."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import numpy as np
import torch

from captum_shared.encoder.images import evaluating
from captum_shared.folders import foresee, report_folder
from captum_shared.labels import members, split_labels
from captum_shared.readout.nested import fit_candidate
from captum_shared.report.forecast.forecast import FINISHED, Forecast, size, timed
from captum_shared.report.forecast.images import latents_like, scaled_fit
from captum_shared.report.forecast.network import load_offline
from captum_shared.report.recording.explain import Asked, ask_recording
from captum_shared.report.recording.writing import write_report
from captum_shared.similarity import origin_of
from captum_shared.study.encoding import Latents, blocks_of, encode_stimuli, fit_models, without_empty_dimensions
from captum_shared.study.image_maps import explain_images
from captum_shared.study.maps import make_maps
from captum_shared.study.neurons import Findings, select_neurons
from captum_shared.study.run import Job, Run
from captum_shared.study.settings import MIN_IMAGES, POOLS
from captum_shared.study.shards import find_shards, parse_shard
from captum_shared.study.study import Study, open_study
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


@dataclass(frozen=True)
class Amount:
    """How much there is to do, at most: what is not known before the fits is not subtracted.

    Attributes
    ----------
    neurons : int
        That may be explained.
    pairs : int
        Of all of them.
    images : int
        That take part in pairs.
    """

    neurons: int
    pairs: int
    images: int


@dataclass(frozen=True)
class Small:
    """What a small study took.

    Attributes
    ----------
    per_image : float
        Seconds for latents.
    map_seconds : (float, float)
        For an image, and for each of its maps.
    seconds : dict of str to float
        Of the figure and the view of a neuron, and of the rest of the report.
    pairs : int
        Of its neuron.
    n_bytes : dict of str to int
        Of the files of its neuron, by folder, and of an image.
    """

    per_image: float
    map_seconds: tuple[float, float]
    seconds: dict[str, float]
    pairs: int
    n_bytes: dict[str, int]


def forecast_recording(**options: Unpack[RecordingCommand]) -> Forecast:
    """What `run_recording` would do with the same options, how long it would take, and what it would write.

    A small study of some of the stimuli is carried out for it in a temporary folder.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `run_recording` raises them before its work.
    """
    weights = options.get("weights", "DEFAULT")

    def ask(real: str | Path | None) -> Asked:
        options["weights"] = real
        return ask_recording(**options)

    asked, notes = load_offline(ask, options["model"], weights)
    others = asked.others
    part = parse_shard(others.get("shard"))
    out = part.folder(others["out"]) if part else others["out"]
    layers, pools, about = others.get("layers"), others.get("pools", POOLS), others.get("about")
    with evaluating(asked.network):
        study = open_study(asked.subject, asked.network, asked.transform, layers=layers, pools=pools, about=about)
        state = "new" if notes else foresee(out, study.manifest(), others.get("overwrite", False))
        if others.get("gather"):
            found = len(find_shards(others["out"]))
            notes.append(f"what {found} shards have made would be taken over, so that it takes less")
        tuning = find_tuning(study)
        amount = amount_of(study, tuning)
        task = _task(study, amount)
        if state == FINISHED:
            return Forecast(task, out, state)
        small = try_out(study)
        fits = fit_seconds(study, tuning)
    jobs = max(1, joblib.effective_n_jobs(others.get("n_jobs") or 1))
    stages = _stages(study, amount, small, fits, jobs)
    if part is not None:
        stages = [*stages[:2], (f"make part {part} of the maps", stages[2][1] / part.of)]
    work = 4 * study.recording.n_stimuli * sum(study.network.widths)
    notes.append(f"while it runs, {size(work)} more for latents")
    return Forecast(task, out, state, study.network.device.type, stages, _bytes(study, amount, small), notes)


def _task(study: Study, amount: Amount) -> str:
    neurons, stimuli = study.recording.n_neurons, study.recording.n_stimuli
    network = study.about.get("model", "the network")
    return (
        f"explain at most {amount.neurons} of {counted(neurons, 'neuron')} in at most {counted(amount.pairs, 'pair')}, "
        f"from {stimuli} stimuli, by {counted(len(study.network.candidates), 'pooled layer')} of {network}"
    )


def amount_of(study: Study, tuning: Tuning) -> Amount:
    """Neurons that are tuned and reliable enough, with as many pairs as they have drivers."""
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
    pairs = sum(counts)
    return Amount(sum(count > 0 for count in counts), pairs, min(study.recording.n_stimuli, 2 * pairs))


def fit_seconds(study: Study, tuning: Tuning) -> float:
    """Of the fits of all candidates: the widest and the narrowest are timed, once each, with random latents."""
    n, settings = study.recording.n_stimuli, study.settings
    widths, blocks = study.network.widths, blocks_of(study.responses, tuning.usable)
    y = np.random.default_rng(0).normal(size=(n, max((len(block.neurons) for block in blocks), default=1)))

    def once(d: int) -> float:
        def fit(m: int) -> object:
            z = latents_like(torch.randn(8, d), m).double().numpy()
            return fit_candidate(without_empty_dimensions(z)[0], y[:m], [], None, settings.pca)

        return scaled_fit(fit, n, d)

    ends = sorted({min(widths), max(widths)})
    fit_candidate(np.eye(8), np.eye(8), [], None, None)  # imports what it needs
    seconds = np.interp(widths, ends, [once(d) for d in ends])
    return float(seconds.sum()) * (settings.folds + 1.5) * len(blocks)  # a half for those within categories


def try_out(study: Study) -> Small:
    """Carry out a small study, with a neuron that is explained whatever its responses."""
    small = small_study(study)
    with tempfile.TemporaryDirectory(prefix="captum-shared-") as place:
        with report_folder(Path(place) / "report", {"command": "dry run"}) as folder:
            run = TimedRun(folder, 1, False)
            tuning, latents = find_tuning(small), encode_stimuli(small, run)
            models = fit_models(small, tuning, latents, run)
            findings = Findings(tuning, latents, models, select_neurons(small, tuning, latents, models))
            make_maps(small, findings, run)
            begun = time.perf_counter()
            summary = write_report(small, findings, run)
            run.seconds["rest"] = time.perf_counter() - begun - run.seconds["figures"] - run.seconds["views"]
            maps = map_seconds(small, latents)
        folder_of = Path(place) / "report"
        n_bytes = {
            name: sum(path.stat().st_size for path in (folder_of / name).glob(pattern))
            for name, pattern in (("maps", "*"), ("figures", "neuron_*"), ("thumbnails", "*"), ("data", "neuron_*"))
        }
        images = [path.stat().st_size for path in (folder_of / "images").iterdir()]
        n_bytes["images"] = sum(images) // max(1, len(images))
    per_image = run.seconds["images"] / small.recording.n_stimuli
    return Small(per_image, maps, run.seconds, summary["n_pairs"], n_bytes)


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


def _stages(study: Study, amount: Amount, small: Small, fits: float, jobs: int) -> list[tuple[str, float]]:
    n, per_neuron = study.recording.n_stimuli, amount.pairs / max(1, amount.neurons)
    larger = per_neuron / max(1, small.pairs)
    drawn = min(study.settings.figures, amount.neurons)
    per_side, per_map = small.map_seconds
    maps = per_side * amount.images + per_map * 2 * amount.pairs
    report = small.seconds["figures"] * drawn * (1 + larger) / 2 + small.seconds["views"] * amount.neurons * larger
    return [
        (f"read and encode {n} stimuli", small.per_image * n / jobs),
        (f"fit {counted(study.recording.n_neurons, 'neuron')}", fits / jobs),
        (f"make {2 * amount.pairs} maps", maps / jobs),
        ("draw and write the report", report / jobs + small.seconds["rest"]),
    ]


def _bytes(study: Study, amount: Amount, small: Small) -> int:
    per_pair = (small.n_bytes["maps"] + small.n_bytes["data"]) / max(1, small.pairs)
    drawn = min(study.settings.figures, amount.neurons)
    figures = (small.n_bytes["figures"] + small.n_bytes["thumbnails"]) * drawn
    shown = min(study.recording.n_stimuli, 6 * amount.pairs)  # with five references each
    return int(per_pair * amount.pairs + figures + small.n_bytes["images"] * shown)
