"""Indices of which classes drive a unit."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from captum_shared.checks import check_number, describe
from captum_shared.selection import d_prime
from captum_shared.selectivity.ranking import TopActivations, as_responses, check_top

Label = TypeVar("Label", bound=Hashable)

UNEQUAL = 1.5  # largest share of a class over the smallest, above which the plain index comes with a warning
ROUNDING = 1e-9  # f_c are sums of float64


def base_rates(top: TopActivations, labels: Sequence[Label | None]) -> dict[Label, float]:
    """Compute the share of each class among the readable images that have a class; sorted by class.

    Parameters
    ----------
    top : TopActivations
        Says how many images there are, and which are unreadable.
    labels : sequence of n_images str, int or None
        None for an image without a class.

    Returns
    -------
    dict of class to float
        They sum to 1.

    Raises
    ------
    ValueError
        If there is not one label per image.

    Examples
    --------
    >>> top = TopActivations.from_responses(torch.rand(4, 2), k=2)
    >>> base_rates(top, ["dog", "cat", "cat", None])
    {'cat': 0.6666666666666666, 'dog': 0.3333333333333333}
    """
    labels = _as_labels(labels)
    if len(labels) != check_top(top).n_images:
        raise ValueError(f"`labels` must have one entry per image, {top.n_images}, got {len(labels)}")
    readable = (label for index, label in enumerate(labels) if index not in top.unreadable)
    counts = Counter(label for label in readable if label is not None)
    if not counts:
        raise ValueError(f"`labels` must give at least one readable image a class, got none of {len(labels)}")
    try:
        ordered = sorted(counts)  # type: ignore[type-var]
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in counts})
        raise TypeError(f"`labels` must be of one type, got {' and '.join(kinds)}") from error
    return {label: counts[label] / counts.total() for label in ordered}


def class_distribution(
    top: TopActivations, labels: Sequence[Label | None], normalize: bool = False
) -> tuple[list[Label], Tensor]:
    """Compute which classes the strongest images of each unit belong to, weighted by activation.

    Parameters
    ----------
    top : TopActivations
        The strongest images of each unit.
    labels : sequence of n_images str, int or None
        The class of every image, in the order of the images; None for an image without a class, which is left out.
    normalize : bool, default False
        Divide by the class's share of all images, so that a class does not win by being frequent, then by the sum. The
        result is noisy for classes with few images; set their labels to None.

    Returns
    -------
    classes : list
        Sorted.
    fractions : Tensor (U, C)
        f_c = sum_{j in c} w_j / sum_j w_j, w_j = a_j / a_1; rows sum to 1. NaN for units without a positive activation.

    Raises
    ------
    TypeError, ValueError
        If the labels are not one class per image, of one type, or no readable image has one.

    References
    ----------
    Rafegas et al. (2020), equation 5; the division by base rates is ours.

    Examples
    --------
    >>> top = TopActivations.from_responses(torch.tensor([[3.0], [1.0], [0.0], [0.0]]), k=2)
    >>> class_distribution(top, ["dog", "cat", "dog", "cat"])
    (['cat', 'dog'], tensor([[0.2500, 0.7500]], dtype=torch.float64))
    """
    rates = base_rates(top, labels)
    number: dict[Label | None, int] = {label: i for i, label in enumerate(rates)}
    which = torch.tensor([number.get(label, -1) for label in _as_labels(labels)])[top.images]
    weights = top.weights() * (which >= 0)
    sums = weights.new_zeros(top.n_units, len(rates)).scatter_add_(1, which.clamp(min=0), weights)
    if normalize:
        sums = sums / torch.tensor(list(rates.values()), dtype=torch.float64)
    return list(rates), sums / sums.sum(1, keepdim=True)


def class_selectivity_index(
    top: TopActivations, labels: Sequence[Hashable | None], threshold: float = 1.0, normalize: bool = False
) -> Tensor:
    """Compute class selectivity: (N - M) / (N - 1), where M is the fewest classes whose f_c sum to the threshold.

    Parameters
    ----------
    top, labels, normalize
        As in `class_distribution`; N is the number of images per unit, k. Normalizing changes f_c, not which classes
        occur: at a threshold of 1, the index is the same with and without it; choose a lower one to see a difference.
    threshold : float, default 1.0
        In (0, 1]; 1 in the paper, so that M is the number of classes among the strongest images.

    Returns
    -------
    Tensor (U,)
        1 if one class suffices; 0 if every image is of a different class; with C < N classes, at least
        (N - C) / (N - 1). NaN for units without a positive activation.

    Raises
    ------
    TypeError, ValueError
        As `class_distribution`; if `threshold` is not in (0, 1], or k is 1.

    Warns
    -----
    UserWarning
        If the plain index is requested and one class is more than half as large again as another: the index then
        reflects which classes are frequent as much as what the unit prefers.

    References
    ----------
    Rafegas et al. (2020), equation 6.

    Examples
    --------
    >>> top = TopActivations.from_responses(torch.tensor([[4.0], [3.0], [2.0], [1.0]]), k=3)
    >>> class_selectivity_index(top, ["dog", "cat", "dog", "cat"])  # two classes among three images
    tensor([0.5000], dtype=torch.float64)
    """
    _check_threshold(threshold)
    if check_top(top).k < 2:
        raise ValueError("class selectivity needs at least 2 images per unit, got 1")
    if not normalize:
        warn_if_unequal(base_rates(top, labels), stacklevel=3)
    _, fractions = class_distribution(top, labels, normalize)
    reached = fractions.sort(dim=1, descending=True).values.cumsum(1) >= threshold - ROUNDING
    n_classes = ((~reached).sum(1) + 1).double()
    index = (top.k - n_classes) / (top.k - 1)
    return index.masked_fill(fractions.isnan().any(1), torch.nan)


def population_code(
    top: TopActivations, labels: Sequence[Hashable | None], threshold: float = 0.1, normalize: bool = False
) -> Tensor:
    """The number of classes with f_c of at least `threshold`.

    Parameters
    ----------
    top, labels, normalize
        As in `class_distribution`.
    threshold : float, default 0.1
        As in the paper.

    Returns
    -------
    Tensor (U,)
        Integers; 0 for units without a positive activation.

    Raises
    ------
    TypeError, ValueError
        As `class_distribution`; if `threshold` is not in (0, 1].

    Examples
    --------
    >>> top = TopActivations.from_responses(torch.tensor([[3.0], [2.0], [1.0], [0.0]]), k=3)
    >>> population_code(top, ["dog", "cat", "dog", "bird"])
    tensor([2])
    """
    _check_threshold(threshold)
    return (class_distribution(top, labels, normalize)[1] >= threshold - ROUNDING).sum(1)


def morcos_class_selectivity(responses: ArrayLike, labels: Sequence[Hashable | None]) -> Tensor:
    """Compute the class selectivity of Morcos et al.: (mu_max - mu_rest) / (mu_max + mu_rest).

    mu_max is the mean response to the class that drives the unit most, mu_rest the mean over the means of the others.
    This is not `class_selectivity_index`, although both are called class selectivity.

    Parameters
    ----------
    responses : (n, U) tensor or array
        Responses to all images, such as latents with pool="avg", as in the paper. Not negative.
    labels : sequence of n str or int
        The class of each image.

    Returns
    -------
    Tensor (U,)
        In [0, 1]; NaN for units that never respond.

    Raises
    ------
    ValueError
        If responses are negative or NaN, or there are fewer than two classes.

    References
    ----------
    Morcos et al. (2018), On the importance of single directions for generalization, ICLR.

    Examples
    --------
    >>> responses = torch.tensor([[3.0, 1.0], [3.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    >>> morcos_class_selectivity(responses, ["dog", "dog", "cat", "cat"])
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    values, members = _by_class(responses, labels)
    if (values < 0).any():
        raise ValueError(
            "`responses` must not be negative for this index; expected values such as activations after a ReLU"
        )
    means = torch.stack([values[member].mean(0) for member in members.values()])
    best = means.amax(0)
    rest = (means.sum(0) - best) / (len(means) - 1)
    return (best - rest) / (best + rest)


def category_d_prime(responses: ArrayLike, labels: Sequence[Hashable | None], category: Hashable) -> Tensor:
    """Compute how well a neuron's responses distinguish a category from the rest, in units of their spread.

    d' = (mean_in - mean_out) / sqrt((var_in + var_out) / 2), with unbiased variances over images.

    Parameters
    ----------
    responses : (n, K) tensor or array
        Of readout neurons, recorded neurons, or units.
    labels : sequence of n str or int
        The class of each image.
    category : str or int
        One of the labels.

    Returns
    -------
    Tensor (K,)

    Raises
    ------
    ValueError
        If the category, or the rest, has fewer than two images.

    Examples
    --------
    >>> category_d_prime(torch.tensor([[4.0], [6.0], [1.0], [3.0]]), ["dog", "dog", "cat", "cat"], "dog")
    tensor([2.1213], dtype=torch.float64)
    """
    values, members = _by_class(responses, labels)
    inside = members.get(category, torch.zeros(len(values), dtype=torch.bool))
    if min(int(inside.sum()), int((~inside).sum())) < 2:
        raise ValueError(
            f"d' needs two images of {category!r} and two others, got {int(inside.sum())} and {int((~inside).sum())}"
        )
    return torch.from_numpy(d_prime(values, inside))


def _by_class(responses: object, given: Sequence[Label]) -> tuple[Tensor, dict[Label, Tensor]]:
    values, labels = as_responses(responses).cpu().double(), _as_labels(given)
    if len(values) != len(labels):
        raise ValueError(f"`responses` must be (n, U) for n = {len(labels)} labels, got {describe(values)}")
    if not values.isfinite().all():
        bad = int((~values.isfinite()).sum())
        raise ValueError(f"`responses` must be finite, got {bad} NaN or infinite values; leave out those images")
    members = {label: torch.tensor([other == label for other in labels]) for label in dict.fromkeys(labels)}
    if len(members) < 2:
        raise ValueError(f"`labels` must name at least two classes, got {list(members)}")
    return values, members


def _as_labels(labels: Sequence[Label]) -> Sequence[Label]:
    """Labels as a sequence; those of arrays and tensors as Python's own values."""
    labels = labels.tolist() if hasattr(labels, "tolist") else labels
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise TypeError(f"`labels` must be a sequence of one class per image, got {describe(labels)}")
    wrong = next((label for label in labels if not isinstance(label, Hashable)), None)
    if wrong is not None:
        raise TypeError(f"`labels` must be str, int or None, got {describe(wrong)}")
    if any(label != label for label in labels):
        raise ValueError("`labels` must be str, int or None, got NaN; an image without a class is None")
    return labels


def _check_threshold(threshold: object) -> None:
    if not 0 < check_number("threshold", threshold) <= 1:
        raise ValueError(f"`threshold` must be in (0, 1], got {threshold!r}")


def warn_if_unequal(rates: Mapping[Label, float], stacklevel: int = 2) -> None:
    """Warn if one of the `base_rates` is more than 1.5 times another."""
    low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    if rates[high] > UNEQUAL * rates[low]:
        warnings.warn(
            f"base rates are unequal: {rates[high]:.1%} of the images are of class {high!r}, {rates[low]:.1%} of "
            f"{low!r}. The plain class index then reflects how frequent classes are as well; compare with "
            "normalize=True at a threshold below 1",
            stacklevel=stacklevel + 1,
        )
