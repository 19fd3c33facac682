"""The viewer's data of a recording: a script for each neuron, made in jobs, and what the tables need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from captum_shared.labels import split_labels
from captum_shared.report.html import Section
from captum_shared.report.pair_views import ImageShelf, hub_warnings, pair_view, preference_warnings, references_of
from captum_shared.report.pictures import seen_pictures
from captum_shared.report.recording.effects import effects_sentence, effects_warnings
from captum_shared.report.viewer import (
    ColumnView,
    NeuronEntry,
    NeuronView,
    index_script,
    neuron_entry,
    neuron_script,
    read_data,
    viewer_section,
)
from captum_shared.study.interventions import Effects
from captum_shared.study.looks import LookRequest, Memory, References
from captum_shared.study.maps import load_maps, map_path
from captum_shared.study.network import transform_image
from captum_shared.study.neurons import Findings, NeuronFindings
from captum_shared.study.run import Job, Run, Share
from captum_shared.study.study import Study

COLUMNS = (
    ColumnView("preferred_category", "largest d\u2032 for", "choice"),
    ColumnView("d_prime", "d\u2032"),
    ColumnView("cv_r", "r"),
    ColumnView("cv_r_corrected", "r / ceiling"),
    ColumnView("reliability", "reliability"),
    ColumnView("generalization_r", "generalization r"),
    ColumnView("n_drivers", "drivers"),
    ColumnView("layer", "layer", "choice"),
    ColumnView("status", "status", "choice"),
    ColumnView("reason", "reason", "text"),
)

THUMBNAIL = (293, 144)  # pixels
OF_CATEGORIES = ("preferred_category", "d_prime", "generalization_r")


def write_views(
    study: Study,
    findings: Findings,
    run: Run,
    rows: Sequence[Mapping[str, float | str | None]],
    pictures: Mapping[int, Sequence[str]],
    effects: Effects | None = None,
) -> Section:
    """Write ``data`` and ``images``; the section for the page. Effects are those of interventions, if any.

    `rows` are those of ``neurons.csv``, `pictures` the files of a neuron by its index: figures, then a thumbnail.
    """
    views, columns = _Views(study, findings, run, effects or {}), _columns(study)
    run.carry_out(views.jobs(), "views")
    entries = [
        views.entry(neuron, row, pictures.get(neuron.index)) for neuron, row in zip(findings.neurons, rows, strict=True)
    ]
    run.folder.write_text("data/index.js", index_script(views.shelf.views, columns, entries, study.settings.rule))
    return viewer_section()


def _columns(study: Study) -> list[ColumnView]:
    """Those of the table of neurons: without categories none of a preferred one."""
    columns = list(COLUMNS)
    if study.recording.categories is None:
        return [column for column in columns if column.key not in OF_CATEGORIES]
    if study.settings.preferred is not None:
        columns[0] = replace(columns[0], name="category")
    elif study.settings.pole == "suppress":
        columns[0] = replace(columns[0], name="lowest d\u2032 for")
        columns[1] = replace(columns[1], name="d\u2032, negated")
    return columns


class _Views:
    """The jobs that make the scripts of neurons, and the images they show."""

    def __init__(self, study: Study, findings: Findings, run: Run, effects: Effects) -> None:
        self.study, self.findings, self.run, self.effects = study, findings, run, effects
        picture, recording = seen_pictures(study.network.transform), study.recording
        self.shelf = ImageShelf(
            lambda place: picture(recording.stimuli[place]),
            recording.stimulus_names,
            [", ".join(split_labels(category)) for category in study.categories.tolist()],
            run.folder.write,
        )

    def jobs(self) -> list[Job]:
        """A job for each explained neuron; one forward pass of an image serves all candidates that are chosen."""
        chosen, latents, network = self.findings.models.candidate, self.findings.latents, self.study.network
        candidates = sorted({int(chosen[neuron.index]) for neuron in self.findings.explained})
        encoders = [latents.encoder(candidate).eval() for candidate in candidates]
        found = [references_of(latents.standardized(c), self.study.settings, network.cells(c)) for c in candidates]
        spaces = [references for references, _ in found]
        transform, stimuli = network.transform, self.study.recording.stimuli
        memory = Memory(
            encoders,
            [space.rule for space in spaces],
            lambda place: transform_image(transform, stimuli[place]),  # which takes no study along to a worker
            [others for _, others in found],
        )
        made = []
        for number, candidate in enumerate(candidates):
            for neuron in self.findings.explained:
                if int(chosen[neuron.index]) == candidate:
                    self._note_images(neuron, spaces[number], partial(memory.expect, number=number))
                    path = self.run.folder / "data" / f"neuron_{neuron.index}.js"
                    arguments = partial(self._arguments, neuron, spaces[number], memory, number)
                    made.append(Job((path,), _script, arguments))
        return made

    def _note_images(self, neuron: NeuronFindings, references: References, expect: Callable[[int], None]) -> None:
        """Put a neuron's images on the shelf, in the same order whichever jobs are already done."""
        best = references.best(neuron.explanation[1], self._weight(neuron))
        for place in (*best.images.tolist(), *best.references.ravel().tolist()):
            self.shelf.number(place)
            expect(place)

    def _weight(self, neuron: NeuronFindings) -> Tensor:
        return torch.as_tensor(self.findings.models.weights[neuron.index]).double()

    def _arguments(
        self, neuron: NeuronFindings, references: References, memory: Memory, number: int, share: Share
    ) -> tuple[object, ...]:
        requests = references.requests(neuron.explanation[1], self._weight(neuron))
        places = sorted({place for each in requests for r in each for place in (r.image, r.reference)})
        pixel = None
        if "pixel" in self.study.settings.maps:
            pixel = load_maps(map_path(self.run.folder, neuron), "pixel")
        shown = _Shown(
            neuron.index,
            {place: self.shelf.number(place) for place in places},
            {place: float(self.study.responses[neuron.index, place]) for place in places},
            pixel,
        )
        return share(memory), number, requests, shown

    def entry(
        self, neuron: NeuronFindings, row: Mapping[str, float | str | None], pictures: Sequence[str] | None
    ) -> NeuronEntry:
        """What the tables show of a neuron; its pairs are read from its script."""
        values = {column.key: None if row[column.key] == "" else row[column.key] for column in COLUMNS}
        if not neuron.explained:
            return neuron_entry(NeuronView(neuron.name, values))
        r = float(self.findings.models.cv_r[neuron.index])
        by_category = self.study.settings.pairs == "category"
        said = preference_warnings(neuron.preferred if by_category else None, neuron.d_prime, r)
        figure, small = (pictures[0], (pictures[-1], *THUMBNAIL)) if pictures else (None, None)
        entry = neuron_entry(NeuronView(neuron.name, values, (), said, figure, small))
        script = (self.run.folder / "data" / f"neuron_{neuron.index}.js").read_text()
        pairs = read_data(script, "neuron", neuron.index)["pairs"]
        images = [image for image, _, _ in neuron.shown]
        tested = self.effects.get(neuron.index, [None] * len(images))
        for place, references, effects in zip(images, pairs, tested, strict=True):
            best, response = references[0], float(self.study.responses[neuron.index, place])
            own = [self.shelf.number(place), best["image"], best["similarity"], response, best["warnings"]]
            if effects is not None:
                own[4] = [*best["warnings"], *effects_warnings(effects)]
                own.append(effects_sentence(effects))
            entry["pairs"].append(own)
        return entry


@dataclass(frozen=True)
class _Shown:
    """A neuron's images by index: number on the shelf and response; and its maps of pixels, if there are any.

    These are (pairs, 2, H, W), for the best references.
    """

    neuron: int
    numbers: dict[int, int]
    responses: dict[int, float]
    pixel: np.ndarray | None


def _script(memory: Memory, number: int, requests: Sequence[Sequence[LookRequest]], shown: _Shown) -> list[bytes]:
    """The script of a neuron that reads the memory's encoder of this number."""
    hubs, pairs = hub_warnings([each[0].reference for each in requests]), []
    for rank, each in enumerate(requests):
        looks = [memory.look(request, number) for request in each]
        pixel = None if shown.pixel is None else (shown.pixel[rank, 0], shown.pixel[rank, 1])
        pairs.append(pair_view(looks, shown.numbers.__getitem__, shown.responses, memory.rules[number], pixel, hubs))
    return [neuron_script(shown.neuron, NeuronView("", {}, pairs)).encode()]
