"""Pictures: the heat of a pair of attributions, drawn over the two images in one common scale.

Figures are built on `matplotlib.figure.Figure` with the Agg canvas, never through pyplot: no global state is
changed, and saving works without a display. Matplotlib is imported when a picture is drawn, not before.
"""

from captum_shared.visualization.figures import overlay, pair_figure
from captum_shared.visualization.heat import display_heat
from captum_shared.visualization.image import to_image
from captum_shared.visualization.population import distribution_figure, feature_grid, unit_sheet

__all__ = [
    "display_heat",
    "distribution_figure",
    "feature_grid",
    "overlay",
    "pair_figure",
    "to_image",
    "unit_sheet",
]
