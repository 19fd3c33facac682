"""What "shared" means: how similar two images are for a neuron, and which latents they share.

Each similarity and each rule is one formula, here and nowhere else. w is the neuron's readout, z the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_shared.checks import check_integer, check_latents, check_one_device, check_tensor

Similarity = Callable[[Tensor, Tensor, Tensor], Tensor]
# z, z_ref, weight, center: (N, D), or (D,) for all but z; the center of a user's own rule may be None.
Rule = Callable[[Tensor, Tensor, Tensor, Any], Tensor]


def dot(query: Tensor, gallery: Tensor, weight: Tensor) -> Tensor:
    """sum_k w_k z_k(x) z_k(y), the paper's (Lappe et al. 2024). One matrix product, of however many neurons."""
    return (query * weight.unsqueeze(-2)) @ gallery.mT


def cosine(query: Tensor, gallery: Tensor, weight: Tensor) -> Tensor:
    """The dot similarity over the lengths of both images' latents in the metric |w|: in [-1, 1], and free of hubs.

    Ours; the paper leaves the normalisation open.
    """
    lengths = [(weight.abs() @ z.square().mT).sqrt() for z in (query, gallery)]
    product = lengths[0].unsqueeze(-1) * lengths[1].unsqueeze(-2)
    similarity = dot(query, gallery, weight)
    return torch.where(product > 0, similarity / product, torch.zeros_like(similarity)).clamp(-1, 1)


def product(z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor) -> Tensor:
    """w z z_ref, the paper's (Lappe et al. 2024)."""
    return weight * (z * z_ref)  # in this order, so that swapping the pair changes no bit


def centered(z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor) -> Tensor:
    """w^2 (z_ref - center), the center being the mean of the gallery: what sets the reference apart."""
    return weight.square() * (z_ref - center)


def contrast(z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor) -> Tensor:
    """|w| (z_ref - center), the center being the mean of the neuron's strongest drivers.

    What sets the reference apart from everything that drives the neuron; what every driver shares is erased.
    """
    return weight.abs() * (z_ref - center)


def matched(z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor) -> Tensor:
    """|w| (z_ref - s center), the center being the mean of the neuron's strongest drivers, scaled to the same drive.

    s = w . z_ref / w . center, in [0, 1]: the scaled center drives the neuron as much as the reference does, so that
    the difference is in what the drive is made of, not in its size. Without the scale, a reference that drives the
    neuron less than the drivers do is erased. What every driver has in the same proportion is erased still. Ours; z_ref
    should be the mean of several references. Evidence: ``benchmarks.shared_parts`` and ``benchmarks.pair_grid``.
    """
    drive, whole = ((weight * value).sum(-1, keepdim=True) for value in (z_ref, center))
    scale = torch.where(whole > 0, drive / whole, torch.zeros_like(whole)).clamp(0, 1)
    return weight.abs() * (z_ref - scale * center)


SIMILARITIES: dict[str, Similarity] = {"dot": dot, "cosine": cosine}
RULES: dict[str, Rule] = {"product": product, "centered": centered, "contrast": contrast, "matched": matched}
_WITHOUT_CENTER = {"product"}


def neuron_similarity(query: Tensor, gallery: Tensor, weight: Tensor, kind: str = "dot") -> Tensor:
    """How similar images are for a neuron.

    Parameters
    ----------
    query : Tensor (Q, D)
        Latents of the images to explain.
    gallery : Tensor (G, D)
        Latents of the candidates for the reference.
    weight : Tensor (D,) or (K, D)
        Readout of one neuron, or of K neurons.
    kind : str, default "dot"
        A name in `SIMILARITIES`. "dot" is the paper's, sum_k w_k z_k(x) z_k(y); "cosine" divides it by the lengths of
        both in the metric \\|w\\|, so that an image with large latents is not everybody's reference.

    Returns
    -------
    Tensor (Q, G) or (K, Q, G)

    Raises
    ------
    TypeError, ValueError
        If a shape does not fit, the tensors are on several devices, or the kind is unknown.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    >>> neuron_similarity(z, z, torch.tensor([1.0, -1.0]))
    tensor([[-3.,  3.],
            [ 3.,  9.]])
    """
    similarity = _look_up(SIMILARITIES, kind, "similarity")
    check_latents("query", query, "Q")
    check_latents("gallery", gallery, "G", query.shape[1])
    check_tensor("weight", weight)
    if weight.ndim not in (1, 2) or weight.shape[-1] != query.shape[1]:
        raise ValueError(f"`weight` must be (D,) or (K, D) with D = {query.shape[1]}, got shape {tuple(weight.shape)}")
    check_one_device(query=query, gallery=gallery, weight=weight)
    return similarity(query, gallery, weight)


