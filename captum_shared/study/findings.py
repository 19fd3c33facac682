"""`Findings`: what a study of a recording found."""

from __future__ import annotations

from dataclasses import dataclass

from captum_shared.study.encoding import EncodingModels, Latents
from captum_shared.study.neurons import NeuronFindings
from captum_shared.study.tuning import Tuning


@dataclass(frozen=True)
class Findings:
    """Everything found, except for the maps, which are in files.

    Attributes
    ----------
    tuning : Tuning
        What the responses alone tell.
    latents : Latents
    models : EncodingModels
    neurons : tuple of NeuronFindings
        The drivers and pairs of each neuron, or the reason why it is not explained.
    """

    tuning: Tuning
    latents: Latents
    models: EncodingModels
    neurons: tuple[NeuronFindings, ...]

    @property
    def explained(self) -> list[NeuronFindings]:
        """The neurons that have pairs."""
        return [neuron for neuron in self.neurons if neuron.explained]
