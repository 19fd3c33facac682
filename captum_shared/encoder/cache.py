"""Latents kept on disk between runs, keyed by what determines them."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
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

    A transaction per batch: a process killed at any moment leaves whole rows only, and several may write at once. Each
    row has a checksum; those that are damaged are named in a warning and count as not there. A file that is no
    database, or a damaged one, is set aside as ``latents.sqlite.damaged``.

    Parameters
    ----------
    folder : path
        Made, with the file in it, when the first latents are put there.
    identity : Identity
        Of all that determines latents apart from the image.

    Raises
    ------
    OSError
        If the file cannot be made, read or written, such as on a full disk; the message names it.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Identity) -> None:
        self.path = Path(folder) / "latents.sqlite"
        self.identity = identity
        self._warned = False
        self._using, self._opening = threading.Lock(), threading.Lock()  # one thread at a time
        self._database = sqlite3.connect(":memory:", check_same_thread=False)  # until there is a file
        self._opened = False
        if self.path.exists():
            self._open()
        else:
            self._attempt(self._prepare)
            self._check_place()

    def __enter__(self) -> LatentCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def __reduce__(self) -> tuple[object, ...]:
        return LatentCache, (self.path.parent, self.identity)  # another process opens the file itself

    def images(self) -> set[str]:
        """Digests of the images whose latents are kept, damaged ones included."""
        query = "SELECT CAST(image AS BLOB) FROM kept WHERE identity = ?"  # which need be no text any more
        rows = self._attempt(lambda: self._database.execute(query, (self._name,)).fetchall())
        return {bytes(image).decode(errors="replace") for (image,) in rows or () if isinstance(image, bytes)}

    def get(self, images: Sequence[str]) -> dict[str, Tensor]:
        """The latents (D,) that are known for the images with these digests."""
        query = "SELECT z, checksum FROM kept WHERE identity = ? AND image = ?"
        rows = {image: self._first(query, (self._name, image)) for image in images}
        found = {image: self._checked(image, *row) for image, row in rows.items() if row}
        return {image: z for image, z in found.items() if z is not None}

    def put(self, latents: Mapping[str, Tensor]) -> None:
        """Keep latents (D,) by the digest of their image."""
        self._open()
        blobs = {image: save({"z": z.contiguous().clone()}) for image, z in latents.items()}
        rows = [(self._name, image, blob, self._checksum(image, blob)) for image, blob in blobs.items()]
        self._attempt(lambda: self._write("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", rows))

    def _open(self) -> None:
        """Turn to the file, which is made if need be."""
        with self._opening:
            if not self._opened:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._attempt(self._connect)
            self._opened = True

    def _check_place(self) -> None:
        """Refuse a folder in which the file could not be made, before any work."""
        place = next(folder for folder in self.path.absolute().parents if folder.exists())
        if not (place.is_dir() and os.access(place, os.W_OK)):
            raise OSError(f"the latents kept in {self.path} cannot be written: no file can be made in {place}")

    def _prepare(self) -> None:
        with self._database as database:
            database.executescript(_TABLES)
        self._name = self._known_name()

    def _known_name(self) -> str:
        """The name under which latents of this identity are kept."""
        query = "SELECT name, content FROM identities WHERE exact = ?"
        for name, content in self._database.execute(query, (self.identity.exact,)).fetchall():
            if sha256(str(content).encode()) == name and self.identity.matches(Identity.from_json(json.loads(content))):
                return str(name)
        content = json.dumps(self.identity.as_json())
        name = sha256(content.encode())
        with self._database as database:
            database.execute("INSERT OR REPLACE INTO identities VALUES (?, ?, ?)", (name, self.identity.exact, content))
        return name

    def _first(self, query: str, values: Sequence[str]) -> tuple[object, object] | None:
        row: tuple[object, object] | None = self._attempt(lambda: self._database.execute(query, values).fetchone())
        return row

    def _write(self, query: str, rows: Sequence[tuple[str, str, bytes, str]]) -> None:
        with self._database as database:
            database.executemany(query, rows)

    def _attempt(self, action: Callable[[], T]) -> T:
        """Do something with the database; if that is damaged, with a new one; with the file's name if it fails."""
        try:
            with self._using:
                try:
                    return action()
                except sqlite3.OperationalError:  # a full disk and the like
                    raise
                except sqlite3.DatabaseError as error:
                    self._set_aside(error)
                    return action()
        except sqlite3.Error as error:
            raise OSError(f"the latents kept in {self.path} cannot be read or written: {error}") from error

    def _connect(self) -> None:
        self._database.close()
        self._database = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        self._prepare()

    def _set_aside(self, error: Exception) -> None:
        """Continue with an empty database in place of a damaged one."""
        self._database.close()
        aside = self.path.with_name(f"{self.path.name}.damaged")
        self.path.replace(aside)
        for end in ("-journal", "-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        warnings.warn(f"{self.path} is damaged ({error}); it is set aside as {aside.name} and remade", stacklevel=5)
        self._connect()

    def _checked(self, image: str, blob: object, checksum: object) -> Tensor | None:
        if isinstance(blob, bytes) and checksum == self._checksum(image, blob):
            latents: Tensor = load(blob)["z"]
            return latents
        if not self._warned:
            warnings.warn(f"latents kept in {self.path} are damaged; they will be recomputed", stacklevel=5)
        self._warned = True
        return None

    def _checksum(self, image: str, blob: bytes) -> str:
        return sha256(self._name.encode(), image.encode(), blob)
