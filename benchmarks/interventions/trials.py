"""One explained image: all methods' areas removed and kept, judged by twins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
        Standardized, of the known images.
    mean, spread : Tensor (D,)
        By which they were standardized.
    """

    name: str
    columns: slice
    weight: Tensor
    latents: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def fitted(cls, name: str, columns: slice, scanned: Tensor, fit: Callable[[Tensor], Tensor]) -> Twin:
        """A readout by `fit`, from standardized latents (n, D) to a weight, given what the scanner says of images."""
        raw = scanned[:, columns].double()
        mean, spread = raw.mean(0), raw.std(0, correction=0).clamp(min=1e-9)
        z = (raw - mean) / spread
        return cls(name, columns, fit(z), z, mean, spread)

    def encode(self, scanned: Tensor) -> Tensor:
        """Its latents, of what the scanner gives."""
        return (scanned[:, self.columns].double() - self.mean) / self.spread


def make_judge(scanner: Callable[[Tensor], Tensor], twins: Sequence[Twin], reference: Tensor, rival: Tensor) -> Scores:
    """Images (n, C, H, W) to scores (n, twins x questions), by one forward pass.

    Each twin says how similar they are to a reference and to a rival, given as what the scanner says of them, (1, D),
    and how strong its response is.
    """
    scores = []
    for twin in twins:
        refs = [twin.encode(each).mean(0) for each in (reference, rival)]
        constants = torch.stack([*(twin.weight.double() * z for z in refs), twin.weight.double()])
        scores.append(linear_scores(twin.encode, constants, twin.latents))

    def judge(images: Tensor) -> Tensor:
        with torch.no_grad():
            scanned = scanner(images)
        return torch.cat([score(scanned) for score in scores], dim=1)

    return judge


def play(heats: Mapping[Name, Tensor], image: Tensor, judge: Scores, seed: int, *, most: bool = True) -> Content:
    """Effects of every row's area of an image (C, H, W), given the heats (H, W), for each of the judge's scores.

    Necessity at the main area by blur and mean; with `most` at all areas, by inpainting, too, and sufficiency.
    """
    effects = []
    for area in AREAS if most else (MAIN_AREA,):
        found = areas_of_heats(heats, area, seed)
        jobs = [("necessity", fill) for fill in FILLS]
        if most and area == MAIN_AREA:
            jobs += [("necessity", "inpaint"), *(("sufficiency", fill) for fill in FILLS)]
        for kind, fill in jobs:
            values = effects_of(kind, judge, image, found, fills=[fill], batch_size=16)
            effects += [
                {"row": list(name), "area": area, "fill": fill, "kind": kind, "values": mean}
                for name, mean in values.items()
            ]
    return {"effects": effects}


def effects_of(
    kind: str, judge: Scores, image: Tensor, areas: Mapping[Name, Tensor], *, fills: Sequence[str], batch_size: int
) -> dict[Name, list[float]]:
    """Necessity or sufficiency of each row's areas (draws, H, W), a mean over draws for each of the judge's scores."""
    function = {"necessity": necessity, "sufficiency": sufficiency}[kind]
    counts = [len(each) for each in areas.values()]
    values = function(judge, image, torch.cat(list(areas.values())), fills=fills, batch_size=batch_size)
    return {name: part.mean(0).tolist() for name, part in zip(areas, values.split(counts), strict=True)}
