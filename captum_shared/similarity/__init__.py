"""What "shared" means: how similar two images are for a neuron, and which latents they share."""

from captum_shared.similarity.centers import category_centers
from captum_shared.similarity.kinds import SIMILARITIES, Similarity, find_similarity, neuron_similarity
from captum_shared.similarity.moments import FEW_IMAGES, MomentRule, moment_rule
from captum_shared.similarity.rules import RULES, Rule, find_rule, origin_of, shared_weights, transposed

__all__ = [
    "FEW_IMAGES",
    "RULES",
    "SIMILARITIES",
    "MomentRule",
    "Rule",
    "Similarity",
    "category_centers",
    "find_rule",
    "find_similarity",
    "moment_rule",
    "neuron_similarity",
    "origin_of",
    "shared_weights",
    "transposed",
]
