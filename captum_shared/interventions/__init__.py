"""Interventions: change an image where a map is hot, and see what a score of it does.

They take heat maps, masks and images, or a callable, so that any Captum method can be tested.
"""

from captum_shared.interventions.areas import hottest_area, moved_area, random_area
from captum_shared.interventions.ascent import accentuate
from captum_shared.interventions.fills import FILLS
from captum_shared.interventions.images import keep, neutral, remove, transplant

__all__ = [
    "FILLS",
    "accentuate",
    "hottest_area",
    "keep",
    "moved_area",
    "neutral",
    "random_area",
    "remove",
    "transplant",
]
