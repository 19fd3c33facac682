"""`explain_recording`: from raw responses to a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import nn

from captum_shared.encoder.images import evaluating
from captum_shared.folders import report_folder
from captum_shared.identity import ImageTransform
from captum_shared.networks import load_encoder
from captum_shared.networks.registry import load_network
from captum_shared.readout.steps import Estimator
from captum_shared.recording import Recording
from captum_shared.recording.readers import ReaderOptions, reader_options
from captum_shared.report.arguments import find_device
from captum_shared.report.recording.writing import write_report
from captum_shared.study.encoding import encode_stimuli, fit_models
from captum_shared.study.interventions import make_interventions
from captum_shared.study.maps import make_maps
from captum_shared.study.neurons import Findings, select_neurons
from captum_shared.study.run import Run
from captum_shared.study.settings import POOLS, RecordingOptions, RecordingSettings, make_settings, split_options
from captum_shared.study.shards import Shard, find_shards, parse_shard
from captum_shared.study.study import Study, open_study
from captum_shared.study.subject import Subject, open_subject
from captum_shared.study.tables import RecordingSummary
from captum_shared.study.tuning import find_tuning
from captum_shared.study.twins import twin_layer

if TYPE_CHECKING:
    from typing_extensions import Required, Unpack

    from captum_shared.report.arguments import ImageOptions, NetworkOptions

    class RecordingArguments(RecordingOptions, ReaderOptions, total=False):
        """What `explain_recording` takes by name, apart from the recording and the network."""

        estimator: Estimator | None
        out: str | Path
        n_jobs: int | None
        progress: bool
        overwrite: bool
        shard: str | None
        gather: bool

    class RecordingCommand(RecordingArguments, NetworkOptions, total=False):
        """What `run_recording` takes by name."""

        recording: Required[str | Path]
        layer: str
        pool: str | int | None
        stimuli: str | Path | None
        labels: str | Path | None
        missing: str


def explain_recording(
    recording: Recording,
    encoder: nn.Module,
    transform: ImageTransform | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    pools: Sequence[str | int] = POOLS,
    estimator: Estimator | None = None,
    out: str | Path = "report",
    n_jobs: int | None = None,
    progress: bool = True,
    about: Mapping[str, object] | None = None,
    overwrite: bool = False,
    shard: str | None = None,
    gather: bool = False,
    **options: Unpack[RecordingOptions],
) -> RecordingSummary:
    """Explain a whole recording: fit every neuron, choose its drivers and references, draw what they share.

    If a run is interrupted or killed, call it again with the same arguments to resume it; the files are the same.
    Work is cut into independent jobs, which run where ``joblib.parallel_config`` says: "loky", "threading", "dask" or
    "ray".

    Parameters
    ----------
    recording : Recording
        With categories.
    encoder : LatentEncoder or nn.Module
        Either an encoder, with its layer and pooling; or a whole network, (N, C, H, W) -> anything, whose layer and
        pooling are chosen for each neuron by nested cross-validation.
    transform : callable, optional
        PIL image -> tensor (C, H, W), such as the one that `load_encoder` returns. Default: scale to [0, 1].
    layers : "auto", str or sequence of str, optional
        For a whole network: the layers to choose from. "auto", the default, takes its blocks (at most 12).
    pools : sequence of "avg", "max" or int, default ("avg", 2, 4)
        For a whole network: the poolings to choose from, as in `LatentEncoder`.
    estimator : scikit-learn estimator, optional
        Any linear one that takes (n, D) latents and (n, K) responses. Default: PCA, then RidgeCV per neuron.
    out : path, default "report"
        Gets ``index.html``, ``neurons.csv``, ``pairs.csv``, ``layers.csv``, ``summary.json``, ``manifest.json``,
        ``maps/`` (.npz, see `load_maps`), ``figures/`` and ``thumbnails/``.
    n_jobs : int, optional
        Processes, as in joblib. Default: as in ``joblib.parallel_config``, else one.
    progress : bool, default True
        Progress bars with the time left.
    about : dict, optional
        What to say of the network in the methods paragraph.
    overwrite : bool, default False
        Whether a report of another configuration in `out` is replaced.
    shard : str, optional
        Such as "3/20": make the third of twenty parts of the maps, in a folder beside `out`, and no report.
    gather : bool, default False
        Take over what the shards beside `out` have made. They must have been run with the same arguments.
    **options
        The choices, each documented with its default in `RecordingSettings`.

    Returns
    -------
    dict
        The content of ``summary.json``; of a shard its number and its folder.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If an argument is wrong, the recording is too small, or `out` holds a report of another configuration (the
        difference is shown).

    Examples
    --------
    A neuron that reads the red of forty plain images, recorded five times.

    >>> import numpy as np, tempfile, torch
    >>> from PIL import Image
    >>> from captum_shared import LatentEncoder, Recording
    >>> folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    >>> colours = rng.integers(0, 256, (40, 3))
    >>> paths = [folder / f"{i}.png" for i in range(40)]
    >>> for colour, path in zip(colours, paths):
    ...     Image.new("RGB", (8, 8), tuple(colour)).save(path)
    >>> responses = colours[None, :, :1] / 255 + rng.normal(0, 0.05, (1, 40, 5))  # (neurons, stimuli, repeats)
    >>> recording = Recording(responses, paths, categories=["warm", "cold"] * 20)
    >>> encoder = LatentEncoder(torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3)), layer="0")
    >>> options = {"min_d_prime": 0, "n_steps": 2, "figures": 0, "progress": False}
    >>> summary = explain_recording(recording, encoder, out=folder / "report", **options)
    >>> summary["n_explained"], summary["n_pairs"]
    (1, 5)
    """
    subject = open_subject(recording, make_settings(RecordingSettings, options, "explain_recording"))
    asked = Asked(
        subject, encoder, transform, layers=layers, pools=pools, estimator=estimator, about=about, out=out,
        n_jobs=n_jobs, progress=progress, overwrite=overwrite, shard=shard, gather=gather,
    )  # fmt: skip
    return _explain(asked)


@dataclass(frozen=True)
class Asked:
    """What `explain_recording` is asked for, once subject and settings are known to be sound; see there."""

    subject: Subject
    encoder: nn.Module
    transform: ImageTransform | None
    layers: str | Sequence[str] | None = None
    pools: Sequence[str | int] = POOLS
    estimator: Estimator | None = None
    about: Mapping[str, object] | None = None
    out: str | Path = "report"
    n_jobs: int | None = None
    progress: bool = True
    overwrite: bool = False
    shard: str | None = None
    gather: bool = False

    @property
    def part(self) -> Shard | None:
        """The part of the maps to make; None for the whole report."""
        return parse_shard(self.shard)

    @property
    def folder(self) -> str | Path:
        """Where it is written."""
        return self.part.folder(self.out) if self.part else self.out

    def open_study(self) -> Study:
        """The study, once the network is known to be sound, too."""
        return open_study(
            self.subject,
            self.encoder,
            self.transform,
            layers=self.layers,
            pools=self.pools,
            estimator=self.estimator,
            about=self.about,
        )


def _explain(asked: Asked) -> RecordingSummary:
    part = asked.part
    with evaluating(asked.encoder):
        study = asked.open_study()
        if study.settings.interventions:
            twin_layer(study)  # refused now rather than after hours
        with report_folder(asked.folder, study.manifest(), asked.overwrite) as folder:
            if folder.finished:
                return cast(RecordingSummary, folder.read_json("summary.json"))
            for made in find_shards(asked.out) if asked.gather else ():
                folder.adopt(made)
            run = Run(folder, asked.n_jobs, asked.progress)
            findings = make_findings(study, run)
            make_maps(study, findings, run, part)
            if part is not None:
                folder.left = True
                return {"shard": str(part), "folder": str(folder.path)}
            effects = make_interventions(study, findings, run) if study.settings.interventions else None
            return write_report(study, findings, run, effects)


def make_findings(study: Study, run: Run) -> Findings:
    """Encode the stimuli, fit the models, and choose neurons, drivers and references."""
    tuning = find_tuning(study)
    latents = encode_stimuli(study, run)
    models = fit_models(study, tuning, latents, run)
    return Findings(tuning, latents, models, select_neurons(study, tuning, latents, models))


def run_recording(**options: Unpack[RecordingCommand]) -> RecordingSummary:
    """Load a recording and, once it is known to be sound, the network; then `explain_recording` with other options.

    Options of readers may be None, which is to say not given. `layer` is "auto", one layer, or several separated by
    commas; `pool` is one pooling, by default all of `POOLS`.
    """
    return _explain(ask_recording(**options))


def ask_recording(
    *,
    recording: str | Path,
    model: str,
    layer: str = "auto",
    weights: str | Path | None = "DEFAULT",
    pool: str | int | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | None = None,
    stimuli: str | Path | None = None,
    labels: str | Path | None = None,
    missing: str = "raise",
    **options: Unpack[RecordingArguments],
) -> Asked:
    """Load and check what `run_recording` is given, with the same options."""
    reading, rest = reader_options(options)
    choices, others = split_options(RecordingSettings, rest)
    parse_shard(others.get("shard"))
    where = find_device(device)
    data = Recording.load(recording, stimuli=stimuli, labels=labels, missing=missing, **reading)
    settings = make_settings(RecordingSettings, choices, "run_recording")
    subject = open_subject(data, settings)
    others["about"] = {"model": model, "weights": Path(weights).name if weights else None, "image_size": image_size,
                       "device": where.type}  # fmt: skip
    names = [name.strip() for name in layer.split(",")]
    given: ImageOptions = {"image_size": image_size, "mean": mean, "std": std}
    if pool is not None and names != ["auto"] and len(names) == 1:
        encoder, transform = load_encoder(model, names[0], pool, weights, seed=settings.seed, **given)
        return Asked(subject, encoder.to(where), transform, **others)
    network, transform = load_network(model, weights, seed=settings.seed, **given)
    layers, pools = "auto" if names == ["auto"] else names, POOLS if pool is None else (pool,)
    return Asked(subject, network.to(where), transform, layers, pools, **others)
