"""Scores of heat maps. They take maps and masks, so that any Captum method can be scored."""

from captum_shared.metrics.localization import (
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)

__all__ = ["pointing_game", "relevance_mass_accuracy", "relevance_rank_accuracy"]
