"""Images composed of parts with exact masks, a network that sees their parts, and neurons with known truth."""

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
from captum_shared.synthetic.parts import KINDS, NEUTRAL_KINDS, SHARED_KINDS
from captum_shared.synthetic.scene import Background, Part, Scene
from captum_shared.synthetic.typical import typical_scene

__all__ = [
    "CATEGORIES",
    "DEMO_LAYER",
    "KINDS",
    "LABELS",
    "NEUTRAL_KINDS",
    "SHARED_KINDS",
    "SIZE",
    "Background",
    "CategoryNeuron",
    "DemoImages",
    "DemoNetwork",
    "Part",
    "Scene",
    "SharedParts",
    "SyntheticImages",
    "category_neuron",
    "demo_images",
    "demo_network",
    "footprint",
    "make_images",
    "planted_neuron",
    "removal_effects",
    "render",
    "render_scenes",
    "sample_scene",
    "shared_masks",
    "typical_scene",
]
