"""Recordings written by each format's own library, in the layout that its public description gives."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from captum_shared import Recording

N_TRAIN = 60
"""Of a recording written as TVSD: so many stimuli have one repeat, and come first."""

Written = tuple[Path, dict[str, Any]]


def presented(recording: Recording) -> list[tuple[int, int]]:
    """Stimulus and repeat of each presentation: first all stimuli once, then those that were shown again."""
    shown = np.isfinite(recording.responses[0])
    return [(int(s), r) for r in range(recording.n_repeats) for s in np.flatnonzero(shown[:, r])]


def by_presentation(recording: Recording) -> tuple[np.ndarray, list[str], list[str]]:
    """Responses (neurons, presentations), and file and category of each presentation."""
    order = presented(recording)
    values = np.stack([recording.responses[:, s, r] for s, r in order], axis=1)
    kinds = recording.categories or ()
    return values, [recording.stimulus_names[s] for s, _ in order], [kinds[s] for s, _ in order]


def write_folder(recording: Recording, folder: Path) -> Written:
    values, files, _ = by_presentation(recording)
    with (folder / "responses.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", *recording.neuron_ids])
        rows.writerows([name, *column.tolist()] for name, column in zip(files, values.T, strict=True))
    with (folder / "stimuli.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("file", "category"), *zip(recording.stimulus_names, recording.categories or (), strict=True)]
        )
    return folder, {}


def make_assembly(recording: Recording, bins: int = 2) -> Any:
    """As Brain-Score packages them: presentation x neuroid x time_bin; the bins' mean is the response."""
    import xarray

    values, files, _ = by_presentation(recording)
    order = presented(recording)
    change = np.arange(bins) - (bins - 1) / 2
    k = recording.n_neurons
    return xarray.DataArray(
        values.T[:, :, None] + change,
        dims=("presentation", "neuroid", "time_bin"),
        coords={
            "stimulus_id": ("presentation", [Path(name).stem for name in files]),
            "repetition": ("presentation", [r for _, r in order]),
            "neuroid_id": ("neuroid", [int(name) for name in recording.neuron_ids]),
            "region": ("neuroid", ["V4" if i < k // 2 else "IT" for i in range(k)]),
            "animal": ("neuroid", ["Tito"] * k),
            "time_bin_start": ("time_bin", 70 + 10 * np.arange(bins)),
            "time_bin_end": ("time_bin", 80 + 10 * np.arange(bins)),
        },
        attrs={"stimulus_set_identifier": "dicarlo.hvm-public", "identifier": "dicarlo.Majaj"},
    ).set_index(  # brainio's assemblies have a MultiIndex on each dimension
        presentation=["stimulus_id", "repetition"], neuroid=["neuroid_id", "region", "animal"],
        time_bin=["time_bin_start", "time_bin_end"],
    )  # fmt: skip


def write_assembly(recording: Recording, folder: Path, engine: Any = "h5netcdf", bins: int = 2) -> Written:
    """As brainio's `write_netcdf` does: indexes reset, one variable `data`, compressed."""
    import pandas

    assembly = make_assembly(recording, bins)
    dataset = assembly.reset_index(list(assembly.indexes)).to_dataset(name="data", promote_attrs=True)
    packed = {} if engine == "scipy" else {"data": {"zlib": True, "complevel": 9}}
    dataset.to_netcdf(folder / "assy_dicarlo_Majaj.nc", engine=engine, encoding=packed)
    names = recording.stimulus_names
    table = {"image_id": [Path(name).stem for name in names], "object_name": recording.categories, "filename": names}
    pandas.DataFrame(table).to_csv(folder / "stimulus_dicarlo_hvm-public.csv", index=False)
    return folder / "assy_dicarlo_Majaj.nc", {"window": (70, 70 + 10 * bins)}


def write_netcdf(recording: Recording, folder: Path) -> Written:
    import xarray

    dataset = xarray.Dataset(
        {"responses": (("stimulus", "neuroid", "repeat"), recording.responses.transpose(1, 0, 2))},
        {"file": ("stimulus", list(recording.stimulus_names)), "category": ("stimulus", list(recording.categories or ())),
         "neuroid": list(recording.neuron_ids)},
    )  # fmt: skip
    dataset.to_netcdf(folder / "data.nc", engine="netcdf4")
    return folder / "data.nc", {}


def put_cells(file: Any, name: str, texts: list[str]) -> None:
    """A column of cells of text, as MATLAB v7.3 stores it: references to arrays of character codes."""
    import h5py

    cells = file.create_dataset(name, (1, len(texts)), dtype=h5py.ref_dtype)
    cells.attrs["MATLAB_class"] = np.bytes_("cell")
    for number, text in enumerate(texts):
        codes = np.array([[ord(letter)] for letter in text], np.uint16) if text else np.zeros(2, np.uint64)
        letters = file.create_dataset(f"#refs#/{name.replace('/', '_')}{number}", data=codes)
        letters.attrs["MATLAB_class"] = np.bytes_("char")
        if not text:
            letters.attrs["MATLAB_empty"] = np.uint8(1)
        cells[0, number] = letters.ref


def write_tvsd(recording: Recording, folder: Path, n_train: int = N_TRAIN) -> Written:
    """As norm_MUA.m saves it with -v7.3: MATLAB's axes are reversed in HDF5."""
    import h5py

    (folder / "monkeyN" / "_logs").mkdir(parents=True)
    path = folder / "monkeyN" / "THINGS_normMUA.mat"
    train, test = recording.responses[:, :n_train, 0], recording.responses[:, n_train:]
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in {
            "train_MUA": train, "test_MUA": test.mean(2), "test_MUA_reps": test, "SNR": np.ones((len(test), 4)),
            "SNR_max": np.ones((1, len(test))), "oracle": np.ones((1, len(test))), "tb": np.arange(-100.0, 200)[None],
        }.items():  # fmt: skip
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    names, kinds = list(recording.stimulus_names), list(recording.categories or ())
    with h5py.File(folder / "monkeyN" / "_logs" / "things_imgs.mat", "w", userblock_size=512) as file:
        for group, part in (("train_imgs", slice(0, n_train)), ("test_imgs", slice(n_train, None))):
            put_cells(file, f"{group}/class", kinds[part])
            put_cells(file, f"{group}/things_path", [f".\\{name}" for name in names[part]])
    return path, {"stimuli": folder / "stimuli", "areas": "V4=1-2,IT=3-5"}


def write_hdf5(recording: Recording, folder: Path) -> Written:
    import h5py

    values, files, kinds = by_presentation(recording)
    with h5py.File(folder / "data.h5", "w") as file:
        file["session/rates"] = values.T
        file["session/image"], file["session/kind"] = files, kinds
        file["units/id"] = [int(name) for name in recording.neuron_ids]
    return folder / "data.h5", {"mapping": {
        "responses": "session/rates", "axes": ["presentation", "neuron"], "stimuli": "session/image",
        "categories": "session/kind", "neurons": "units/id",
    }}  # fmt: skip


def write_matlab73(recording: Recording, folder: Path) -> Written:
    import h5py

    with h5py.File(folder / "data73.mat", "w", userblock_size=512) as file:
        file["rates"] = recording.responses.T
        put_cells(file, "images", list(recording.stimulus_names))
        put_cells(file, "kinds", list(recording.categories or ()))
        file["ids"] = np.array([[float(name)] for name in recording.neuron_ids])
    return folder / "data73.mat", {"mapping": MATLAB}


def write_matlab5(recording: Recording, folder: Path) -> Written:
    from scipy.io import savemat

    cells = np.array(recording.stimulus_names, dtype=object)[:, None]
    savemat(folder / "data5.mat", {
        "rates": recording.responses, "images": cells, "kinds": list(recording.categories or ()),
        "ids": [float(name) for name in recording.neuron_ids],
    })  # fmt: skip
    return folder / "data5.mat", {"mapping": MATLAB}


MATLAB: dict[str, object] = {
    "responses": "rates", "axes": ["neuron", "stimulus", "repeat"], "stimuli": "images", "categories": "kinds",
    "neurons": "ids",
}  # fmt: skip


def write_npz(recording: Recording, folder: Path) -> Written:
    np.savez(
        folder / "data.npz", rates=recording.responses.transpose(2, 0, 1), images=recording.stimulus_names,
        kinds=recording.categories, ids=recording.neuron_ids,
    )  # fmt: skip
    return folder / "data.npz", {"mapping": {**MATLAB, "axes": ["repeat", "neuron", "stimulus"]}}


def _nwb(recording: Recording) -> tuple[Any, np.ndarray]:
    """A file with a table of presentations, a second apart, that is not called trials; and the responses to them."""
    from pynwb import NWBFile
    from pynwb.epoch import TimeIntervals

    values, files, kinds = by_presentation(recording)
    content = NWBFile("test", "test", datetime(2024, 1, 1, tzinfo=timezone.utc))
    shown = TimeIntervals(name="image_presentations", description="images on the screen")
    for column in ("stimulus", "category"):
        shown.add_column(name=column, description=column)
    for t, (name, kind) in enumerate(zip(files, kinds, strict=True)):
        shown.add_interval(start_time=float(t), stop_time=t + 0.3, stimulus=name, category=kind)
    content.add_time_intervals(shown)
    return content, values


def _save_nwb(content: Any, path: Path) -> Written:
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(str(path), "w") as file:
        file.write(content)
    return path, {}


def write_spikes(recording: Recording, folder: Path) -> Written:
    """Spike trains with as many spikes 60 to 240 ms after each presentation as there are in the responses."""
    content, values = _nwb(recording)
    content.add_unit_column(name="region", description="area")
    for k, (name, counts) in enumerate(zip(recording.neuron_ids, values, strict=True)):
        times = np.concatenate([t + np.linspace(0.06, 0.24, int(n)) for t, n in enumerate(counts)])
        content.add_unit(spike_times=times, id=int(name), region="V4" if k < 2 else "IT")
    return _save_nwb(content, folder / "spikes.nwb")


def write_traces(recording: Recording, folder: Path, raw: bool = False) -> Written:
    """dF/F at 20 Hz: the response from 50 to 250 ms, and something else outside."""
    from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, OpticalChannel

    content, values = _nwb(recording)
    device = content.create_device(name="microscope")
    plane = content.create_imaging_plane(
        name="plane", optical_channel=OpticalChannel(name="green", description="green", emission_lambda=500.0), description="plane", device=device,
        excitation_lambda=900.0, indicator="GCaMP", location="V1",
    )  # fmt: skip
    segmentation = ImageSegmentation()
    cells = segmentation.create_plane_segmentation(name="cells", description="cells", imaging_plane=plane)
    for name in recording.neuron_ids:
        cells.add_roi(pixel_mask=[(int(name), 0, 1.0)], id=int(name))
    module = content.create_processing_module(name="ophys", description="traces")
    module.add(segmentation)
    container = DfOverF() if not raw else Fluorescence()
    module.add(container)
    samples = np.full((values.shape[1] * 20, len(values)), -3.0)
    for t, column in enumerate(values.T):
        samples[20 * t + 1 : 20 * t + 5] = column
    container.create_roi_response_series(
        name="responses", data=samples, unit="n.a.", rate=20.0, starting_time=0.001,
        rois=cells.create_roi_table_region(description="all", region=list(range(len(values)))),
    )  # fmt: skip
    return _save_nwb(content, folder / "traces.nwb")


WRITERS: dict[str, Callable[[Recording, Path], Written]] = {
    "Brain-Score": write_assembly, "netCDF": write_netcdf, "TVSD": write_tvsd, "HDF5": write_hdf5,
    "MATLAB v7.3": write_matlab73, "MATLAB v5": write_matlab5, "npz": write_npz, "NWB spikes": write_spikes,
    "NWB traces": write_traces,
}  # fmt: skip
