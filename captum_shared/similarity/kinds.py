"""How similar two images are for a neuron. Each kind is one formula, here and nowhere else.

w is the neuron's readout, z the latents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_shared.checks import check_latents, check_one_device, check_one_dtype, check_tensor, is_finite
from captum_shared.similarity.scaling import of_unit_size, widened

Similarity = Callable[[Tensor, Tensor, Tensor], Tensor]


@runtime_checkable
class HasSimilarity(Protocol):
    """A rule that comes with the similarity that its maps decompose, such as a `MomentRule`."""

    def similarity(self, query: Tensor, gallery: Tensor, weight: Tensor) -> Tensor:
        """Similarities (Q, G) of latents, or (K, Q, G) for weights (K, D)."""
        ...


def dot(query: Tensor, gallery: Tensor, weight: Tensor) -> Tensor:
    """sum_k w_k z_k(x) z_k(y), the paper's (Lappe et al. 2024). One matrix product for any number of neurons."""
    return (query * weight.unsqueeze(-2)) @ gallery.mT


def cosine(query: Tensor, gallery: Tensor, weight: Tensor) -> Tensor:
    """The dot similarity over the lengths of both images' latents in the metric |w|: in [-1, 1], and free of hubs.

    Ours; the paper leaves the normalization open.
    """
    query, gallery, weight = (of_unit_size(value) for value in (query, gallery, weight))  # it depends on no scale
    lengths = [(weight.abs() @ z.square().mT).sqrt() for z in (query, gallery)]
    product = lengths[0].unsqueeze(-1) * lengths[1].unsqueeze(-2)
    similarity = dot(query, gallery, weight)
    return torch.where(product > 0, similarity / product, torch.zeros_like(similarity)).clamp(-1, 1)


SIMILARITIES: dict[str, Similarity] = {"dot": dot, "cosine": cosine}


def neuron_similarity(
    query: Tensor, gallery: Tensor, weight: Tensor, kind: str | Similarity | HasSimilarity = "dot"
) -> Tensor:
    r"""Compute how similar images are for a neuron.

    Parameters
    ----------
    query : Tensor (Q, D)
        Latents of the images to explain.
    gallery : Tensor (G, D)
        Latents of the candidates for the reference.
    weight : Tensor (D,) or (K, D)
        Readout of one neuron, or of K neurons.
    kind : str, rule or callable, default "dot"
        A name in `SIMILARITIES`, a rule that has a similarity, such as `moment_rule`, or a callable
        (query, gallery, weight) -> (Q, G) or (K, Q, G). "dot" is the paper's, sum_k w_k z_k(x) z_k(y); "cosine"
        divides it by the lengths of both in the metric \|w\|, so that an image with large latents does not become the
        reference of most others.

    Returns
    -------
    Tensor (Q, G) or (K, Q, G)
        In the dtype of the latents; in float32 for half precision, which cannot hold sums of products.

    Raises
    ------
    TypeError, ValueError
        If a shape does not fit, the tensors are of several dtypes or on several devices, the kind is unknown, or the
        similarities of finite latents are not finite.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    >>> neuron_similarity(z, z, torch.tensor([1.0, -1.0]))
    tensor([[-3.,  3.],
            [ 3.,  9.]])
    """
    similarity = find_similarity(kind)
    check_latents("query", query, "Q")
    check_latents("gallery", gallery, "G", query.shape[1])
    check_tensor("weight", weight)
    if weight.ndim not in (1, 2) or weight.shape[-1] != query.shape[1]:
        raise ValueError(f"`weight` must be (D,) or (K, D) with D = {query.shape[1]}, got shape {tuple(weight.shape)}")
    check_one_device(query=query, gallery=gallery, weight=weight)
    check_one_dtype(query=query, gallery=gallery, weight=weight)
    similarities = similarity(widened(query), widened(gallery), widened(weight))
    if not is_finite(similarities) and all(is_finite(value) for value in (query, gallery, weight)):
        raise ValueError(f"similarities exceed {similarities.dtype}; expected smaller latents, or float64")
    return similarities


def find_similarity(kind: str | Similarity | HasSimilarity) -> Similarity:
    """The similarity of that name in `SIMILARITIES`, the similarity of a rule, or the user's function."""
    if isinstance(kind, HasSimilarity):
        return kind.similarity
    if not callable(kind) and not (isinstance(kind, str) and kind in SIMILARITIES):
        raise ValueError(f"unknown similarity {kind!r}; expected one of {list(SIMILARITIES)}")
    return kind if callable(kind) else SIMILARITIES[kind]
