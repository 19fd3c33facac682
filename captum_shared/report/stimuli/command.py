"""``captum-shared stimuli``: make a set, or score the responses to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captum_shared.networks import load_encoder
from captum_shared.networks.registry import check_model, load_network
from captum_shared.recording import Recording
from captum_shared.recording.readers import reader_options
from captum_shared.report.arguments import check_common, find_device
from captum_shared.report.stimuli.making import ask_experiment, make_stimuli
from captum_shared.report.stimuli.scoring import RESULTS, score_stimuli
from captum_shared.report.stimuli.tables import StimuliSummary
from captum_shared.study.reopen import SavedStudy
from captum_shared.tables import counted


def run_stimuli(
    *,
    out: str | Path,
    report: str | Path | None = None,
    responses: str | Path | None = None,
    recording: str | Path | None = None,
    neurons: str | None = None,
    overwrite: bool = False,
    **options: object,
) -> str:
    """`make_stimuli` from a report, or `score_stimuli` with responses to those in `out`; what to say at the end."""
    if (report is None) == (responses is None):
        raise ValueError("give either `report`, to make stimuli, or `responses`, to score those in `out`")
    if responses is not None:
        if recording is not None or neurons is not None:
            raise ValueError("`recording` and `neurons` are for making stimuli; with `responses`, only `out` is needed")
        scored = score_stimuli(out, responses, overwrite=overwrite)
        return (
            f"{scored['n_tests_held']} of {scored['n_tests']} tested comparisons go the expected way, "
            f"{scored['n_confirmed']} confirmed, {scored['n_refuted']} refuted; open {out}/{RESULTS}/index.html"
        )
    if recording is None:
        raise ValueError("`recording` is needed to make stimuli: the one that the report is about")
    made = _make(str(report), recording, out=out, neurons=neurons, overwrite=overwrite, **options)  # type: ignore[arg-type]
    return (
        f"{made['n_files']} pictures of {counted(made['n_pairs'], 'pair')}, {made['n_tests']} of "
        f"{made['n_comparisons']} comparisons to test in {made['trials']} trials; open {out}/index.html"
    )


def _make(
    report: str,
    path: str | Path,
    *,
    out: str | Path,
    neurons: str | None,
    overwrite: bool,
    model: str | None = None,
    weights: str | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | None = None,
    batch_size: int = 32,
    stimuli: str | Path | None = None,
    labels: str | Path | None = None,
    missing: str = "raise",
    **options: object,
) -> StimuliSummary:
    """Everything is checked before the recording is read, and that before the network is made."""
    reading, choices = reader_options(options)
    saved, *_ = ask_experiment(report, neurons, choices)
    model, weights = _network_of(saved, model, weights)
    check_common(out=out, image_size=image_size, mean=mean, std=std, device=device, batch_size=batch_size)
    where = find_device(device)
    recording = Recording.load(path, stimuli=stimuli, labels=labels, missing=missing, **reading)
    size = image_size or saved.about.get("image_size")
    if len(saved.candidates) == 1:
        layer, pool = saved.candidates[0]
        network, transform = load_encoder(model, layer, pool, weights, image_size=size, mean=mean, std=std)
    else:
        network, transform = load_network(model, weights, image_size=size, mean=mean, std=std)  # type: ignore[assignment]
    return make_stimuli(
        report, recording, network.to(where), transform, neurons=neurons, out=out, batch_size=batch_size,
        overwrite=overwrite, **choices,
    )  # fmt: skip


def _network_of(saved: SavedStudy, model: str | None, weights: str | None) -> tuple[str, str | None]:
    """The network's name and weights: as given, or as the report says; of a file of weights it keeps the name only."""
    name = model or saved.about.get("model")
    if not name:
        raise ValueError("`model` is needed: the report does not say which network it was made with")
    known = weights or saved.about.get("weights")
    try:
        check_model(name, known)
    except FileNotFoundError as error:
        if weights:
            raise
        raise FileNotFoundError(
            f"the report was made with the weights {known}; give their path as `weights`"
        ) from error
    return name, known
