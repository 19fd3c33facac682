"""Interventions: change an image where a map is hot, and see what a score of it does.

They take heat maps, masks and images, or a callable, so that any Captum method can be tested.
"""

from captum_shared.interventions.areas import hottest_area, moved_area, random_area
from captum_shared.interventions.ascent import accentuate
from captum_shared.interventions.fills import FILLS
from captum_shared.interventions.images import keep, neutral, remove, transplant
from captum_shared.interventions.scores import (
    Contrast,
    chance_level,
    contrast_effects,
    linear_scores,
    necessity,
    specificity,
    sufficiency,
)

__all__ = [
    "FILLS",
    "Contrast",
    "accentuate",
    "chance_level",
    "contrast_effects",
    "hottest_area",
    "keep",
    "linear_scores",
    "moved_area",
    "necessity",
    "neutral",
    "random_area",
    "remove",
    "specificity",
    "sufficiency",
    "transplant",
]
