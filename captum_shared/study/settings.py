"""Every choice of the commands `category` and `recording`, with its default, in one place.

Importing this module is quick: the command line reads the defaults from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypedDict, TypeVar

POOLS: tuple[str | int, ...] = ("avg", 2, 4)
ENGINES = ("IntegratedGradients", "Saliency", "InputXGradient", "GuidedBackprop", "Deconvolution", "DeepLift")
MAPS = ("pixel", "layer")
FORMATS = ("png", "svg", "pdf")
PAIRS = ("category", "drivers")
POLES = ("excite", "suppress")
MIN_IMAGES = 5
"""A category with fewer images is never chosen as preferred."""
WEAK_D_PRIME = 0.5
"""Below it, no report says that a neuron prefers a category: two normal distributions so close give an area under the
ROC curve of 0.64. Such neurons are explained all the same, with a warning, unless `min_d_prime` says otherwise."""


@dataclass(frozen=True)
class Choices:
    """The choices of a command, each with a default."""

    def as_json(self) -> dict[str, object]:
        """As a dictionary of JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def check(self) -> None:
        """Refuse what is out of range."""


@dataclass(frozen=True)
class Settings(Choices):
    """What `category` and `recording` have in common. The defaults are ours where the paper is silent.

    Attributes
    ----------
    standardize : bool
        Scale each latent over all images: similarities and shared weights are products, which depend on the scale.
    references : {"drivers", "category"}
        Where to look for references: among the drivers in the category, as in the paper, or in the whole category.
    similarity : str
        A name in `SIMILARITIES`; "dot" is the paper's.
    rule : str
        A name in `RULES`, such as "product", the paper's, or "moments", which is `moment_rule` on all images.
    references_averaged : int
        How many references to average: an image is compared with the mean of their latents. The most similar is shown.
    engine : str
        One of Captum's methods, for maps of pixels: a name in `ENGINES`.
    maps : tuple of {"pixel", "layer"}
        Maps of the image's pixels, and coarse maps at the layer, which need no backward pass through the network.
    formats : tuple of {"png", "svg", "pdf"}
        Of the figures' files; in SVG and PDF text is text.
    n_steps : int
        Steps of integrated gradients.
    seed : int
        For everything random.
    batch_size : int
        Images per forward pass.
    """

    standardize: bool = True
    references: str = "drivers"
    similarity: str = "dot"
    rule: str = "product"
    references_averaged: int = 1
    engine: str = "IntegratedGradients"
    maps: tuple[str, ...] = ("pixel",)
    formats: tuple[str, ...] = ("png",)
    n_steps: int = 32
    seed: int = 0
    batch_size: int = 32

    def check(self) -> None:
        """Refuse what is out of range."""
        from captum_shared.checks import check_choice, check_integer
        from captum_shared.selection import REFERENCES, rule_names
        from captum_shared.similarity import SIMILARITIES

        for name in ("references_averaged", "n_steps", "batch_size"):
            check_integer(name, getattr(self, name))
        choices = {"references": REFERENCES, "similarity": SIMILARITIES, "rule": rule_names(), "engine": ENGINES}
        for name, among in choices.items():
            check_choice(name, getattr(self, name), among)
        for name, among in (("maps", MAPS), ("formats", FORMATS)):
            chosen = getattr(self, name)
            if not chosen or set(chosen) - set(among) or len(set(chosen)) < len(chosen):
                raise ValueError(f"`{name}` must be one or more of {among}, got {chosen}")

    @property
    def engine_arguments(self) -> dict[str, int]:
        """What the engine's `attribute` is given."""
        return {"n_steps": self.n_steps} if self.engine == "IntegratedGradients" else {}


@dataclass(frozen=True)
class CategorySettings(Settings):
    """The choices of `explain_category`: those of `Settings`, and these.

    Attributes
    ----------
    top : int
        How many images outside the category to explain, the strongest first.
    folds : int
        Folds of the cross-validation that gives the responses.
    """

    top: int = 12
    folds: int = 5

    def check(self) -> None:
        """Refuse what is out of range."""
        from captum_shared.checks import check_integer

        super().check()
        check_integer("top", self.top)
        check_integer("folds", self.folds, 2)


