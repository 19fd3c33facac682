"""Images composed of parts with exact masks, networks that see their parts, and neurons with known truth."""

from captum_shared.synthetic.admission import (
    AdmissionCounts,
    Thresholds,
    admitted_pairs,
    rejection_reasons,
)
from captum_shared.synthetic.basis import Rotation, basis_rotation
from captum_shared.synthetic.images import SIZE, SyntheticImages, footprint, make_images, render, render_scenes
from captum_shared.synthetic.layout import CATEGORIES, sample_scene
from captum_shared.synthetic.network import DEMO_LAYER, LABELS, DemoNetwork, demo_network
from captum_shared.synthetic.neurons import (
    CategoryNeuron,
    DemoImages,
    SharedParts,
    category_neuron,
    demo_images,
    planted_neuron,
    removal_effects,
    shared_masks,
)
from captum_shared.synthetic.pairs import (
    PART_KINDS,
    FactorialPair,
    PairCondition,
    compose_gallery,
    compose_pair,
    sample_gallery,
    sample_pair,
)
from captum_shared.synthetic.parts import KINDS, NEUTRAL_KINDS, SHARED_KINDS
from captum_shared.synthetic.planted import (
    PLANTED_KINDS,
    PLANTED_LAYER,
    PlantedNetwork,
    planted_colors,
    planted_network,
)
from captum_shared.synthetic.scene import Background, Part, Scene

__all__ = [
    "CATEGORIES",
    "DEMO_LAYER",
    "KINDS",
    "LABELS",
    "NEUTRAL_KINDS",
    "PART_KINDS",
    "PLANTED_KINDS",
    "PLANTED_LAYER",
    "SHARED_KINDS",
    "SIZE",
    "AdmissionCounts",
    "Background",
    "CategoryNeuron",
    "DemoImages",
    "DemoNetwork",
    "FactorialPair",
    "PairCondition",
    "Part",
    "PlantedNetwork",
    "Rotation",
    "Scene",
    "SharedParts",
    "SyntheticImages",
    "Thresholds",
    "admitted_pairs",
    "basis_rotation",
    "category_neuron",
    "compose_gallery",
    "compose_pair",
    "demo_images",
    "demo_network",
    "footprint",
    "make_images",
    "planted_colors",
    "planted_network",
    "planted_neuron",
    "rejection_reasons",
    "removal_effects",
    "render",
    "render_scenes",
    "sample_gallery",
    "sample_pair",
    "sample_scene",
    "shared_masks",
]
