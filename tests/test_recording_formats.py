"""Every format holds the same recording: what is read, what is refused, and the same report as from a folder."""

from __future__ import annotations

import csv
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from formats import (
    MATLAB,
    N_TRAIN,
    WRITERS,
    Written,
    put_cells,
    write_assembly,
    write_folder,
    write_spikes,
    write_traces,
    write_tvsd,
)
from PIL import Image
from recordings import SIZE, explain, make_network, make_recording, undraw

from captum_shared import Recording, cli

NAMES = [f"{letter}.png" for letter in "abcdef"]


@pytest.fixture
def small(tmp_path: Path) -> Recording:
    """Five neurons and six stimuli, four shown once and two three times; whole numbers, as spikes are."""
    (tmp_path / "stimuli").mkdir()
    for name in NAMES:
        Image.new("RGB", (4, 4)).save(tmp_path / "stimuli" / name)
    responses = np.random.default_rng(0).poisson(9, (5, 6, 3)).astype(float)
    responses[:, :4, 1:] = np.nan
    stimuli = [tmp_path / "stimuli" / name for name in NAMES]
    return Recording(responses, stimuli, [*"xyxyxy"], range(1, 6))


def load(written: Written, **options: Any) -> Recording:
    path, given = written
    return Recording.load(path, **{**given, **options})


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_written_is_read(kind: str, small: Recording, tmp_path: Path) -> None:
    options = {"n_train": 4} if kind == "TVSD" else {}
    read = load(WRITERS[kind](small, tmp_path, **options))
    assert np.array_equal(read.responses, small.responses, equal_nan=True)
    assert (read.categories, read.neuron_ids) == (small.categories, small.neuron_ids)
    assert [path.resolve() for path in read.stimuli] == list(small.stimuli)


SLOW = pytest.mark.slow  # NWB: pynwb reads the whole schema each time
DAMAGED = [
    pytest.param(kind, marks=[SLOW] if "NWB" in kind else [])
    for kind in WRITERS if kind != "MATLAB v5"  # on which SciPy may crash
]  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused_by_name(kind: str, small: Recording, tmp_path: Path) -> None:
    """Cut off anywhere, or with some bytes changed: read all the same, or refused in one line with the file's name."""
    rng = np.random.default_rng(0)
    path, options = WRITERS[kind](small, tmp_path, **({"n_train": 4} if kind == "TVSD" else {}))
    whole = path.read_bytes()
    cuts = [whole[:size] for size in (0, 100, len(whole) // 2, len(whole) - 9)]
    changed = [bytearray(whole) for _ in range(4)]
    for content in changed:
        for place in rng.integers(0, len(whole), 12):
            content[place] = rng.integers(256)
    messages = []
    for number, content in enumerate([*cuts, *changed]):
        damaged = path.with_name(f"{number}_{path.name}")
        damaged.write_bytes(content)
        try:
            Recording.load(damaged, **options)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) >= 4
    assert [text for text in messages if str(tmp_path) not in text or "\n" in text] == []


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recording, torch.nn.Module, Path]]:
    """A recording with one repeat of 60 stimuli and four of 30, its network, and its report from a folder."""
    folder = tmp_path_factory.mktemp("formats")
    sys.path.insert(0, str(folder))
    with pytest.MonkeyPatch.context() as patch:
        undraw(patch)
        network = make_network(folder)
        made = Recording.load(make_recording(folder, network))
        responses = np.round(8 * made.responses)
        responses[:, :N_TRAIN, 1:] = np.nan
        recording = Recording(responses, made.stimuli, made.categories, range(1, 6))
        path, _ = write_folder(recording, folder / "recording")
        (path / "responses.npy").unlink()
        explain(path, network, folder / "report")
        yield recording, network, folder
    sys.path.remove(str(folder))


