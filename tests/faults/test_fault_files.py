"""Faults in the report's folder: other people's files, manifests that lie, and files kept for going on that are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.faulty import COMMANDS, assert_alike, run, words_of, write

REPORTS = ("category", "selectivity", "recording")
FLAGS: dict[str, dict[str, str]] = {"recording": {"--threshold": "-9"}}
TABLES = {"category": "pairs.csv", "selectivity": "units.csv", "recording": "neurons.csv"}
MINE = ("out/mine.txt", "out/sub/mine.txt", "out/.mine.txt.123.tmp", "victim.txt")


def words(command: str, **changes: str) -> list[str]:
    return words_of(command, {**FLAGS.get(command, {}), **{f"--{name}": value for name, value in changes.items()}})


def files(folder: str = "out") -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def put_mine() -> None:
    for name in MINE:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"{name} is not yours")


def assert_mine() -> None:
    assert {name: Path(name).read_text() for name in MINE} == {name: f"{name} is not yours" for name in MINE}


def one_line(capsys: Any) -> str:
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "captum-shared: " in line]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="module")
def made(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished report of each command, with what it keeps for going on; and a recording's that was interrupted."""
    folder = tmp_path_factory.mktemp("made")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        shutil.copytree(pristine, folder, dirs_exist_ok=True)
        for command in REPORTS:
            assert run(words(command, out=f"out_{command}")) == 0
            found[command] = folder / f"out_{command}"
        patch.setattr("captum_shared.report.recording.explain.write_report", interrupt)
        assert run(words("recording", out="out_interrupted")) == 130
        found["interrupted"] = folder / "out_interrupted"
    return found


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def report(made: dict[str, Path], world: Path) -> Callable[[str], object]:
    """Puts a report into the world's folder ``out``."""
    return lambda name: shutil.copytree(made[name], "out", dirs_exist_ok=True)


