"""Files that are whole or not there, and folders in which only what this program wrote is replaced or deleted."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import processes
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import files_of

from captum_shared import files
from captum_shared.folders import MANIFEST, ReportFolder, report_folder
from captum_shared.manifests import read_manifest

ABOUT = {"command": "test", "configuration": {"top": 3, "rule": "product"}}


def make(out: Path, names: tuple[str, ...] = ("index.html", "maps/a.npy"), **changes: Any) -> None:
    """A finished report."""
    with report_folder(out, {**ABOUT, **changes}, overwrite=True) as folder:
        for name in names:
            folder.write(name, f"content of {name}".encode())


def interrupt(out: Path, **content: str) -> None:
    """A report that is stopped after some files, named by keywords."""
    with pytest.raises(KeyboardInterrupt), report_folder(out, ABOUT) as folder:  # noqa: PT012
        for name, text in content.items():
            folder.write_text(name, text)
        raise KeyboardInterrupt


# Files.


def test_a_full_disk_leaves_the_old_content_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "first")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"):
        files.write_bytes(path, b"second", durable=True)
    assert files_of(tmp_path) == {"a.txt": b"first"}


def test_csv_round_trip(tmp_path: Path) -> None:
    files.write_csv(tmp_path / "t.csv", ["a", "b"], [("x,y", 0.1), ('quo"te', 2)])
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["x,y", "0.1"], ['quo"te', "2"]]


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert files.sha256(b"abc") == files.file_sha256(tmp_path / "a") == known
    assert files.file_sha256(tmp_path / "b") == "missing"
    assert files.sha256(b"ab", b"c") != files.sha256(b"a", b"bc")


# Whose folder it is.


@pytest.mark.parametrize("name", ["thesis.txt", ".thesis.txt.4711.tmp", ".git", "index.html", ".manifest.json.x.tmp"])
def test_a_folder_with_other_files_is_refused_and_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("do not lose")
    with pytest.raises(ValueError, match="`out` must be an empty folder or hold a report of this program"):
        make(tmp_path)
    assert files_of(tmp_path) == {name: b"do not lose"}


def test_a_run_killed_before_its_first_file_goes_on(tmp_path: Path) -> None:
    (tmp_path / ".manifest.json.4711.tmp").write_text("{")
    (tmp_path / ".DS_Store").write_text("Finder")
    make(tmp_path)
    assert set(files_of(tmp_path)) == {".DS_Store", "manifest.json", "index.html", "maps/a.npy"}


def test_other_files_in_an_own_folder_are_left_alone(tmp_path: Path) -> None:
    make(tmp_path, ("index.html", "pair_01.png", "pair_02.png"))
    mine = {"notes.txt": b"mine", "maps/b.npy": b"mine", ".notes.txt.12.tmp": b"mine", "pair_03.png.bak": b"mine"}
    (tmp_path / "maps").mkdir()
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    make(tmp_path, ("index.html", "pair_01.png"), seed=1)
    expected = {"manifest.json", "index.html", "pair_01.png", *mine}
    assert set(files_of(tmp_path)) == expected
    assert all((tmp_path / name).read_bytes() == content for name, content in mine.items())
    assert set(read_manifest(tmp_path / MANIFEST)["files"]) == {"index.html", "pair_01.png"}


def test_a_file_of_the_users_under_a_name_of_ours_is_not_overwritten(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "pair_01.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"pair_01\.png was not written by this program, which does not overwrite it"):
        make(tmp_path, ("pair_01.png",), seed=1)
    assert (tmp_path / "pair_01.png").read_bytes() == b"mine"


def test_the_smaller_report_leaves_no_old_pictures(tmp_path: Path) -> None:
    make(tmp_path, ("pair_01.png", "pair_02.png", "pair_03.png", "maps/a.npy"))
    make(tmp_path, ("pair_01.png",), seed=1)
    assert set(files_of(tmp_path)) == {"manifest.json", "pair_01.png"}
    assert not (tmp_path / "maps").exists()


def test_a_changed_file_is_not_deleted(tmp_path: Path) -> None:
    make(tmp_path, ("pair_01.png", "pair_02.png"))
    (tmp_path / "pair_02.png").write_bytes(b"retouched")
    make(tmp_path, ("pair_01.png",), seed=1)
    assert (tmp_path / "pair_02.png").read_bytes() == b"retouched"
    assert set(read_manifest(tmp_path / MANIFEST)["files"]) == {"pair_01.png"}


# Manifests that come from elsewhere.

OUTSIDE = ["../victim.txt", "maps/../../victim.txt", "/tmp/victim.txt", "C:/victim.txt", "..\\victim.txt", "",
           "maps//a", "./index.html", "a\0b", "link/victim.txt"]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("where", ["manifest", "journal"])
def test_names_never_lead_outside(name: str, where: str, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim.txt"
    victim.write_text("do not lose")
    make(out)
    (out / "link").symlink_to(tmp_path)
    digest = files.file_sha256(victim)
    if where == "manifest":
        content = json.loads((out / MANIFEST).read_text())
        (out / MANIFEST).write_text(json.dumps({**content, "files": {**content["files"], name: digest}}))
        with pytest.raises(ValueError, match="which is (not a file inside|behind the symbolic link)"):
            make(out, seed=1)
    else:
        (out / ".work").mkdir()
        (out / ".work/journal").write_text(json.dumps([name, digest]) + "\n")
        make(out, seed=1)
    assert victim.read_text() == "do not lose"


@given(st.lists(st.sampled_from(["..", ".", "", "a", "maps", "~", "C:", "\\", "con", " "]), min_size=1, max_size=4))
def test_every_accepted_name_is_inside(parts: list[str]) -> None:
    root = Path("/nowhere/out")
    try:
        path = ReportFolder(root, {})._inside("/".join(parts))
    except ValueError:
        return
    assert Path(os.path.normpath(path)).is_relative_to(root)
    assert Path(os.path.normpath(path)) == path != root


def test_a_link_in_place_of_a_file_is_neither_followed_nor_deleted(tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim.txt"
    make(out)
    victim.write_bytes((out / "index.html").read_bytes())
    (out / "index.html").unlink()
    (out / "index.html").symlink_to(victim)
    make(out, ("other.html",), seed=1)
    assert (out / "index.html").is_symlink()
    assert victim.read_bytes() == b"content of index.html"


def test_writing_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with report_folder(tmp_path / "out", ABOUT) as own:
        (tmp_path / "out/maps").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match="behind the symbolic link maps"):
            own.write("maps/a.npy", b"")
        with pytest.raises(ValueError, match=r"'\.\./x' is not a file inside"):
            own.write("../x", b"")
    assert not list((tmp_path / "elsewhere").iterdir())


MALFORMED = {
    "[]": r"is not a manifest of this program: it holds \[\]",
    "null": "is not a manifest of this program: it holds null",
    "": "is damaged .JSONDecodeError",
    '{"complete": true, "fi': "is damaged .JSONDecodeError",
    "[" * 100_000: "is damaged .RecursionError",
    '{"complete": true, "versions": {}}': "is not a manifest of this program: it lacks 'files'",
    '{"complete": true, "versions": {}, "files": ["a"]}': "is not a manifest of this program: it lacks 'files'",
    '{"complete": true, "versions": {}, "files": {"a": 3}}': "is not a manifest of this program: 'files' must give hashes",
    '{"name": "my web app", "icons": []}': "is not a manifest of this program: it lacks 'complete'",
}


@pytest.mark.parametrize("content", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_manifest_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(content)
    for overwrite in (False, True):
        with (
            pytest.raises(ValueError, match=rf"manifest\.json {MALFORMED[content]}") as raised,
            report_folder(tmp_path, ABOUT, overwrite),
        ):
            pass
        assert len(str(raised.value)) < 300
    assert files_of(tmp_path) == {MANIFEST: content.encode()}


def test_a_manifest_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged \(UnicodeDecodeError"):
        make(tmp_path)


# The same report, another, a finished one, one that was interrupted.


def test_a_finished_report_of_the_same_configuration(tmp_path: Path) -> None:
    make(tmp_path)
    before = files_of(tmp_path)
    with report_folder(tmp_path, ABOUT) as folder:
        assert folder.finished
    assert files_of(tmp_path) == before


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    make(tmp_path)
    before = files_of(tmp_path)
    other = {"command": "test", "configuration": {"top": 2, "rule": "product"}}
    with (
        pytest.raises(ValueError, match=r"set `overwrite`.*\(there -> now\): `top`: 3 -> 2$"),
        report_folder(tmp_path, other),
    ):
        pass
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    "change", [lambda path: path.write_bytes(b"bit flip"), Path.unlink, lambda path: path.write_bytes(b"")]
)
def test_a_damaged_or_lost_file_is_made_again(change: Any, tmp_path: Path) -> None:
    make(tmp_path)
    before = files_of(tmp_path)
    change(tmp_path / "maps/a.npy")
    with warnings.catch_warnings(record=True) as caught, report_folder(tmp_path, ABOUT) as folder:
        warnings.simplefilter("always")
        assert not folder.finished
        assert folder.holds("index.html")
        assert not folder.holds(folder / "maps/a.npy")
        folder.write("maps/a.npy", b"content of maps/a.npy")
    assert files_of(tmp_path) == before
    lost = change is Path.unlink
    assert ["a.npy is damaged or was changed; it will be remade" in str(warning.message) for warning in caught] == [
        True
    ] * (not lost)


def test_an_interrupted_run_knows_what_is_whole(tmp_path: Path) -> None:
    interrupt(tmp_path, **{"a": "one", "b": "two", ".work/c": "three"})
    (tmp_path / "b").write_text("tw\0")
    (tmp_path / ".b.4711.tmp").write_text("half")
    (tmp_path / ".work/.c.4711.tmp").write_text("half")
    with report_folder(tmp_path, ABOUT) as folder:
        with pytest.warns(UserWarning, match="b is damaged or was changed; it will be remade"):
            whole = [folder.holds(name) for name in ("a", "b", ".work/c", "d")]
        assert whole == [True, False, True, False]
        folder.write_text("b", "two")
    assert files_of(tmp_path).keys() == {"a", "b", "manifest.json"}
    assert set(read_manifest(tmp_path / MANIFEST)["files"]) == {"a", "b"}


def test_files_of_an_interrupted_run_of_another_configuration_count_for_nothing(tmp_path: Path) -> None:
    interrupt(tmp_path, **{"a": "one", "maps/b": "two", ".work/c": "three"})
    with report_folder(tmp_path, {"command": "other"}, overwrite=True) as folder:
        assert not any(folder.holds(name) for name in ("a", "maps/b", ".work/c"))
        assert set(files_of(tmp_path)) == {"manifest.json"}


def test_a_run_that_failed_before_its_first_file_is_no_report(tmp_path: Path) -> None:
    """After a mistake in an argument the corrected command needs no --overwrite."""
    interrupt(tmp_path)
    with report_folder(tmp_path, {"command": "corrected"}) as folder:
        folder.write_text("a", "one")
    assert read_manifest(tmp_path / MANIFEST)["command"] == "corrected"


def test_a_journal_that_is_cut_off(tmp_path: Path) -> None:
    interrupt(tmp_path, a="one", b="two")
    with (tmp_path / ".work/journal").open("a") as journal:
        journal.write('["c", "12')
    make(tmp_path, ("a", "b"))
    assert set(files_of(tmp_path)) == {"a", "b", "manifest.json"}


KILLED = """
import os, sys
from captum_shared import files, folders
moment = int(sys.argv[2])
done = 0

