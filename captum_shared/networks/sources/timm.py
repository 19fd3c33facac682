"""timm's networks: "timm:NAME", where NAME may have a tag of weights, as in "vit_base_patch16_224.augreg_in21k"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import timm
from timm import data
from torch import Tensor, nn

from captum_shared.identity import ImageTransform
from captum_shared.networks.sources.wanted import Foreign, Wanted, downloading, unknown_name
from captum_shared.networks.weights import misfit, read_state, weights_file


def check(wanted: Wanted) -> None:
    """Look for the name, and for the weights."""
    if not timm.is_model(wanted.name):
        raise unknown_name(wanted.name, timm.list_models(), "vit_base_patch16_224", "a name in timm.list_models()")
    name, _, tag = wanted.name.partition(".")
    known = timm.list_models(f"{name}.*", pretrained=True)
    if tag and wanted.name not in known:
        raise unknown_name(wanted.name, known, name, "a name in timm.list_models(pretrained=True)")
    if wanted.weights == "DEFAULT" and not known:
        raise ValueError(f"timm has no weights for {name!r}; expected the path of a state dict, or 'none'")
    if wanted.weights not in (None, "DEFAULT"):
        weights_file(str(wanted.weights), f"the path of a state dict, 'DEFAULT' or 'none' (timm's tags: {known[:3]})")


def load(wanted: Wanted) -> tuple[nn.Module, ImageTransform]:
    """The network, with its head, and timm's transform for evaluation."""
    if wanted.weights is None:
        model = _made(wanted)
    elif wanted.weights == "DEFAULT":
        with downloading(wanted.name):
            model = _made(wanted, pretrained=True)
    else:
        model = _filled(wanted, read_state(wanted.weights))
    return model, _transform(wanted, model)


def _filled(wanted: Wanted, state: dict[str, Tensor]) -> nn.Module:
    """By timm's own way of loading: it converts the files of others and resizes embeddings of positions."""
    try:
        return _made(wanted, pretrained=True, pretrained_cfg_overlay={"state_dict": state, "label_offset": 0})
    except MemoryError:
        raise
    except Exception as error:  # each network has its own conversion, which takes a fitting file for granted
        why = str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
        raise ValueError(misfit(str(wanted.weights), _made(wanted), why)) from error


def _made(wanted: Wanted, **options: Foreign) -> nn.Module:
    """Most transformers have to know the size of their images, most convolutional networks do not take it."""
    create: Callable[..., nn.Module] = partial(timm.create_model, wanted.name, **options)
    if wanted.image_size is not None:
        try:
            return create(img_size=wanted.image_size)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
    return create()


def _transform(wanted: Wanted, model: nn.Module) -> ImageTransform:
    config = data.resolve_model_data_config(model)
    if wanted.image_size is not None:
        config["input_size"] = (3, wanted.image_size, wanted.image_size)
    result: ImageTransform = data.create_transform(**{**config, **wanted.normalization()}, is_training=False)
    return result
