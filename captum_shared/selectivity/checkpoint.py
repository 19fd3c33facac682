"""What a pass over images depends on, so that an interrupted pass is resumed, and never confused with another."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

from torch import Tensor

from captum_shared.encoder.images import Images, ImageSource, content_digest
from captum_shared.files import file_sha256, sha256
from captum_shared.identity import ImageTransform, identify
from captum_shared.selectivity.layers import LayerReader
from captum_shared.store import Identity, Store

SAMPLED = 16
SECONDS_BETWEEN = 0.2
"""From one checkpoint to the next, at least: more where writing takes more than `SHARE` of the time."""
SHARE = 0.02


class PassNotes(TypedDict):
    """Where a pass stands, as JSON holds it."""

    next: int
    map_sizes: Mapping[str, Sequence[int]]
    image_size: Sequence[int]
    failures: Mapping[int, str]  # JSON makes the keys strings


PassState = tuple[dict[str, Tensor], PassNotes]


class Checkpoint:
    """One pass over images, as it is kept in a folder, which is made when it is first written to."""

    def __init__(self, folder: str | Path, identity: Identity) -> None:
        self.identity = identity
        self._store = Store(folder)
        self._next = time.monotonic() + SECONDS_BETWEEN

    def read(self) -> PassState | None:
        """What was written last, or None."""
        return cast(PassState | None, self._store.read("top", self.identity))

    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() >= self._next

    def write(self, state: PassState) -> None:
        """Replace what was written before, in one step."""
        begun = time.monotonic()
        self._store.write("top", self.identity, *state)
        ended = time.monotonic()
        self._next = ended + max(SECONDS_BETWEEN, (ended - begun) / SHARE)


def open_checkpoint(folder: str | Path | None, reader: LayerReader, source: ImageSource, k: int) -> Checkpoint | None:
    """The checkpoint of a pass that keeps the `k` best of each unit; None without folder or readable image."""
    example = None if folder is None else source.example()
    if folder is None or example is None:
        return None
    identity = identify_maps(reader, source.transform, example)
    return Checkpoint(folder, identity.extended(str(k), describe_images(source.images)))


def identify_maps(reader: LayerReader, transform: ImageTransform | None, example: object) -> Identity:
    """The identity of the maps of a model's layers, for images of any content; in evaluation mode."""

    def maps(x: Tensor) -> list[Tensor]:
        return list(reader.read(x, lambda _, grid: grid.clone()).values())

    return identify(reader.model, transform, example, maps).extended(json.dumps(list(reader.layers)))


def describe_images(images: Images) -> bytes:
    """What distinguishes sets of images: the content of files and tensors, and of 16 items of a dataset."""
    if isinstance(images, Tensor):
        return content_digest(images).encode()
    n = len(images)  # type: ignore[arg-type]
    if isinstance(images[0], (str, Path)):
        return sha256(*(f"{path} {file_sha256(path)}".encode() for path in images), b"").encode()  # type: ignore
    chosen = sorted({round(i * (n - 1) / (SAMPLED - 1)) for i in range(SAMPLED)})
    items = (images[i] for i in chosen)
    firsts = (item[0] if isinstance(item, (tuple, list)) else item for item in items)
    return sha256(f"{type(images).__name__} {n}".encode(), *(content_digest(one).encode() for one in firsts)).encode()
