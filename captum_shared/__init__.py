"""Shared-feature attribution for pairs of images, as a plugin for Captum.

Names are imported on first use, so that ``import captum_shared`` is instant and pulls in neither
matplotlib nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

_HOMES = {
    "encoder": ("LatentEncoder", "encode_images", "fast_encoder"),
    "networks": ("load_encoder",),
    "readout": ("LinearReadout", "ReadoutFit", "fit_readout", "latent_transform"),
    "similarity": ("RULES", "SIMILARITIES", "category_centers", "moment_rule", "neuron_similarity", "shared_weights"),
    "matcher": ("Match", "ReferenceMatcher"),
    "selection": ("Drivers", "Pairs", "find_drivers", "find_pairs", "rule_center", "strongest_drivers"),
    "attribution": ("LayerCorrespondence", "LayerParallelBackprop", "ParallelBackprop"),
    "recording": ("Recording",),
    "report": ("explain_recording",),
    "visualization": ("display_heat", "overlay", "pair_figure"),
}
_MODULES = (*_HOMES, "interventions", "metrics", "selectivity", "stimuli", "synthetic", "cli")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF, "interventions", "metrics", "selectivity", "stimuli", "synthetic"]

if TYPE_CHECKING:
    __version__: str

    from captum_shared import interventions as interventions
    from captum_shared import metrics as metrics
    from captum_shared import selectivity as selectivity
    from captum_shared import stimuli as stimuli
    from captum_shared import synthetic as synthetic
    from captum_shared.attribution import LayerCorrespondence as LayerCorrespondence
    from captum_shared.attribution import LayerParallelBackprop as LayerParallelBackprop
    from captum_shared.attribution import ParallelBackprop as ParallelBackprop
    from captum_shared.encoder import LatentEncoder as LatentEncoder
    from captum_shared.encoder import encode_images as encode_images
    from captum_shared.encoder import fast_encoder as fast_encoder
    from captum_shared.matcher import Match as Match
    from captum_shared.matcher import ReferenceMatcher as ReferenceMatcher
    from captum_shared.networks import load_encoder as load_encoder
    from captum_shared.readout import LinearReadout as LinearReadout
    from captum_shared.readout import ReadoutFit as ReadoutFit
    from captum_shared.readout import fit_readout as fit_readout
    from captum_shared.readout import latent_transform as latent_transform
    from captum_shared.recording import Recording as Recording
    from captum_shared.report import explain_recording as explain_recording
    from captum_shared.selection import Drivers as Drivers
    from captum_shared.selection import Pairs as Pairs
    from captum_shared.selection import find_drivers as find_drivers
    from captum_shared.selection import find_pairs as find_pairs
    from captum_shared.selection import rule_center as rule_center
    from captum_shared.selection import strongest_drivers as strongest_drivers
    from captum_shared.similarity import RULES as RULES
    from captum_shared.similarity import SIMILARITIES as SIMILARITIES
    from captum_shared.similarity import category_centers as category_centers
    from captum_shared.similarity import moment_rule as moment_rule
    from captum_shared.similarity import neuron_similarity as neuron_similarity
    from captum_shared.similarity import shared_weights as shared_weights
    from captum_shared.visualization import display_heat as display_heat
    from captum_shared.visualization import overlay as overlay
    from captum_shared.visualization import pair_figure as pair_figure


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name in _HOME_OF:
        return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    """That of the installed package, which takes it from a tag; a source tree that nobody installed has none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("captum-shared")
    except PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted(__all__)
