"""The rows of the table: what each method takes for the constant c of an image, given another."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from captum_shared.similarity import MomentRule, moment_rule, shared_weights

LAYER = "LayerParallelBackprop"
RIDGES = (0.3, 3.0)
"""The default of `moment_rule`, fixed before the splits existed."""
CANDIDATES = ((5.0, 5.0), (1.0, 10.0), (1.0, 30.0), (10.0, 10.0))
"""Others, chosen on the tuning split, played on validation, and frozen before they were played on the held-out one. The
first makes the similarity symmetric, and was the default for a while."""


@dataclass(frozen=True)
class Pairs:
    """N images with their references, as the rules see them: in one basis of the latents.

    Attributes
    ----------
    z, z_ref, weight : Tensor (N, D)
        Latents of the image and of the reference (or the mean of several), and the neuron's readout.
    gallery : Tensor (G, D)
    mean : Tensor (D,)
        The center of the rule "centered", the mean of the gallery.
    strongest : Tensor (N, D)
        The center of "contrast" and "matched", the mean of the neuron's strongest drivers.
    shared, rival : Tensor (N, D)
        Readouts of the category that both images hold, and of the other one that drives the neuron.
    known_ref, known_center : Tensor (N, D)
        Of a rule that knows the gallery's categories, though not which two drive the neuron.
    zero : Tensor (1, D)
        Latents of a map of zeros.
    cells : int
        Of how many cells of the image the latents are, channels first.
    """

    z: Tensor
    z_ref: Tensor
    weight: Tensor
    gallery: Tensor
    mean: Tensor
    strongest: Tensor
    shared: Tensor
    rival: Tensor
    known_ref: Tensor
    known_center: Tensor
    zero: Tensor
    cells: int = 1

    def exchanged(self) -> Pairs:
        return replace(self, z=self.z_ref, z_ref=self.z)


Constants = Callable[[Pairs], Tensor]
"""Pairs to constants (N, D), for the maps of the images with latents z."""


@dataclass(frozen=True)
class Row:
    """A method with its rule.

    Attributes
    ----------
    constants : Constants
        For the images.
    common : bool
        Whether the same constant serves the reference, too; otherwise each image's is made from the other image.
    of_second : Constants, optional
        For the references, from their images, where this is another rule: of a similarity that is not symmetric.
    origin : {"mean", "strongest", "latents", "map"}
        What counts as nothing at each position: latents at the center of the rule, latents of 0, or a map of zeros, as
        in Grad-CAM. It is shared out among the positions as `LayerParallelBackprop` does.
    """

    method: str
    rule: str
    constants: Constants
    common: bool = False
    of_second: Constants | None = None
    origin: str = "latents"

    @property
    def name(self) -> tuple[str, str]:
        return self.method, self.rule

    def of_reference(self, pairs: Pairs) -> Tensor:
        """Constants for the maps of the references."""
        return self.constants(pairs) if self.common else (self.of_second or self.constants)(pairs.exchanged())

    def offset(self, pairs: Pairs, constants: Tensor) -> Tensor:
        """What the positions of each cell of the map have beside constants . (features / spread), (N, cells)."""
        origins = {"mean": pairs.mean, "strongest": pairs.strongest, "latents": 0 * pairs.zero, "map": pairs.zero}
        result: Tensor = (constants * (pairs.zero - origins[self.origin])).unflatten(1, (-1, pairs.cells)).sum(1)
        return result


def _rule(name: str) -> Constants:
    def constants(p: Pairs) -> Tensor:
        centers = {"product": None, "centered": p.mean}
        return shared_weights(p.z, p.z_ref, p.weight, name, centers.get(name, p.strongest))

    return constants


def _dot(center: str) -> Constants:
    return lambda p: shared_weights(p.z, p.z_ref, p.weight, "dot", getattr(p, center))


def _moments(contrast: float, ridges: tuple[float, float] = RIDGES) -> Constants:
    return lambda p: _moment_rule(p.gallery, contrast, ridges, p.cells)(p.z, p.z_ref, p.weight)


def _moments_row(contrast: float, ridges: tuple[float, float] = RIDGES) -> Row:
    def of_second(p: Pairs) -> Tensor:
        return _moment_rule(p.gallery, contrast, ridges, p.cells).transposed(p.z, p.z_ref, p.weight)

    name = f"moments, contrast {contrast:g}" + ("" if ridges == RIDGES else ", ridges {:g} and {:g}".format(*ridges))
    return Row(LAYER, name, _moments(contrast, ridges), of_second=of_second, origin="mean")


@lru_cache(maxsize=16)
def _moment_rule(gallery: Tensor, contrast: float, ridges: tuple[float, float], cells: int) -> MomentRule:
    """Once for a gallery: tensors are told apart by identity."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the third moments of")  # of few images: that is measured here
        return moment_rule(gallery, contrast, ridges=ridges, cells=cells)


