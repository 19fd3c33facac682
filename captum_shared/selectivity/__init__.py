"""What the units of a network are selective for: the strongest images, what they have in common, and indices.

Rafegas et al. (2020), "Understanding trained CNNs by indexing neuron selectivity", Pattern Recognition Letters 136.
"""

from captum_shared.selectivity.changes import grey, mirror, turn
from captum_shared.selectivity.classes import (
    base_rates,
    category_d_prime,
    class_distribution,
    class_selectivity_index,
    morcos_class_selectivity,
    population_code,
)
from captum_shared.selectivity.crops import neuron_feature, neuron_features, top_crops
from captum_shared.selectivity.fields import ReceptiveFields, receptive_fields
from captum_shared.selectivity.indices import (
    color_selectivity_index,
    orientation_selectivity_index,
    response_loss,
    symmetry_selectivity_index,
    transform_selectivity_index,
)
from captum_shared.selectivity.pixels import PixelSource
from captum_shared.selectivity.ranking import TopActivations
from captum_shared.selectivity.responses import changed_responses
from captum_shared.selectivity.top import top_activations

__all__ = [
    "PixelSource",
    "ReceptiveFields",
    "TopActivations",
    "base_rates",
    "category_d_prime",
    "changed_responses",
    "class_distribution",
    "class_selectivity_index",
    "color_selectivity_index",
    "grey",
    "mirror",
    "morcos_class_selectivity",
    "neuron_feature",
    "neuron_features",
    "orientation_selectivity_index",
    "population_code",
    "receptive_fields",
    "response_loss",
    "symmetry_selectivity_index",
    "top_activations",
    "top_crops",
    "transform_selectivity_index",
    "turn",
]
