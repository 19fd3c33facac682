"""``captum-shared stimuli``: make a set, or score the responses to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from captum_shared.encoder import load_encoder
from captum_shared.encoder.registry import check_model, load_network
from captum_shared.recording import Recording
from captum_shared.recording.readers import ReaderOptions
from captum_shared.report.arguments import check_stimuli
from captum_shared.report.device import find_device
from captum_shared.report.stimuli.making import (
    ExperimentOptions,
    check_pairs,
    choose_neurons,
    make_experiment,
    make_stimuli,
)
from captum_shared.report.stimuli.scoring import RESULTS, score_stimuli
from captum_shared.report.stimuli.tables import StimuliSummary
from captum_shared.study.reopen import SavedStudy, open_saved

DATA = ("stimuli", "labels", "missing", *ReaderOptions.__annotations__)


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
    """Make stimuli from a report, or score responses to those in `out`; what to say at the end.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If neither or both are asked for, or as `make_stimuli` and `score_stimuli`.
    """
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
    made = _make(str(report), recording, {**options, "out": out, "neurons": neurons, "overwrite": overwrite})
    pairs = "1 pair" if made["n_pairs"] == 1 else f"{made['n_pairs']} pairs"
    return (
        f"{made['n_files']} pictures of {pairs}, {made['n_tests']} of {made['n_comparisons']} comparisons to test in "
        f"{made['trials']} trials; open {out}/index.html"
    )


def _make(report: str, path: str | Path, options: Mapping[str, object]) -> StimuliSummary:
    """Everything is checked before the recording is read, and that before the network is made."""
    data = {name: options[name] for name in DATA if options.get(name) is not None}
    choices = {name: options[name] for name in ExperimentOptions.__annotations__ if name in options}
    saved = open_saved(report)
    settings = make_experiment(choices)
    check_pairs(saved, choose_neurons(saved, cast("str | None", options["neurons"])), settings)
    name, weights = _network_of(saved, options)
    check_stimuli(**{name: value for name, value in options.items() if name not in ("model", "weights")})
    where = find_device(cast("str | None", options.get("device")))
    recording = Recording.load(path, **cast(ReaderOptions, data))
    size = cast("int | None", options.get("image_size") or saved.about.get("image_size"))
    mean, std = (cast("Sequence[float] | None", options.get(which)) for which in ("mean", "std"))
    if len(saved.candidates) == 1:
        layer, pool = saved.candidates[0]
        network, transform = load_encoder(name, layer, pool, weights, image_size=size, mean=mean, std=std)
    else:
        network, transform = load_network(name, weights, image_size=size, mean=mean, std=std)  # type: ignore[assignment]
    return make_stimuli(
        report, recording, network.to(where), transform, out=cast(str, options["out"]),
        neurons=cast("str | None", options["neurons"]), batch_size=cast(int, options.get("batch_size", 32)),
        overwrite=bool(options["overwrite"]), **cast(ExperimentOptions, choices),
    )  # fmt: skip


def _network_of(saved: SavedStudy, options: Mapping[str, object]) -> tuple[str, str | None]:
    """The network's name and weights: as given, or as the report says; of a file of weights it keeps the name only."""
    name = cast("str | None", options.get("model")) or saved.about.get("model")
    given = cast("str | None", options.get("weights"))
    if not name:
        raise ValueError("`model` is needed: the report does not say which network it was made with")
    weights = given or saved.about.get("weights")
    try:
        check_model(name, weights)
    except FileNotFoundError as error:
        if given:
            raise
        raise FileNotFoundError(
            f"the report was made with the weights {weights}; give their path as `weights`"
        ) from error
    return name, weights