def _plain_moments_row(contrast: float) -> Row:
    """`moment_rule` of all latents of a grid at once, which does not know the cells."""

    def constants(p: Pairs, transposed: bool = False) -> Tensor:
        span, inside = _span(p.gallery)
        ridges = RIDGES[0] * len(span) / len(span.T), RIDGES[1] * len(span) / len(span.T)
        rule = _moment_rule(inside, contrast, ridges, 1)
        z, z_ref, weight = (own @ span.T for own in (p.z - p.mean, p.z_ref - p.mean, p.weight))
        return (rule.transposed if transposed else rule)(z, z_ref, weight) @ span

    name = f"moments of all latents, contrast {contrast:g}"
    return Row(LAYER, name, constants, of_second=lambda p: constants(p, transposed=True), origin="mean")


@lru_cache(maxsize=4)
def _span(gallery: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis (G, D) of what fewer images than latents can span, and the centred gallery in it.

    The rule does not depend on the basis, and its constants lie in the span: so in a basis of the span it is the same,
    if the ridges are still in units of the mean eigenvalue of all D latents.
    """
    centred = gallery - gallery.mean(0)
    span = torch.linalg.svd(centred, full_matrices=False).Vh
    return span, centred @ span.T


def _categories_known(p: Pairs) -> Tensor:
    return shared_weights(p.z, p.known_ref, p.weight, "matched", p.known_center)


def _cocoa(p: Pairs) -> Tensor:
    """Gradient of the mean cosine similarity to a corpus, the references, minus that to a foil, the gallery."""
    z = p.z.clone().requires_grad_()
    unit = torch.nn.functional.normalize
    foil = unit(p.gallery, dim=1).mean(0)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad((unit(z, dim=1) * (unit(p.z_ref, dim=1) - foil)).sum(), z)
    return gradient


def _shuffled(constants: Constants) -> Constants:
    return lambda p: constants(replace(p, z_ref=p.z_ref.roll(len(p.z) // 2, 0)))


def rows() -> list[Row]:
    """Every rule, its neighbours in the literature, and what knows too much or nothing.

    COCOA: Lin et al., ICLR 2023. Contributions, the product of both images' attributions of the latents: COLE, Kenny &
    Keane, IJCAI 2019. Integrated Jacobians from an empty image: exCLIP, Moeller et al. The gradient of the dot
    similarity is the marginal of BiLRP, Eberle et al. 2020.
    """
    return [
        Row(LAYER, "product", _rule("product"), common=True),
        Row(
            LAYER, "product, latents from zero", lambda p: p.weight * (p.z - p.zero) * (p.z_ref - p.zero), origin="map"
        ),
        Row(LAYER, "centered", _rule("centered"), common=True),
        Row(LAYER, "contrast", _rule("contrast"), common=True),
        Row(LAYER, "matched", _rule("matched"), common=True),
        Row(LAYER, "matched, each from the other", _rule("matched")),
        Row(LAYER, "matched, categories known", _categories_known, common=True),
        Row(LAYER, "dot", _dot("mean"), origin="mean"),
        Row(LAYER, "dot, from the drivers", _dot("strongest"), origin="strongest"),
        *(_moments_row(contrast) for contrast in (0.0, 0.5, 1.0)),
        *(_moments_row(0.5, ridges) for ridges in CANDIDATES),
        Row(LAYER, "moments, contrast 0.5, one constant", _moments(0.5), common=True, origin="mean"),
        Row("COCOA", "", _cocoa, origin="map"),
        Row("COLE", "", lambda p: (p.weight * p.z) * (p.weight * p.z_ref), origin="map"),
        Row("integrated Jacobians", "readout", lambda p: p.weight * (p.z_ref - p.zero), origin="map"),
        Row("integrated Jacobians", "", lambda p: p.z_ref - p.zero, origin="map"),
        Row("GradCAM", "", lambda p: p.weight, origin="map"),
        Row("similarity without weights", "", lambda p: p.z_ref, origin="map"),
        Row("shuffled reference", "moments, contrast 0.5", _shuffled(_moments(0.5)), origin="mean"),
        Row("random map", "", lambda p: torch.full_like(p.z, torch.nan)),
        Row(LAYER, "oracle", lambda p: p.shared),
        Row(LAYER, "oracle, other category subtracted", lambda p: p.shared - p.rival),
    ]


def grid_rows() -> list[Row]:
    """Of latents that are a grid of cells: moments cell by cell, as the rule ships, and of all latents at once."""
    kept = [row for row in rows() if "ridges" not in row.rule and "one constant" not in row.rule]
    place = [row.rule for row in kept].index("moments, contrast 1") + 1
    return kept[:place] + [_plain_moments_row(contrast) for contrast in (0.0, 0.5, 1.0)] + kept[place:]
