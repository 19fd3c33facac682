"""Folders that belong to this program: what it replaces and deletes in them is what their manifest lists.

A report's folder holds ``manifest.json``: what the report was made of and with, and its files with their hashes. While
a run is under way, each file is noted with its hash in ``.work/journal`` *before* it is written: after a kill at any
moment it is still known which files are the program's, and which of them are whole.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from captum_shared.files import (
    TEMPORARY,
    csv_bytes,
    figure_bytes,
    file_sha256,
    json_bytes,
    output_folder,
    sha256,
    write_bytes,
    write_json,
)
from captum_shared.manifests import Manifest, differences, read_manifest, versions

try:
    import fcntl
except ImportError:  # Windows: two runs on one folder at the same time are not kept apart
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANIFEST = "manifest.json"
WORK = ".work"
JOURNAL = f"{WORK}/journal"
_NOT_CONTENT = (".DS_Store", "Thumbs.db", "desktop.ini")  # what file managers leave in a folder that is empty


@contextmanager
def report_folder(
    out: str | os.PathLike[str], about: Mapping[str, object], overwrite: bool = False
) -> Iterator[ReportFolder]:
    """A folder to write a report into; at the end its manifest is completed, unless an exception leaves it unfinished.

    The folder must be empty, or hold a report of the same configuration, interrupted or `finished`: then there is
    nothing to do. One run at a time: a second one on this machine waits for the first.

    Parameters
    ----------
    out : path
        Made if need be.
    about : mapping
        All that the report depends on, as JSON; versions of packages are added. Two reports with the same `about` are
        the same report; rows of numbers under a key "probe" need agree closely only, see `Identity`.
    overwrite : bool, default False
        Whether a report of another configuration is replaced: the files that its manifest lists are deleted first.

    Raises
    ------
    ValueError
        If the folder holds other files, a manifest that is damaged, or a report of another configuration (the message
        says what differs).

    Examples
    --------
    >>> import tempfile
    >>> out = tempfile.mkdtemp()
    >>> with report_folder(out, {"command": "example", "seed": 0}) as folder:
    ...     folder.write_json("summary.json", {"answer": 42})
    >>> with report_folder(out, {"command": "example", "seed": 0}) as folder:
    ...     folder.finished
    True
    """
    path = output_folder(out)
    with _locked(path):
        folder = ReportFolder(path, json.loads(json.dumps({**about, "versions": versions()})))
        folder.begin(overwrite)
        yield folder
        if not folder.finished and not folder.left:
            folder.finish()


def foresee(out: str | os.PathLike[str], about: Mapping[str, object], overwrite: bool = False) -> str:
    """What `report_folder` would find, by the same arguments and with the same errors; nothing is written.

    It is "new", "finished", "unfinished" or, of another configuration, "replaced".

    >>> foresee("nowhere", {"command": "example"})
    'new'
    """
    folder = ReportFolder(Path(out), json.loads(json.dumps({**about, "versions": versions()})))
    if not folder.path.is_dir():
        return "new"
    if not os.path.lexists(folder / MANIFEST):
        folder.refuse_foreign()
        return "new"
    before, different = folder.compare(overwrite)
    if different:
        return "replaced"
    whole = all(folder.holds(name) for name in before["files"])
    return "finished" if before["complete"] and whole else "unfinished"


class ReportFolder:
    """A folder whose files are known; made by `report_folder`. Names are relative, with slashes.

    Attributes
    ----------
    path : Path
    about : dict
        What the report depends on.
    finished : bool
        Whether the report was there already, whole and of the same configuration.
    left : bool
        To be set: whether it is left unfinished, so that another folder can take over its working files; see `adopt`.
    """

    def __init__(self, path: Path, about: dict[str, object]) -> None:
        self.path = path
        self.about = about
        self.finished = False
        self.left = False
        self._known: dict[str, set[str]] = {}  # hashes under which a name was written, by this run or those before
        self._made: dict[str, str] = {}  # what this run wrote, or found whole
        self._damaged: set[str] = set()  # said once

    def __truediv__(self, name: str | os.PathLike[str]) -> Path:
        return self.path / name

    def write(self, name: str | os.PathLike[str], content: bytes) -> None:
        """Write a file, noted in the journal before.

        Raises
        ------
        ValueError
            If a file of this name is there that this program did not write, or the name leads outside.
        """
        name = self._name(name)
        path = self._inside(name)
        if os.path.lexists(path) and name not in self._known and not name.startswith(f"{WORK}/"):
            raise ValueError(
                f"{path} was not written by this program, which does not overwrite it; move it away, or choose another "
                "folder"
            )
        self._note(name, sha256(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)

    def write_text(self, name: str, text: str) -> None:
        """Write text in UTF-8."""
        self.write(name, text.encode())

    def write_json(self, name: str, content: object) -> None:
        """Write an indented JSON document."""
        self.write(name, json_bytes(content))

    def write_csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table with a header line."""
        self.write(name, csv_bytes(header, rows))

    def write_figure(self, name: str, figure: Figure, dpi: int = 150) -> bytes:
        """Write a figure as PNG; returns the file's content."""
        content = figure_bytes(figure, dpi)
        self.write(name, content)
        return content

    def read_json(self, name: str) -> Any:
        """What `write_json` wrote."""
        return json.loads(self._inside(name).read_text(encoding="utf-8"))

    def holds(self, name: str | os.PathLike[str]) -> bool:
        """Whether the file is there as it was written; one that is damaged is named in a warning."""
        name = self._name(name)
        path = self._inside(name)
        if name not in self._known or path.is_symlink() or not path.is_file():
            return False
        digest = file_sha256(path)
        if digest not in self._known[name]:
            if name not in self._damaged:
                warnings.warn(f"{path} is damaged or was changed; it will be remade", stacklevel=2)
            self._damaged.add(name)
            return False
        self._made[name] = digest
        return True

    def begin(self, overwrite: bool) -> None:
        """See what is there, and note what is to come; see `report_folder`."""
        if not os.path.lexists(self / MANIFEST):
            self.refuse_foreign()
            self._sweep()
            self._write_manifest(complete=False)
            return
        before, different = self.compare(overwrite)
        self._sweep()
        if different:
            self._delete(list(self._known))
            self._clear_work()
            self._known = {name: {""} for name in self._known}  # changed since: may be replaced, and is never whole
        else:
            whole = [self.holds(name) for name in before["files"]] if before["complete"] else [False]
            self.finished = all(whole)
        if self.finished:
            self._clear_work()
        else:
            self._made = {}
            self._write_manifest(complete=False)

    def compare(self, overwrite: bool) -> tuple[Manifest, list[str]]:
        """The manifest that is there, and in what it differs; the files that it lists are known from now on.

        Raises
        ------
        ValueError
            If it is damaged, or of another configuration, which is not to be overwritten.
        """
        before = read_manifest(self / MANIFEST)
        for name, digest in before["files"].items():
            self._inside(name, f"{self / MANIFEST} lists {name!r}, which is")
            self._known.setdefault(name, set()).add(digest)
        self._read_journal()
        different = differences(before, self.about)
        begun = before["complete"] or self._known  # of a run that failed before its first file, nothing is there
        if different and begun and not overwrite:
            more = f"; and {len(different) - 12} more" if len(different) > 12 else ""
            raise ValueError(
                f"{self.path} holds a report of another configuration; choose another folder, or set `overwrite` to "
                f"replace it. Different (there -> now): {'; '.join(different[:12])}{more}"
            )
        return before, different

    def adopt(self, other: str | os.PathLike[str]) -> None:
        """Take over the whole working files of an unfinished run of the same configuration in another folder."""
        source = ReportFolder(Path(other), self.about)
        if not (source / MANIFEST).is_file():
            raise ValueError(f"{source.path} holds no run of this program, for it has no {MANIFEST}")
        different = differences(read_manifest(source / MANIFEST), self.about)
        if different:
            raise ValueError(
                f"{source.path} is of another configuration. Different (there -> now): {'; '.join(different[:12])}"
            )
        source._read_journal()
        for name in [name for name in source._known if name.startswith(f"{WORK}/") and source.holds(name)]:
            if not self.holds(name):
                self.write(name, (source / name).read_bytes())

    def finish(self) -> None:
        """Delete what earlier runs wrote and this one did not, complete the manifest, and clear the working files."""
        self._delete([name for name in self._known if name not in self._made])
        self._write_manifest(complete=True)
        self._clear_work()

    def _name(self, name: str | os.PathLike[str]) -> str:
        given = Path(name)
        return given.relative_to(self.path).as_posix() if isinstance(name, Path) else given.as_posix()

    def _inside(self, name: str, what: str = "") -> Path:
        """The path of a name, which must not lead outside the folder."""
        what = what or f"{name!r} is"
        parts = name.split("/")
        windows = PureWindowsPath(name)
        if not name or "\\" in name or "\0" in name or windows.drive or {"", ".", ".."} & set(parts):
            raise ValueError(f"{what} not a file inside {self.path}")
        for depth in range(1, len(parts)):
            if self.path.joinpath(*parts[:depth]).is_symlink():
                raise ValueError(f"{what} behind the symbolic link {'/'.join(parts[:depth])}, not inside {self.path}")
        return self / name

    def refuse_foreign(self) -> None:
        """Refuse a folder without a manifest that holds files; see `report_folder`."""
        temporary = (TEMPORARY.fullmatch(item.name) for item in self.path.iterdir())
        own = {match.group() for match in temporary if match and match["name"] == MANIFEST}
        foreign = sorted({item.name for item in self.path.iterdir()} - own - set(_NOT_CONTENT))
        if foreign:
            more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
            raise ValueError(
                f"`out` must be an empty folder or hold a report of this program, with its {MANIFEST}; {self.path} "
                f"holds {', '.join(foreign[:5])}{more}"
            )

    def _write_manifest(self, complete: bool) -> None:
        """Write the manifest: at the end with the report's files, before that with what a resumed run must know."""
        every = self._made if complete else {name: min(digests) for name, digests in self._known.items()}
        files = {name: digest for name, digest in sorted(every.items()) if not name.startswith(f"{WORK}/")}
        write_json(self / MANIFEST, {**self.about, "complete": complete, "files": files}, durable=True)

    def _note(self, name: str, digest: str) -> None:
        self._known.setdefault(name, set()).add(digest)
        self._made[name] = digest
        self._inside(JOURNAL).parent.mkdir(exist_ok=True)
        with (self / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps([name, digest]) + "\n")
            journal.flush()
            os.fsync(journal.fileno())

    def _read_journal(self) -> None:
        path = self._inside(JOURNAL)
        if path.is_symlink() or not path.is_file():
            return
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, TypeError):  # a line that was cut off, or names what is not inside
                name, digest = json.loads(line)
                self._inside(name)
                self._known.setdefault(name, set()).add(str(digest))

    def _sweep(self) -> None:
        """Delete what killed runs left half written: temporary files of names that are known."""
        folders = {self._inside(name).parent for name in self._known} | {self.path}
        for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
            match = TEMPORARY.fullmatch(path.name)
            name = (path.parent / match["name"]).relative_to(self.path).as_posix() if match else ""
            if name in self._known or name == MANIFEST:
                path.unlink(missing_ok=True)

    def _delete(self, names: Sequence[str]) -> None:
        """Delete files that are as they were written, and folders that are empty then; forget those that are gone."""
        for name in names:
            path = self._inside(name)
            if not path.is_symlink() and path.is_file() and file_sha256(path) in self._known[name]:
                path.unlink()
                with suppress(OSError):  # not empty
                    while path.parent != self.path:
                        path = path.parent
                        path.rmdir()
            if not os.path.lexists(self / name):
                del self._known[name]

    def _clear_work(self) -> None:
        """Delete the working files and, last, the journal, which knows them."""
        self._delete([name for name in self._known if name.startswith(f"{WORK}/")])
        (self / JOURNAL).unlink(missing_ok=True)
        with suppress(OSError):  # not there, or not empty
            (self / WORK).rmdir()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone in the folder, as far as this machine's other processes go; the lock ends with the process."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            warnings.warn(f"another run is writing into {path}; waiting until it ends", stacklevel=5)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)
