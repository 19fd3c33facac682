"""Pictures for an experiment that tests a report's maps, and what became of the predictions."""

from captum_shared.report.stimuli.command import run_stimuli
from captum_shared.report.stimuli.making import make_stimuli
from captum_shared.report.stimuli.scoring import score_stimuli
from captum_shared.study.experiment import ExperimentSettings

__all__ = ["ExperimentSettings", "make_stimuli", "run_stimuli", "score_stimuli"]
