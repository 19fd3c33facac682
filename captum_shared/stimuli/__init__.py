"""An experiment that tests maps on neurons: pictures, expected comparisons, repeats, and the scores of responses.

Everything but the page; see `captum_shared.report.stimuli`.
"""

from captum_shared.stimuli.matching import luminance_and_contrast, match_pictures
from captum_shared.stimuli.noise import TrialNoise, measure_noise
from captum_shared.stimuli.plan import Comparison, plan_repeats
from captum_shared.stimuli.power import holm, repeats_needed, welch_power, welch_test
from captum_shared.stimuli.responses import read_responses
from captum_shared.stimuli.scoring import score_comparisons

__all__ = [
    "Comparison",
    "TrialNoise",
    "holm",
    "luminance_and_contrast",
    "match_pictures",
    "measure_noise",
    "plan_repeats",
    "read_responses",
    "repeats_needed",
    "score_comparisons",
    "welch_power",
    "welch_test",
]
