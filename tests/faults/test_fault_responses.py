"""Faults of recorded responses: what is not a table of real numbers is refused; what says nothing is reported so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults.faulty import N_IMAGES, N_NEURONS, NAMES, Fault, check, run, table, words_of, write

PATH = Path("recording/responses.npy")
SHAPE = (N_NEURONS, N_IMAGES, 2)


def save(array: Any, **options: Any) -> Callable[[], Any]:
    return lambda: np.save(PATH, array, **options)


def claim(shape: tuple[int, ...], dtype: str = "<f8") -> Callable[[], Any]:
    """An array of which there is only the header."""

    def change() -> None:
        with PATH.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})

    return change


def one(value: float) -> np.ndarray:
    responses = np.random.default_rng(0).normal(size=SHAPE)
    responses[1, 2, 0] = value
    return responses


def archive() -> None:
    np.savez("archive.npz", a=np.zeros(3))
    Path("archive.npz").rename(PATH)


def as_table(text: str) -> Callable[[], Any]:
    def change() -> None:
        PATH.unlink()
        Path("recording/responses.csv").write_text(text)

    return change


ROWS = [f"{name},{k}.5,{k}" for k, name in enumerate(NAMES)]
TABLE = "file,a,b\n" + "\n".join(ROWS) + "\n"


def cell(number: int, text: str) -> str:
    lines = TABLE.splitlines()
    lines[number - 1] = text
    return "\n".join(lines) + "\n"


REAL = "responses.npy must hold real numbers, got an array of"
BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "none": (PATH.unlink, "no responses.npy or responses.csv in recording"),
    "an empty file": (write(str(PATH), b""), "responses.npy is not a readable .npy array"),
    "a text": (write(str(PATH), "hello"), "responses.npy is not a readable .npy array"),
    "cut off": (write(str(PATH), lambda data: data[:300]), "responses.npy is not a readable .npy array"),
    "a header alone": (write(str(PATH), lambda data: data[:128]), "responses.npy is not a readable .npy array"),
    "half a header": (write(str(PATH), lambda data: data[:40]), "responses.npy is not a readable .npy array"),
    "32 TB": (claim((1 << 42, 1)), "responses.npy is not a readable .npy array"),
    "a shape beyond all bounds": (claim((1 << 62, 1 << 62)), "responses.npy is not a readable .npy array"),
    "a negative shape": (claim((-3, N_IMAGES)), "responses.npy"),
    "pickled objects": (save(np.array([{}, {}]), allow_pickle=True), "responses.npy is not a readable .npy array"),
    "an archive": (archive, "responses.npy is an archive of arrays; expected one array in .npy"),
    "complex": (save(np.zeros(SHAPE, complex)), f"{REAL} complex128"),
    "dates": (save(np.zeros(SHAPE, "datetime64[s]")), f"{REAL} datetime64"),
    "durations": (save(np.zeros(SHAPE, "timedelta64[s]")), f"{REAL} timedelta64"),
    "records": (save(np.zeros(SHAPE, [("rate", float)])), f"{REAL} .*rate"),
    "texts": (save(np.full(SHAPE, "1")), f"{REAL} <U1"),
    "bytes": (save(np.full(SHAPE, b"1")), rf"{REAL} \|S1"),
    "one number": (save(np.float64(3)), r"got shape \(\)"),
    "one axis": (save(np.zeros(N_IMAGES)), r"must be \(n_neurons, n_stimuli\) or .*got shape \(24,\)"),
    "four axes": (save(np.zeros((2, N_IMAGES, 2, 2))), r"got shape \(2, 24, 2, 2\)"),
    "nothing": (save(np.zeros((0, N_IMAGES))), "responses.npy is not a readable .npy array|not empty"),
    "transposed": (save(np.zeros((N_IMAGES, N_NEURONS))), "looks transposed; pass responses.T"),
    "repeats first": (save(np.zeros((2, N_NEURONS, N_IMAGES))), r"np.moveaxis\(responses, 2, 1\)"),
    "other stimuli": (save(np.zeros((N_NEURONS, 23))), r"with n_stimuli = 24, the number of stimuli, got shape \(3, 23\)"),
    "infinite": (save(one(np.inf)), "1 infinite values, the first at neuron 1, stimulus 2"),
    "minus infinity": (save(one(-np.inf)), "1 infinite values"),
    "no number in a table": (as_table(cell(4, "02.png,low,2")), "responses.csv, line 4, column 'a': expected a number, got 'low'"),
    "a decimal comma": (as_table(cell(4, '02.png,"2,5",2')), "responses.csv, line 4, column 'a': expected a number, got '2,5'"),
    "an underscore": (as_table(cell(4, "02.png,1_0,2")), "line 4, column 'a': expected a number, got '1_0'"),
    "an infinite number": (as_table(cell(4, "02.png,inf,2")), "1 infinite values"),
    "pandas' index": (as_table("".join(f"{k or ''},{row}\n" for k, row in enumerate(TABLE.splitlines()))), "responses.csv: column 1 has no name, as of an index written by pandas"),
    "pandas' index, read and written": (as_table("Unnamed: 0," + "".join(f"{k or ''}{',' if k else ''}{row}\n" for k, row in enumerate(TABLE.splitlines()))), "responses.csv: column 1 has no name"),
    "no neuron": (as_table("file,category\n" + "".join(f"{name},disc\n" for name in NAMES)), "must have a column per neuron"),
    "other files": (as_table(TABLE.replace("23.png", "99.png")), r"only in stimuli.csv: row 24 \(23.png\); only in responses.csv: row 24 \(99.png\)"),
    "a field too few": (as_table(cell(4, "02.png,2")), "responses.csv must have 3 fields in every row, got 2 in line 4"),
    "two categories of one image": (as_table("file,category,a\n" + "".join(f"{name},disc,1\n" for name in NAMES) + "00.png,plain,2\n"), "responses.csv, line 26: 00.png has category 'plain', but 'disc' in line 2"),
}  # fmt: skip

FAULTS = [
    *(Fault(name, text, "recording", change=change) for name, (change, text) in BROKEN.items()),
    Fault("no categories", "--recording must have categories", "recording",
          change=write("recording/stimuli.csv", "file\n" + "".join(f"{name}\n" for name in NAMES))),
    Fault("one category", "no category has at least 5 images and leaves others", "recording",
          change=write("recording/stimuli.csv", "file,category\n" + "".join(f"{name},disc\n" for name in NAMES))),
    Fault("a netCDF file that is none", "x.nc is not a readable netCDF file", "recording", {"--recording": "x.nc"}, write("x.nc", b"hello")),
    Fault("an NWB file that is none", "x.nwb is not a readable NWB file", "recording", {"--recording": "x.nwb"}, write("x.nwb", b"hello")),
    Fault("a window that ends before it starts", r"--window must be \(start, stop\) with start < stop", "recording",
          {"--recording": "x.nwb", "--window": ["0.2", "0.1"]}, write("x.nwb", b"hello")),
]  # fmt: skip


@table(FAULTS)
def test_responses(fault: Fault, world: Path, capsys: Any) -> None:
    check(fault, capsys)


@pytest.mark.parametrize("value", [0.0, np.nan, 7.0])
def test_responses_that_say_nothing(value: float, world: Path, capsys: Any) -> None:
    """The report says so of every neuron, and the command ends well."""
    save(np.full(SHAPE, value))()
    assert run(words_of("recording", {})) == 0
    said = capsys.readouterr()
    assert "0 of 3 neurons explained, 0 pairs; open out/index.html" in said.out
    assert Path("out/neurons.csv").read_text().count("excluded") == N_NEURONS
