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
from transformers import AutoConfig, AutoModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING, MODEL_MAPPING_NAMES
from transformers.utils import logging as log

from captum_shared.encoder.identity import ImageTransform
from captum_shared.encoder.sources.hf_images import find_transform
from captum_shared.encoder.sources.wanted import Foreign, Wanted, downloading, unknown_name
from captum_shared.encoder.weights import misfit, read_state, weights_file

CONFIG = "config.json"
_TYPES = list(MODEL_MAPPING_NAMES)  # of networks that transformers has a class for
_OPTIONAL = "pooler."
"""Part of many networks, absent from many files, and behind every layer."""


def check(wanted: Wanted) -> None:
    """Look for the folder or the type, and for the weights; an id on the Hub is not looked up."""
    name, weights, is_folder, is_type = wanted.name, wanted.weights, _is_model(wanted.name), wanted.name in _TYPES
    if Path(name).is_dir() and not is_folder:
        raise FileNotFoundError(f"no {CONFIG} in {name}: expected a folder such as save_pretrained writes")
    if not (is_folder or is_type or _is_id(name)):
        expected = "an id on the Hugging Face Hub (owner/name), a local folder with config.json, or a type"
        raise unknown_name(name, _TYPES, "vit", expected)
    if weights == "DEFAULT" and is_type and not is_folder:
        raise ValueError(f"{name!r} is a type of network, without weights; expected weights 'none' or a path")
    if weights not in (None, "DEFAULT") and not _is_model(weights):
        weights_file(str(weights), f"the path of a state dict or of a folder with {CONFIG}, 'DEFAULT' or 'none'")
    origin = _origin(wanted)
    if _is_here(origin):
        with _quiet():
            _tower(_config(origin), name)


def load(wanted: Wanted) -> tuple[nn.Module, ImageTransform]:
    """The network without a head, of two towers the one for images, and the transform of its image processor."""
    origin = _origin(wanted)
    local = _is_here(origin)
    with _quiet(), nullcontext() if local else downloading(wanted.name):
        config = _config(origin)
        kind, own = _tower(config, wanted.name)
        model = AutoModel.from_config(own).float() if wanted.weights is None else _trained(kind, own, wanted)
        return _resizing(model, own, wanted.image_size), find_transform(origin, config, wanted, local)


def _origin(wanted: Wanted) -> str:
    """Where the configuration is: in the folder of weights, if these are one."""
    folder = wanted.weights != "DEFAULT" and _is_model(wanted.weights)
    return str(wanted.weights) if folder else wanted.name


def _is_here(origin: str) -> bool:
    """Whether nothing need be downloaded."""
    return _is_model(origin) or origin in _TYPES


def _config(origin: str) -> Foreign:
    if not _is_model(origin) and origin in _TYPES:
        return AutoConfig.for_model(origin)
    return AutoConfig.from_pretrained(origin, trust_remote_code=False, local_files_only=_is_model(origin))


def _tower(config: Foreign, name: str) -> tuple[Foreign, Foreign]:
    """Class and configuration of the network of images."""
    own = getattr(config, "vision_config", config)
    kind = MODEL_MAPPING.get(type(own), None)
    if getattr(kind, "main_input_name", None) != "pixel_values":
        raise ValueError(f"{name!r} is a {type(config).__name__}; expected a network of images alone")
    return kind, own


def _trained(kind: Foreign, config: Foreign, wanted: Wanted) -> nn.Module:
    """From a file, or from where the configuration is."""
    origin = _origin(wanted)
    file = None if wanted.weights == "DEFAULT" or _is_model(wanted.weights) else str(wanted.weights)
    options = {"local_files_only": _is_model(origin), "ignore_mismatched_sizes": True, "dtype": torch.float32}
    if file:
        options["state_dict"] = read_state(file)
    try:
        model, found = kind.from_pretrained(
            None if file else origin, config=config, output_loading_info=True, **options
        )
    except RuntimeError as error:
        raise ValueError(f"the weights of {file or origin} do not fit {kind.__name__}: {error}") from error
    return _complete(model, found, file or origin)


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


def _resizing(model: nn.Module, config: Foreign, image_size: int | None) -> nn.Module:
    """Have the embeddings of positions resized, where the images are not of the size that the network knows."""
    takes = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    if takes and image_size not in (None, getattr(config, "image_size", None)):
        model.register_forward_pre_hook(_interpolate, with_kwargs=True)
    return model


def _interpolate(model: nn.Module, args: Foreign, kwargs: dict[str, Foreign]) -> tuple[Foreign, dict[str, Foreign]]:
    return args, {**kwargs, "interpolate_pos_encoding": True}


def _is_model(path: str | Path | None) -> bool:
    """Whether it is a folder with a network."""
    return path is not None and (Path(path) / CONFIG).is_file()


def _is_id(name: str) -> bool:
    owner, slash, rest = name.partition("/")
    return bool(owner and slash and rest) and "/" not in rest and not name.startswith(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tables and bars that transformers prints while it loads: what they say is checked instead."""
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
