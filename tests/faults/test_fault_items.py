"""Faults that were found before there was a table of them, where none of its rows holds the very one; by number.

1 hidden files of others, 3 reports of others and old pictures, 6 pixels, 8 an image replaced unnoticed, 9 a network
that needs larger images, 11 words misspelt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_shared import encode_images
from faults.faulty import COMMANDS, SIZE, Fault, assert_alike, check, run, snapshot, table, words_of

THEIRS = {
    "demo": ("index.html", "summary.json", "pair_01.png"),
    "category": ("index.html", "summary.json", "pairs.csv", "pair_01.png"),
    "selectivity": ("index.html", "summary.json", "units.csv", "colour.png"),
    "recording": (".notes.7.tmp", "deep/below/.draft.123.tmp"),
}


@pytest.mark.parametrize("command", THEIRS)
def test_items_1_and_3_files_under_our_names_and_hidden_ones_stay(command: str, world: Path) -> None:
    """One file at a time: each of them makes the folder another's."""
    for name in THEIRS[command]:
        path = Path("theirs", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not yours")
        status = run(words_of(command, {"--out": "theirs"}))
        assert path.read_text() == "not yours", name
        assert status == 2, name
        assert [path.name for path in Path("theirs").rglob("*") if path.is_file()] == [path.name]
        path.unlink()


def test_item_3_fewer_sheets_leave_no_old_ones(world: Path) -> None:
    assert run(words_of("selectivity", {"--sheets": "2"})) == 0
    many = {path.name for path in Path("out").rglob("*.png")}
    assert run([*words_of("selectivity", {"--sheets": "0"}), "--overwrite"]) == 0
    few = {path.name for path in Path("out").rglob("*.png")}
    assert few < many


GREY = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) / (SIZE * SIZE - 1)
COLOURS = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE + 4, 3)).astype(np.uint8)


def turned(path: Path) -> np.ndarray:
    """A photograph that its camera says is to be turned by a quarter; how it looks then."""
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(COLOURS).save(path, "JPEG", exif=exif)
    return np.rot90(np.asarray(Image.open(path)), -1)


def with_nothing(path: Path) -> np.ndarray:
    """Black pixels that are transparent are white, as on a page."""
    pixels = np.concatenate([COLOURS, np.full((SIZE, SIZE + 4, 1), 255, np.uint8)], axis=2)
    pixels[2:5, 2:5] = 0
    Image.fromarray(pixels).save(path, "PNG")
    shown: np.ndarray = np.where(pixels[..., 3:] == 0, 255, pixels[..., :3])
    return shown


def grey(dtype: Any, white: float, kind: str) -> Callable[[Path], np.ndarray]:
    def save(path: Path) -> np.ndarray:
        Image.fromarray((GREY * white).astype(dtype)).save(path, kind)
        return np.repeat((GREY * 255)[..., None], 3, axis=2)

    return save


PIXELS: dict[str, Callable[[Path], np.ndarray]] = {
    "grey of 16 bits": grey(np.uint16, 65535, "PNG"),
    "floating point": grey(np.float32, 1, "TIFF"),
    "transparency": with_nothing,
    "orientation": turned,
}


@pytest.mark.parametrize("name", PIXELS)
def test_item_6_pixels_are_what_a_viewer_shows(name: str, tmp_path: Path) -> None:
    expected = PIXELS[name](tmp_path / "image")
    pixels = encode_images(torch.nn.Flatten(), [tmp_path / "image"])
    assert torch.allclose(
        pixels[0], torch.from_numpy(expected.transpose(2, 0, 1) / 255).float().flatten(), atol=1.01 / 255
    )


@pytest.mark.parametrize("command", ["category", "selectivity", "recording"])
def test_item_8_an_image_replaced_with_the_same_size_and_time(command: str, world: Path, capsys: Any) -> None:
    path = Path("recording/stimuli" if command == "recording" else "images", "00.png")
    Image.new("RGB", (SIZE, SIZE), "navy").save(path, "BMP")
    before = path.stat()
    assert run(words_of(command, {})) == 0
    Image.new("RGB", (SIZE, SIZE), "gold").save(path, "BMP")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    capsys.readouterr()
    assert run(words_of(command, {})) == 2
    assert "another configuration" in capsys.readouterr().err
    assert run([*words_of(command, {}), "--overwrite"]) == 0
    assert run(words_of(command, {"--out": "fresh"})) == 0
    for name in ("pairs.csv", "units.csv", "neurons.csv"):
        if Path("fresh", name).exists():
            assert_alike(Path("out", name), Path("fresh", name))


FAULTS = [
    Fault("--image-size 16 of a network that needs more", "16 x 16 pixels are too small for .*layer",
          command, {"--model": "fault_network:deep", "--image-size": 16, "--layers" if command == "selectivity" else "--layer": "7"},
          early=False) for command in ("category", "selectivity", "recording")
]  # fmt: skip


@table(FAULTS)
def test_item_9(fault: Fault, world: Path, capsys: Any) -> None:
    check(fault, capsys)


EARLY: dict[str, tuple[dict[str, Any], str]] = {
    "a model that is misspelt": ({"--model": "resnet51"}, "error: unknown model 'resnet51'"),
    "a module that is not there": ({"--model": "nowhere:make"}, "error: cannot import 'nowhere'"),
    "weights that are not there": ({"--weights": "nowhere.pth"}, "error: no weights at nowhere.pth"),
}


@pytest.mark.parametrize("name", EARLY)
def test_item_11_before_a_stimulus_is_read(
    name: str, world: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, text = EARLY[name]
    read: list[Any] = []
    monkeypatch.setattr("captum_shared.recording.Recording.load", lambda *_, **__: read.append(1))
    assert run(words_of("recording", flags)) == 2
    assert text in capsys.readouterr().err
    assert read == []


WORDS = {
    "categry --out out": "error: unknown command 'categry'; did you mean category?",
    "selectivty": "error: unknown command 'selectivty'; did you mean selectivity?",
    "recording --recrding x": "error: recording has no flag --recrding; did you mean --recording?",
}


@pytest.mark.parametrize("words", WORDS)
def test_item_11_misspelt_words(words: str, world: Path, capsys: Any) -> None:
    before = snapshot(Path())
    assert run(words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"captum-shared: {WORDS[words]}")
    assert len(said.splitlines()) == 1
    assert snapshot(Path()) == before


def test_item_11_alone_it_shows_its_help(world: Path, capsys: Any) -> None:
    assert run([]) == 0
    said = capsys.readouterr()
    assert all(command in said.out for command in COMMANDS)
    assert said.err == ""
