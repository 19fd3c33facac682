"""The centers of a rule for galleries whose categories are known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_shared.checks import check_integer, check_latents, check_one_device, check_one_dtype, check_tensor
from captum_shared.similarity.scaling import of_unit_size


def category_centers(
    gallery: Tensor, weight: Tensor, categories: Sequence[str], category: str, n_drivers: int = 10
) -> tuple[Tensor, Tensor]:
    """The mean of the references' category and the mean of its rivals, for a gallery whose categories are known.

    Rivals are the categories of the images outside `category` that drive the neuron most, each weighted by how far
    these images drive it above the gallery's mean. All images of a category count, not just its strongest drivers: the
    strongest drivers show what drives the neuron in the other categories, too, so that their means would differ less.

    Pass them to `ParallelBackprop` or its relatives as ``reference_latents=z_ref, center=center``, with the rule
    "matched". The map then shows what belongs to the references' category rather than to its rivals, whichever
    reference of the category is shown beside it. Ours, after contrastive corpus attribution (Lin et al., ICLR 2023).
    Evidence: the row "matched, categories known" of ``benchmarks.pair_grid``.

    Parameters
    ----------
    gallery : Tensor (G, D)
        Latents of images whose categories are known.
    weight : Tensor (D,)
        Readout of the neuron.
    categories : sequence of str, length G
        The category of each gallery image.
    category : str
        The category of the references.
    n_drivers : int, default 10
        How many drivers outside the category determine the rivals.

    Returns
    -------
    z_ref, center : Tensor (D,), Tensor (D,)

    Raises
    ------
    TypeError, ValueError
        If a shape or a device does not fit, the category is not among the categories, `n_drivers` is below 1, or no
        image outside the category drives the neuron above the gallery's mean.

    Examples
    --------
    >>> gallery = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 4.0], [0.0, 2.0], [-1.0, -1.0]])
    >>> z_ref, center = category_centers(gallery, torch.ones(2), ["dog", "dog", "cat", "cat", "bird"], "dog")
    >>> z_ref.tolist(), center.round(decimals=3).tolist()  # of dogs, and of cats, which also drive the neuron
    ([2.0, 0.0], [0.0, 3.0])
    """
    check_latents("gallery", gallery, "G")
    check_tensor("weight", weight)
    if tuple(weight.shape) != (gallery.shape[1],):
        raise ValueError(f"`weight` must be (D,) = ({gallery.shape[1]},), got shape {tuple(weight.shape)}")
    check_one_device(gallery=gallery, weight=weight)
    check_one_dtype(gallery=gallery, weight=weight)
    if isinstance(categories, str) or not hasattr(categories, "__len__"):
        raise TypeError(f"`categories` must be a sequence of names, got {type(categories).__name__}")
    if len(categories) != len(gallery):
        raise ValueError(f"`categories` must name each of the {len(gallery)} gallery images, got {len(categories)}")
    if category not in categories:
        raise ValueError(f"category {category!r} is not among `categories`: {sorted(set(categories))}")
    n_drivers = check_integer("n_drivers", n_drivers)
    shares = _rivals(_drives(gallery, weight), categories, category, n_drivers)
    rivals = [share * _category_mean(gallery, categories, name) for name, share in shares.items()]
    return _category_mean(gallery, categories, category), torch.stack(rivals).sum(0)


def _drives(gallery: Tensor, weight: Tensor) -> Tensor:
    """Responses (G,) up to a scale, which does not affect the shares."""
    largest = gallery.abs().amax(0)
    return of_unit_size(gallery, like=largest) @ of_unit_size(weight)


def _rivals(response: Tensor, categories: Sequence[str], category: str, n_drivers: int) -> dict[str, float]:
    """The other categories of the strongest drivers, each with its share of their drive above the mean response."""
    outside = torch.tensor([name != category for name in categories], device=response.device)
    drive = (response - response.mean()).clamp(min=0) * outside
    strongest = drive.topk(min(n_drivers, len(drive)))
    total = float(strongest.values.sum())
    if total == 0:
        raise ValueError(f"no image outside category {category!r} drives the neuron above the gallery's mean")
    shares: dict[str, float] = {}
    for index, value in zip(strongest.indices.tolist(), strongest.values.tolist(), strict=True):
        if value > 0:
            shares[categories[index]] = shares.get(categories[index], 0.0) + value / total
    return shares


def _category_mean(gallery: Tensor, categories: Sequence[str], category: str) -> Tensor:
    return gallery[torch.tensor([name == category for name in categories], device=gallery.device)].mean(0)
