"""Latents kept on disk between runs, keyed by what determines them."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from safetensors.torch import load, save
from torch import Tensor

from captum_shared.files import sha256
from captum_shared.store import Identity

T = TypeVar("T")

_TABLES = """
CREATE TABLE IF NOT EXISTS identities (name TEXT PRIMARY KEY, exact TEXT, content TEXT);
CREATE TABLE IF NOT EXISTS kept (identity TEXT, image TEXT, z BLOB, checksum TEXT, PRIMARY KEY (identity, image));
"""


class LatentCache:
    """Latents of images in a database file, ``latents.sqlite``, for one encoder with its transforms.

    The identity is that of all that determines latents apart from the image. The file is made when the first latents
    are put there, with a transaction per batch: a process killed at any moment leaves whole rows only, and several may
    write at once. Each row has a checksum; those that are damaged are named in a warning and count as not there. A file
    that is no database, or a damaged one, is set aside as ``latents.sqlite.damaged``. An OSError names the file if it
    cannot be made, read or written, as on a full disk.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Identity) -> None:
        self.path = Path(folder) / "latents.sqlite"
        self.identity = identity
        self._using = threading.Lock()  # one thread at a time
        place = next(parent for parent in self.path.absolute().parents if parent.exists())
        if not self.path.exists() and not (place.is_dir() and os.access(place, os.W_OK)):
            raise OSError(f"the latents kept in {self.path} cannot be written: no file can be made in {place}")

    def __reduce__(self) -> tuple[object, ...]:
        return LatentCache, (self.path.parent, self.identity)

    def images(self) -> set[str]:
        """Digests of the images whose latents are kept, damaged ones included."""
        query = "SELECT CAST(image AS BLOB) FROM kept WHERE identity = ?"  # which need be no text any more
        if not self.path.exists():
            return set()
        rows = self._attempt(lambda database, name: database.execute(query, (name,)).fetchall())
        return {image.decode(errors="replace") for (image,) in rows if isinstance(image, bytes)}

    def get(self, images: Sequence[str]) -> dict[str, Tensor]:
        """The latents (D,) that are known for the images with these digests."""
        query = "SELECT z, checksum FROM kept WHERE identity = ? AND image = ?"

        def find(database: sqlite3.Connection, name: str) -> dict[str, bytes | None]:
            rows = {image: database.execute(query, (name, image)).fetchone() for image in images}
            return {image: _undamaged(name, image, *row) for image, row in rows.items() if row}

        found = self._attempt(find) if self.path.exists() else {}
        if None in found.values():
            warnings.warn(f"latents kept in {self.path} are damaged; they will be recomputed", stacklevel=3)
        return {image: load(blob)["z"] for image, blob in found.items() if blob is not None}

    def put(self, latents: Mapping[str, Tensor]) -> None:
        """Keep latents (D,) by the digest of their image."""
        blobs = {image: save({"z": z.contiguous().clone()}) for image, z in latents.items()}

        def write(database: sqlite3.Connection, name: str) -> None:
            rows = [(name, image, blob, _checksum(name, image, blob)) for image, blob in blobs.items()]
            database.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", rows)

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._attempt(write)

    def _attempt(self, action: Callable[[sqlite3.Connection, str], T]) -> T:
        """Do something with the database; if that is damaged, with a new one; with the file's name if it fails."""
        try:
            with self._using:
                try:
                    return self._do(action)
                except sqlite3.OperationalError:  # a full disk and the like
                    raise
                except sqlite3.DatabaseError as error:
                    self._set_aside(error)
                    return self._do(action)
        except sqlite3.Error as error:
            raise OSError(f"the latents kept in {self.path} cannot be read or written: {error}") from error

    def _do(self, action: Callable[[sqlite3.Connection, str], T]) -> T:
        with closing(sqlite3.connect(self.path, timeout=60)) as database, database:
            database.executescript(_TABLES)
            return action(database, _name_of(self.identity, database))

    def _set_aside(self, error: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged")
        self.path.replace(aside)
        for end in ("-journal", "-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        warnings.warn(f"{self.path} is damaged ({error}); it is set aside as {aside.name} and remade", stacklevel=5)


def _name_of(identity: Identity, database: sqlite3.Connection) -> str:
    """The name under which latents of an identity are kept."""
    query = "SELECT name, content FROM identities WHERE exact = ?"
    for name, content in database.execute(query, (identity.exact,)).fetchall():
        if sha256(str(content).encode()) == name and identity.matches(Identity.from_json(json.loads(content))):
            return str(name)
    content = json.dumps(identity.as_json())
    name = sha256(content.encode())
    database.execute("INSERT OR REPLACE INTO identities VALUES (?, ?, ?)", (name, identity.exact, content))
    return name


def _undamaged(name: str, image: str, blob: object, checksum: object) -> bytes | None:
    return blob if isinstance(blob, bytes) and checksum == _checksum(name, image, blob) else None


def _checksum(name: str, image: str, blob: bytes) -> str:
    return sha256(name.encode(), image.encode(), blob)
