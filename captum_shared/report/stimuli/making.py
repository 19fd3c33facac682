"""`make_stimuli`: from a finished report to pictures for the laboratory, what they should do, and a protocol."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
from PIL import Image
from torch import nn

from captum_shared.encoder import encode_images
from captum_shared.encoder.images import evaluating
from captum_shared.files import file_sha256
from captum_shared.folders import MANIFEST, ReportFolder, report_folder
from captum_shared.identity import ImageTransform
from captum_shared.images import open_rgb
from captum_shared.recording.recording import Recording, find_neurons
from captum_shared.report.stimuli.page import write_pages
from captum_shared.report.stimuli.tables import NeuronSet, PairSet, StimuliSummary, write_tables
from captum_shared.stimuli.frames import common_side, same_size, seen_window
from captum_shared.stimuli.matching import match_pictures
from captum_shared.stimuli.noise import TrialNoise, measure_noise
from captum_shared.stimuli.pictures import NoHeat, find_parts, pair_stimuli
from captum_shared.stimuli.plan import EXPECTED, Comparison, expected_way, plan_repeats
from captum_shared.study.experiment import ExperimentSettings, parse_pairs
from captum_shared.study.maps import file_stem
from captum_shared.study.reopen import NeuronModel, SavedPair, SavedStudy, fit_again, open_saved, reopen_study
from captum_shared.study.run import Run
from captum_shared.study.settings import make_settings, parse_numbers
from captum_shared.study.study import Study

if TYPE_CHECKING:
    from typing_extensions import Unpack

PICTURES = "images"


class ExperimentOptions(TypedDict, total=False):
    """`ExperimentSettings` as a user gives them, by name; see there."""

    pairs: str | Sequence[int] | None
    kind: str | None
    area: float
    fill: str
    controls: int
    size: int | None
    match_luminance: bool
    match_contrast: bool
    alpha: float
    power: float
    max_repeats: int
    fano: float | None
    seed: int


def make_stimuli(
    report: str | Path,
    recording: Recording,
    encoder: nn.Module,
    transform: ImageTransform | None = None,
    *,
    neurons: str | Sequence[str] | None = None,
    out: str | Path = "stimuli",
    batch_size: int = 32,
    progress: bool = True,
    overwrite: bool = False,
    **options: Unpack[ExperimentOptions],
) -> StimuliSummary:
    """Make pictures that test a report's maps on the neurons themselves, and write down what they should do.

    For each pair the image and its reference; the image with its hot part removed; the part alone; and the reference's
    part in place of the image's own. Beside each of the last three are controls with parts of the same shape and area
    at random places. Responses are predicted by the neuron's encoding model, which is fitted again exactly as for the
    report, and the repeats that a test needs follow from the neuron's own trial variance.

    Parameters
    ----------
    report : path
        The folder that `explain_recording` has written.
    recording : Recording
        The one that the report is about.
    encoder, transform
        Those of the report, as in `explain_recording`; of a whole network, the report's layers are taken.
    neurons : str or sequence of str, optional
        Names, or text such as "0,3,7-9". Default: all that the report explains.
    out : path, default "stimuli"
        Gets ``images/`` (PNG), ``stimuli.csv``, ``comparisons.csv``, ``neurons.csv``, ``index.html`` (the protocol),
        ``pictures.html``, ``summary.json`` and ``manifest.json``.
    batch_size : int, default 32
    progress, overwrite : bool
        As in `explain_recording`.
    **options
        The choices, each documented with its default in `ExperimentSettings`.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If there is no such report, recording or network are not those of the report (the difference is shown), neurons
        or pairs are unknown, or an option is out of range.
    """
    saved, names, settings = ask_experiment(report, neurons, options)
    with evaluating(encoder):
        study = reopen_study(saved, recording, encoder, transform, names)
        about = {"command": "stimuli", "settings": settings.as_json(), "neurons": list(study.recording.neuron_ids),
                 "report": file_sha256(Path(report) / MANIFEST)}  # fmt: skip
        with report_folder(out, about, overwrite) as folder:
            if folder.finished:
                return cast(StimuliSummary, folder.read_json("summary.json"))
            models = fit_again(study, saved, Run(folder, None, progress))
            maker = _Maker(study, saved, settings, folder, batch_size)
            sets = [maker.neuron(model) for model in models.values()]
            if not any(each.pairs for each in sets):
                raise ValueError("no map of these neurons has any heat, so there are no parts to test")
            summary = write_tables(folder, sets, settings.alpha)
            write_pages(folder, sets, settings, summary)
            return summary


def ask_experiment(
    report: str | Path, neurons: str | Sequence[str] | None, options: Mapping[str, object]
) -> tuple[SavedStudy, list[str], ExperimentSettings]:
    """What `make_stimuli` is asked for, checked as far as the report tells: its neurons have such pairs and maps."""
    pairs = parse_pairs(cast("str | None", options.get("pairs")))
    settings = make_settings(ExperimentSettings, {**options, "pairs": pairs}, "make_stimuli")
    saved = open_saved(report)
    names = _chosen_neurons(saved, neurons)
    for name in names:
        wrong = [number for number in pairs or () if number > len(saved.pairs[name])]
        if wrong:
            raise ValueError(f"`pairs` must be from 1 to {len(saved.pairs[name])} for neuron {name}, got {wrong[0]}")
    saved.maps(names[0], settings.kind)
    return saved, names, settings


def _chosen_neurons(saved: SavedStudy, neurons: str | Sequence[str] | None) -> list[str]:
    """The names of the chosen neurons, all of which the report explains."""
    if neurons is None:
        return list(saved.pairs)
    given = parse_numbers(neurons) if isinstance(neurons, str) else neurons
    names = [saved.neurons[k] for k in find_neurons(saved.neurons, given)]
    unknown = [name for name in names if name not in saved.pairs]
    if unknown:
        some = ", ".join(list(saved.pairs)[:10]) + (" ..." if len(saved.pairs) > 10 else "")
        raise ValueError(
            f"`neurons` must be neurons that the report at {saved.folder} explains ({some}), got {unknown}"
        )
    return names


@dataclass(frozen=True)
class _Maker:
    """Makes the pictures of a neuron."""

    study: Study
    saved: SavedStudy
    settings: ExperimentSettings
    folder: ReportFolder
    batch_size: int

    def neuron(self, model: NeuronModel) -> NeuronSet:
        """All pictures of a neuron, written, with what is predicted of them."""
        pairs, dark = self._pairs(model.name)
        s, noise = self.settings, _noise(model, self.settings)
        if pairs and (s.match_luminance or s.match_contrast):
            pairs = _matched(pairs, s)
        predicted = self._predicted(model, pairs) if pairs else {}
        comparisons = [one for pair in pairs for one in _comparisons(model.name, pair, self.saved.settings.pole)]
        plan = plan_repeats(comparisons, predicted, noise, alpha=s.alpha, power=s.power, most=s.max_repeats)
        return NeuronSet(model.name, tuple(pairs), noise, model.error, predicted, plan, tuple(dark))

    def _predicted(self, model: NeuronModel, pairs: Sequence[PairSet]) -> dict[str, float]:
        """The responses to the pictures, which are written."""
        stimuli = {file: one for pair in pairs for file, one in pair.stimuli.items()}
        for file, one in stimuli.items():
            self.folder.write(f"{PICTURES}/{file}", _png(one.picture))
        paths = [self.folder / PICTURES / file for file in stimuli]
        latents = encode_images(model.encoder, paths, self.study.network.transform, self.batch_size, unreadable="raise")
        return dict(zip(stimuli, model.predict(latents).tolist(), strict=True))

    @cached_property
    def _paths(self) -> dict[str, Path]:
        return dict(zip(self.study.recording.stimulus_names, self.study.recording.stimuli, strict=True))

    @cached_property
    def _side(self) -> int | None:
        """The side of all pictures of all neurons; None if they keep their size."""
        rows = [row for name in self.study.recording.neuron_ids for row in self._chosen(name).values()]
        return self.settings.size or common_side([open_rgb(self._paths[each]).size for each in _names(rows)])

    def _chosen(self, name: str) -> dict[int, SavedPair]:
        """The pairs of a neuron to make pictures of, by their number in the report."""
        rows = self.saved.pairs[name]
        return {number: rows[number - 1] for number in self.settings.pairs or range(1, len(rows) + 1)}

    def _pairs(self, name: str) -> tuple[list[PairSet], list[int]]:
        """The pairs of a neuron, and the numbers of those without heat."""
        maps, chosen, s = self.saved.maps(name, self.settings.kind), self._chosen(name), self.settings
        names = _names(chosen.values())
        transform = self.study.network.transform
        opened = same_size([open_rgb(self._paths[each]) for each in names], self._side, transform)
        pictures = dict(zip(names, (np.asarray(each) for each in opened), strict=True))
        size = (opened[0].height, opened[0].width)
        window, made, dark = seen_window(transform, size), [], []
        for number, row in chosen.items():
            try:
                parts = find_parts(maps[number - 1], window, size, area=s.area, controls=s.controls, seed=s.seed)
            except NoHeat:
                dark.append(number)
                continue
            stimuli = pair_stimuli(pictures[row.image], pictures[row.reference], parts, s.fill)
            named = {f"neuron_{file_stem(name)}_pair_{number}_{one.name}.png": one for one in stimuli}
            made.append(PairSet(number, row.image, row.reference, parts, named))
        return made, dark


def _names(rows: Iterable[SavedPair]) -> list[str]:
    """The stimuli of pairs, each once."""
    return list(dict.fromkeys(name for row in rows for name in (row.image, row.reference)))


def _noise(model: NeuronModel, settings: ExperimentSettings) -> TrialNoise:
    if settings.fano is not None:
        return TrialNoise(0.0, settings.fano)
    try:
        return measure_noise(model.responses)
    except ValueError as error:
        raise ValueError(f"neuron {model.name}: {error}; give its variance over its mean response as `fano`") from error


def _matched(pairs: Sequence[PairSet], s: ExperimentSettings) -> list[PairSet]:
    """Photographs have one contrast, parts on a uniform ground another."""
    stimuli = [one for pair in pairs for one in pair.stimuli.values()]
    pictures, alone = [one.picture for one in stimuli], [one.kind == "alone" for one in stimuli]
    made = iter(match_pictures(pictures, alone, luminance=s.match_luminance, contrast=s.match_contrast, seed=s.seed))
    return [
        replace(pair, stimuli={file: replace(one, picture=next(made)) for file, one in pair.stimuli.items()})
        for pair in pairs
    ]


def _comparisons(neuron: str, pair: PairSet, pole: str) -> list[Comparison]:
    found = []
    for kind in EXPECTED:
        file, *controls = [file for file, one in pair.stimuli.items() if one.kind == kind]  # as `pair_stimuli` has them
        found.append(Comparison(neuron, pair.number, kind, file, tuple(controls), expected_way(kind, pole)))
    return found


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
