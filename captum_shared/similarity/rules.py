"""Which latents two images share for a neuron. Each rule is one formula, here and nowhere else.

w is the neuron's readout, z the latents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_shared.checks import check_latents, check_one_device, check_tensor, is_finite
from captum_shared.similarity.scaling import of_unit_size

# z, z_ref, weight, center: (N, D), or (D,) for all but z; the center of a user's own rule may be None.
Rule = Callable[[Tensor, Tensor, Tensor, Any], Tensor]


def product(z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor | None = None) -> Tensor:
    """w z z_ref, the paper's (Lappe et al. 2024); of centered latents, if there is a center."""
    z, z_ref = _minus(z, center), _minus(z_ref, center)
    return weight * (z * z_ref)  # in this order, so that swapping the pair changes no bit


def dot(z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor | None = None) -> Tensor:
    """w z_ref, the gradient of the dot similarity; of centered latents, if there is a center.

    With ``constants="crossed"`` the maps are the marginals of BiLRP (Eberle et al. 2020), and of the interactions of
    exCLIP and xsbert (Moeller et al. 2024, 2025), each for the readout of the neuron in place of the plain dot product.
    """
    return weight * _minus(z_ref, center)


def centered(z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor) -> Tensor:
    """w^2 (z_ref - center), the center being the mean of the gallery: what sets the reference apart."""
    return weight.square() * (z_ref - center)


def contrast(z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor) -> Tensor:
    """|w| (z_ref - center), the center being the mean of the neuron's strongest drivers.

    What sets the reference apart from everything that drives the neuron; what every driver shares is erased. It derives
    from contrastive corpus attribution (Lin et al., ICLR 2023): similarity to a corpus, minus similarity to a foil.
    """
    return weight.abs() * (z_ref - center)


def matched(z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor) -> Tensor:
    """|w| (z_ref - s center), the center being the mean of the neuron's strongest drivers, scaled to the same drive.

    s = w . z_ref / w . center, in [0, 1]: the scaled center drives the neuron as much as the reference does, so that
    the difference is in what the drive consists of, not in its size. Without the scale, a reference that drives the
    neuron less than the drivers do would be erased. What every driver has in the same proportion is still erased. Ours;
    z_ref should be the mean of several references. Evidence: ``benchmarks.shared_parts``, ``benchmarks.pair_grid``.
    """
    sized = (of_unit_size(z_ref, like=center), of_unit_size(center, like=z_ref))  # s depends on no scale
    drive, whole = ((of_unit_size(weight) * value).sum(-1, keepdim=True) for value in sized)
    scale = torch.where(whole > 0, drive / whole, torch.zeros_like(whole)).clamp(0, 1)
    return weight.abs() * (z_ref - scale.to(z_ref.dtype) * center)


RULES: dict[str, Rule] = {
    "product": product,
    "dot": dot,
    "centered": centered,
    "contrast": contrast,
    "matched": matched,
}
_NEED_CENTER = {"centered", "contrast", "matched"}


def shared_weights(
    z: Tensor, z_ref: Tensor, weight: Tensor, rule: str | Rule = "product", center: Tensor | None = None
) -> Tensor:
    r"""Compute how much image and reference share each latent for a neuron: the constant c of the method.

    Parameters
    ----------
    z : Tensor (N, D)
        Latents of the images.
    z_ref : Tensor (N, D) or (D,)
        Latents of the references, or the mean latents of several references for each image.
    weight : Tensor (D,) or (N, D)
        Readout of the neuron, or of one neuron per pair.
    rule : str or callable, default "product"
        A name in `RULES`: "product" w z z_ref, the paper's; "dot" w z_ref, the gradient of the dot similarity;
        "centered" w^2 (z_ref - center); "contrast" \|w\| (z_ref - center); "matched" \|w\| (z_ref - s center),
        s = w . z_ref / w . center.
        Or your own rule, (z, z_ref, weight, center) -> (N, D); its center is None unless given.
    center : Tensor (D,) or (N, D), optional
        What the reference is compared with: the mean latents of the gallery for "centered", of the neuron's strongest
        drivers for "contrast" and "matched", which require it. "product" and "dot" subtract it, if given, from the
        latents of both images.

    Returns
    -------
    Tensor (N, D)

    Raises
    ------
    TypeError, ValueError
        If a shape does not fit, the tensors are on several devices, the rule is unknown, the center is missing, or the
        shared weights are not finite.

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
    if isinstance(rule, str) and rule in _NEED_CENTER and center is None:
        raise ValueError(
            f"rule {rule!r} needs `center`, the mean latents (D,) of the gallery or of the neuron's strongest drivers; "
            "got None"
        )
    shared = formula(z, z_ref, weight, center)
    if not isinstance(shared, Tensor) or tuple(shared.shape) not in (tuple(z.shape), tuple(z.shape[1:])):
        found = tuple(shared.shape) if isinstance(shared, Tensor) else type(shared).__name__
        raise ValueError(f"`rule` must return shared weights (N, D) = {tuple(z.shape)}, got {found}")
    return check_shared(shared).expand_as(z)


def check_shared(shared: Tensor) -> Tensor:
    """Refuse shared weights with NaN or infinity, which large latents give in half precision."""
    if not is_finite(shared):
        raise ValueError(
            f"the shared weights hold NaN or infinity ({shared.dtype}); expected finite latents and readout, in a "
            "dtype that holds their products"
        )
    return shared


def find_rule(rule: str | Rule) -> Rule:
    """The rule of that name in `RULES`, or the user's function."""
    if not callable(rule) and not (isinstance(rule, str) and rule in RULES):
        raise ValueError(f"unknown rule {rule!r}; expected one of {list(RULES)}")
    return rule if callable(rule) else RULES[rule]


def transposed(rule: str | Rule) -> str | Rule:
    """The rule that makes the reference's constant from the image: the other gradient of the same similarity.

    The similarity of `moment_rule` need not be symmetric, so its transposed rule differs; all others are unchanged.
    """
    return getattr(rule, "transposed", rule)


def origin_of(rule: str | Rule, center: Tensor | None) -> Tensor | None:
    """The latents that a rule takes as zero, (D,) or (N, D), and subtracts from those of both images; None for zero.

    The center for "product" and "dot", the gallery's mean for `moment_rule`.
    """
    return center if rule in ("product", "dot", product, dot) else getattr(rule, "origin", None)


def _minus(latents: Tensor, center: Tensor | None) -> Tensor:
    return latents if center is None else latents - center


def _check_like(name: str, value: object, z: Tensor) -> None:
    shape = tuple(check_tensor(name, value).shape)
    if shape not in (tuple(z.shape), tuple(z.shape[1:])):
        n, d = z.shape
        raise ValueError(f"`{name}` must be (N, D) = ({n}, {d}) or (D,) = ({d},), got shape {shape}")
