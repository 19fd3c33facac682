"""Latents kept on disk between runs, keyed by what determines them."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn


def digest(*parts: bytes) -> str:
    """SHA-256 of the parts, in hexadecimal."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()


def fingerprint(encoder: nn.Module, transform: Any, autocast: torch.dtype | None) -> str:
    """What determines latents apart from the image: weights, layer, pool, transforms, precision.

    Raises
    ------
    ValueError
        If a part, such as a lambda, has no description that says what it does.
    """
    return digest(*_describe(encoder), *_describe(transform), str(autocast).encode())


class LatentCache:
    """Latents of images in a database file, ``latents.sqlite``, for one encoder.

    A transaction per batch: a process killed at any moment leaves whole rows only, and several may write at once.

    Parameters
    ----------
    folder : path
        Created if need be.
    encoder : str
        The encoder's `fingerprint`.
    """

    def __init__(self, folder: str | Path, encoder: str) -> None:
        self.encoder = encoder
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(Path(folder) / "latents.sqlite", timeout=60)
        with self._database as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS latents (encoder TEXT, image TEXT, z BLOB, PRIMARY KEY (encoder, image))"
            )

    def __enter__(self) -> LatentCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def get(self, images: Sequence[str]) -> dict[str, Tensor]:
        """The latents (D,) that are known of the images with these digests."""
        query = "SELECT z FROM latents WHERE encoder = ? AND image = ?"
        found = {image: self._database.execute(query, (self.encoder, image)).fetchone() for image in images}
        return {image: load(row[0])["z"] for image, row in found.items() if row}

    def put(self, latents: Mapping[str, Tensor]) -> None:
        """Keep latents (D,) by the digest of their image."""
        rows = [(self.encoder, image, save({"z": z.contiguous().clone()})) for image, z in latents.items()]
        with self._database as database:
            database.executemany("INSERT OR REPLACE INTO latents VALUES (?, ?, ?)", rows)


def _describe(part: Any) -> list[bytes]:
    text = repr(part) + "".join(f"\n{getattr(graph, 'code', '')}" for graph in _graphs(part))
    if re.search(r" at 0x[0-9a-f]+>", text):
        raise ValueError(
            f"cannot cache latents: {text[:120]} has no description that says what it does. "
            "Give it a class with a __repr__ that shows its settings, or pass cache=None"
        )
    return [text.encode(), *_weights(part)]


def _graphs(part: Any) -> list[torch.fx.GraphModule]:
    modules = part.modules() if isinstance(part, nn.Module) else ()
    return [module for module in modules if isinstance(module, torch.fx.GraphModule)]


def _weights(part: Any) -> list[bytes]:
    if not isinstance(part, nn.Module):
        return []
    state = {name: value.detach().cpu().contiguous() for name, value in part.state_dict().items()}
    return [name.encode() + str(value.dtype).encode() + _bytes(value) for name, value in sorted(state.items())]


def _bytes(value: Tensor) -> bytes:
    return value.reshape(-1).view(torch.uint8).numpy().tobytes()
