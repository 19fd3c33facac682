"""What a manifest says about images, recordings and networks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from captum_shared.encoder.images import evaluating, report_unreadable
from captum_shared.files import file_sha256, sha256
from captum_shared.identity import ImageTransform, identify_network, identify_transform
from captum_shared.images import decode_rgb, reason_of
from captum_shared.recording import Recording


def inspect_stimuli(recording: Recording) -> tuple[dict[str, str], dict[str, str]]:
    """Hash of each stimulus file by name, and what is wrong with those that cannot be read as images."""
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


def describe_images(paths: Sequence[Path], categories: Sequence[str]) -> dict[str, object]:
    """Hashes of the labels and of each file, by its name or, if two files share a name, its path."""
    counts = Counter(path.name for path in paths)
    names = [path.name if counts[path.name] == 1 else path.as_posix() for path in paths]
    return {
        "categories": sha256(json.dumps(list(categories)).encode()),
        "files": {name: file_sha256(path) for name, path in zip(names, paths, strict=True)},
    }


def describe_network(network: nn.Module, transform: ImageTransform, paths: Sequence[Path]) -> dict[str, object]:
    """What latents depend on apart from the images: the behaviour of the network and of the image transform.

    Refused if they are random, or no image can be read.
    """
    picture = example_of(paths)
    with evaluating(network):
        return {
            "network_does": identify_network(network, transform(picture)).as_json(),
            "image_transform_does": identify_transform(transform, picture).as_json(),
            "dtype": str(torch.get_default_dtype()),
        }


def example_of(paths: Sequence[Path]) -> Image.Image:
    """The first image that can be read; if there is none, an error names them all."""
    failures = {}
    for index, path in enumerate(paths):
        try:
            return decode_rgb(path.read_bytes())
        except (OSError, ValueError) as error:
            failures[index] = reason_of(error)
    report_unreadable(failures, list(paths), "raise")
    raise ValueError("there are no images")


def describe_recording(recording: Recording, stimulus_hashes: dict[str, str]) -> dict[str, object]:
    """Hashes of everything in a recording."""
    responses = np.ascontiguousarray(recording.responses)
    names = json.dumps([recording.categories, recording.neuron_ids])
    return {
        "shape": list(responses.shape),
        "responses": sha256(responses.tobytes()),
        "categories_and_neurons": sha256(names.encode()),
        "stimuli": stimulus_hashes,
    }
