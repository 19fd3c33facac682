"""Images as an image processor of transformers prepares them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import transformers
from torch import Tensor
from transformers import AutoImageProcessor
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from captum_shared.encoder.identity import ImageTransform
from captum_shared.encoder.sources.wanted import Foreign, Wanted

FILE = "preprocessor_config.json"


def find_transform(origin: str, config: Foreign, wanted: Wanted, local: bool) -> ImageTransform:
    """The transform that belongs to a network, whose `config` is of `origin`: a folder, an id on the Hub, or a type."""
    options: dict[str, object] = {f"image_{name}": value for name, value in wanted.normalisation().items()}
    size = wanted.image_size
    if local and not (Path(origin) / FILE).is_file():
        processor = _default(config)
        size = size or getattr(getattr(config, "vision_config", config), "image_size", None)
        if wanted.weights is not None and len(options) < 2:
            warnings.warn(
                f"no {FILE} beside the weights of {wanted.name!r}: images are prepared as {type(processor).__name__} "
                "does by default; pass `mean` and `std` if the network was trained with others",
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
            f"transformers has no image processor for {config.model_type!r}; expected a folder with {FILE}"
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
