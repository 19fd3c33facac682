"""The choices of ``captum-shared stimuli``, with their defaults. Importing this module is quick."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from captum_shared.study.settings import Choices

FILLS = ("blur", "mean", "inpaint")


@dataclass(frozen=True)
class ExperimentSettings(Choices):
    """How the pictures for an experiment are made, and how many repeats are planned. The defaults are ours.

    Attributes
    ----------
    pairs : tuple of int or None
        Which pairs of each neuron, from 1; None for all.
    kind : {"pixel", "layer"} or None
        Which of the report's maps marks the parts; None for the first.
    area : float
        The part's share of what the network sees of a picture.
    fill : {"blur", "mean", "inpaint"}
        What takes the place of a removed part.
    controls : int
        Random parts for each kind of picture.
    size : int or None
        Side of the pictures in pixels, which makes them square; None to keep the stimuli's size if they share one.
    match_luminance, match_contrast : bool
        Whether the pictures of a neuron get the same mean luminance, and photographs as well as parts on a uniform
        ground the same contrast among themselves.
    alpha, power : float
        Level of all tests of a neuron together, and how likely each of them is to find its predicted difference.
    max_repeats : int
        Trials of each picture that the laboratory can make.
    fano : float or None
        The trial variance over the mean response, for recordings without repeats; None to measure it.
    seed : int
    """

    pairs: tuple[int, ...] | None = None
    kind: str | None = None
    area: float = 0.1
    fill: str = "blur"
    controls: int = 2
    size: int | None = None
    match_luminance: bool = False
    match_contrast: bool = False
    alpha: float = 0.05
    power: float = 0.8
    max_repeats: int = 100
    fano: float | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuse what is out of range."""
        from captum_shared.checks import check_choice, check_integer, check_number, check_share

        check_choice("fill", self.fill, FILLS)
        if self.kind is not None:
            check_choice("kind", self.kind, ("pixel", "layer"))
        for name, least in (("controls", 1), ("max_repeats", 2), ("seed", 0)):
            check_integer(name, getattr(self, name), least)
        for name in ("area", "alpha", "power"):
            check_share(name, getattr(self, name))
        if self.size is not None:
            check_integer("size", self.size, 16)
        if self.fano is not None and check_number("fano", self.fano) <= 0:
            raise ValueError(f"`fano` must be above 0, got {self.fano}")
        for number in self.pairs or ():
            check_integer("pairs", number)


def parse_pairs(text: str | Sequence[int] | None) -> tuple[int, ...] | None:
    """Numbers of pairs from text such as "1,3-5"; None for all. Other text is refused.

    >>> parse_pairs("1,3-5")
    (1, 3, 4, 5)
    """
    if not isinstance(text, str):
        return None if text is None else tuple(text)
    numbers: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if ends is None or int(ends[1]) > int(ends[2] or ends[1]):
            raise ValueError(f"`pairs` must be numbers separated by commas, such as 1,3-5, got {text!r}")
        numbers += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    return tuple(dict.fromkeys(numbers))
