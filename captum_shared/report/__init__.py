"""From images to reports: what the commands do."""

from captum_shared.report.category import explain_category, run_category
from captum_shared.report.demo import run_demo
from captum_shared.report.recording import explain_recording, run_recording

__all__ = ["explain_category", "explain_recording", "run_category", "run_demo", "run_recording"]