def shared_weights(
    z: Tensor, z_ref: Tensor, weight: Tensor, rule: str | Rule = "product", center: Tensor | None = None
) -> Tensor:
    """How much each latent dimension is shared by image and reference, for a neuron: the constant c of the method.

    Parameters
    ----------
    z : Tensor (N, D)
        Latents of the images.
    z_ref : Tensor (N, D) or (D,)
        Latents of the references, or the mean latents of several references for each image.
    weight : Tensor (D,) or (N, D)
        Readout of the neuron, or of one neuron per pair.
    rule : str or callable, default "product"
        A name in `RULES`: "product" w z z_ref, the paper's; "centered" w^2 (z_ref - center);
        "contrast" \\|w\\| (z_ref - center); "matched" \\|w\\| (z_ref - s center), s = w . z_ref / w . center.
        Or a rule of your own, (z, z_ref, weight, center) -> (N, D); its center is None unless given.
    center : Tensor (D,) or (N, D), optional
        What the reference is compared with: the mean latents of the gallery for "centered", of the neuron's strongest
        drivers for "contrast" and "matched". Required by these three, refused by "product".

    Returns
    -------
    Tensor (N, D)

    Raises
    ------
    TypeError, ValueError
        If a shape does not fit, the tensors are on several devices, the rule is unknown, or the center is missing or
        superfluous.

    Examples
    --------
    >>> z, z_ref, w = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.5]]), torch.tensor([1.0, -1.0])
    >>> shared_weights(z, z_ref, w)
    tensor([[ 3., -1.]])
    >>> shared_weights(z, z_ref, w, rule="contrast", center=torch.tensor([1.0, 1.0]))
    tensor([[ 2.0000, -0.5000]])
    """
    formula = find_rule(rule)
    check_latents("z", z)
    for name, value in (("z_ref", z_ref), ("weight", weight), ("center", center)):
        if name != "center" or value is not None:
            _check_like(name, value, z)
    check_one_device(z=z, z_ref=z_ref, weight=weight, center=center)
    if isinstance(rule, str) and (center is None) != (rule in _WITHOUT_CENTER):
        raise ValueError(_center_message(rule))
    shared = formula(z, z_ref, weight, center)
    if not isinstance(shared, Tensor) or tuple(shared.shape) not in (tuple(z.shape), tuple(z.shape[1:])):
        found = tuple(shared.shape) if isinstance(shared, Tensor) else type(shared).__name__
        raise ValueError(f"`rule` must return shared weights (N, D) = {tuple(z.shape)}, got {found}")
    return shared.expand_as(z)


def find_rule(rule: str | Rule) -> Rule:
    """The formula of a rule in `RULES`, or the user's own.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    return rule if callable(rule) else _look_up(RULES, rule, "rule")


def category_centers(
    gallery: Tensor, weight: Tensor, categories: Sequence[str], category: str, n_drivers: int = 10
) -> tuple[Tensor, Tensor]:
    """The mean of the references' category and the mean of its rivals, for a gallery whose categories are known.

    Rivals are the categories of the images outside `category` that drive the neuron most, each weighted by how far
    these drive it above the gallery's mean. Every image of a category counts, not its strongest drivers only: these
    are the ones that show what drives the neuron in the other categories, too, so that their means differ less.

    Give them to `ParallelBackprop` and the like as ``reference_latents=z_ref, center=center``, with the rule "matched".
    The map then shows what belongs to the references' category rather than to its rivals, whichever reference of the
    category is shown beside it. Ours. Evidence: the row "matched, categories known" of ``benchmarks.pair_grid``.

    Parameters
    ----------
    gallery : Tensor (G, D)
        Latents of images whose categories are known.
    weight : Tensor (D,)
        Readout of the neuron.
    categories : sequence of str, length G
    category : str
        The category that the references are from.
    n_drivers : int, default 10
        How many drivers outside the category name the rivals.

    Returns
    -------
    z_ref, center : Tensor (D,), Tensor (D,)

    Raises
    ------
    TypeError, ValueError
        If a shape or a device does not fit, the category is not among the categories, `n_drivers` is below 1, or no
        image outside the category drives the neuron above the gallery's mean.
    """
    check_latents("gallery", gallery, "G")
    check_tensor("weight", weight)
    if tuple(weight.shape) != (gallery.shape[1],):
        raise ValueError(f"`weight` must be (D,) = ({gallery.shape[1]},), got shape {tuple(weight.shape)}")
    check_one_device(gallery=gallery, weight=weight)
    if len(categories) != len(gallery):
        raise ValueError(f"`categories` must name each of the {len(gallery)} gallery images, got {len(categories)}")
    if category not in categories:
        raise ValueError(f"category {category!r} is not among `categories`: {sorted(set(categories))}")
    n_drivers = check_integer("n_drivers", n_drivers)
    shares = _rivals(gallery @ weight, categories, category, n_drivers)
    rivals = [share * _category_mean(gallery, categories, name) for name, share in shares.items()]
    return _category_mean(gallery, categories, category), torch.stack(rivals).sum(0)


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


def _center_message(rule: str) -> str:
    if rule in _WITHOUT_CENTER:
        return f"rule {rule!r} takes no `center`; expected None"
    return (
        f"rule {rule!r} needs `center`, the mean latents (D,) of the gallery or of the neuron's strongest drivers; "
        "got None"
    )


def _look_up(table: dict[str, Any], name: str, noun: str) -> Any:
    if name not in table:
        raise ValueError(f"unknown {noun} {name!r}; expected one of {list(table)}")
    return table[name]


def _check_like(name: str, value: Any, z: Tensor) -> None:
    check_tensor(name, value)
    if tuple(value.shape) not in (tuple(z.shape), tuple(z.shape[1:])):
        n, d = z.shape
        raise ValueError(f"`{name}` must be (N, D) = ({n}, {d}) or (D,) = ({d},), got shape {tuple(value.shape)}")
