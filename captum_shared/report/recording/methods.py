"""The methods paragraph: every choice and version, in words that could go into a paper."""

from __future__ import annotations

from captum_shared.report.wording import explanation
from captum_shared.study.settings import MIN_IMAGES, WEAK_D_PRIME, RecordingSettings
from captum_shared.study.study import Study
from captum_shared.study.tables import RecordingSummary, candidate_names


def methods_text(study: Study, summary: RecordingSummary, versions: dict[str, str]) -> list[str]:
    """Paragraphs on the recording, the encoding model, the selection, the explanation, and versions."""
    return [
        _responses(study.settings, summary),
        _model(study),
        _selection(study.settings),
        explanation(study.settings),
        "Software: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ". Files and their hashes "
        "are listed in manifest.json; the maps are arrays (pairs, 2, height, width) in .npz files, in the order of "
        "pairs.csv, to be multiplied with their scales.",
    ]


def _responses(s: RecordingSettings, summary: RecordingSummary) -> str:
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
        f"at least {s.min_cv_r:g}, and d' at least {s.min_d_prime:g}; with a d' below {WEAK_D_PRIME:g} a neuron is "
        "said to have no clear preference, and the preferred category is merely the one that its other drivers are "
        "compared with. A neuron's drivers are the stimuli whose recorded response and whose cross-validated "
        f"prediction both lie at least {s.threshold:g} standard "
        f"deviations above their means over all stimuli. Of the drivers in other categories the {s.drivers} with the "
        "strongest recorded responses are explained. The reference of each is the most similar by the "
        f"{s.similarity} similarity, weighted by the neuron's readout, among {among} the preferred category."
    )
