"""What drives a neuron, and what is compared with what: d', drivers, candidates, pairs, and the centers of rules.

One definition of each, for the commands, the benchmarks, the tutorials and you:

- A *driver* is an image that drives the neuron: its response reaches a given level. It may be inside or outside the
  category.
- The images to explain are the drivers *outside* the category, strongest first.
- The *candidates* for their references are the drivers inside the category.
- A *pair* is a driver outside the category and the candidate that is most similar to it for the neuron.
- The *center* with which some rules compare the reference is the mean of all images ("centered"), or of the strongest
  drivers, inside or outside the category ("contrast", "matched").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from captum_shared.checks import check_choice, check_integer, check_number
from captum_shared.matcher import ReferenceMatcher
from captum_shared.similarity import RULES, MomentRule, Rule, moment_rule

REFERENCES = ("drivers", "category")
N_STRONGEST = 20
"""The center of "contrast" and "matched" is the mean of at most this many drivers, as in the benchmarks."""
NEEDS_DRIVERS = ("contrast", "matched")
MOMENTS = "moments"


@dataclass(frozen=True)
class Drivers:
    """Indices of the images that drive a neuron.

    Attributes
    ----------
    outside : (m,) int array
        Drivers outside the category, strongest first, at most as many as were asked for: the images to explain.
    candidates : (c,) int array
        Candidates for the references: drivers inside the category, or the whole category, in the order of the images.
    everywhere : (a,) int array
        All drivers, inside or outside the category, strongest first.
    """

    outside: np.ndarray
    candidates: np.ndarray
    everywhere: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Drivers and their references, as indices of images.

    Attributes
    ----------
    images : (m,) int array
        Drivers outside the category, strongest first.
    references : (m, k) int array
        The k candidates most similar to each, best first.
    similarity : (m, k) array
        Their similarities.
    """

    images: np.ndarray
    references: np.ndarray
    similarity: np.ndarray


def find_drivers(
    responses: ArrayLike,
    member: ArrayLike,
    *,
    predicted: ArrayLike | None = None,
    threshold: float | None = None,
    top: int | None = 12,
    references: str = "drivers",
) -> Drivers:
    """Find the images outside a category that drive a neuron, and the candidates for their references.

    A driver's response reaches a given level, and so does its predicted response, if there is one. For recorded
    neurons, set the level by `threshold`. For a readout of category labels, images outside the category may all respond
    weakly: without a threshold, the level is the highest that both half of the category and the `top` strongest other
    images reach. The paper (Lappe et al. 2024) has drivers, too; the levels are ours.

    Parameters
    ----------
    responses : (n,) array or Tensor
        The neuron's responses; NaN where there is none: such an image is neither a driver nor a candidate.
    member : (n,) bool array or Tensor
        Whether each image is in the category.
    predicted : (n,) array or Tensor, optional
        Responses that a model predicts for images that it has not seen; these must also reach their level.
    threshold : float, optional
        Standard deviations above the mean over all images, for responses and for predictions.
    top : int or None, default 12
        The largest number of drivers outside the category to return; None for all.
    references : {"drivers", "category"}, default "drivers"
        Whether the candidates are the drivers inside the category, as in the paper, or the whole category.

    Returns
    -------
    Drivers
        Any of its arrays may be empty.

    Raises
    ------
    ValueError
        If a shape does not fit, no image is inside or none is outside the category, or an option is out of range.

    Examples
    --------
    >>> responses = np.array([0.9, 0.2, 0.7, 0.6, 0.1, 0.3])
    >>> dog = np.array([True, True, True, False, False, False])
    >>> drivers = find_drivers(responses, dog, top=2)
    >>> drivers.outside, drivers.candidates, drivers.everywhere
    (array([3, 5]), array([0, 2]), array([0, 2, 3, 5]))
    >>> find_drivers(responses, dog, threshold=0.3).outside
    array([3])
    """
    member = _as_member(member)
    values = [_as_responses("responses", responses, len(member))]
    if predicted is not None:
        values.append(_as_responses("predicted", predicted, len(member)))
    _check_options(threshold, top, references)
    known = np.all([np.isfinite(value) for value in values], axis=0)
    if not (known & member).any() or not (known & ~member).any():
        raise ValueError(
            "drivers need a response to at least one image inside the category and to one outside it, got "
            f"{int((known & member).sum())} and {int((known & ~member).sum())}"
        )
    drives = known.copy()
    for value in values:
        level = _label_level(value, known, member, top) if threshold is None else _level(value, threshold)
        drives[known] &= value[known] >= level
    everywhere = _strongest_first(values[0], drives)
    candidates = np.flatnonzero(member & (drives if references == "drivers" else known))
    return Drivers(everywhere[~member[everywhere]][:top], candidates, everywhere)