@dataclass(frozen=True)
class RecordingSettings(Settings):
    """The choices of `explain_recording`: those of `Settings`, and these.

    Attributes
    ----------
    neurons : tuple of str or None
        Names of the neurons to study or, where no name is a number, positions from 0. Default: all.
    pairs : {"category", "drivers"}
        Whether drivers outside the preferred category are compared with drivers inside it, or drivers with one another,
        whatever their categories, if they have any: see `find_driver_pairs`.
    pole : {"excite", "suppress"}
        Whether to explain what excites a neuron, or what silences it: the same with its responses negated, so that
        its drivers are the stimuli with the weakest responses, and its preferred category the one with the lowest d'.
    preferred : str, tuple of K str, or None
        The category that all neurons prefer, or one for each. Default: for each, the one with the largest d'.
    pca : int or None
        Principal components before the ridge regression; None for no PCA.
    folds : int
        Outer folds of the nested cross-validation.
    n_splits : int
        Split halves of the repeats, for the reliability.
    min_reliability, min_cv_r, min_d_prime : float
        The lowest split-half reliability, cross-validated correlation and d' of a neuron that is explained.
    threshold : float
        The level of a driver, in standard deviations above the mean, of the recorded and the predicted response.
    drivers : int
        The largest number of drivers outside the category to explain for a neuron, the strongest first.
    figures : int
        For how many neurons to draw the figure and thumbnail in advance, the best predicted first. The page draws
        every pair from data, and ``captum-shared figure`` makes figures for a paper.
    map_bits : {8, 16, 32}
        Bits per number in the files of maps; with 8 and 16, each map has its own scale.
    map_reduction : int
        Side in pixels of the blocks over which maps of pixels are summed; 2 for half the resolution.
    interventions : bool
        Whether to test every pair: the hottest tenth of its image is removed, and kept alone, and the model and a twin
        at another layer say what that does. Off by default, since each pair takes some 160 forward passes.
    images_per_job, maps_per_job : int
        The size of a job: images to encode, maps to make. All maps of an image are made together, up to four times as
        many.
    """

    n_steps: int = 16
    neurons: tuple[str, ...] | None = None
    pairs: str = "category"
    pole: str = "excite"
    preferred: str | tuple[str, ...] | None = None
    pca: int | None = 256
    folds: int = 5
    n_splits: int = 100
    min_reliability: float = 0.3
    min_cv_r: float = 0.2
    min_d_prime: float = 0.0
    threshold: float = 1.0
    drivers: int = 5
    figures: int = 100
    map_bits: int = 16
    map_reduction: int = 1
    interventions: bool = False
    images_per_job: int = 64
    maps_per_job: int = 64

    def check(self) -> None:
        """Refuse what is out of range."""
        from captum_shared.checks import check_choice, check_integer, check_number

        super().check()
        for name in ("n_splits", "drivers", "map_reduction", "images_per_job", "maps_per_job"):
            check_integer(name, getattr(self, name))
        check_integer("figures", self.figures, 0)
        for name, among in (("map_bits", (8, 16, 32)), ("pairs", PAIRS), ("pole", POLES)):
            check_choice(name, getattr(self, name), among)
        check_integer("folds", self.folds, 2)
        if not isinstance(self.interventions, bool):
            raise TypeError(f"`interventions` must be True or False, got {self.interventions!r}")
        if self.pca is not None:
            check_integer("pca", self.pca, also="None")
        for name in ("min_reliability", "min_cv_r", "min_d_prime", "threshold"):
            check_number(name, getattr(self, name))

    @property
    def sign(self) -> float:
        """By which responses and readouts are multiplied: -1 for what silences neurons."""
        return -1.0 if self.pole == "suppress" else 1.0


class Options(TypedDict, total=False):
    """`Settings` as a user gives them, by name; see there."""

    standardize: bool
    references: str
    similarity: str
    rule: str
    references_averaged: int
    engine: str
    maps: str | Sequence[str]
    formats: str | Sequence[str]
    n_steps: int
    seed: int
    batch_size: int


class CategoryOptions(Options, total=False):
    """`CategorySettings` as a user gives them, by name; see there."""

    top: int
    folds: int


class RecordingOptions(Options, total=False):
    """`RecordingSettings` as a user gives them, by name; see there."""

    neurons: str | Sequence[str] | None
    pairs: str
    pole: str
    preferred: str | Sequence[str] | None
    pca: int | None
    folds: int
    n_splits: int
    min_reliability: float
    min_cv_r: float
    min_d_prime: float
    threshold: float
    drivers: int
    figures: int
    map_bits: int
    map_reduction: int
    interventions: bool
    images_per_job: int
    maps_per_job: int


Kind = TypeVar("Kind", bound=Choices)


def make_settings(kind: type[Kind], options: Mapping[str, object], caller: str) -> Kind:
    """Make settings from a user's options by name, if all of them exist and are in range; errors name the option.

    `maps` and `formats` may be comma-separated text, `neurons` text such as "0,3,7-9". `caller` is the function that
    the user called, for messages.
    """
    names = [field.name for field in fields(kind)]
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise TypeError(f"{caller} takes no option {unknown[0]!r}; it takes {names}")
    values: dict[str, Any] = dict(options)  # of the fields' types, as far as `check` finds
    for name in ("maps", "formats"):
        if isinstance(values.get(name), str):
            values[name] = [part.strip() for part in values[name].split(",")]
    if isinstance(values.get("neurons"), str):
        values["neurons"] = parse_numbers(values["neurons"])
    for name in ("maps", "formats", "neurons", "preferred"):
        value = values.get(name)
        if isinstance(value, Sequence) and not isinstance(value, str):
            values[name] = tuple(str(each) for each in value)
    settings = kind(**values)
    settings.check()
    return settings


def split_options(kind: type[Settings], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A user's options: those that are settings of this kind, and the others."""
    names = {field.name for field in fields(kind)}
    chosen = {name: value for name, value in options.items() if name in names}
    return chosen, {name: value for name, value in options.items() if name not in names}


def parse_numbers(text: str) -> list[str]:
    """Split names at commas; a range of numbers is written with a hyphen, and must not run backwards.

    >>> parse_numbers("0, 3,7-9")
    ['0', '3', '7', '8', '9']
    """
    names: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        ends = re.fullmatch(r"(\d+)\s*-\s*(\d+)", part)
        if not part or (ends and int(ends[1]) > int(ends[2])):
            raise ValueError(f"`neurons` must be names separated by commas, such as 0,3,7-9, got {text!r}")
        names += [str(number) for number in range(int(ends[1]), int(ends[2]) + 1)] if ends else [part]
    return names
