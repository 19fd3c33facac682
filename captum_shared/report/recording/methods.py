"""The methods paragraph: every choice and version, in words that could go into a paper."""

from __future__ import annotations

from typing import Any

from captum_shared.selection import N_STRONGEST, is_crossed
from captum_shared.study.settings import MIN_IMAGES, RecordingSettings
from captum_shared.study.study import Study
from captum_shared.study.tables import candidate_names
from captum_shared.visualization.heat import SMOOTHING


def methods_text(study: Study, summary: dict[str, Any], versions: dict[str, str]) -> list[str]:
    """Paragraphs on the recording, the encoding model, the selection, the explanation, and versions."""
    return [
        _responses(study.settings, summary),
        _model(study),
        _selection(study.settings),
        explanation(study.settings),
        "Software: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ". Files and their hashes "
        "are listed in manifest.json; the maps are .npy arrays (pairs, 2, height, width), in the order of pairs.csv.",
    ]


def _responses(s: RecordingSettings, summary: dict[str, Any]) -> str:
    return (
        f"Responses of {summary['n_neurons']} neurons to {summary['n_stimuli']} stimuli were averaged over repeats. "
        f"Reliability is the mean correlation of random halves of the repeats over {s.n_splits} splits, corrected by "
        "the Spearman-Brown formula; the noise ceiling of a correlation with the mean responses is its square root, "
        "and a ceiling-corrected correlation is r divided by it."
    )


def _model(study: Study) -> str:
    s, estimator = study.settings, study.estimator
    scaled = "standardised over all stimuli (responses play no part in this)" if s.standardize else "not standardised"
    if estimator is None:
        pca = "" if s.pca is None else f"principal components ({s.pca}, if there are more latents and stimuli), then "
        fit = f"{pca}ridge regression with one penalty per neuron from leave-one-out error"
    else:
        fit = f"{estimator!r}"
    network = ", ".join(f"{name} {value}" for name, value in study.about.items() if value is not None) or "as given"
    return (
        f"Each neuron was modelled as a linear readout of latents of a network ({network}). The candidates were "
        f"{'; '.join(candidate_names(study.network))}. All came from one forward pass per stimulus. Latents were "
        f"{scaled}; the readout is {fit}. Performance is nested: in each of {s.folds} folds the candidate was chosen "
        "for each neuron by cross-validation inside the training stimuli (leave-one-out for the ridge, five folds "
        "otherwise), all fits saw training stimuli only, and r is the correlation of recorded responses with the "
        "predictions of the held-out stimuli; stimuli with the same content share a fold. The readout that is "
        "explained was chosen in the same way on all stimuli. Generalization: candidate and readout were fitted on the "
        "stimuli of the preferred category alone, and their predictions of all other stimuli correlated with the "
        "recorded "
        f"responses. Seed {s.seed}."
    )


def _selection(s: RecordingSettings) -> str:
    given = "was given" if s.preferred is not None else "is the one with the largest d'"
    among = "the drivers in" if s.references == "drivers" else "all stimuli of"
    return (
        f"The preferred category {given} (difference of the mean responses inside and outside over the root mean of "
        f"the variances; categories with fewer than {MIN_IMAGES} stimuli are not considered). Neurons are explained "
        f"if their reliability is at least {s.min_reliability:g} (where there are repeats), their cross-validated r "
        f"at least {s.min_cv_r:g}, and d' at least {s.min_d_prime:g}. A neuron's drivers are the stimuli whose "
        f"recorded response and whose cross-validated prediction both lie at least {s.threshold:g} standard "
        f"deviations above their means over all stimuli. Of the drivers in other categories the {s.drivers} with the "
        "strongest recorded responses are explained. The reference of each is the most similar by the "
        f"{s.similarity} similarity, weighted by the neuron's readout, among {among} the preferred category."
    )


def explanation(s: RecordingSettings) -> str:
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
    strongest = f"the neuron's strongest drivers in any category (at most {N_STRONGEST})"
    return {
        "product": "the product of readout weight and both images' latents, dimension by dimension",
        "dot": "the readout weight times the other image's latents",
        "centered": "the squared readout weight times the reference's latents minus their mean over all stimuli",
        "contrast": f"the absolute readout weight times the reference's latents minus their mean over {strongest}",
        "matched": f"the absolute readout weight times the reference's latents minus the mean over {strongest}, "
        "scaled to the same predicted drive",
        "moments": "the third moments of all stimuli's latents in the directions of the readout and of the other "
        "image, whatever the basis of the latents",
    }


def _attribution(s: RecordingSettings, kind: str) -> str:
    if kind == "layer":
        return (
            "Maps of the layer are the layer's output times the gradient of this sum with respect to it, summed over "
            "channels."
        )
    how = {"IntegratedGradients": f"integrated gradients ({s.n_steps} steps, Gauss-Legendre, from zero, which is the "
           "mean colour for normalised images)", "Saliency": "gradients"}  # fmt: skip
    return f"Maps of pixels are made by {how.get(s.engine, s.engine)} and summed over the colour channels."
