"""`Study`: the question about a recording, and the network by which it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn
from torchvision.transforms.functional import to_tensor

from captum_shared.identity import ImageTransform
from captum_shared.readout.steps import Estimator
from captum_shared.store import IdentityJson
from captum_shared.study.contents import describe_network, describe_recording
from captum_shared.study.estimator import identify_estimator
from captum_shared.study.network import Network, find_network
from captum_shared.study.settings import POOLS
from captum_shared.study.subject import Subject


@dataclass(frozen=True)
class Study(Subject):
    """The question; nothing in it changes while it is answered. What it asks about is its `Subject`."""

    network: Network  # in evaluation mode
    estimator: Estimator | None = None
    about: dict[str, object] = field(default_factory=dict)  # what to say of the network

    def manifest(self) -> dict[str, object]:
        """Everything the findings depend on."""
        return {
            "command": "recording",
            "configuration": {
                "settings": self.settings.as_json(), "network": dict(self.about),
                "candidates": [f"{layer} {pool}" for layer, pool in self.network.candidates],
                **describe_network(self.network.scanner, self.network.transform, self.recording.stimuli),
                "estimator": self._describe_estimator(),
            },
            "recording": {**describe_recording(self.recording, self.hashes), "unreadable": self.unreadable},
        }  # fmt: skip

    def _describe_estimator(self) -> IdentityJson | None:
        """What an estimator does with as many stimuli, and the latents of the smallest candidate."""
        if self.estimator is None:
            return None
        return identify_estimator(self.estimator, self.recording.n_stimuli, min(self.network.widths)).as_json()


def open_study(
    subject: Subject,
    encoder: nn.Module,
    transform: ImageTransform | None,
    *,
    layers: str | Sequence[str] | None = None,
    pools: Sequence[str | int] = POOLS,
    estimator: Estimator | None = None,
    about: Mapping[str, object] | None = None,
) -> Study:
    """Open the study of a subject: check the network and its layers; arguments as in `explain_recording`."""
    network = find_network(encoder, transform or to_tensor, layers, pools, subject.recording.stimuli[0])
    parts = subject.recording, subject.settings, subject.hashes, subject.unreadable
    return Study(*parts, network, estimator, dict(about or {}))
