"""Neurons that are chosen by name or by position, in Python and on the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from recordings import make_network, make_recording

from captum_shared import Recording, cli

NAMES = ("unit_4", "unit_7", "unit_9", "lfp-3")


def of(names: tuple[str, ...] | None) -> Recording:
    """Each neuron's responses are its position."""
    responses = np.repeat(np.arange(4.0)[:, None], 3, axis=1)
    return Recording(responses, ["a.png", "b.png", "c.png"], ["x", "y", "y"], names)


CHOSEN = {
    "names, in their order": (NAMES, ["unit_9", "unit_4"], [2, 0]),
    "positions": (NAMES, [3, 0], [3, 0]),
    "both": (NAMES, ["lfp-3", 1], [3, 1]),
    "numbers in text, where no name is one": (NAMES, ["2"], [2]),
    "numbers that are names": (None, ["2", "0"], [2, 0]),
    "numbers that are names win over positions": (("3", "2", "1", "0"), ["3", "2"], [0, 1]),
    "integers are positions even so": (("3", "2", "1", "0"), [3, 2], [3, 2]),
    "an array": (NAMES, np.array([2, 1]), [2, 1]),
}


@pytest.mark.parametrize("case", CHOSEN)
def test_neurons_chosen(case: str) -> None:
    names, neurons, places = CHOSEN[case]
    recording = of(names)
    found = recording.select_neurons(neurons)
    assert found.responses[:, 0, 0].tolist() == places
    assert found.neuron_ids == tuple(recording.neuron_ids[k] for k in places)
    assert (found.stimuli, found.categories) == (recording.stimuli, recording.categories)


MISTAKES = {
    "a name": (NAMES, ["unit_5"], ValueError, r"neurons \(unit_4, unit_7, unit_9, lfp-3\) or positions from 0 to 3, got \['unit_5'\]"),
    "a position": (NAMES, [4], ValueError, r"or positions from 0 to 3, got \['4'\]"),
    "a negative one": (NAMES, [-1], ValueError, r"got \['-1'\]"),
    "a number that is no name where others are": (("1", "2", "3", "a"), ["0"], ValueError, r"neurons \(1, 2, 3, a\), got \['0'\]"),
    "none": (NAMES, [], ValueError, "got none"),
    "twice": (NAMES, ["unit_7", "1"], ValueError, "given once each, got twice: unit_7"),
    "text": (NAMES, "unit_4", TypeError, "must be a sequence of names or positions, got 'unit_4'"),
    "a number": (NAMES, 3, TypeError, "must be a sequence of names or positions, got 3"),
    "a fraction": (NAMES, [0.5], TypeError, "must be names or positions, got 0.5"),
    "a truth value": (NAMES, [True], TypeError, "must be names or positions, got True"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_no_such_neurons(case: str) -> None:
    names, neurons, error, text = MISTAKES[case]
    with pytest.raises(error, match=text):
        of(names).select_neurons(neurons)


@pytest.mark.usefixtures("undrawn")
def test_neurons_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a table with names: by name, by number, and by both; in the order of the recording."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = make_recording(tmp_path, make_network(tmp_path), n_stimuli=30, n_neurons=3)
    responses = np.load(folder / "responses.npy").mean(2)
    (folder / "responses.npy").unlink()
    files = [f"{i:03d}.png" for i in range(30)]
    rows = [
        ["file", "unit_5", "unit_a", "unit_9"],
        *([name, *row] for name, row in zip(files, responses.T.tolist(), strict=True)),
    ]
    with (folder / "responses.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    words = ["recording", "--recording", str(folder), "--model", "tiny_network:make", "--weights", "tiny.pth",
             "--image-size", "24", "--layer", "3", "--pool", "avg", "--maps", "layer", "--min-r", "1"]  # fmt: skip
    assert cli.main([*words, "--neurons", "unit_9,0"]) == 0
    with Path("report/neurons.csv").open(newline="") as file:
        assert [row["neuron"] for row in csv.DictReader(file)] == ["unit_5", "unit_9"]
    capsys.readouterr()
    assert cli.main([*words, "--neurons", "unit_5,3"]) == 2
    assert "--neurons must be names of the recording's neurons (unit_5, unit_a, unit_9) or positions from 0 to 2, got ['3']" in capsys.readouterr().err  # fmt: skip
