"""Scores of heat maps. They take maps and masks, or a callable, so that any Captum method can be scored."""

from captum_shared.metrics.discrimination import (
    density_contrast,
    heat_density,
    leakage,
    p_vs_q_auroc,
    swap_accuracy,
)
from captum_shared.metrics.intervals import bootstrap_interval
from captum_shared.metrics.localization import (
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from captum_shared.metrics.perturbation import curve_area, deletion_curve, insertion_curve
from captum_shared.metrics.sanity import (
    cascading_randomization,
    rank_correlation,
    readout_randomization,
    reference_swap,
)

__all__ = [
    "bootstrap_interval",
    "cascading_randomization",
    "curve_area",
    "deletion_curve",
    "density_contrast",
    "heat_density",
    "insertion_curve",
    "leakage",
    "p_vs_q_auroc",
    "pointing_game",
    "rank_correlation",
    "readout_randomization",
    "reference_swap",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "swap_accuracy",
]