@pytest.mark.slow  # a whole report for each format, 2 s each
@pytest.mark.parametrize("kind", WRITERS)
def test_the_report_is_that_of_the_folder(
    kind: str, reference: tuple[Recording, torch.nn.Module, Path], tmp_path: Path, undrawn: None
) -> None:
    recording, network, folder = reference
    (tmp_path / "stimuli").symlink_to(folder / "recording" / "stimuli")
    summary = explain(tmp_path, network, tmp_path / "report", load(WRITERS[kind](recording, tmp_path)))
    for name in ("neurons.csv", "pairs.csv", "layers.csv"):
        assert (tmp_path / "report" / name).read_text() == (folder / "report" / name).read_text()
    assert summary == json.loads((folder / "report" / "summary.json").read_text())
    assert summary["n_explained"] >= 3
    assert "Only 30 of the 90 stimuli have two or more repeats" in (tmp_path / "report" / "index.html").read_text()


FLAGS = {
    "Brain-Score": ["--window", "70", "90", "--select", "region=IT,V4", "--select", "animal=Tito"],
    "TVSD": ["--stimuli", "stimuli", "--areas", "V4=1-2,IT=3-5", "--select", "region=IT,V4"],
    "npz": ["--mapping", "mapping.json"],
    "NWB spikes": ["--intervals", "image_presentations", "--select", "region=V4,IT"],
    "NWB traces": ["--traces", "responses", "--window", "0.05", "0.25"],
}


