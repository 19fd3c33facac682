"""One explained image: all methods' areas removed and kept, judged by twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.common.results import Content
from benchmarks.interventions.rows import Name, areas_of_heats
from captum_shared.interventions import linear_scores, necessity, sufficiency
from captum_shared.interventions.scores import Scores

AREAS = (0.05, 0.1, 0.2)
FILLS = ("blur", "mean")
MAIN_AREA = 0.1
QUESTIONS = ("similarity", "rival", "response")


@dataclass(frozen=True)
class Twin:
    """A network's latents and a readout that the map has not seen.

    Attributes
    ----------
    name : str
    columns : slice
        Of its latents among those of the scanner.
    weight : Tensor (D,)
    latents : Tensor (n, D)
        Standardised, of the known images.
    mean, spread : Tensor (D,)
        By which they were standardised.
    """

    name: str
    columns: slice
    weight: Tensor
    latents: Tensor
    mean: Tensor
    spread: Tensor

    def encode(self, scanned: Tensor) -> Tensor:
        """Its latents, of what the scanner gives."""
        return (scanned[:, self.columns].double() - self.mean) / self.spread


@dataclass(frozen=True)
class Judge:
    """Scores of images, a column for each of `QUESTIONS` of each twin, by one forward pass."""

    scanner: nn.Module
    scores: tuple[Scores, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Images (n, C, H, W) to scores (n, twins x questions)."""
        with torch.no_grad():
            scanned = self.scanner(images)
        return torch.cat([score(scanned) for score in self.scores], dim=1)


def make_judge(scanner: nn.Module, twins: Sequence[Twin], reference: Tensor, rival: Tensor) -> Judge:
    """Similarity to a reference and to a rival, given what the scanner says of them, (1, D); and the response."""
    scores = []
    for twin in twins:
        refs = [twin.encode(each).mean(0) for each in (reference, rival)]
        constants = torch.stack([*(twin.weight.double() * z for z in refs), twin.weight.double()])
        scores.append(linear_scores(twin.encode, constants, twin.latents))
    return Judge(scanner, tuple(scores))


def play(heats: Mapping[Name, Tensor], image: Tensor, judge: Judge, seed: int, *, most: bool = True) -> Content:
    """Effects of every row's area of an image (C, H, W), given the heats (H, W), for each of the judge's scores.

    Necessity at the main area by blur and mean; with `most` at all areas, by inpainting, too, and sufficiency.
    """
    effects = []
    for area in AREAS if most else (MAIN_AREA,):
        found = areas_of_heats(dict(heats), area, seed)
        jobs = [("necessity", fill) for fill in FILLS]
        if most and area == MAIN_AREA:
            jobs += [("necessity", "inpaint"), *(("sufficiency", fill) for fill in FILLS)]
        for kind, fill in jobs:
            values = _effects(kind, fill, judge, image, found)
            effects += [
                {"row": list(name), "area": area, "fill": fill, "kind": kind, "values": mean}
                for name, mean in values.items()
            ]
    return {"effects": effects}


def _effects(
    kind: str, fill: str, judge: Judge, image: Tensor, areas: Mapping[Name, Tensor]
) -> dict[Name, list[float]]:
    function = {"necessity": necessity, "sufficiency": sufficiency}[kind]
    masks, counts = torch.cat(list(areas.values())), [len(each) for each in areas.values()]
    values = function(judge, image, masks, fills=[fill], batch_size=16)
    return {name: part.mean(0).tolist() for name, part in zip(areas, values.split(counts), strict=True)}
