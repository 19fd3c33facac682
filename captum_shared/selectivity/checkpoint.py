"""A pass over images on disk, so that a killed one goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from captum_shared.encoder.cache import digest, fingerprint
from captum_shared.encoder.images import Images

State = tuple[dict[str, Tensor], dict[str, Any]]


class Checkpoint:
    """One file in a folder, named after all that determines the pass.

    Parameters
    ----------
    folder : path
        Made if need be.
    model, transform, layers, k, images
        As in `top_activations`.

    Raises
    ------
    ValueError
        If the transform or the model, such as a lambda, has no description that says what it does.
    """

    def __init__(
        self, folder: str | Path, model: nn.Module, transform: Any, layers: Sequence[str], k: int, images: Images
    ) -> None:
        network = fingerprint(model, transform, None)
        key = digest(network.encode(), json.dumps([list(layers), k]).encode(), describe_images(images))
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.path = Path(folder) / f"top_{key[:24]}.safetensors"

    def read(self) -> State | None:
        """What was written last, or None.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(os.fspath(self.path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, json.loads((file.metadata() or {})["notes"])
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"the checkpoint {self.path} is damaged, delete it to start over: {error}") from error

    def write(self, state: State) -> None:
        """Replace what was written before, in one step."""
        tensors, notes = state
        content = save({name: value.contiguous() for name, value in tensors.items()}, {"notes": json.dumps(notes)})
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)


def describe_images(images: Images) -> bytes:
    """What tells one set of images from another, without reading files."""
    if isinstance(images, Tensor):
        array = images.detach().cpu().contiguous().numpy()
        return digest(f"{array.dtype} {array.shape}".encode(), np.ascontiguousarray(array).tobytes()).encode()
    first = images[0]
    if not isinstance(first, (str, Path)):
        return f"{type(images).__name__} {len(images)}".encode()  # type: ignore[arg-type]
    return digest(*(_describe_file(Path(images[i])) for i in range(len(images)))).encode()  # type: ignore[arg-type]


def _describe_file(path: Path) -> bytes:
    try:
        stat = path.stat()
    except OSError:  # an image that is not there is reported as unreadable
        return f"{path} missing".encode()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}".encode()
