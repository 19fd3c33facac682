"""Readouts: from latents to the responses of neurons, and how reliable these are."""

from captum_shared.readout.fitting import ReadoutFit, fit_readout
from captum_shared.readout.linear import LinearReadout
from captum_shared.readout.reliability import (
    ceiling_corrected,
    noise_ceiling,
    reliability_of_means,
    split_half_reliability,
)
from captum_shared.readout.transform import latent_transform

__all__ = [
    "LinearReadout",
    "ReadoutFit",
    "ceiling_corrected",
    "fit_readout",
    "latent_transform",
    "noise_ceiling",
    "reliability_of_means",
    "split_half_reliability",
]
