"""Every choice that a report of a recording makes, with its default, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from captum_shared.checks import check_choice, check_integer
from captum_shared.similarity import RULES, SIMILARITIES

POOLS: tuple[str | int, ...] = ("avg", 2, 4)
REFERENCES = ("drivers", "category")
MIN_IMAGES = 5
"""A category with fewer images is nobody's preferred category."""


@dataclass(frozen=True)
class Settings:
    """The choices of `explain_recording`; what they mean is said there. All are ours unless it says otherwise there."""

    preferred: str | tuple[str, ...] | None = None
    standardize: bool = True
    pca: int | None = 256
    folds: int = 5
    n_splits: int = 100
    min_reliability: float = 0.3
    min_cv_r: float = 0.2
    min_d_prime: float = 0.0
    threshold: float = 1.0
    drivers: int = 5
    references: str = "drivers"
    similarity: str = "dot"
    rule: str = "product"
    n_steps: int = 16
    seed: int = 0
    batch_size: int = 32
    images_per_unit: int = 64
    neurons_per_unit: int = 16

    def as_json(self) -> dict[str, Any]:
        """As a dictionary of what JSON knows."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def checked(options: dict[str, Any]) -> Settings:
    """Settings, if every option is one and in range.

    Raises
    ------
    TypeError, ValueError
        Naming the option, what was received and what was expected.
    """
    names = [field.name for field in fields(Settings)]
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise TypeError(f"explain_recording takes no option {unknown[0]!r}; it takes {names}")
    preferred = options.get("preferred")
    if isinstance(preferred, Sequence) and not isinstance(preferred, str):
        options = {**options, "preferred": tuple(str(name) for name in preferred)}
    settings = Settings(**options)
    _check_numbers(settings)
    for name, choices in (("references", REFERENCES), ("similarity", tuple(SIMILARITIES)), ("rule", tuple(RULES))):
        check_choice(name, getattr(settings, name), choices)
    return settings


def _check_numbers(s: Settings) -> None:
    counts = ("n_splits", "drivers", "n_steps", "batch_size", "images_per_unit", "neurons_per_unit")
    for name in counts:
        check_integer(name, getattr(s, name), 1)
    check_integer("folds", s.folds, 2)
    if s.pca is not None:
        check_integer("pca", s.pca, 1)
    for name in ("min_reliability", "min_cv_r", "min_d_prime", "threshold"):
        value = getattr(s, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise ValueError(f"`{name}` must be a number, got {value!r}")
