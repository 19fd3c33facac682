"""Readouts: from latents to the responses of neurons."""

from captum_shared.readout.fitting import ReadoutFit, fit_readout
from captum_shared.readout.linear import LinearReadout
from captum_shared.readout.transform import latent_transform

__all__ = ["LinearReadout", "ReadoutFit", "fit_readout", "latent_transform"]
