"""Networks of transformers: "hf:NAME", where NAME is an id on the Hugging Face Hub, a local folder, or a type.

No code is taken from the Hub: `trust_remote_code` is off.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_MAPPING, MODEL_MAPPING_NAMES
from transformers.utils import logging as log

from captum_shared.identity import ImageTransform
from captum_shared.networks.sources.wanted import Foreign, Wanted, downloading, unknown_name
from captum_shared.networks.weights import misfit, read_state, weights_file

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
_ID = re.compile(r"[^./][^/]*/[^/]+")  # on the Hub: owner/name
_TYPES = list(MODEL_MAPPING_NAMES)  # of networks that transformers has a class for
_OPTIONAL = "pooler."
"""Part of many networks, absent from many files, and behind every layer."""


def check(wanted: Wanted) -> None:
    """Look for the folder or the type, and for the weights; an id on the Hub is not looked up."""
    name, weights, is_folder, is_type = wanted.name, wanted.weights, _is_model(wanted.name), wanted.name in _TYPES
    if Path(name).is_dir() and not is_folder:
        raise FileNotFoundError(f"no {CONFIG} in {name}: expected a folder such as save_pretrained writes")
    if not (is_folder or is_type or _ID.fullmatch(name)):
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
        return _resizing(model, own, wanted.image_size), _transform(origin, config, wanted, local)


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


def _transform(origin: str, config: Foreign, wanted: Wanted, local: bool) -> ImageTransform:
    """The transform that belongs to a network, whose `config` is of `origin`: a folder, an id on the Hub, or a type."""
    options: dict[str, object] = {f"image_{name}": value for name, value in wanted.normalization().items()}
    size = wanted.image_size
    if local and not (Path(origin) / PROCESSOR).is_file():
        processor = _default(config)
        size = size or getattr(getattr(config, "vision_config", config), "image_size", None)
        if wanted.weights is not None and len(options) < 2:
            warnings.warn(
                f"no {PROCESSOR} beside the weights of {wanted.name!r}: images are prepared as "
                f"{type(processor).__name__} does by default; pass `mean` and `std` if the network was trained with "
                "others",
                stacklevel=2,
            )
    else:
        processor = AutoImageProcessor.from_pretrained(origin, trust_remote_code=False, local_files_only=local)
    return partial(_processed, processor, {**options, **_sizes(processor, size)})


def _processed(processor: Foreign, options: Mapping[str, object], image: object) -> Tensor:
    """An image (PIL, or a tensor in [0, 1]) as a processor returns it, (3, H, W), given options in place of its own."""
    scaled = {"do_rescale": False} if isinstance(image, Tensor) else {}
    result: Tensor = processor(images=image, return_tensors="pt", **scaled, **options)["pixel_values"][0]
    return result


def _default(config: Foreign) -> Foreign:
    """Of the longest type that the network's begins with: of clip for clip_vision_model."""
    fitting = [name for name in IMAGE_PROCESSOR_MAPPING_NAMES if config.model_type.startswith(name)]
    if not fitting:
        raise ValueError(
            f"transformers has no image processor for {config.model_type!r}; expected a folder with {PROCESSOR}"
        )
    found = IMAGE_PROCESSOR_MAPPING_NAMES[max(fitting, key=len)]
    name = found["torchvision"] if isinstance(found, dict) else [one for one in found if one][-1]
    return getattr(transformers, name)()


def _sizes(processor: Foreign, size: int | None) -> dict[str, object]:
    """The processor's sizes for square images of `size`; where it crops, in the same proportion."""
    if size is None:
        return {}
    own = {name: value for name, value in dict(processor.size).items() if value is not None}
    crop = dict(getattr(processor, "crop_size", None) or {}) if getattr(processor, "do_center_crop", False) else {}
    square = {"height": size, "width": size}
    if crop and "shortest_edge" in own:
        return {"size": {"shortest_edge": round(own["shortest_edge"] * size / crop["height"])}, "crop_size": square}
    if "shortest_edge" in own:
        return {"size": {"shortest_edge": size}}
    if {"height", "width"} <= set(own):
        return {"size": square, **({"crop_size": square} if crop else {})}
    raise ValueError(f"`image_size` cannot be set for {type(processor).__name__}, whose size is {own}")


def _is_model(path: str | Path | None) -> bool:
    """Whether it is a folder with a network."""
    return path is not None and (Path(path) / CONFIG).is_file()


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
