"""`Recording` and its readers: a folder, a table, netCDF, NWB, and their errors."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captum_shared import Recording, cli

FILES = ["a.png", "b.png", "c.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stimuli").mkdir()
    for name in FILES:
        Image.new("RGB", (4, 4)).save(tmp_path / "stimuli" / name)
    return tmp_path


def values() -> np.ndarray:
    responses = np.arange(2 * 3 * 2, dtype=float).reshape(2, 3, 2)
    responses[0, 1, 1] = np.nan
    return responses


def test_attributes() -> None:
    recording = Recording(values(), FILES, ["x", "y", "x"], ["n1", "n2"])
    assert (recording.n_neurons, recording.n_stimuli, recording.n_repeats) == (2, 3, 2)
    assert np.array_equal(recording.mean_responses, [[0.5, 2, 4.5], [6.5, 8.5, 10.5]])
    assert repr(recording) == "Recording(2 neurons, 3 stimuli, 2 repeats, 2 categories)"
    assert recording.select(np.array([True, False, True])).stimulus_names == ("a.png", "c.png")
    assert Recording(values()[:, :, 0], FILES).responses.shape == (2, 3, 1)
    assert Recording(values(), FILES).neuron_ids == ("0", "1")
    assert np.isnan(Recording([[np.nan, 1.0, 2.0]], FILES).mean_responses[0, 0])


MISTAKES: dict[str, tuple[Any, type[Exception], str]] = {
    "one dimension": (lambda: Recording([1.0, 2, 3], FILES), ValueError, r"must be \(n_neurons, n_stimuli\) or .*got shape \(3,\)"),
    "count": (lambda: Recording(np.zeros((2, 4)), FILES), ValueError, r"with n_stimuli = 3.*got shape \(2, 4\)$"),
    "transposed": (lambda: Recording(np.zeros((3, 2)), FILES), ValueError, "looks transposed; pass responses.T with the neurons"),
    "infinite": (lambda: Recording([[1.0, np.inf, 2]], FILES), ValueError, "1 infinite values, the first at neuron 0, stimulus 1"),
    "text": (lambda: Recording([["a", "b", "c"]], FILES), ValueError, "must be real numbers"),
    "one path": (lambda: Recording(np.zeros((2, 3)), "a.png"), TypeError, "`stimuli` must be a sequence of paths, got str"),
    "no path": (lambda: Recording(np.zeros((2, 3)), [1, 2, 3]), TypeError, "`stimuli` must be paths, got int"),
    "twice": (lambda: Recording(np.zeros((2, 3)), ["a", "b", "a"]), ValueError, r"got twice: row 3 \(a\)"),
    "categories": (lambda: Recording(np.zeros((2, 3)), FILES, ["x"]), ValueError, "`categories` must name 3 stimuli, got 1"),
    "no category": (lambda: Recording(np.zeros((2, 3)), FILES, ["x", "", "y"]), ValueError, r"got none in row 2 \(b.png\)"),
    "ids": (lambda: Recording(np.zeros((2, 3)), FILES, None, ["n"]), ValueError, "`neuron_ids` must name 2 neurons, got 1"),
    "same id": (lambda: Recording(np.zeros((2, 3)), FILES, None, ["n", "n"]), ValueError, "got twice: n"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    make, kind, text = MISTAKES[name]
    with pytest.raises(kind, match=text):
        make()


NOT_REAL: dict[str, Any] = {
    "complex128": np.zeros((2, 3), complex),
    "datetime64": np.zeros((2, 3), "datetime64[s]"),
    "timedelta64": np.zeros((2, 3), "timedelta64[s]"),
    r"\[\('rate', '<f8'\)\]": np.zeros((2, 3), [("rate", float)]),
    "<U3": np.full((2, 3), "1.5"),
}


@pytest.mark.parametrize("kind", NOT_REAL)
def test_numbers_that_are_not_real_are_refused(kind: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=f"must be real numbers.*got {kind}"):
        Recording(NOT_REAL[kind], FILES)
    np.save(folder / "responses.npy", NOT_REAL[kind])
    (folder / "stimuli.csv").write_text("file\na.png\nb.png\nc.png\n")
    with pytest.raises(ValueError, match=f"responses.npy must hold real numbers, got an array of {kind}"):
        Recording.load(folder)


def test_what_is_masked_is_missing() -> None:
    responses = np.ma.masked_greater(np.arange(6).reshape(2, 3), 4)
    assert np.array_equal(Recording(responses, FILES).mean_responses, [[0, 1, 2], [3, 4, np.nan]], equal_nan=True)


def test_a_header_that_claims_more_than_there_is(folder: Path) -> None:
    (folder / "stimuli.csv").write_text("file\na.png\nb.png\nc.png\n")
    with (folder / "responses.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 42, 3)})
    with pytest.raises(ValueError, match="is not a readable .npy array: mmap length is greater than file size"):
        Recording.load(folder)
    np.savez(folder / "responses", responses=values())
    (folder / "responses.npz").rename(folder / "responses.npy")
    with pytest.raises(ValueError, match="is an archive of arrays"):
        Recording.load(folder)


def test_one_stimulus_under_two_names(folder: Path) -> None:
    np.save(folder / "responses.npy", values())
    for header, comma in (("file", ""), ("file,category", ",x")):
        rows = "".join(f"{name}{comma}\n" for name in ("a.png", "./a.png", "c.png"))
        (folder / "stimuli.csv").write_text(f"{header}\n{rows}")
        with pytest.raises(ValueError, match=r"stimuli.csv: (stimuli|images) must be listed once"):
            Recording.load(folder)
    (folder / "table.csv").write_text("file,n1\na.png,1\n./a.png,3\nb.png,2\n")
    assert np.array_equal(Recording.load(folder / "table.csv").mean_responses, [[2, 2]])


def test_folder_with_an_array(folder: Path) -> None:
    np.save(folder / "responses.npy", values())
    (folder / "stimuli.csv").write_text("file,category\na.png,x\nb.png,y\nc.png,x\n")
    recording = Recording.load(folder)
    assert np.array_equal(recording.responses, values(), equal_nan=True)
    assert recording.categories == ("x", "y", "x")
    assert recording.stimuli[1] == folder / "stimuli" / "b.png"


TABLE = "file,category,n1,n2\na.png,x,0,6\nb.png,y,2,8\na.png,x,1,7\nc.png,x,4,10\nc.png,x,5,11\nb.png,y,,9\n"


def test_table(folder: Path) -> None:
    (folder / "table.csv").write_text(TABLE)
    recording = Recording.load(folder / "table.csv")
    assert np.array_equal(recording.responses, values(), equal_nan=True)
    assert recording.neuron_ids == ("n1", "n2")
    assert recording.categories == ("x", "y", "x")


def test_folder_with_a_table_in_another_order(folder: Path) -> None:
    (folder / "responses.csv").write_text(TABLE)
    (folder / "stimuli.csv").write_text("file,category\nc.png,x\na.png,x\nb.png,y\n")
    recording = Recording.load(folder)
    assert np.array_equal(recording.responses, values()[:, [2, 0, 1]], equal_nan=True)
    assert recording.stimulus_names == ("c.png", "a.png", "b.png")


def test_labels_from_another_file(folder: Path) -> None:
    (folder / "table.csv").write_text("file,n1\na.png,1\nb.png,2\nc.png,3\n")
    (folder / "labels.csv").write_text("file,category\nb.png,y\na.png,x\nc.png,z\n")
    assert Recording.load(folder / "table.csv").categories is None
    assert Recording.load(folder / "table.csv", labels=folder / "labels.csv").categories == ("x", "y", "z")
    (folder / "labels.csv").write_text("file,category\nb.png,y\n")
    with pytest.raises(ValueError, match=r"category for every stimulus, got none for row 1 \(a.png\), row 3 \(c.png\)"):
        Recording.load(folder / "table.csv", labels=folder / "labels.csv")


WRONG_TABLES = {
    "no file column": ("name,n1\na.png,1\n", r"must have the columns file, got \['name', 'n1'\]"),
    "no neuron": ("file,category\na.png,x\n", "must have a column per neuron"),
    "no number": ("file,n1\na.png,1\nb.png,low\n", "line 3, column 'n1': expected a number, got 'low'"),
    "ragged": ("file,n1\na.png,1\nb.png,2,3\n", "must have 2 fields in every row, got 3 in line 3"),
    "two categories": (
        "file,category,n1\na.png,x,1\na.png,y,1\n",
        "line 3: a.png has category 'y', but 'x' in line 2",
    ),
    "empty": ("file,n1\n", "has no rows"),
    "column twice": ("file,n1,n1\na.png,1,2\n", "must have each column once, got twice: n1"),
    "pandas index": ('"",file,n1\n0,a.png,1\n', "column 1 has no name, as of an index written by pandas"),
    "pandas index, twice": ("Unnamed: 0,file,n1\n0,a.png,1\n", "column 1 has no name, as of an index"),
    "underscore": ("file,n1\na.png,1_5\n", "line 2, column 'n1': expected a number, got '1_5'"),
    "no image": ("file,n1\na.png,1\nz.png,2\n", r"1 of 2 listed stimuli are not in .*: row 2 \(z.png\)"),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_wrong_tables(name: str, folder: Path) -> None:
    content, text = WRONG_TABLES[name]
    (folder / "table.csv").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        Recording.load(folder / "table.csv")


def test_wrong_folders(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no stimuli.csv in"):
        Recording.load(folder)
    (folder / "stimuli.csv").write_text("file,category\na.png,x\nb.png,y\nd.png,x\n")
    with pytest.raises(FileNotFoundError, match=r"no responses.npy or responses.csv in"):
        Recording.load(folder)
    (folder / "responses.csv").write_text(TABLE)
    with pytest.raises(
        ValueError, match=r"only in stimuli.csv: row 3 \(d.png\); only in responses.csv: row 3 \(c.png\)"
    ):
        Recording.load(folder)
    np.save(folder / "responses.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="is not a readable .npy array"):
        Recording.load(folder)
    (folder / "responses.npy").write_bytes(b"half")
    with pytest.raises(ValueError, match="is not a readable .npy array"):
        Recording.load(folder)
    with pytest.raises(ValueError, match="`missing` must be one of"):
        Recording.load(folder, missing="skip")
    with pytest.raises(TypeError, match="a folder takes no option `window`"):
        Recording.load(folder, window=(0, 1))
    (folder / "data.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot tell what .*data.pkl is"):
        Recording.load(folder / "data.pkl")


def test_netcdf(folder: Path) -> None:
    xarray = pytest.importorskip("xarray")
    dataset = xarray.Dataset(
        {"responses": (("stimulus", "neuroid", "repeat"), values().transpose(1, 0, 2))},
        {"file": ("stimulus", FILES), "category": ("stimulus", ["x", "y", "x"]), "neuroid": ["n1", "n2"]},
    )
    dataset.to_netcdf(folder / "data.nc", engine="h5netcdf")
    recording = Recording.load(folder / "data.nc")
    assert np.array_equal(recording.responses, values(), equal_nan=True)
    assert (recording.categories, recording.neuron_ids) == (("x", "y", "x"), ("n1", "n2"))
    dataset.drop_vars("file").to_netcdf(folder / "unnamed.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="must have a coordinate file"):
        Recording.load(folder / "unnamed.nc")
    dataset.rename(neuroid="unit").to_netcdf(folder / "other.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="must have one variable with the dimensions neuroid and stimulus"):
        Recording.load(folder / "other.nc")
    (folder / "broken.nc").write_bytes(b"broken")
    with pytest.raises(ValueError, match="is not a readable netCDF file"):
        Recording.load(folder / "broken.nc")


def write_nwb(path: Path, category: str | None = "x") -> None:
    """Two units, four trials of 1 s; unit u fires u + t times within 50 to 250 ms of trial t, and elsewhere."""
    pynwb = pytest.importorskip("pynwb")
    content = pynwb.NWBFile("test", "test", datetime(2024, 1, 1, tzinfo=timezone.utc))
    content.add_trial_column("stimulus", "image")
    if category:
        content.add_trial_column("category", "of the image")
    for t, name in enumerate(["a.png", "b.png", "a.png", "c.png"]):
        extra = {"category": category if name == "a.png" else "y"} if category else {}
        content.add_trial(start_time=float(t), stop_time=t + 1.0, stimulus=name, **extra)
    for u in range(2):
        inside = [t + 0.06 + 0.02 * k for t in range(4) for k in range(u + t)]
        content.add_unit(spike_times=sorted([*inside, *(t + 0.3 for t in range(4)), *(t + 0.25 for t in range(4))]))
    with pynwb.NWBHDF5IO(str(path), "w") as file:
        file.write(content)


def test_nwb(folder: Path) -> None:
    write_nwb(folder / "data.nwb")
    recording = Recording.load(folder / "data.nwb")
    expected = [[[0, 2], [1, np.nan], [3, np.nan]], [[1, 3], [2, np.nan], [4, np.nan]]]
    assert np.array_equal(recording.responses, expected, equal_nan=True)
    assert recording.stimulus_names == ("a.png", "b.png", "c.png")
    assert recording.categories == ("x", "y", "y")
    longer = Recording.load(folder / "data.nwb", window=(0.05, 0.35))
    assert np.array_equal(longer.responses, np.array(expected) + 2, equal_nan=True)
    with pytest.raises(ValueError, match=r"must have a column 'picture', got \["):
        Recording.load(folder / "data.nwb", stimulus_column="picture")
    with pytest.raises(ValueError, match="start < stop"):
        Recording.load(folder / "data.nwb", window=(0.2, 0.1))
    with pytest.raises(TypeError, match="an NWB file takes no option `windw`; it takes `window`, `stimulus_column`, "):
        Recording.load(folder / "data.nwb", windw=(0.1, 0.2))
    (folder / "broken.nwb").write_bytes(b"broken")
    with pytest.raises(ValueError, match="is not a readable NWB file"):
        Recording.load(folder / "broken.nwb")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "0.2", "0.1"], "must be (start, stop) with start < stop, got [0.2, 0.1]"),
        (["--stimulus-column", "picture"], "must have a column 'picture'"),
        (["--category-column", "start_time"], "must give each image one category, got several for a.png"),
        (["--variable", "rates"], "an NWB file takes no option --variable"),
    ],
)
def test_options_of_the_command_reach_the_reader(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nwb(tmp_path / "data.nwb")
    command = ["recording", "--recording", str(tmp_path / "data.nwb"), "--model", "resnet18", "--layer", "auto"]
    assert cli.main([*command, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_nwb_without_categories(folder: Path) -> None:
    write_nwb(folder / "data.nwb", category=None)
    assert Recording.load(folder / "data.nwb").categories is None


@pytest.mark.parametrize(("suffix", "module"), [("nc", "xarray"), ("nwb", "pynwb")])
def test_missing_extra_is_said(suffix: str, module: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    (folder / f"data.{suffix}").write_bytes(b"")
    with pytest.raises(ImportError, match="pip install 'captum-shared"):
        Recording.load(folder / f"data.{suffix}")


@pytest.mark.real
def test_real_recording(data: Path) -> None:
    recording = Recording.load(data / "v4_recording")
    assert (recording.n_neurons, recording.n_stimuli, recording.n_repeats) == (50, 640, 10)
    assert len(set(recording.categories or ())) == 8


def test_stimuli_that_are_none_or_categories_that_are_no_list() -> None:
    with pytest.raises(ValueError, match="`stimuli` is empty"):
        Recording(np.empty((2, 0)), [])
    with pytest.raises(TypeError, match="`categories` must be a sequence of names, got str"):
        Recording(values(), FILES, "xyx")


def test_an_nwb_file_without_trials_is_named(tmp_path: Path) -> None:
    pynwb = pytest.importorskip("pynwb")
    with pynwb.NWBHDF5IO(str(tmp_path / "empty.nwb"), "w") as file:
        file.write(pynwb.NWBFile("test", "test", datetime(2024, 1, 1, tzinfo=timezone.utc)))
    with pytest.raises(ValueError, match=r"empty\.nwb must have a table of trials.*there are none"):
        Recording.load(tmp_path / "empty.nwb")


def test_a_netcdf_variable_of_other_dimensions_is_named(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    data = xarray.Dataset({"responses": (("neuroid", "stimulus", "time"), np.zeros((2, 3, 4)))})
    data.to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match=r"'responses' in .*data\.nc must have the dimensions"):
        Recording.load(tmp_path / "data.nc", variable="responses")
