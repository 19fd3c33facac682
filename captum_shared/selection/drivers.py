"""The images that drive a neuron: `find_drivers` by category, `find_partners` and `strongest_drivers` without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from captum_shared.checks import check_choice, check_integer, check_number
from captum_shared.selection.arguments import as_member, as_responses

REFERENCES = ("drivers", "category")
MOST_PARTNERS = 1000
"""Only the strongest drivers are paired with one another: each is compared with each."""


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

    def __repr__(self) -> str:
        counts = f"{len(self.outside)} to explain, {len(self.candidates)} candidates, {len(self.everywhere)} in all"
        return f"{type(self).__name__}({counts})"


@dataclass(frozen=True, repr=False)
class Partners(Drivers):
    """Drivers that are paired with one another, whatever their categories, if they have any.

    Attributes
    ----------
    outside : (m,) int array
        Those to pair, strongest first; of images with the same content only the strongest.
    candidates : (m,) int array
        The same, in the order of the images.
    everywhere : (a,) int array
        All drivers, strongest first.
    top : int or None
        The largest number of pairs.
    """

    top: int | None = None


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
    member = as_member(member)
    values = [as_responses("responses", responses, len(member))]
    if predicted is not None:
        values.append(as_responses("predicted", predicted, len(member)))
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
    values = [as_responses("responses", responses)]
    if predicted is not None:
        values.append(as_responses("predicted", predicted, len(values[0])))
    with np.errstate(invalid="ignore"):
        drives = np.all([value >= _level(value, threshold) for value in values], axis=0)
    return _strongest_first(values[0], drives)


def find_partners(
    responses: ArrayLike,
    *,
    predicted: ArrayLike | None = None,
    threshold: float = 1.0,
    top: int | None = 12,
    contents: ArrayLike | None = None,
) -> Partners:
    """Find the drivers of a neuron that can be paired with one another, without any category.

    Parameters
    ----------
    responses, predicted : (n,) array or Tensor
        As in `find_drivers`.
    threshold : float, default 1.0
        As in `find_drivers`.
    top : int or None, default 12
        The largest number of pairs that `find_driver_pairs` makes of them; None for all.
    contents : (n,) array, optional
        Equal where images are the same, such as the hashes of their files: an image is not paired with itself.

    Returns
    -------
    Partners
        Its arrays may be empty. At most the 1,000 strongest drivers are to be paired.

    Raises
    ------
    ValueError
        If a shape does not fit, or an option is out of range.

    Examples
    --------
    >>> responses = np.array([0.0, 3.0, 0.0, 2.5, 2.0, 0.0, 0.0, 0.0])
    >>> find_partners(responses, threshold=0.5, contents=["a", "b", "c", "b", "d", "e", "f", "g"]).outside
    array([1, 4])
    """
    _check_options(threshold, top, "drivers")
    everywhere = strongest_drivers(responses, predicted=predicted, threshold=threshold)
    once = everywhere
    if contents is not None:
        same = np.asarray(contents)
        if same.shape != np.shape(responses):
            raise ValueError(f"`contents` must be {np.shape(responses)}, one of each image, got shape {same.shape}")
        once = everywhere[np.sort(np.unique(same[everywhere], return_index=True)[1])]
    once = once[:MOST_PARTNERS]
    return Partners(once, np.sort(once), everywhere, top)


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


def _check_options(threshold: object, top: object, references: object) -> None:
    if threshold is not None:
        check_number("threshold", threshold)
    if top is not None:
        check_integer("top", top, also="None")
    check_choice("references", references, REFERENCES)