def dies(function):
    def step(*arguments, **options):
        global done
        done += 1
        if done == moment:
            os.kill(os.getpid(), 9)
        return function(*arguments, **options)
    return step

os.fsync, os.replace = dies(os.fsync), dies(os.replace)
files.Path.replace, files.Path.unlink, files.Path.mkdir = map(dies, (files.Path.replace, files.Path.unlink, files.Path.mkdir))
files.Path.rmdir, files.Path.open = dies(files.Path.rmdir), dies(files.Path.open)
overwrite = sys.argv[3] == "1"
with folders.report_folder(sys.argv[1], {"command": "test", "top": 1 + overwrite}, overwrite) as folder:
    if not folder.finished:
        for name in ("a", "maps/b", ".work/c")[: 2 + (not overwrite)]:
            folder.holds(name) or folder.write(name, name.encode() * (1 + overwrite))
print(done)
"""


@pytest.mark.slow  # starts a process for each step of a run at which it can be killed, some sixty
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_at_every_step(overwrite: bool, tmp_path: Path) -> None:
    printed = tmp_path / "printed"

    def run(out: Path, moment: int, over: bool = overwrite) -> int:
        return processes.end(processes.start(KILLED, str(out), str(moment), str(int(over)), printed=str(printed)))

    peace = tmp_path / "peace"
    if overwrite:
        run(peace, 0, False)
    assert run(peace, 0) == 0
    steps = int(printed.read_text())
    wanted = files_of(peace)
    assert steps > 10
    for moment in range(1, steps + 1):
        out = tmp_path / f"out{moment}"
        if overwrite:
            assert run(out, 0, False) == 0
        assert run(out, moment) == -signal.SIGKILL
        assert run(out, 0) == 0, (moment, printed.read_text())
        assert files_of(out) == wanted, moment


def test_two_runs_on_one_folder_take_turns(tmp_path: Path) -> None:
    """A second process waits, and finds the report finished."""
    code = (
        "import sys, warnings\nfrom captum_shared.folders import report_folder\n"
        "warnings.showwarning = lambda message, *_: print(message, flush=True)\n"
        f"with report_folder({str(tmp_path)!r}, {ABOUT!r}) as folder:\n    print(folder.finished)\n"
    )
    with report_folder(tmp_path, ABOUT) as folder:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        assert "another run is writing into" in process.stdout.readline()
        folder.write("a", b"one")
    assert process.communicate()[0] == "True\n"
    assert process.returncode == 0


def test_two_threads_take_turns(tmp_path: Path) -> None:
    finished = []

    def run() -> None:
        with report_folder(tmp_path, ABOUT) as folder:
            finished.append(folder.finished)
            if not folder.finished:
                folder.write("a", b"one")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(finished) == [False, True, True, True]


def test_out_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="`out` must be a folder, got the file"):
        make(tmp_path / "out")
