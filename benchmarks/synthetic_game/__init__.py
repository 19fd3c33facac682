"""Images whose every part is known: does the heat lie on the part that image and reference share?"""

from benchmarks.common.basis import Rotation, basis_rotation
from benchmarks.synthetic_game.admission import AdmissionCounts, Thresholds, admitted_pairs, rejection_reasons
from benchmarks.synthetic_game.pairs import (
    PART_KINDS,
    FactorialPair,
    PairCondition,
    compose_gallery,
    compose_pair,
    sample_gallery,
    sample_pair,
)
from benchmarks.synthetic_game.planted import (
    PLANTED_KINDS,
    PLANTED_LAYER,
    PlantedNetwork,
    planted_colors,
    planted_network,
)

__all__ = [
    "PART_KINDS",
    "PLANTED_KINDS",
    "PLANTED_LAYER",
    "AdmissionCounts",
    "FactorialPair",
    "PairCondition",
    "PlantedNetwork",
    "Rotation",
    "Thresholds",
    "admitted_pairs",
    "basis_rotation",
    "compose_gallery",
    "compose_pair",
    "planted_colors",
    "planted_network",
    "rejection_reasons",
    "sample_gallery",
    "sample_pair",
]
