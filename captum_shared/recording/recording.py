"""`Recording`: responses, the stimuli that evoked them, their categories."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from captum_shared.checks import check_choice
from captum_shared.labels import split_labels
from captum_shared.recording.readers import ReaderOptions, read_recording
from captum_shared.tables import named_rows

if TYPE_CHECKING:
    from typing_extensions import Unpack

_SHOWN = 10
SHAPES = "(n_neurons, n_stimuli) or (n_neurons, n_stimuli, n_repeats)"


class Recording:
    """Responses of neurons to stimuli, checked.

    Parameters
    ----------
    responses : (n_neurons, n_stimuli) or (n_neurons, n_stimuli, n_repeats) array
        Spike counts, rates or anything else real; NaN where a repeat is missing.
    stimuli : sequence of n_stimuli paths
        Image files, in the order of the second axis. They are opened only when needed.
    categories : sequence of n_stimuli str, optional
        The category of each stimulus, or several, separated by semicolons: ``dog;outdoors``.
    neuron_ids : sequence of n_neurons str, optional
        Default: "0", "1", ...

    Attributes
    ----------
    responses : (n_neurons, n_stimuli, n_repeats) float64 array
        With one repeat if there is no axis of repeats.
    stimuli : tuple of Path
    categories : tuple of str, or None
    neuron_ids : tuple of str

    Raises
    ------
    TypeError, ValueError
        If shapes and counts do not fit, values are infinite or not real, or names are not unique; the message says
        which rows and names.

    Examples
    --------
    >>> responses = np.random.default_rng(0).poisson(5, size=(2, 4, 3))
    >>> Recording(responses, ["a.png", "b.png", "c.png", "d.png"], ["face", "face", "body", "body"])
    Recording(2 neurons, 4 stimuli, 3 repeats, 2 categories)
    """

    def __init__(
        self,
        responses: ArrayLike,
        stimuli: Sequence[str | Path],
        categories: Sequence[str] | None = None,
        neuron_ids: Sequence[object] | None = None,
    ) -> None:
        self.stimuli = _check_stimuli(stimuli)
        array = _check_responses(responses, len(self.stimuli))
        self.responses = array if array.ndim == 3 else array[:, :, None]
        self.categories = None if categories is None else _check_categories(categories, self.stimuli)
        self.neuron_ids = _check_ids(neuron_ids, len(array))

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return int(self.responses.shape[0])

    @property
    def n_stimuli(self) -> int:
        """Number of stimuli."""
        return int(self.responses.shape[1])

    @property
    def n_repeats(self) -> int:
        """Largest number of repeats of a stimulus."""
        return int(self.responses.shape[2])

    @property
    def n_repeated(self) -> int:
        """Number of stimuli that a neuron has two or more responses to."""
        return int((np.isfinite(self.responses).sum(axis=2) > 1).any(axis=0).sum())

    @property
    def mean_responses(self) -> np.ndarray:
        """Means over repeats, (n_neurons, n_stimuli); NaN where there is none."""
        there = np.isfinite(self.responses)
        count = there.sum(axis=2)
        total = np.where(there, self.responses, 0.0).sum(axis=2)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    @property
    def stimulus_names(self) -> tuple[str, ...]:
        """File names if they are unique, else paths."""
        names = tuple(path.name for path in self.stimuli)
        return names if len(set(names)) == len(names) else tuple(str(path) for path in self.stimuli)

    def __repr__(self) -> str:
        labels = {name for category in self.categories or () for name in split_labels(category)}
        kinds = "no categories" if self.categories is None else f"{len(labels)} categories"
        return f"Recording({self.n_neurons} neurons, {self.n_stimuli} stimuli, {self.n_repeats} repeats, {kinds})"

    def select(self, keep: np.ndarray) -> Recording:
        """The recording with only the stimuli at `keep`, a boolean (n_stimuli,) or indices."""
        index = np.arange(self.n_stimuli)[keep]
        categories = None if self.categories is None else [self.categories[i] for i in index]
        return Recording(self.responses[:, index], [self.stimuli[i] for i in index], categories, self.neuron_ids)

    def select_neurons(self, neurons: Sequence[str | int]) -> Recording:
        """The recording with only these neurons, in the order in which they are given.

        Parameters
        ----------
        neurons : sequence of str or int
            Names, or positions from 0 as integers. Text that is a number, such as "7", is a name; only where no neuron
            has a number for its name is it a position.

        Returns
        -------
        Recording

        Raises
        ------
        TypeError, ValueError
            If there is no such neuron, none is given, or one is given twice.

        Examples
        --------
        >>> recording = Recording(np.eye(3), ["a.png", "b.png", "c.png"], neuron_ids=["unit_4", "unit_7", "unit_9"])
        >>> recording.select_neurons(["unit_9", 0]).neuron_ids
        ('unit_9', 'unit_4')
        >>> recording.select_neurons(["1"]).neuron_ids
        ('unit_7',)
        """
        index = find_neurons(self.neuron_ids, neurons)
        names = [self.neuron_ids[k] for k in index]
        return Recording(self.responses[index], self.stimuli, self.categories, names)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        stimuli: str | Path | None = None,
        labels: str | Path | None = None,
        missing: str = "raise",
        **options: Unpack[ReaderOptions],
    ) -> Recording:
        """Read a recording from disk; its name determines the format.

        - A folder: ``responses.npy`` or ``responses.csv``, ``stimuli.csv`` (columns `file`, `category`; rows in the
          order of the second axis) and images in ``stimuli/``.
        - ``.csv``: a row per stimulus or, for repeats, per presentation; columns `file`, `category` (optional) and one
          per neuron; an empty field is a missing repeat.
        - ``.nc``: Brain-Score's assemblies, (neuroid, presentation[, time_bin]), with their stimulus set, a CSV; or an
          xarray Dataset: `responses` (neuroid, stimulus[, repeat]), coordinates `file` and `category` along stimulus,
          and `neuroid`. Needs ``captum-shared[netcdf]``.
        - ``.nwb``: units' spike times, counted in a window after the start of each trial or other interval, or the mean
          of cells' calcium traces in it. Needs ``captum-shared[nwb]``.
        - ``THINGS_normMUA.mat`` of the THINGS ventral stream spiking dataset (TVSD). Needs ``captum-shared[hdf5]``.
        - ``.mat``, ``.h5``, ``.hdf5``, ``.npz``: any arrays, with a `mapping` that says which is what. HDF5, also that
          of MATLAB's v7.3, needs ``captum-shared[hdf5]``.

        Parameters
        ----------
        path : path
            A folder or a file, as above.
        stimuli : path, optional
            Folder of the images, or a zip file of them, which is unpacked once, into a folder named like it beside it.
            Default: ``stimuli`` next to the file, or in the folder.
        labels : path or "folders", optional
            CSV with the columns `file` and `category`, if the categories are not in the recording itself. "folders":
            an image is in the categories named by the folders of its path, such as ``dog/1.jpg``.
        missing : {"raise", "drop"}, default "raise"
            What to do if listed images do not exist: raise an error that names rows and files, or name them in a
            warning and leave them out.
        **options
            For the reader. NWB: `window` (start, stop) in seconds after the start, `intervals`, `stimulus_column`,
            `category_column`, `traces`. Brain-Score: `window` in milliseconds, `stimulus_set`, `category_column`,
            `variable`. TVSD: `areas`, `stimulus_set`. Arrays: `mapping`. All four: `select`, values of properties of
            the neurons, such as {"region": "IT"}.

        Returns
        -------
        Recording

        Raises
        ------
        FileNotFoundError, ImportError, TypeError, ValueError
            If files are missing, do not fit together, or cannot be read; the message names rows and files.
        """
        check_choice("missing", missing, ("raise", "drop"))
        found, folder = read_recording(Path(path), stimuli, labels, options)
        images = [folder / name for name in found.files]
        try:
            recording = cls(found.responses, images, found.categories, found.neuron_ids)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{path}: {error}") from error
        absent = [row for row, image in enumerate(images) if not image.is_file()]
        if not absent:
            return recording
        names = named_rows(absent, found.files, 50)
        message = f"{len(absent)} of {len(images)} listed stimuli are not in {folder}: {names}"
        if missing == "raise" or len(absent) == len(images):
            raise FileNotFoundError(f"{message}. To leave them out, set `missing` to 'drop'")
        warnings.warn(f"{message}. They are left out.", stacklevel=2)
        return recording.select(np.setdiff1d(np.arange(len(images)), absent))


def _check_stimuli(stimuli: object) -> tuple[Path, ...]:
    if isinstance(stimuli, (str, Path)) or not isinstance(stimuli, Sequence):
        raise TypeError(f"`stimuli` must be a sequence of paths, got {type(stimuli).__name__}")
    wrong = [item for item in stimuli if not isinstance(item, (str, Path))]
    if wrong:
        raise TypeError(f"`stimuli` must be paths, got {type(wrong[0]).__name__}")
    paths = tuple(Path(path) for path in stimuli)
    twice = [row for row, path in enumerate(paths) if path in paths[:row]] if len(set(paths)) < len(paths) else []
    if twice:
        raise ValueError(f"`stimuli` must be listed once; repeats go into the third axis, got twice: "
                         f"{named_rows(twice, paths)}")  # fmt: skip
    if not paths:
        raise ValueError("`stimuli` is empty; expected at least one path")
    return paths


def _check_responses(responses: object, n_stimuli: int) -> np.ndarray:
    if isinstance(responses, np.ma.MaskedArray):
        responses = np.ma.filled(responses.astype(np.float64), np.nan)
    try:
        kind = np.asarray(responses).dtype
        if kind.kind not in "biufO":  # complex numbers, dates and records would lose what they are
            raise ValueError(f"got {kind}")
        array = np.array(responses, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`responses` must be real numbers {SHAPES}: {error}") from error
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(f"`responses` must be {SHAPES} and not empty, got shape {array.shape}")
    if array.shape[1] != n_stimuli:
        raise ValueError(_count_message(array.shape, n_stimuli))
    infinite = np.argwhere(np.isinf(array))
    if len(infinite):
        raise ValueError(f"`responses` must be finite or NaN, got {len(infinite)} infinite values, the first at "
                         f"neuron {infinite[0][0]}, stimulus {infinite[0][1]}")  # fmt: skip
    return array


def _count_message(shape: tuple[int, ...], n_stimuli: int) -> str:
    message = f"`responses` must be {SHAPES} with n_stimuli = {n_stimuli}, the number of stimuli, got shape {shape}"
    if n_stimuli not in shape:
        return message
    axis = shape.index(n_stimuli)
    turn = "responses.T" if len(shape) == 2 else f"np.moveaxis(responses, {axis}, 1)"
    return f"{message}: the stimuli are on axis {axis}, so it looks transposed; pass {turn} with the neurons first"


def _check_categories(categories: Sequence[object], stimuli: tuple[Path, ...]) -> tuple[str, ...]:
    if isinstance(categories, str) or not hasattr(categories, "__len__"):
        raise TypeError(f"`categories` must be a sequence of names, got {type(categories).__name__}")
    if len(categories) != len(stimuli):
        raise ValueError(f"`categories` must name {len(stimuli)} stimuli, got {len(categories)}")
    empty = [row for row, name in enumerate(categories) if not isinstance(name, str) or not name]
    if empty:
        raise ValueError(f"`categories` must be names, got none in {named_rows(empty, stimuli)}")
    return tuple(str(name) for name in categories)


def _check_ids(neuron_ids: Iterable[object] | None, n_neurons: int) -> tuple[str, ...]:
    ids = tuple(str(name) for name in (range(n_neurons) if neuron_ids is None else neuron_ids))
    if len(ids) != n_neurons:
        raise ValueError(f"`neuron_ids` must name {n_neurons} neurons, got {len(ids)}")
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ValueError(f"`neuron_ids` must be unique, got twice: {', '.join(twice[:10])}")
    return ids


def find_neurons(known: Sequence[str], neurons: Sequence[str | int]) -> list[int]:
    """Positions, among all the neurons' names, of those given by name or by position; see `Recording.select_neurons`.

    >>> find_neurons(["10", "11"], ["11", 0]), find_neurons(["a", "b"], ["1", "a"])
    ([1, 0], [1, 0])
    """
    if isinstance(neurons, str) or not (isinstance(neurons, Sequence) or hasattr(neurons, "__array__")):
        raise TypeError(f"`neurons` must be a sequence of names or positions, got {neurons!r}")
    by_name = {name: k for k, name in enumerate(known)}
    numbered = any(name.isdecimal() for name in known)
    found = [_place(one, by_name, numbered) for one in neurons]
    unknown = [str(one) for one, place in zip(neurons, found, strict=True) if place is None]
    if unknown or not found:
        shown = ", ".join(known[:_SHOWN]) + (" ..." if len(known) > _SHOWN else "")
        places = "" if numbered else f" or positions from 0 to {len(known) - 1}"
        raise ValueError(
            f"`neurons` must be names of the recording's neurons ({shown}){places}, got {unknown or 'none'}"
        )
    index = [place for place in found if place is not None]
    twice = [known[k] for k in sorted(set(index)) if index.count(k) > 1]
    if twice:
        raise ValueError(f"`neurons` must be given once each, got twice: {', '.join(twice[:_SHOWN])}")
    return index


def _place(one: object, by_name: dict[str, int], numbered: bool) -> int | None:
    """The position of a neuron; None if there is no such neuron."""
    if isinstance(one, bool) or not isinstance(one, str | Integral):
        raise TypeError(f"`neurons` must be names or positions, got {one!r}")
    if isinstance(one, str) and (one in by_name or numbered or not one.isdecimal()):
        return by_name.get(one)
    return int(one) if 0 <= int(one) < len(by_name) else None
