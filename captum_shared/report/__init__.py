"""From images to reports: what the commands do."""

from captum_shared.report.category import explain_category, run_category
from captum_shared.report.demo import run_demo

__all__ = ["explain_category", "run_category", "run_demo"]
