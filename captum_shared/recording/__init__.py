"""Recordings: responses of neurons to images, from arrays and from files."""

from captum_shared.recording.recording import Recording

__all__ = ["Recording"]
