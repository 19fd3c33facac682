"""A finished report's study, opened again: the same readouts, fitted again from the same recording and network.

A report keeps maps and numbers, no readouts. With what its manifest says, a study of some of its neurons finds the same
encoding models; what it finds is compared with the report's own tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, cast
from zipfile import BadZipFile

import numpy as np
from torch import Tensor, nn

from captum_shared.encoder import LatentEncoder
from captum_shared.folders import MANIFEST
from captum_shared.identity import ImageTransform
from captum_shared.manifests import differences, read_manifest
from captum_shared.recording import Recording
from captum_shared.study.encoding import EncodingModels, Latents, encode_stimuli, fit_models
from captum_shared.study.maps import file_stem, load_maps
from captum_shared.study.run import Run
from captum_shared.study.settings import RecordingSettings, make_settings, split_options
from captum_shared.study.study import Study, open_study
from captum_shared.study.subject import open_subject
from captum_shared.study.tuning import find_tuning
from captum_shared.tables import read_table

CLOSE = 1e-3
"""Of the largest predicted response: how closely predictions fitted again agree with those of the report."""


class NetworkAbout(TypedDict, total=False):
    """What a manifest says of the network that the command was given."""

    model: str
    weights: str | None
    image_size: int | None


@dataclass(frozen=True)
class SavedPair:
    """A row of ``pairs.csv``: names of stimuli, and the cross-validated prediction for the image."""

    image: str
    reference: str
    predicted: float


@dataclass(frozen=True)
class SavedStudy:
    """What a report of `recording` keeps."""

    folder: Path
    manifest: Mapping[str, object]
    neurons: tuple[str, ...]  # all of them
    pairs: Mapping[str, Sequence[SavedPair]]  # of each explained neuron, in the order of the report

    @property
    def settings(self) -> RecordingSettings:
        """With which it was made."""
        values = cast(Mapping[str, object], self._configuration["settings"])
        return make_settings(RecordingSettings, split_options(RecordingSettings, values)[0], "the report")

    @property
    def about(self) -> NetworkAbout:
        """The network, in the words of the command that made it."""
        return cast(NetworkAbout, self._configuration["network"])

    @property
    def candidates(self) -> list[tuple[str, str | int]]:
        """Layers and poolings."""
        found = [str(text).rsplit(" ", 1) for text in cast(Sequence[str], self._configuration["candidates"])]
        return [(layer, int(pool) if pool.isdigit() else pool) for layer, pool in found]

    @property
    def question(self) -> dict[str, object]:
        """What a study of the report says of itself; an option that it did not know yet has its default."""
        known = {name: value for name, value in self.manifest.items() if name != "versions"}
        settings = cast(Mapping[str, object], self._configuration["settings"])
        options = {**RecordingSettings().as_json(), **settings}
        return {**known, "configuration": {**self._configuration, "settings": options}}

    @property
    def _configuration(self) -> Mapping[str, object]:
        return cast(Mapping[str, object], self.manifest["configuration"])

    def maps(self, neuron: str, kind: str | None = None) -> np.ndarray:
        """Maps (pairs, 2, h, w) of a neuron, of the first kind by default."""
        kinds = self.settings.maps
        if kind is not None and kind not in kinds:
            raise ValueError(f"`kind` must be a kind of map that the report has, {', '.join(kinds)}, got {kind!r}")
        path = self.folder / "maps" / f"neuron_{file_stem(neuron)}.npz"
        try:
            return load_maps(path, kind or kinds[0])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path} is missing or damaged; make the report again") from error


@dataclass(frozen=True)
class NeuronModel:
    """The encoding model of a neuron: latents of its candidate, and a readout of them."""

    name: str
    encoder: LatentEncoder
    weight: Tensor  # (D,)
    bias: float
    error: float  # root mean square of recorded minus predicted response, over stimuli, cross-validated
    responses: np.ndarray  # (n, R), of the recording, trial by trial

    def predict(self, latents: Tensor) -> np.ndarray:
        """Responses (m,) to images with latents (m, D); not below 0 if no recorded response is."""
        values = (latents.double().cpu() @ self.weight.double() + self.bias).numpy()
        counts = np.nanmin(self.responses) >= 0
        result: np.ndarray = np.maximum(values, 0) if counts else values
        return result


def open_saved(folder: str | Path) -> SavedStudy:
    """Read a finished report of `recording` that explains at least one neuron."""
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"no report at {folder}: it has no {MANIFEST}")
    manifest = read_manifest(folder / MANIFEST)
    command = cast(Mapping[str, object], manifest).get("command")
    if command != "recording" or not manifest["complete"]:
        what = f"of {command}" if command != "recording" else "that is not finished"
        raise ValueError(f"the report at {folder} must be a finished one of captum-shared recording, got one {what}")
    names = tuple(read_table(folder / "neurons.csv", ["neuron", "status"]).column("neuron"))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    if not summary["n_pairs"]:
        raise ValueError(f"the report at {folder} explains no neuron, so it has no pairs to test")
    table = read_table(folder / "pairs.csv", ["neuron", "image", "reference", "predicted"])
    pairs: dict[str, list[SavedPair]] = {}
    for row in table.rows:
        pair = SavedPair(row["image"], row["reference"], float(row["predicted"] or "nan"))
        pairs.setdefault(row["neuron"], []).append(pair)
    return SavedStudy(folder, cast(Mapping[str, object], manifest), names, pairs)


def reopen_study(
    saved: SavedStudy,
    recording: Recording,
    encoder: nn.Module,
    transform: ImageTransform | None,
    neurons: Sequence[str],
) -> Study:
    """Open the study of a report again, for some of its neurons.

    As in `explain_recording`, `encoder` is an encoder, or a whole network, of which the report's layers are taken.
    If the recording or the network is not that of the report, the error says what differs.
    """
    subject = open_subject(recording, saved.settings)
    layers = None
    if not isinstance(encoder, LatentEncoder):
        layers = list(dict.fromkeys(layer for layer, _ in saved.candidates))
    pools = list(dict.fromkeys(pool for _, pool in saved.candidates))
    study = open_study(subject, encoder, transform, layers=layers, pools=pools, about=saved.about)
    different = differences(saved.question, study.manifest())
    if different:
        raise ValueError(
            f"the recording or the network is not that of the report at {saved.folder}. Different (there -> now): "
            f"{'; '.join(different[:6])}"
        )
    return _with_neurons(study, neurons)


def fit_again(study: Study, saved: SavedStudy, run: Run) -> dict[str, NeuronModel]:
    """Fit the encoding models of a study's neurons, as the report's were; they must predict what the report says."""
    tuning = find_tuning(study)
    latents = encode_stimuli(study, run)
    models = fit_models(study, tuning, latents, run)
    names = study.recording.stimulus_names
    for k, name in enumerate(study.recording.neuron_ids):
        now = np.array([models.predictions[names.index(pair.image), k] for pair in saved.pairs[name]])
        then = np.array([pair.predicted for pair in saved.pairs[name]])
        if not np.allclose(now, then, rtol=0, atol=CLOSE * float(np.abs(then).max())):
            raise ValueError(
                f"fitted again, neuron {name} is predicted to respond with {now[0]:.4g} to "
                f"{saved.pairs[name][0].image}; the report at {saved.folder} says {then[0]:.4g}; make the report again"
            )
    return {name: _model(study, latents, models, k) for k, name in enumerate(study.recording.neuron_ids)}


def _model(study: Study, latents: Latents, models: EncodingModels, k: int) -> NeuronModel:
    candidate, recorded, explained = int(models.candidate[k]), study.responses[k], models.weights[k]
    if explained is None:
        raise ValueError(f"neuron {study.recording.neuron_ids[k]} has no encoding model")
    weight = study.settings.sign * explained  # of the responses, whichever pole is explained
    z, known = latents.standardized(candidate).numpy(), np.isfinite(recorded)
    bias = float(recorded[known].mean() - z[known].mean(0) @ weight)  # as of any least squares with an intercept
    missed = (recorded - models.predictions[:, k])[known]
    return NeuronModel(
        study.recording.neuron_ids[k], latents.encoder(candidate).eval(), Tensor(weight), bias,
        float(np.sqrt(np.nanmean(missed**2))), study.recording.responses[k],
    )  # fmt: skip


def _with_neurons(study: Study, neurons: Sequence[str]) -> Study:
    """The study with only these neurons; with a given category for each, also those are chosen."""
    recording, preferred = study.recording, study.settings.preferred
    index = [k for k, name in enumerate(recording.neuron_ids) if name in set(neurons)]
    if isinstance(preferred, tuple):
        preferred = tuple(preferred[k] for k in index)
    part = recording.select_neurons(index)
    return replace(study, recording=part, settings=replace(study.settings, preferred=preferred))
