"""From a recording to a report: encoding model, selection, maps, pages; resumable, in units of work."""

from captum_shared.report.recording.explain import explain_recording, run_recording

__all__ = ["explain_recording", "run_recording"]
