"""Networks of transformers: "hf:NAME", where NAME is an id on the Hugging Face Hub, a local folder, or a type.

No code is taken from the Hub: `trust_remote_code` is off.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import nn

from captum_shared.encoder.identity import ImageTransform
from captum_shared.encoder.sources.hf_images import find_transform
from captum_shared.encoder.sources.wanted import Foreign, Wanted, downloading, optional_package, unknown_name
from captum_shared.encoder.weights import misfit, read_state, weights_file

CONFIG = "config.json"
_OPTIONAL = "pooler."
"""Part of many networks, absent from many files, and behind every layer."""


def check(wanted: Wanted) -> None:
    """Look for the folder or the type, and for the weights; an id on the Hub is not looked up."""
    transformers = optional_package("transformers", "hf")
    weights, types = wanted.weights, _types()
    if Path(wanted.name).is_dir() and not _is_model(wanted.name):
        raise FileNotFoundError(f"no {CONFIG} in {wanted.name}: expected a folder such as save_pretrained writes")
    if not _is_model(wanted.name) and wanted.name not in types and not _is_id(wanted.name):
        expected = "an id on the Hugging Face Hub (owner/name), a local folder with config.json, or a type"
        raise unknown_name(wanted.name, types, "vit", expected)
    if weights == "DEFAULT" and not _is_model(wanted.name) and wanted.name in types:
        raise ValueError(f"{wanted.name!r} is a type of network, without weights; expected weights 'none' or a path")
    if weights not in (None, "DEFAULT") and not _is_model(str(weights)):
        weights_file(str(weights), f"the path of a state dict or of a folder with {CONFIG}, 'DEFAULT' or 'none'")
    if _is_here(wanted):
        with _quiet(transformers):
            _tower(_config(wanted), wanted)


def load(wanted: Wanted) -> tuple[nn.Module, ImageTransform]:
    """The network without a head, of two towers the one for images, and the transform of its image processor."""
    check(wanted)
    transformers = optional_package("transformers", "hf")
    with _quiet(transformers), nullcontext() if _is_here(wanted) else downloading(wanted.name):
        config = _config(wanted)
        kind, own = _tower(config, wanted)
        model = _resizing(_made(kind, own, wanted), own, wanted)
        return model, find_transform(_origin(wanted), config, wanted, local=_is_here(wanted))


def _origin(wanted: Wanted) -> str:
    """Where the configuration is: the folder of weights, if these are a folder."""
    folder = wanted.weights not in (None, "DEFAULT") and _is_model(str(wanted.weights))
    return str(wanted.weights) if folder else wanted.name


def _is_here(wanted: Wanted) -> bool:
    """Whether nothing need be downloaded."""
    return _is_model(_origin(wanted)) or _origin(wanted) in _types()


def _config(wanted: Wanted) -> Foreign:
    auto, origin = optional_package("transformers", "hf").AutoConfig, _origin(wanted)
    if not _is_model(origin) and origin in _types():
        return auto.for_model(origin)
    return auto.from_pretrained(origin, trust_remote_code=False, local_files_only=_is_model(origin))


def _tower(config: Foreign, wanted: Wanted) -> tuple[Foreign, Foreign]:
    """Class and configuration of the network of images."""
    known = optional_package("transformers.models.auto.modeling_auto", "hf").MODEL_MAPPING
    own = getattr(config, "vision_config", config)
    kind = known.get(type(own), None)
    if getattr(kind, "main_input_name", None) != "pixel_values":
        raise ValueError(f"{wanted.name!r} is a {type(config).__name__}; expected a network of images alone")
    return kind, own


def _made(kind: Foreign, config: Foreign, wanted: Wanted) -> nn.Module:
    weights, origin = wanted.weights, _origin(wanted)
    if weights is None:
        model: nn.Module = optional_package("transformers", "hf").AutoModel.from_config(config)
        return model.float()
    folder = origin if weights == "DEFAULT" or _is_model(str(weights)) else None
    state = None if folder else read_state(weights)
    options = {"local_files_only": _is_model(origin), "ignore_mismatched_sizes": True, "dtype": torch.float32}
    try:
        model, found = kind.from_pretrained(
            folder, config=config, state_dict=state, output_loading_info=True, **options
        )
    except RuntimeError as error:
        raise ValueError(f"the weights of {folder or weights} do not fit {kind.__name__}: {error}") from error
    return _complete(model, found, str(folder or weights))


def _complete(model: nn.Module, found: dict[str, Foreign], source: str) -> nn.Module:
    """Refuse a network of which a part stayed random; one whose pooler did goes without."""
    wrong = [(name, "another shape") for name, *_ in found["mismatched_keys"]]
    missing = sorted(found["missing_keys"])
    wrong += [(name, "missing") for name in missing if not name.startswith(_OPTIONAL)]
    if wrong:
        parts = ", ".join(f"{name} ({what})" for name, what in wrong[:3])
        raise ValueError(misfit(source, model, f"{len(wrong)} parameters do not, such as {parts}"))
    if missing:
        model.pooler = None  # type: ignore[assignment]
    return model


def _resizing(model: nn.Module, config: Foreign, wanted: Wanted) -> nn.Module:
    """Have the embeddings of positions resized, where the images are not of the size that the network knows."""
    takes = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    if takes and wanted.image_size not in (None, getattr(config, "image_size", None)):
        model.register_forward_pre_hook(_interpolate, with_kwargs=True)
    return model


def _interpolate(model: nn.Module, args: Foreign, kwargs: dict[str, Foreign]) -> tuple[Foreign, dict[str, Foreign]]:
    return args, {**kwargs, "interpolate_pos_encoding": True}


def _types() -> list[str]:
    """Types of networks that transformers has a class for."""
    return list(optional_package("transformers.models.auto.modeling_auto", "hf").MODEL_MAPPING_NAMES)


def _is_model(path: str) -> bool:
    return (Path(path) / CONFIG).is_file()


def _is_id(name: str) -> bool:
    owner, slash, rest = name.partition("/")
    return bool(owner and slash and rest) and "/" not in rest and not name.startswith(".")


@contextmanager
def _quiet(transformers: Foreign) -> Iterator[None]:
    """Without the tables and bars that transformers prints while it loads: what they say is checked instead."""
    log = transformers.utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
