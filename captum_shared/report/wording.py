"""How maps were made, in words that could go into a paper."""

from __future__ import annotations

from inspect import signature

from captum_shared.selection import N_STRONGEST, is_crossed
from captum_shared.similarity import moment_rule
from captum_shared.study.settings import Settings
from captum_shared.visualization.heat import SMOOTHING


def explanation(s: Settings) -> str:
    """How the maps were made."""
    several = (
        f" The reference's latents are the mean over the {s.references_averaged} most similar references, of which the "
        "first is shown." if s.references_averaged > 1 else ""
    )  # fmt: skip
    each = " Each image has weights of its own, made from the other image." if is_crossed(s.rule) else ""
    return (
        "Maps follow parallel backpropagation (Lappe et al., NeurIPS 2024): the shared weights of a pair, "
        f"{_rules()[s.rule]}, are held constant, and the weighted sum of the latents is attributed to both images."
        f"{several}{each} {' '.join(_attribution(s, kind) for kind in s.maps)} Raw maps are signed; pictures show the "
        f"positive part after Gaussian smoothing (standard deviation {SMOOTHING:g} of the longer side), in one scale "
        "per pair."
    )


def _rules() -> dict[str, str]:
    """Each rule in words."""
    moments = signature(moment_rule).parameters
    first, second = moments["ridges"].default
    strongest = f"the neuron's strongest drivers in any category (at most {N_STRONGEST})"
    return {
        "product": "the product of readout weight and both images' latents, dimension by dimension",
        "dot": "the readout weight times the other image's latents",
        "centered": "the squared readout weight times the reference's latents minus their mean over all images",
        "contrast": f"the absolute readout weight times the reference's latents minus their mean over {strongest}",
        "matched": f"the absolute readout weight times the reference's latents minus the mean over {strongest}, "
        "scaled to the same predicted drive",
        "moments": "the third moments of all images' latents in the directions of the readout and of the other "
        f"image, whatever the basis of the latents (contrast {moments['contrast'].default:g}, ridges of {first:g} and "
        f"{second:g} mean eigenvalues of their covariance; where the latents are a grid of cells, cell by cell)",
    }


def _attribution(s: Settings, kind: str) -> str:
    if kind == "layer":
        return (
            "Maps of the layer are the layer's output times the gradient of this sum with respect to it, summed over "
            "channels."
        )
    how = {"IntegratedGradients": f"integrated gradients ({s.n_steps} steps, Gauss-Legendre, from zero, which is the "
           "mean colour for normalized images)", "Saliency": "gradients"}  # fmt: skip
    return f"Maps of pixels are made by {how.get(s.engine, s.engine)} and summed over the colour channels."