def strongest_drivers(
    responses: ArrayLike, *, predicted: ArrayLike | None = None, threshold: float = 1.0
) -> np.ndarray:
    """Find all drivers of a neuron, strongest first, regardless of category: `Drivers.everywhere` at a threshold.

    Parameters
    ----------
    responses, predicted : (n,) array or Tensor
        As in `find_drivers`.
    threshold : float, default 1.0
        As in `find_drivers`.

    Returns
    -------
    (a,) int array

    Raises
    ------
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> strongest_drivers(np.array([0.0, 3.0, 0.0, 2.5, 0.0, 0.0]))
    array([1, 3])
    """
    values = [_as_responses("responses", responses)]
    if predicted is not None:
        values.append(_as_responses("predicted", predicted, len(values[0])))
    with np.errstate(invalid="ignore"):
        drives = np.all([value >= _level(value, threshold) for value in values], axis=0)
    return _strongest_first(values[0], drives)


def find_pairs(
    latents: Tensor, drivers: Drivers, weight: Tensor, *, similarity: str = "dot", n_references: int = 1
) -> Pairs:
    """Pair each driver outside the category with the candidates that are most similar to it for the neuron.

    Parameters
    ----------
    latents : Tensor (n, D)
        Of all images.
    drivers : Drivers
        From `find_drivers`.
    weight : Tensor (D,)
        Readout of the neuron.
    similarity : str, default "dot"
        A name in `SIMILARITIES`.
    n_references : int, default 1
        How many references to return for each driver; fewer if there are fewer candidates.

    Returns
    -------
    Pairs

    Raises
    ------
    TypeError, ValueError
        If there are no candidates, a shape does not fit, or the similarity is unknown.

    Examples
    --------
    >>> import torch
    >>> latents = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.1, 1.0]])
    >>> drivers = Drivers(outside=np.array([2]), candidates=np.array([0, 1]), everywhere=np.array([0, 1, 2]))
    >>> find_pairs(latents, drivers, torch.ones(2)).references
    array([[1]])
    """
    if not len(drivers.candidates):
        raise ValueError("pairs need at least one candidate for the reference, got none")
    k = min(n_references, len(drivers.candidates))
    if not len(drivers.outside):
        return Pairs(drivers.outside, np.empty((0, k), dtype=int), np.empty((0, k)))
    match = ReferenceMatcher(latents[drivers.candidates], similarity).match(latents[drivers.outside], weight, k=k)
    return Pairs(drivers.outside, drivers.candidates[match.index.cpu().numpy()], match.similarity.cpu().numpy())


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


def d_prime(responses: ArrayLike, member: ArrayLike) -> np.ndarray:
    """How well responses tell a category from the rest, in units of their spread.

    d' = (mean_in - mean_out) / sqrt((var_in + var_out) / 2), with unbiased variances over images.

    Parameters
    ----------
    responses : (n, K) array or Tensor
        Of K neurons to n images; NaN where there is none.
    member : (n,) bool array or Tensor
        Whether each image is in the category.

    Returns
    -------
    (K,) array
        NaN where fewer than two responses are known on either side, or all are equal.

    Raises
    ------
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> d_prime(np.array([[4.0], [6.0], [1.0], [3.0]]), np.array([True, True, False, False])).round(4)
    array([2.1213])
    """
    member, values = _as_member(member), _as_array(responses)
    if values.ndim != 2 or len(values) != len(member):
        raise ValueError(f"`responses` must be (n, K) with n = {len(member)}, got shape {values.shape}")
    (mean_in, var_in), (mean_out, var_out) = (_mean_and_variance(values[part]) for part in (member, ~member))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((mean_in - mean_out) / np.sqrt((var_in + var_out) / 2))


def _mean_and_variance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the finite values in each column; NaN where there are fewer than two."""
    known = np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, values, 0).sum(0) / known.sum(0)
        squares = np.where(known, values - mean, 0) ** 2
        return mean, np.where(known.sum(0) > 1, squares.sum(0) / (known.sum(0) - 1), np.nan)


def _level(values: np.ndarray, threshold: float) -> float:
    """So many standard deviations above the mean of what is known."""
    spread = float(np.nanstd(values))
    return float(np.nanmean(values)) + threshold * (spread or 1.0)


def _label_level(values: np.ndarray, known: np.ndarray, member: np.ndarray, top: int | None) -> float:
    """The highest level that half of the category and the `top` strongest other images reach."""
    others = np.sort(values[known & ~member])[::-1]
    return float(min(np.median(values[known & member]), others[: top or None][-1]))


def _strongest_first(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The chosen places, by falling value; of equal ones the first."""
    places = np.flatnonzero(chosen)
    return places[np.argsort(-values[places], kind="stable")]


def _as_array(values: object) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().double()
    return np.asarray(values, dtype=np.float64)


def _as_responses(name: str, values: object, n: int | None = None) -> np.ndarray:
    array = _as_array(values)
    if array.ndim != 1 or n not in (None, len(array)):
        raise ValueError(f"`{name}` must be ({'n' if n is None else n},), of one neuron, got shape {array.shape}")
    return array


def _as_member(member: object) -> np.ndarray:
    array = member.detach().cpu().numpy() if isinstance(member, Tensor) else np.asarray(member)
    if array.ndim != 1 or array.dtype != bool:
        raise ValueError(f"`member` must be (n,) and boolean, got shape {array.shape} of {array.dtype}")
    return array


def _check_options(threshold: object, top: object, references: object) -> None:
    if threshold is not None:
        check_number("threshold", threshold)
    if top is not None:
        check_integer("top", top, also="None")
    check_choice("references", references, REFERENCES)
