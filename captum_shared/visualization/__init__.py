"""Pictures: the heat of a pair of attributions, drawn over the two images in one common scale.

Figures are built on `matplotlib.figure.Figure` with the Agg canvas, never through pyplot: no global state is
changed, and saving works without a display. Matplotlib is imported when a picture is drawn, not before.
"""

from captum_shared.visualization.figures import overlay, pair_figure
from captum_shared.visualization.heat import display_heat
from captum_shared.visualization.image import to_image

__all__ = ["display_heat", "overlay", "pair_figure", "to_image"]
