"""Rules as commands name them, and the centers with which some of them compare the reference."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from captum_shared.checks import check_choice
from captum_shared.selection.drivers import Drivers
from captum_shared.similarity import RULES, MomentRule, Rule, moment_rule, shared_weights, transposed

N_STRONGEST = 20
"""The center of "contrast" and "matched" is the mean of at most this many drivers, as in the benchmarks."""
NEEDS_DRIVERS = ("contrast", "matched")
MOMENTS = "moments"


def rule_center(rule: str | Rule, latents: Tensor, drivers: np.ndarray | Drivers) -> Tensor | None:
    """What a rule compares the reference with: the `center` of `shared_weights` and of the attribution methods.

    Parameters
    ----------
    rule : str or callable
        A name in `RULES`, or your own rule.
    latents : Tensor (n, D)
        Of all images, the gallery.
    drivers : (a,) int array, or Drivers
        Indices of all drivers, inside or outside the category, strongest first: `find_drivers(...)`, or
        `strongest_drivers(responses)` regardless of category.

    Returns
    -------
    Tensor (D,) or None
        "centered": the mean of the gallery. "contrast" and "matched": the mean of the strongest drivers, at most 20.
        None for a rule without a center, such as "product", and for your own rule.

    Raises
    ------
    ValueError
        If the rule needs drivers and there are none.

    Examples
    --------
    >>> import torch
    >>> latents = torch.tensor([[1.0, 0.0], [3.0, 2.0], [8.0, 1.0]])
    >>> rule_center("centered", latents, np.array([1, 0]))
    tensor([4., 1.])
    >>> rule_center("contrast", latents, np.array([1, 0]))
    tensor([2., 1.])
    """
    if rule == "centered":
        return latents.mean(0)
    if rule not in NEEDS_DRIVERS:
        return None
    places = drivers.everywhere if isinstance(drivers, Drivers) else drivers
    if not len(places):
        raise ValueError(f"the center of rule {rule!r} is the mean of the neuron's drivers; got none")
    return latents[np.asarray(places)[:N_STRONGEST]].mean(0)


def make_rule(rule: str | Rule, latents: Tensor, cells: int = 1) -> str | Rule:
    """What `rule=` of the attribution methods takes: a name in `RULES` as it is, others made from the gallery.

    Parameters
    ----------
    rule : str or callable
        A name in `rule_names()`, or your own rule. "moments" is `moment_rule`.
    latents : Tensor (n, D)
        Of all images, the gallery.
    cells : int, default 1
        Of how many cells of the image the latents are, as in `moment_rule`.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> import torch
    >>> make_rule("product", torch.rand(300, 4))
    'product'
    >>> make_rule("moments", torch.rand(300, 4))
    moment_rule(gallery of 300 images, 4 latents, contrast=0.5, ridges=(0.3, 3.0), cells=1)
    """
    if callable(rule):
        return rule
    check_choice("rule", rule, rule_names())
    return moment_rule(latents, cells=cells) if rule == MOMENTS else rule


def rule_names() -> tuple[str, ...]:
    """The names that `make_rule` and the option ``--rule`` take."""
    return (*RULES, MOMENTS)


def is_crossed(rule: str | Rule) -> bool:
    """Whether each image's shared weights are made from the other image, so that both maps are of one similarity.

    This holds for "moments" and "dot", which use only one image; for the other rules, both images share one constant.
    """
    return rule in ("dot", MOMENTS) or isinstance(rule, MomentRule)


def reference_weights(
    z: Tensor, z_ref: Tensor, weight: Tensor, rule: str | Rule, center: Tensor | None = None
) -> Tensor:
    """Shared weights for the maps of references: those of their images, unless the rule `is_crossed`."""
    if is_crossed(rule):
        return shared_weights(z_ref, z, weight, transposed(rule), center)
    return shared_weights(z, z_ref, weight, rule, center)
