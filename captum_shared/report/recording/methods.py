"""The methods paragraph: every choice and version, in words that could go into a paper."""

from __future__ import annotations

from captum_shared.report.wording import explanation
from captum_shared.selection import MOST_PARTNERS
from captum_shared.study.settings import MIN_IMAGES, WEAK_D_PRIME, RecordingSettings
from captum_shared.study.study import Study
from captum_shared.study.tables import RecordingSummary, candidate_names


def title_text(s: RecordingSettings) -> str:
    """What the report is about, in a line."""
    if s.pairs == "drivers":
        return f"What pairs of stimuli that {_acts(s)} a neuron share"
    if s.pole == "suppress":
        return "What stimuli that silence a neuron share with the category that silences it most"
    return "What out-of-category stimuli share with the preferred category"


def lead_text(s: RecordingSettings) -> str:
    """How to read the heat."""
    if s.pairs == "drivers":
        pair = f"two stimuli that {_acts(s)} the neuron, and are otherwise as unlike as can be, share for it"
    elif s.pole == "suppress":
        pair = "a stimulus that silences the neuron shares for it with one of the category that silences it most"
    else:
        pair = "a stimulus outside the preferred category and its reference within it share for the neuron"
    return (
        f"Heat marks what {pair}. Where there is no heat, nothing is said: the neuron may still respond to it. A map "
        "explains the model of the neuron: look at its correlations first."
    )


def _acts(s: RecordingSettings) -> str:
    return "drive" if s.pole == "excite" else "silence"


def methods_text(study: Study, summary: RecordingSummary, versions: dict[str, str]) -> list[str]:
    """Paragraphs on the recording, the encoding model, the selection, the explanation, and versions."""
    return [
        _responses(study.settings, summary, study.recording.n_repeated),
        _model(study),
        _selection(study.settings),
        explanation(study.settings),
        "Software: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ". Files and their hashes "
        "are listed in manifest.json; the maps are arrays (pairs, 2, height, width) in .npz files, in the order of "
        "pairs.csv, to be multiplied with their scales.",
    ]


def _responses(s: RecordingSettings, summary: RecordingSummary, n_repeated: int) -> str:
    text = (
        f"Responses of {summary['n_neurons']} neurons to {summary['n_stimuli']} stimuli were averaged over repeats. "
        f"Reliability is the mean correlation of random halves of the repeats over {s.n_splits} splits, corrected by "
        "the Spearman-Brown formula; the noise ceiling of a correlation with the mean responses is its square root, "
        "and a ceiling-corrected correlation is r divided by it."
    )
    if not 0 < n_repeated < summary["n_stimuli"]:
        return text
    return (
        f"{text} Only {n_repeated} of the {summary['n_stimuli']} stimuli have two or more repeats: reliability was "
        "measured on these, and carried over to the mean responses to all stimuli, from which the noise ceiling was "
        "taken, by the Spearman-Brown formula for their numbers of repeats, as if responses to both varied as much."
    )


def _model(study: Study) -> str:
    s, estimator = study.settings, study.estimator
    scaled = "standardized over all stimuli (responses play no part in this)" if s.standardize else "not standardized"
    if estimator is None:
        pca = "" if s.pca is None else f"principal components ({s.pca}, if there are more latents and stimuli), then "
        fit = f"{pca}ridge regression with one penalty per neuron from leave-one-out error"
    else:
        fit = f"{estimator!r}"
    general = (
        "Generalization: candidate and readout were fitted on the stimuli of the preferred category alone, and their "
        "predictions of all other stimuli correlated with the recorded responses. "
    )
    network = ", ".join(f"{name} {value}" for name, value in study.about.items() if value is not None) or "as given"
    return (
        f"Each neuron was modelled as a linear readout of latents of a network ({network}). The candidates were "
        f"{'; '.join(candidate_names(study.network))}. All came from one forward pass per stimulus. Latents were "
        f"{scaled}; the readout is {fit}. Performance is nested: in each of {s.folds} folds the candidate was chosen "
        "for each neuron by cross-validation inside the training stimuli (leave-one-out for the ridge, five folds "
        "otherwise), all fits saw training stimuli only, and r is the correlation of recorded responses with the "
        "predictions of the held-out stimuli; stimuli with the same content share a fold. The readout that is "
        f"explained was chosen in the same way on all stimuli. {'' if study.recording.categories is None else general}"
        f"Seed {s.seed}."
    )


def _selection(s: RecordingSettings) -> str:
    """Which neurons are explained, and with which pairs."""
    if s.pairs == "category":
        return f"{_pole(s)}{_preference(s)} {_drivers(s)} {_by_category(s)}"
    passed = (
        f"Neurons are explained if their reliability is at least {s.min_reliability:g} (where there are repeats) and "
        f"their cross-validated r at least {s.min_cv_r:g}."
    )
    return f"{_pole(s)}{passed} {_drivers(s)} {_among_drivers(s)}"


def _pole(s: RecordingSettings) -> str:
    if s.pole == "excite":
        return ""
    return (
        "What is explained is what silences the neurons: responses, predictions and readouts were negated before "
        "the stimuli were chosen and the maps were made, so that drivers are the stimuli with the weakest responses; "
        "tables and figures show the responses as they were recorded. "
    )


def _preference(s: RecordingSettings) -> str:
    given = "was given" if s.preferred is not None else "is the one with the largest d'"
    return (
        f"The preferred category {given} (difference of the mean responses inside and outside over the root mean of "
        f"the variances; categories with fewer than {MIN_IMAGES} stimuli are not considered). Neurons are explained "
        f"if their reliability is at least {s.min_reliability:g} (where there are repeats), their cross-validated r "
        f"at least {s.min_cv_r:g}, and d' at least {s.min_d_prime:g}; with a d' below {WEAK_D_PRIME:g} a neuron is "
        "said to have no clear preference, and the preferred category is merely the one that its other drivers are "
        "compared with."
    )


def _drivers(s: RecordingSettings) -> str:
    side = "above" if s.pole == "excite" else "below"
    return (
        "A neuron's drivers are the stimuli whose recorded response and whose cross-validated prediction both lie at "
        f"least {s.threshold:g} standard deviations {side} their means over all stimuli."
    )


def _by_category(s: RecordingSettings) -> str:
    among = "the drivers in" if s.references == "drivers" else "all stimuli of"
    strongest = "strongest" if s.pole == "excite" else "weakest"
    return (
        f"Of the drivers in other categories the {s.drivers} with the {strongest} recorded responses are explained. "
        f"The reference of each is the most similar by the {s.similarity} similarity, weighted by the neuron's "
        f"readout, among {among} the preferred category."
    )


def _among_drivers(s: RecordingSettings) -> str:
    strongest = "strongest" if s.pole == "excite" else "weakest"
    return (
        "Pairs were chosen among the drivers, whatever their categories: alike for the neuron and unlike otherwise. "
        f"The reference of a driver is the other driver for which the rank of their {s.similarity} similarity, "
        "weighted by the neuron's readout, exceeds most that of their plain similarity, the cosine of their latents "
        "after subtracting the mean over all stimuli; ranks are among all pairs of the neuron's drivers (at most the "
        f"{MOST_PARTNERS:,} {strongest}). Stimuli with the same content are never paired, and no pair is shown twice. "
        f"The drivers with the {strongest} responses are explained, in at most {s.drivers} pairs."
    )
