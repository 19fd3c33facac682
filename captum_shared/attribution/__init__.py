"""Attribution of pairs: what two images share for a neuron, as heat on both."""

from captum_shared.attribution.correspondence import LayerCorrespondence
from captum_shared.attribution.layer import LayerParallelBackprop
from captum_shared.attribution.pair import ParallelBackprop

__all__ = ["LayerCorrespondence", "LayerParallelBackprop", "ParallelBackprop"]
