"""What a report's manifest says of the recording."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from captum_shared.files import sha256
from captum_shared.images import decode_rgb
from captum_shared.recording import Recording


def inspect_stimuli(recording: Recording) -> tuple[dict[str, str], dict[str, str]]:
    """Hash of each stimulus file by name, and what is wrong with those that cannot be read as images.

    Raises
    ------
    FileNotFoundError
        If files are missing.
    """
    hashes, failures = {}, {}
    missing = [str(path) for path in recording.stimuli if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {recording.n_stimuli} stimuli are missing: {', '.join(missing[:20])}"
        )
    for name, path in zip(recording.stimulus_names, recording.stimuli, strict=True):
        content = path.read_bytes()
        hashes[name] = sha256(content)
        try:
            decode_rgb(content)
        except ValueError as error:
            failures[name] = str(error)
    return hashes, failures


def describe_recording(recording: Recording, stimulus_hashes: dict[str, str]) -> dict[str, Any]:
    """Hashes of everything in a recording."""
    responses = np.ascontiguousarray(recording.responses)
    names = json.dumps([recording.categories, recording.neuron_ids])
    return {
        "shape": list(responses.shape),
        "responses": sha256(responses.tobytes()),
        "categories_and_neurons": sha256(names.encode()),
        "stimuli": stimulus_hashes,
    }