FOREIGN: dict[str, Callable[[], Any]] = {
    "a file": lambda: None,
    "a folder of files": lambda: (Path("out/images").mkdir(), Path("out/images/00.png").write_bytes(b"x")),
    "an index.html": write("out/index.html", "<p>mine</p>"),
    "a summary.json": write("out/summary.json", "{}"),
    "a hidden file": write("out/.hidden", "x"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_of_others_is_refused(command: str, name: str, world: Path, capsys: Any) -> None:
    put_mine()
    FOREIGN[name]()
    before = files()
    assert run(words(command)) == 2
    assert "--out must be an empty folder or hold a report of this program" in one_line(capsys)
    assert files() == before
    assert_mine()


LIES: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "out/manifest.json is damaged"),
    "cut off": ('{"complete": tr', "out/manifest.json is damaged"),
    "no text": (b"\xff\xfe\x00", "out/manifest.json is damaged"),
    "nested without end": ("[" * 100_000, "out/manifest.json is damaged"),
    "a list": ("[]", "out/manifest.json is not a manifest of this program: it holds"),
    "null": ("null", "out/manifest.json is not a manifest of this program: it holds null"),
    "a number": ("7", "out/manifest.json is not a manifest of this program: it holds 7"),
    "an empty object": ("{}", "out/manifest.json is not a manifest of this program: it lacks"),
    "another program's": ('{"name": "app", "icons": []}', "out/manifest.json is not a manifest of this program: it lacks"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("command", REPORTS)
def test_manifests_that_are_none(command: str, name: str, report: Any, capsys: Any) -> None:
    content, text = LIES[name]
    report(command)
    write("out/manifest.json", content)()
    put_mine()
    before = files()
    assert run(words(command)) == 2
    assert text in one_line(capsys)
    assert files() == before
    assert_mine()


def change_manifest(change: Callable[[dict[str, Any]], Any]) -> None:
    path = Path("out/manifest.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


OUTSIDE = (
    "../victim.txt",
    "/etc/hostname",
    "sub/../../victim.txt",
    "C:\\victim.txt",
    "..\\victim.txt",
    "",
    ".",
    "a\0b",
)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("command", REPORTS)
def test_manifests_that_lead_outside(command: str, name: str, report: Any, capsys: Any) -> None:
    report(command)
    put_mine()
    change_manifest(lambda content: content["files"].update({name: "0"}))
    before = files()
    assert run(words(command)) == 2
    assert "not a file inside out" in one_line(capsys)
    assert files() == before
    assert_mine()


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no files": (lambda content: content.pop("files"), "it lacks 'files'"),
    "a list of files": (lambda content: content.update(files=["index.html"]), "it lacks 'files'"),
    "hashes that are none": (lambda content: content["files"].update({"index.html": None}), "'files' must give hashes"),
    "complete, or not": (lambda content: content.update(complete="yes"), "it lacks 'complete'"),
    "no versions": (lambda content: content.pop("versions"), "it lacks 'versions'"),
    "another version": (lambda content: content["versions"].update(torch="0.1"), "torch: 0.1 -> "),
    "another setting": (lambda content: content.update(command="other"), "command: other -> "),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("command", REPORTS)
def test_manifests_that_were_changed(command: str, name: str, report: Any, capsys: Any) -> None:
    change, text = CHANGES[name]
    report(command)
    put_mine()
    change_manifest(change)
    before = files()
    assert run(words(command)) == 2
    assert text in one_line(capsys)
    assert files() == before


@pytest.mark.parametrize("command", REPORTS)
def test_a_manifest_behind_a_link(command: str, report: Any, capsys: Any) -> None:
    """A folder in the report that is a link to elsewhere: nothing behind it is touched."""
    report(command)
    put_mine()
    Path("elsewhere").mkdir()
    Path("elsewhere/a.txt").write_text("mine")
    Path("out/link").symlink_to(Path("elsewhere").resolve())
    change_manifest(lambda content: content["files"].update({"link/a.txt": "0"}))
    assert run(words(command)) == 2
    assert "symbolic link" in one_line(capsys)
    assert Path("elsewhere/a.txt").read_text() == "mine"


@pytest.mark.parametrize("command", REPORTS)
def test_another_configuration_is_shown(command: str, report: Any, capsys: Any) -> None:
    report(command)
    put_mine()
    before = files()
    assert run(words(command, seed="1")) == 2
    line = one_line(capsys)
    assert "out holds a report of another configuration" in line
    assert "--seed: 0 -> 1" in line
    assert "--overwrite" in line
    assert files() == before


@pytest.mark.parametrize("command", REPORTS)
def test_a_report_is_replaced_on_demand(command: str, report: Any) -> None:
    """And nothing of the old one is left beside the new one; files of others stay."""
    report(command)
    put_mine()
    assert run([*words(command, seed="1"), "--overwrite"]) == 0
    listed = json.loads(Path("out/manifest.json").read_text())["files"]
    left = {name.removeprefix("out/") for name in files() if name not in MINE and ".cache/" not in name}
    assert left == {*(name for name in listed if not name.startswith(".cache/")), "manifest.json"}
    assert_mine()


def test_fewer_pairs_leave_none_of_the_old_ones(report: Any, world: Path) -> None:
    assert run(words("category", top="2")) == 0
    assert Path("out/pair_02.png").exists()
    assert run([*words("category", top="1"), "--overwrite"]) == 0
    assert not Path("out/pair_02.png").exists()


@pytest.mark.parametrize("command", REPORTS)
def test_files_of_mine_in_a_report_stay(command: str, report: Any) -> None:
    report(command)
    put_mine()
    before = files()
    assert run(words(command)) == 0
    assert_mine()
    assert files() == before


@pytest.mark.parametrize("command", REPORTS)
def test_a_result_that_was_changed_is_made_again(command: str, report: Any, capsys: Any) -> None:
    report(command)
    put_mine()
    path = Path("out") / TABLES[command]
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert run(words(command)) == 0
    assert f"{path} is damaged or was changed; it will be remade" in one_line(capsys)
    assert path.read_bytes() == whole
    assert_mine()


def flip(data: bytes) -> bytes:
    """A bit of the last byte is another: numbers of an array, or of the first row in the last page of a database."""
    return data[:-1] + bytes([data[-1] ^ 1])


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "a bit": flip,
    "a text": lambda _: b"hello",
    "zeros": lambda data: bytes(len(data)),
}
KEPT = {"category": ".cache/*.sqlite", "selectivity": ".cache/*.safetensors", "interrupted": ".work/**/*.*"}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("state", KEPT)
def test_files_kept_for_going_on(state: str, name: str, report: Any, made: dict[str, Path], capsys: Any) -> None:
    """All of them damaged: it is said, and the result is as it was."""
    command = "recording" if state == "interrupted" else state
    report(state)
    table = TABLES[command]
    (Path("out") / table).unlink(missing_ok=True)
    damaged = [path for path in Path("out").glob(KEPT[state]) if path.is_file() and path.stat().st_size]
    assert damaged
    for path in damaged:
        write(str(path), DAMAGE[name])()
    capsys.readouterr()
    assert run(words(command)) == 0
    error = capsys.readouterr().err
    assert "damaged" in error or (state, name) == ("category", "empty")  # an empty file is a new database
    assert "Traceback" not in error
    assert_alike(Path("out") / table, made[command] / table)
