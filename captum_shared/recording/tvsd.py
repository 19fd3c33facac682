"""The THINGS ventral stream spiking dataset, TVSD (Papale et al., Neuron 2025), in its own files.

The layout is that of ``norm_MUA.m`` in the dataset's repository, which writes ``THINGS_normMUA.mat``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captum_shared.recording.arrays import Hdf5Arrays, open_hdf5
from captum_shared.recording.found import Found, Selection, chosen

if TYPE_CHECKING:
    import h5py

ARRAYS = ("train_MUA", "test_MUA_reps")
MONKEYS = {"monkeyN": "V1=1-512,V4=513-768,IT=769-1024", "monkeyF": "V1=1-512,IT=513-832,V4=833-1024"}
"""The channels of each area, from 1: the ranges of ``norm_MUA.m``, as Brain-Score uses them too."""


def read_tvsd(
    path: Path, *, select: Selection | None = None, areas: str | None = None, stimulus_set: str | Path | None = None
) -> Found:
    """Responses, files, categories and channels of a file THINGS_normMUA.mat.

    Training images have one repeat, test images as many as there are (30 in the dataset).

    Parameters
    ----------
    path : Path
    select : mapping, optional
        Values of `region` (an area) and `array` (1 to 16, of 64 channels each), such as {"region": "IT"}. Only these
        channels are read. Default: all.
    areas : str, optional
        Which channels lie in which area: "monkeyN", "monkeyF", or ranges such as "V1=1-512,V4=513-1024", from 1.
        Default: by the name of the file's folder, if it is that of a monkey.
    stimulus_set : path, optional
        The list of images. Default: ``_logs/things_imgs.mat`` or ``things_imgs.mat`` beside the file.
    """
    files, categories = _read_images(_image_list(path, stimulus_set))
    with open_hdf5(path) as file:
        train, test = (_array(file, name, path) for name in ARRAYS)
        _check_sizes(train, test, [len(one) for one in files], path)
        n_channels = train.shape[1]
        properties = {"array": [str(channel // 64 + 1) for channel in range(n_channels)]}
        ranges = areas or MONKEYS.get(path.resolve().parent.name)
        if ranges is not None:
            properties["region"] = areas_of(ranges, n_channels)
        elif select and "region" in select:
            raise ValueError(f"`areas` must say which channels of {path} lie in which region: monkeyN, monkeyF, or "
                             "ranges such as V1=1-512,V4=513-1024")  # fmt: skip
        keep = chosen(properties, select, n_channels, path)
        responses = _responses(train, test, keep)
    return Found(responses, [*files[0], *files[1]], [*categories[0], *categories[1]], [str(k + 1) for k in keep])


def is_tvsd(path: Path) -> bool:
    """Whether a .mat file has one of the arrays of the dataset."""
    try:
        with open_hdf5(path) as file:
            return any(name in file for name in ARRAYS)
    except ValueError:
        return False


def _responses(train: h5py.Dataset, test: h5py.Dataset, keep: np.ndarray) -> np.ndarray:
    """Channels x images x repeats; HDF5 has MATLAB's axes in the opposite order."""
    first, last = int(keep[0]), int(keep[-1]) + 1
    inside = keep - first
    responses = np.full((len(keep), len(train) + test.shape[1], len(test)), np.nan)
    responses[:, : len(train), 0] = train[:, first:last][:, inside].T
    responses[:, len(train) :] = test[:, :, first:last][:, :, inside].T
    return responses


def _array(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    item = file.get(name)
    if getattr(item, "dtype", np.dtype("O")).kind not in "iuf":
        raise ValueError(f"{path} must have the arrays {' and '.join(ARRAYS)} of numbers, got {', '.join(file)}")
    return item


def _check_sizes(train: h5py.Dataset, test: h5py.Dataset, listed: list[int], path: Path) -> None:
    if train.ndim != 2 or test.ndim != 3 or train.shape[1] != test.shape[2]:
        raise ValueError(f"{path} must have train_MUA (channels, images) and test_MUA_reps (channels, images, repeats) "
                         f"of the same channels, got {train.shape[::-1]} and {test.shape[::-1]}")  # fmt: skip
    shown = [train.shape[0], test.shape[1]]
    if shown != listed:
        raise ValueError(f"{path} has responses to {shown[0]} training and {shown[1]} test images, but its list has "
                         f"{listed[0]} and {listed[1]}")  # fmt: skip


def _image_list(path: Path, given: str | Path | None) -> Path:
    places = [path.parent / "_logs" / "things_imgs.mat", path.parent / "things_imgs.mat"]
    found = next((one for one in ([Path(given)] if given is not None else places) if one.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"no list of the images at {given or places[0]}: it is things_imgs.mat, in the folder "
                                "_logs of each monkey; `stimulus_set` may say where")  # fmt: skip
    return found


def _read_images(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Files and categories of the training and of the test images."""
    with open_hdf5(path) as file:
        arrays = Hdf5Arrays(file, path)
        groups = ("train_imgs", "test_imgs")
        files = [[one.replace("\\", "/") for one in arrays.texts(f"{group}/things_path")] for group in groups]
        return files, [arrays.texts(f"{group}/class") for group in groups]


def areas_of(ranges: str, n_channels: int) -> list[str]:
    """The area of each channel."""
    text = MONKEYS.get(ranges, ranges)
    area = [""] * n_channels
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\w+)=(\d+)-(\d+)\s*", part)
        if match is None or not 1 <= int(match[2]) <= int(match[3]) <= n_channels:
            raise ValueError(f"`areas` must be monkeyN, monkeyF or ranges from 1 to {n_channels}, such as V1=1-512,"
                             f"V4=513-1024; got {part.strip()!r}")  # fmt: skip
        area[int(match[2]) - 1 : int(match[3])] = [match[1]] * (int(match[3]) - int(match[2]) + 1)
    return area
