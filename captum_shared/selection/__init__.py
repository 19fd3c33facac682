"""What drives a neuron, and what is compared with what: d', drivers, candidates, pairs, and the centers of rules.

One definition of each, for the commands, the benchmarks, the tutorials and you:

- A *driver* is an image that drives the neuron: its response reaches a given level. It may be inside or outside the
  category.
- The images to explain are the drivers *outside* the category, strongest first.
- The *candidates* for their references are the drivers inside the category.
- A *pair* is a driver outside the category and the candidate that is most similar to it for the neuron.
- Without categories, *partners* are paired with one another: drivers that are alike for the neuron, and unlike
  otherwise.
- The *center* with which some rules compare the reference is the mean of all images ("centered"), or of the strongest
  drivers, inside or outside the category ("contrast", "matched").
"""

from captum_shared.selection.centers import (
    MOMENTS,
    N_STRONGEST,
    NEEDS_DRIVERS,
    is_crossed,
    make_rule,
    rule_center,
    rule_names,
)
from captum_shared.selection.drivers import (
    MOST_PARTNERS,
    REFERENCES,
    Drivers,
    Partners,
    find_drivers,
    find_partners,
    strongest_drivers,
)
from captum_shared.selection.pairs import Pairs, find_driver_pairs, find_pairs
from captum_shared.selection.preference import d_prime

__all__ = [
    "MOMENTS",
    "MOST_PARTNERS",
    "NEEDS_DRIVERS",
    "N_STRONGEST",
    "REFERENCES",
    "Drivers",
    "Pairs",
    "Partners",
    "d_prime",
    "find_driver_pairs",
    "find_drivers",
    "find_pairs",
    "find_partners",
    "is_crossed",
    "make_rule",
    "rule_center",
    "rule_names",
    "strongest_drivers",
]
