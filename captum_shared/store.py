"""Results kept between runs, each in a file with a checksum and with what it depends on.

A file that is damaged, truncated or empty is named in a warning and counts as missing, so that it is remade.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from captum_shared.files import sha256, write_bytes

TOLERANCE = 1e-5
"""How far the numbers of a probe may differ, relative to the largest in their row: a different number of threads or
layout in memory changes them by less than 1e-6."""


class IdentityJson(TypedDict):
    """An `Identity` as JSON holds it."""

    exact: str
    probe: list[list[float]]


@dataclass(frozen=True)
class Identity:
    """What a result depends on."""

    exact: str  # a hash of all that must agree to the bit, such as parameters
    # What was computed for fixed inputs, a row for each: it must agree closely, for no two computations of the same
    # network need agree to the bit.
    probe: tuple[tuple[float, ...], ...] = ()

    def extended(self, *parts: bytes | str) -> Identity:
        """The identity of a result that depends on these parts, too."""
        more = (part.encode() if isinstance(part, str) else part for part in parts)
        return Identity(sha256(self.exact.encode(), *more), self.probe)

    def joined(self, other: Identity) -> Identity:
        """The identity of a result that depends on what both stand for."""
        return Identity(sha256(self.exact.encode(), other.exact.encode()), self.probe + other.probe)

    def matches(self, other: Identity) -> bool:
        """Whether both identify the same thing."""
        return self.exact == other.exact and close(self.probe, other.probe)

    def as_json(self) -> IdentityJson:
        """For a manifest."""
        return {"exact": self.exact, "probe": [list(row) for row in self.probe]}

    @classmethod
    def from_json(cls, content: IdentityJson) -> Identity:
        """What `as_json` gave."""
        return cls(str(content["exact"]), tuple(tuple(float(value) for value in row) for row in content["probe"]))


class Store:
    """A folder of results, each under its kind and its identity. Several processes may use it.

    Parameters
    ----------
    folder : path
        Made when the first result is written. Files are named KIND_EXACT_PROBE.safetensors.

    Examples
    --------
    >>> import tempfile, torch
    >>> store, what = Store(tempfile.mkdtemp()), Identity("abc")
    >>> store.tensors("square", what, lambda: {"x": torch.arange(3) ** 2})["x"]
    tensor([0, 1, 4])
    >>> store.read("square", what)[0]["x"]
    tensor([0, 1, 4])
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def read(self, kind: str, identity: Identity) -> tuple[dict[str, Tensor], object] | None:
        """Tensors and notes that were written last, or None."""
        for path in self._candidates(kind, identity):
            kept = _load(path)
            if kept is not None and kept[0].matches(identity):
                return kept[1:]
        return None

    def write(self, kind: str, identity: Identity, tensors: Mapping[str, Tensor], notes: object = None) -> None:
        """Replace what was written before, in one step. `notes` are what JSON can hold."""
        same = (path for path in self._candidates(kind, identity) if _is_of(path, identity))
        path = next(same, self._path(kind, identity))
        texts = {"identity": json.dumps(identity.as_json()), "notes": json.dumps(notes)}
        whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save(whole, {**texts, "checksum": _checksum(texts, whole)}))

    def tensors(
        self, kind: str, identity: Identity, compute: Callable[[], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """What is kept, or else what `compute` returns, which is then kept."""
        kept = self.read(kind, identity)
        if kept is not None:
            return kept[0]
        made = compute()
        self.write(kind, identity, made)
        return made

    def _path(self, kind: str, identity: Identity) -> Path:
        probe = sha256(json.dumps(identity.probe).encode())
        return self.folder / f"{kind}_{identity.exact[:24]}_{probe[:8]}.safetensors"

    def _candidates(self, kind: str, identity: Identity) -> list[Path]:
        """Files that may be of this identity, the likeliest first."""
        likeliest = self._path(kind, identity)
        others = sorted(self.folder.glob(f"{kind}_{identity.exact[:24]}_*.safetensors"))
        return [path for path in (likeliest, *(path for path in others if path != likeliest)) if path.is_file()]


def tensor_bytes(value: Tensor) -> bytes:
    """The numbers of a tensor, in the order of its indices."""
    value = value.detach().cpu()
    if value.is_sparse or value.is_quantized:
        value = value.to_dense() if value.is_sparse else value.dequantize()
    return value.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def close(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
    """Whether rows of numbers agree up to `TOLERANCE`; numbers that are not finite, exactly."""
    if [len(row) for row in one] != [len(row) for row in other]:
        return False
    return all(_rows_close(np.array(rows)) for rows in zip(one, other, strict=True))


def _rows_close(both: np.ndarray) -> bool:
    scale = np.abs(both[np.isfinite(both)]).max(initial=0.0)
    return np.allclose(both[0], both[1], rtol=0, atol=TOLERANCE * scale, equal_nan=True)


def _load(path: Path) -> tuple[Identity, dict[str, Tensor], Any] | None:
    """What is in a file, or None, with a warning, if it is damaged."""
    try:
        content = path.read_bytes()
        texts = _metadata(content)
        tensors = load(content)
        if texts.pop("checksum") != _checksum(texts, tensors):
            raise ValueError("its content does not fit its checksum")
        return Identity.from_json(json.loads(texts["identity"])), tensors, json.loads(texts["notes"])
    except FileNotFoundError:  # another process was quicker
        return None
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        warnings.warn(f"{path} is damaged and will be remade ({reason})", stacklevel=4)
        return None


def _is_of(path: Path, identity: Identity) -> bool:
    with warnings.catch_warnings():  # it is about to be replaced
        warnings.simplefilter("ignore")
        kept = _load(path)
    return kept is not None and kept[0].matches(identity)


def _metadata(content: bytes) -> dict[str, str]:
    """The texts in the header of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])


def _checksum(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    parts = [f"{name}={text}".encode() for name, text in sorted(texts.items())]
    for name, value in sorted(tensors.items()):
        parts += [f"{name} {value.dtype} {tuple(value.shape)}".encode(), tensor_bytes(value)]
    return sha256(*parts, b"")
