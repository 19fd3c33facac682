"""open_clip's visual towers: "open_clip:NAME", where weights may be one of the tags that open_clip has for NAME."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import open_clip
from open_clip.model import resize_pos_embed
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from torch import nn

from captum_shared.identity import ImageTransform
from captum_shared.networks.sources.wanted import Foreign, Wanted, downloading, unknown_name
from captum_shared.networks.weights import fill_network, read_state, weights_file

_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}


def check(wanted: Wanted) -> None:
    """Look for the name, and for the weights."""
    if wanted.name not in open_clip.list_models():
        raise unknown_name(wanted.name, open_clip.list_models(), "ViT-B-32", "a name in open_clip.list_models()")
    tags = open_clip.list_pretrained_tags_by_model(wanted.name)
    if wanted.weights == "DEFAULT" and not tags:
        raise ValueError(f"open_clip has no weights for {wanted.name!r}; expected the path of a state dict, or 'none'")
    if wanted.weights not in (None, "DEFAULT", *tags):
        weights_file(str(wanted.weights), f"the path of a state dict, 'none', 'DEFAULT' or one of open_clip's {tags}")


def load(wanted: Wanted) -> tuple[nn.Module, ImageTransform]:
    """The visual tower, and open_clip's transform for evaluation."""
    tags = open_clip.list_pretrained_tags_by_model(wanted.name)
    tag = tags[0] if wanted.weights == "DEFAULT" else str(wanted.weights)
    if tag in tags:
        model = _pretrained(wanted, tag)
    else:
        model = _untrained(wanted)
        if wanted.weights is not None:
            _fill(model, wanted.weights)
        tag = next(iter(tags), "")
    visual = model.get_submodule("visual")
    return visual, _transform(wanted, visual, tag)


def _pretrained(wanted: Wanted, tag: str) -> nn.Module:
    """With the activation that the tag's network was trained with."""
    quick = bool(open_clip.get_pretrained_cfg(wanted.name, tag).get("quick_gelu"))
    with _unlogged(), downloading(f"{wanted.name} {tag}"):
        model: nn.Module = open_clip.create_model(
            wanted.name, pretrained=tag, force_image_size=wanted.image_size, force_quick_gelu=quick
        )
    return model


def _untrained(wanted: Wanted) -> nn.Module:
    """Of the text's side next to nothing: it may be large, or have to be downloaded."""
    config = copy.deepcopy(open_clip.get_model_config(wanted.name))
    vision: dict[str, Foreign] = config["vision_cfg"]
    if wanted.image_size is not None:
        vision["image_size"] = wanted.image_size
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    model: nn.Module = open_clip.CLIP(config["embed_dim"], vision, _NO_TEXT, quick_gelu=config.get("quick_gelu", False))
    return model


def _fill(model: nn.Module, path: str | Path) -> None:
    """From a file of the whole network or of its visual tower; embeddings of positions are resized."""
    state, start = read_state(path), "visual."
    tower = {name: value for name, value in state.items() if name.startswith(start)}
    tower = tower or {start + name: value for name, value in state.items()}
    resize_pos_embed(tower, model)
    fill_network(model.get_submodule("visual"), {name.removeprefix(start): tower[name] for name in tower}, path)


def _transform(wanted: Wanted, visual: nn.Module, tag: str) -> ImageTransform:
    """As for the tag; without one, as open_clip does by default."""
    config = merge_preprocess_dict({}, open_clip.get_pretrained_cfg(wanted.name, tag))
    given = {**wanted.normalization(), "size": wanted.image_size or visual.image_size}
    config = merge_preprocess_dict(config, given)
    result: ImageTransform = image_transform_v2(PreprocessCfg(**config), is_train=False)
    return result


@contextmanager
def _unlogged() -> Iterator[None]:
    """Without what open_clip logs before it raises the same."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
