"""``--dry-run``: everything is checked, a little of the work is done and timed, and nothing is written.

What would be run is said with an estimate of the time and of the disk that it takes.
"""

from captum_shared.report.forecast.category import forecast_category
from captum_shared.report.forecast.forecast import Forecast
from captum_shared.report.forecast.recording import forecast_recording
from captum_shared.report.forecast.selectivity import forecast_selectivity

__all__ = ["Forecast", "forecast_category", "forecast_recording", "forecast_selectivity"]
