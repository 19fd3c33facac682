"""From images to reports: what the commands do."""

from captum_shared.report.category import explain_category, run_category
from captum_shared.report.demo import run_demo
from captum_shared.report.recording import explain_recording, run_recording
from captum_shared.report.selectivity import index_selectivity, run_selectivity
from captum_shared.report.stimuli import make_stimuli, score_stimuli

__all__ = [
    "explain_category",
    "explain_recording",
    "index_selectivity",
    "make_stimuli",
    "run_category",
    "run_demo",
    "run_recording",
    "run_selectivity",
    "score_stimuli",
]