@pytest.mark.slow  # a whole report for each format, 2 s each
@pytest.mark.parametrize("kind", FLAGS)
def test_the_command_reads_each_format(
    kind: str, reference: tuple[Recording, torch.nn.Module, Path], tmp_path: Path, undrawn: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recording, _, folder = reference
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stimuli").symlink_to(folder / "recording" / "stimuli")
    path, options = WRITERS[kind](recording, tmp_path)
    (tmp_path / "mapping.json").write_text(json.dumps(options.get("mapping")))
    network = ["--model", "tiny_network:make", "--weights", str(folder / "tiny.pth"), "--image-size", str(SIZE)]
    choices = ["--layer", "auto", "--steps", "2", "--drivers", "2"]
    for recorded, flags, out in ((folder / "recording", [], "expected"), (path, FLAGS[kind], "out")):
        assert cli.main(["recording", "--recording", str(recorded), *network, *choices, *flags, "--out", out]) == 0
    for name in ("neurons.csv", "pairs.csv"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "expected" / name).read_text()


@pytest.mark.slow  # shares the report of the tests above
def test_the_ceiling_is_that_of_all_means(reference: tuple[Recording, torch.nn.Module, Path]) -> None:
    recording, _, folder = reference
    with (folder / "report" / "neurons.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        reliability = float(row["reliability"])  # of 30 stimuli with 4 repeats; 60 have one
        noise = 4 * (1 - reliability) / reliability
        ceiling = 1 / np.sqrt(1 + noise * (60 + 30 / 4) / 90)
        assert float(row["cv_r_corrected"]) == pytest.approx(float(row["cv_r"]) / ceiling, rel=1e-4)
    assert recording.n_repeated == 30


MISTAKES: dict[str, tuple[str, list[str], str]] = {
    "no window": ("Brain-Score", [], "has 2 time bins; --window must say which to average"),
    "no neuron": ("Brain-Score", ["--window", "70", "90", "--select", "region=V1"], "has region 'V1'; there are IT, V4"),
    "no property": ("Brain-Score", ["--window", "70", "90", "--select", "IT"], "expected NAME=VALUE, such as region=IT, got 'IT'"),
    "areas": ("TVSD", ["--stimuli", "stimuli", "--areas", "IT"], "--areas must be monkeyN, monkeyF or ranges from 1 to 5"),
    "no mapping": ("npz", [], "--mapping must say which array of"),
    "no array": ("npz", ["--mapping", "mapping.json"], "has no array 'pictures'; there are ids, images, kinds, rates"),
    "no traces": ("NWB traces", ["--traces", "red"], "--traces must name one RoiResponseSeries"),
    "foreign": ("npz", ["--intervals", "trials"], "a file of arrays takes no option --intervals"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_of_a_command_are_one_line(
    name: str, small: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, flags, text = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    path, _ = WRITERS[kind](small, tmp_path, **({"n_train": 4} if kind == "TVSD" else {}))
    (tmp_path / "mapping.json").write_text(json.dumps({**MATLAB, "stimuli": "pictures"}))
    command = [
        "recording",
        "--recording",
        str(path),
        "--model",
        "resnet18",
        "--weights",
        "none",
        "--layer",
        "auto",
        *flags,
    ]
    try:
        assert cli.main(command) == 2
    except SystemExit as error:  # of argparse
        assert error.code == 2  # noqa: PT017
    printed = capsys.readouterr().err
    assert text in printed
    assert printed.count("\n") == 1


# Brain-Score -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf", "scipy"])
def test_assemblies_by_any_engine(engine: str, small: Recording, tmp_path: Path) -> None:
    read = load(write_assembly(small, tmp_path, engine))
    assert np.array_equal(read.responses, small.responses, equal_nan=True)


def test_time_bins_and_neuroids_are_chosen(small: Recording, tmp_path: Path) -> None:
    written = write_assembly(small, tmp_path, bins=3)
    first = load(written, window=(70, 80), select={"region": "IT"})
    assert np.array_equal(first.responses, small.responses[2:] - 1, equal_nan=True)
    assert first.neuron_ids == ("3", "4", "5")
    assert load(written, window=(65, 95), select={"region": ["V4", "IT"], "animal": "Tito"}).n_neurons == 5
    path, _ = write_assembly(small, tmp_path, bins=1)
    assert np.array_equal(Recording.load(path).responses, small.responses, equal_nan=True)


def test_images_lie_where_brainio_unpacks_them(small: Recording, tmp_path: Path) -> None:
    (tmp_path / "stimuli").rename(tmp_path / "stimulus_dicarlo_hvm-public")
    path, options = write_assembly(small, tmp_path)
    read = Recording.load(path, **options)
    assert read.stimuli[0] == tmp_path / "stimulus_dicarlo_hvm-public" / "a.png"
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(read.stimuli[0], "a.png")
        for one in read.stimuli[1:]:
            archive.write(one, f"../../{one.name}")  # stays inside
    packed = Recording.load(path, stimuli=tmp_path / "images.zip", **options)
    assert packed.stimuli[5] == tmp_path / "images" / "f.png"
    assert packed.stimuli[5].read_bytes() == read.stimuli[5].read_bytes()
    packed.stimuli[0].write_bytes(b"changed")
    assert Recording.load(path, stimuli=tmp_path / "images.zip", **options).stimuli[0].read_bytes() == b"changed"
    whole = (tmp_path / "images.zip").read_bytes()
    (tmp_path / "bad.zip").write_bytes(whole.replace(b"IHDR", b"IHDX"))
    with pytest.raises(ValueError, match=r"bad.zip cannot be unpacked into .*bad: Bad CRC-32 for file 'a.png'"):
        Recording.load(path, stimuli=tmp_path / "bad.zip", **options)
    assert [one.name for one in tmp_path.iterdir() if "bad" in one.name] == ["bad.zip"]


def test_neuroids_of_two_animals_with_the_same_ids(small: Recording, tmp_path: Path) -> None:
    from formats import make_assembly

    write_assembly(small, tmp_path)
    assembly = make_assembly(small, 1).reset_index(["presentation", "neuroid", "time_bin"])
    both = assembly.assign_coords(neuroid_id=("neuroid", [0, 1, 2, 0, 1]), animal=("neuroid", [*"FFFNN"]))
    both.to_netcdf(tmp_path / "both.nc", engine="h5netcdf")
    assert Recording.load(tmp_path / "both.nc").neuron_ids == ("F 0", "F 1", "F 2", "N 0", "N 1")
    assert Recording.load(tmp_path / "both.nc", select={"animal": "N"}).neuron_ids == ("N 0", "N 1")


ASSEMBLIES: dict[str, tuple[dict[str, Any], str]] = {
    "no window": ({"window": None}, "has 2 time bins; `window` must say which to average, in ms: 70 to 80, 80 to 90"),
    "empty window": ({"window": (0, 50)}, "no time bin of .* lies in 0 to 50 ms; there are 70 to 80, 80 to 90"),
    "turned window": ({"window": (90, 70)}, r"`window` must be \(start, stop\) with start < stop"),
    "unknown property": ({"select": {"area": "IT"}}, "`select` must name a property .*: animal, neuroid_id, region; got 'area'"),
    "unknown value": ({"select": {"region": "V1"}}, "no neuron of .* has region 'V1'; there are IT, V4"),
    "nothing left": ({"select": {"region": "IT", "neuroid_id": "1"}}, "no neuron of .* has region IT and neuroid_id 1"),
    "no mapping": ({"select": "IT"}, "`select` must be a mapping such as .*got str"),
    "no category": ({"category_column": "kind"}, "`category_column` must be a coordinate .* or a column of its stimulus set, .*got 'kind'"),
    "no stimulus set": ({"stimulus_set": "nowhere.csv"}, "no stimulus set at nowhere.csv"),
    "foreign option": ({"stimulus_column": "image"}, "a netCDF file takes no option `stimulus_column`"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASSEMBLIES)
def test_wrong_choices_in_an_assembly(name: str, small: Recording, tmp_path: Path) -> None:
    options, text = ASSEMBLIES[name]
    path, given = write_assembly(small, tmp_path)
    asked = {key: value for key, value in {**given, **options}.items() if value is not None}
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=text):
        Recording.load(path, **asked)


def test_broken_stimulus_sets(small: Recording, tmp_path: Path) -> None:
    written = write_assembly(small, tmp_path)
    listed = tmp_path / "stimulus_dicarlo_hvm-public.csv"
    whole = listed.read_text()
    for content, text in {
        whole.replace("c,x,c.png\n", ""): "must list every stimulus of .*, got no row for 1 of 6: c$",
        whole + "c,x,c.png\n": "must list each image_id once, got 'c' again",
        whole.replace("image_id", "name"): "must have a column stimulus_id or image_id, got",
        whole.replace("filename", "url"): "must have a column filename or image_file_name or file, got",
    }.items():
        listed.write_text(content)
        with pytest.raises(ValueError, match=text):
            load(written)
    listed.unlink()
    with pytest.raises(
        ValueError, match="`stimulus_set` must be its stimulus set, a CSV, .* stimulus_dicarlo_hvm-public.csv beside it"
    ):
        load(written)


def test_a_truncated_assembly_is_named(small: Recording, tmp_path: Path) -> None:
    path, options = write_assembly(small, tmp_path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match="assy_dicarlo_Majaj.nc is not a readable netCDF file"):
        Recording.load(path, **options)


# TVSD --------------------------------------------------------------------------------------------------------------


def test_areas_and_arrays_of_tvsd(small: Recording, tmp_path: Path) -> None:
    path, options = write_tvsd(small, tmp_path, 4)
    read = Recording.load(path, **options, select={"region": "IT"})
    assert np.array_equal(read.responses, small.responses[2:], equal_nan=True)
    assert read.neuron_ids == ("3", "4", "5")
    assert Recording.load(path, **options, select={"array": "1"}).n_neurons == 5
    images = options["stimuli"]
    with pytest.raises(
        ValueError, match="`areas` must be monkeyN, monkeyF or ranges from 1 to 5, such as .*got 'V1=1-512'"
    ):
        Recording.load(path, stimuli=images)  # the folder is called monkeyN: its areas need 1,024 channels
    path.parent.rename(tmp_path / "animal")
    with pytest.raises(ValueError, match="`areas` must say which channels of .* lie in which region"):
        Recording.load(tmp_path / "animal" / path.name, stimuli=images, select={"region": "IT"})
    assert Recording.load(tmp_path / "animal" / path.name, stimuli=images).n_neurons == 5


@pytest.mark.parametrize("monkey", ["monkeyN", "monkeyF"])
def test_channels_of_the_monkeys(monkey: str) -> None:
    from captum_shared.recording.tvsd import areas_of

    area = np.array(areas_of(monkey, 1024))
    sizes = {"monkeyN": {"V1": 512, "V4": 256, "IT": 256}, "monkeyF": {"V1": 512, "V4": 192, "IT": 320}}[monkey]
    assert {name: int((area == name).sum()) for name in sizes} == sizes
    assert area[600] == {"monkeyN": "V4", "monkeyF": "IT"}[monkey]


def test_broken_files_of_tvsd(small: Recording, tmp_path: Path) -> None:
    import h5py

    path, options = write_tvsd(small, tmp_path, 4)
    images = path.parent / "_logs" / "things_imgs.mat"
    with h5py.File(images, "a") as file:
        for name in ("class", "things_path"):
            one = file[f"test_imgs/{name}"][:, :1]
            del file[f"test_imgs/{name}"]
            file[f"test_imgs/{name}"] = one
    with pytest.raises(ValueError, match="has responses to 4 training and 2 test images, but its list has 4 and 1"):
        Recording.load(path, **options)
    with h5py.File(path, "a") as file:
        del file["test_MUA_reps"]
    with pytest.raises(ValueError, match="must have the arrays train_MUA and test_MUA_reps of numbers, got"):
        Recording.load(path, **options)
    images.unlink()
    with pytest.raises(FileNotFoundError, match="no list of the images at .*things_imgs.mat"):
        Recording.load(path, **options)


# Mappings ----------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown entry": ({"unit": "ids"}, "must have the entries responses, axes and stimuli, .*; got .*unit"),
    "no responses": ({"responses": None}, "must be the name of an array, got None"),
    "axes": ({"axes": ["neuron", "time"]}, r"the entry axes of `mapping` must be neuron and stimulus.*got \['neuron', 'time'\]"),
    "axes twice": ({"axes": ["neuron", "neuron"]}, "the entry axes of `mapping` must be"),
    "too few axes": ({"axes": ["neuron", "stimulus"]}, r"'rates' in .* must have the axes neuron, stimulus, got the shape \(3, 5, 6\)"),
    "no such array": ({"stimuli": "files"}, "has no array 'files'; there are ids, images, kinds, rates"),
    "count": ({"stimuli": ["a.png"]}, "the entry stimuli of `mapping` must be one for each stimulus, 6 of them in 'rates' .*, got 1"),
    "number": ({"neurons": 3}, "the entry neurons of `mapping` must be the name of an array or a list of names, got 3"),
    "text": ({"responses": "images"}, "'images' in .* must hold real numbers, got an array of <U5"),
    "properties": ({"properties": ["V4"]}, "the entry properties of `mapping` must be arrays by name"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_wrong_mappings(name: str, small: Recording, tmp_path: Path) -> None:
    change, text = LAYOUTS[name]
    path, options = WRITERS["npz"](small, tmp_path)
    with pytest.raises(ValueError, match=text):
        Recording.load(path, mapping={**options["mapping"], **change})


def test_mappings_in_files(small: Recording, tmp_path: Path) -> None:
    path, options = WRITERS["npz"](small, tmp_path)
    layout = {**options["mapping"], "properties": {"region": ["V4", "V4", "IT", "IT", "IT"]}}
    (tmp_path / "mapping.json").write_text(json.dumps(layout))
    read = Recording.load(path, mapping=tmp_path / "mapping.json", select={"region": "IT"})
    assert np.array_equal(read.responses, small.responses[2:], equal_nan=True)
    for content, text in {"{": "is not a readable JSON file", "[]": "must hold an object in braces, got list"}.items():
        (tmp_path / "mapping.json").write_text(content)
        with pytest.raises(ValueError, match=f"mapping.json {text}"):
            Recording.load(path, mapping=tmp_path / "mapping.json")
    with pytest.raises(FileNotFoundError, match="no mapping at"):
        Recording.load(path, mapping=tmp_path / "none.json")
    with pytest.raises(
        ValueError, match="`mapping` must say which array of .* is what, .* there are ids, images, kinds"
    ):
        Recording.load(path)


def test_what_is_in_the_arrays_is_never_executed(small: Recording, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", rates=np.zeros((5, 6)), images=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="bad.npz is not a readable .npz archive: Object arrays cannot be loaded"):
        Recording.load(tmp_path / "bad.npz", mapping=MATLAB)


@pytest.mark.parametrize("suffix", ["npz", "mat", "h5"])
def test_broken_files_of_arrays(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"data.{suffix}").write_bytes(b"no such thing" * 100)
    with pytest.raises(ValueError, match=f"data.{suffix} is not a readable"):
        Recording.load(tmp_path / f"data.{suffix}", mapping=MATLAB)


def test_matlab_arrays_that_only_matlab_reads(small: Recording, tmp_path: Path) -> None:
    import h5py

    path, options = WRITERS["MATLAB v7.3"](small, tmp_path)
    with h5py.File(path, "a") as file:
        del file["images"]
        file["images"] = np.zeros((1, 6), np.uint32)
        file["images"].attrs["MATLAB_class"] = np.bytes_("string")
        file["images"].attrs["MATLAB_object_decode"] = np.int32(3)
    with pytest.raises(ValueError, match=r"'images' in .* is a string array, .* save it as cellstr\(images\)"):
        Recording.load(path, **options)


def test_matlab_matrices_of_characters_and_single_repeats(small: Recording, tmp_path: Path) -> None:
    """A char matrix has a name in each row, filled up with spaces; MATLAB drops a last axis of length 1."""
    import h5py

    rows = np.array([[ord(letter) for letter in f"{name:8s}"] for name in NAMES], np.uint16)
    with h5py.File(tmp_path / "data.mat", "w", userblock_size=512) as file:
        file["rates"], file["images"] = small.responses[:, :, 0].T, rows.T
        file["images"].attrs["MATLAB_class"] = np.bytes_("char")
        put_cells(file, "kinds", ["x", "y", "", "x", "y", "x"])
        file["ids"] = np.arange(5.0)
    with pytest.raises(ValueError, match=r"`categories` must be names, got none in row 3"):
        Recording.load(tmp_path / "data.mat", mapping=MATLAB)
    layout = {key: value for key, value in MATLAB.items() if key != "categories"}
    assert np.array_equal(Recording.load(tmp_path / "data.mat", mapping=layout).responses, small.responses[:, :, :1])


# NWB ---------------------------------------------------------------------------------------------------------------


def test_units_are_selected_by_their_columns(small: Recording, tmp_path: Path) -> None:
    written = write_spikes(small, tmp_path)
    read = load(written, select={"region": "IT"}, intervals="image_presentations")
    assert np.array_equal(read.responses, small.responses[2:], equal_nan=True)
    with pytest.raises(ValueError, match=r"`intervals` must name another .*there are image_presentations \(10 rows\)"):
        load(written, intervals="epochs")
    with pytest.raises(ValueError, match="`select` must name a property .*: region; got 'spike_times'"):
        load(written, select={"spike_times": "1"})
    with pytest.raises(ValueError, match="must have a table of units or calcium traces"):
        load(written, traces="responses")


def test_traces_in_a_window(small: Recording, tmp_path: Path) -> None:
    written = write_traces(small, tmp_path)
    wider = load(written, window=(0.05, 0.45), traces="responses")
    assert np.allclose(wider.responses, (small.responses - 3) / 2, equal_nan=True)
    with pytest.raises(
        ValueError, match="`traces` must name one RoiResponseSeries of .*: responses in DfOverF; got other"
    ):
        load(written, traces="other")
    with pytest.raises(ValueError, match="no sample of the traces responses of .* lies 99 to 100 s after"):
        load(written, window=(99, 100))
    late = load(written, window=(8.0, 8.2)).responses  # the recording ends two presentations later
    assert np.isfinite(late[0]).sum() == 2


def test_raw_fluorescence_is_said(small: Recording, tmp_path: Path) -> None:
    written = write_traces(small, tmp_path, raw=True)
    with pytest.warns(UserWarning, match="the traces responses of .* are raw fluorescence, not dF/F"):
        assert load(written).n_neurons == 5


@pytest.mark.parametrize(("kind", "module", "extra"), [("TVSD", "h5py", "hdf5"), ("HDF5", "h5py", "hdf5")])
def test_missing_extras_are_said(
    kind: str, module: str, extra: str, small: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = WRITERS[kind](small, tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs h5py: pip install 'captum-shared\[{extra}\]'"):
        load(written)
