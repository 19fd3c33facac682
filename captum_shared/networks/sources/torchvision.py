"""Networks of torchvision's registry, which need no prefix."""

from __future__ import annotations

from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from captum_shared.encoder.memory_format import channels_last
from captum_shared.identity import ImageTransform
from captum_shared.networks.preprocessing import preprocessing
from captum_shared.networks.sources.wanted import Wanted, unknown_name
from captum_shared.networks.weights import fill_network, read_state, weights_file

EXPECTED = "a torchvision name, 'module:callable', 'timm:NAME', 'hf:NAME' or 'open_clip:NAME',"


def check(wanted: Wanted) -> None:
    """Look for the name, and for the weights."""
    if wanted.name not in models.list_models():
        raise unknown_name(wanted.name, models.list_models(), "resnet50", EXPECTED)
    if wanted.weights is not None and _known_weights(wanted) is None:
        names = [entry.name for entry in models.get_model_weights(wanted.name)]
        weights_file(wanted.weights, f"the path of a state dict, 'none' or a name such as {[*names[-1:], 'DEFAULT']}")


def load(wanted: Wanted) -> tuple[nn.Module, ImageTransform]:
    """The convolutions are laid out with the channels last.

    This is faster on a CPU and changes the latents only by rounding; other networks may use `view` on what it makes
    non-contiguous.
    """
    known = _known_weights(wanted)
    state = None if known or wanted.weights is None else read_state(wanted.weights)  # before any work
    model: nn.Module = models.get_model(wanted.name, weights=known)
    if state is not None:
        fill_network(model, state, str(wanted.weights))
    return channels_last(model), _transform(wanted, known)


def _transform(wanted: Wanted, known: WeightsEnum | None) -> ImageTransform:
    if wanted.image_size is not None:
        return preprocessing(wanted.image_size, wanted.mean, wanted.std)
    weights = known or models.get_model_weights(wanted.name)["DEFAULT"]
    result: ImageTransform = weights.transforms(**wanted.normalization())
    return result


def _known_weights(wanted: Wanted) -> WeightsEnum | None:
    """The registry's entry for the weights, or None if there are none or they are a path."""
    entries = models.get_model_weights(wanted.name)
    if isinstance(wanted.weights, str) and wanted.weights in entries.__members__:
        return entries[wanted.weights]
    return None
