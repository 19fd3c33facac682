"""What goes wrong in real recordings: corrupt and missing images, dead neurons, lone images, transposed tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import explain

from captum_shared import Recording

pytestmark = pytest.mark.usefixtures("undrawn")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def change_responses(recording: Path, change: Any) -> None:
    responses = np.load(recording / "responses.npy")
    np.save(recording / "responses.npy", change(responses))


def test_three_corrupt_images_are_named_and_left_out(recording: Path, tiny: torch.nn.Module) -> None:
    corrupt = ["003.png", "040.png", "077.png"]
    for name in corrupt[:2]:
        (recording / "stimuli" / name).write_bytes(b"not an image")
    whole = (recording / "stimuli" / corrupt[2]).read_bytes()
    (recording / "stimuli" / corrupt[2]).write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="3 of 90 stimuli cannot be read: 003.png: .*040.png: .*077.png"):
        summary = explain(recording, tiny, Path("out"))
    assert summary["n_stimuli"] == 87
    assert summary["n_explained"] >= 3
    assert "Left out because they cannot be read: 003.png, 040.png, 077.png." in Path("out/index.html").read_text()
    used = {pair[side] for pair in rows_of(Path("out/pairs.csv")) for side in ("image", "reference")}
    assert not used & set(corrupt)


def test_missing_files_are_named_and_may_be_dropped(recording: Path, tiny: torch.nn.Module) -> None:
    for name in ("007.png", "055.png"):
        (recording / "stimuli" / name).unlink()
    names = r"2 of 90 listed stimuli are not in .*: row 8 \(007.png\), row 56 \(055.png\)"
    with pytest.raises(FileNotFoundError, match=names + ".*set `missing` to 'drop'"):
        Recording.load(recording)
    with pytest.warns(UserWarning, match=names + ". They are left out."):
        data = Recording.load(recording, missing="drop")
    assert data.n_stimuli == 88
    kept = np.delete(np.arange(90), [7, 55])
    assert np.array_equal(data.responses, np.load(recording / "responses.npy")[:, kept])
    assert explain(recording, tiny, Path("out"), data)["n_stimuli"] == 88


def test_files_that_vanish_after_loading(recording: Path, tiny: torch.nn.Module) -> None:
    data = Recording.load(recording)
    data.stimuli[4].unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 90 stimuli are missing: .*004.png"):
        explain(recording, tiny, Path("out"), data)


def test_dead_and_constant_neurons_are_listed_with_the_reason(recording: Path, tiny: torch.nn.Module) -> None:
    explain(recording, tiny, Path("healthy"))

    def kill(responses: np.ndarray) -> np.ndarray:
        responses[1], responses[2] = np.nan, 7.0
        return responses

    change_responses(recording, kill)
    summary = explain(recording, tiny, Path("out"))
    healthy, rows = rows_of(Path("healthy/neurons.csv")), rows_of(Path("out/neurons.csv"))
    assert rows[1]["reason"] == "no responses: all are NaN"
    assert rows[2]["reason"] == "constant response of 7"
    for row in rows[1:3]:
        assert (row["status"], row["cv_r"], row["layer"], row["n_drivers"]) == ("excluded", "", "", "0")
    for k in (0, 3, 4):  # the others are not affected
        assert float(rows[k]["cv_r"]) == pytest.approx(float(healthy[k]["cv_r"]), abs=1e-6)
        assert rows[k]["status"] == healthy[k]["status"]
    assert summary["n_fitted"] == 3


def test_neurons_with_other_stimuli_are_fitted_on_their_own(recording: Path, tiny: torch.nn.Module) -> None:
    explain(recording, tiny, Path("healthy"))

    def lose(responses: np.ndarray) -> np.ndarray:
        responses[1, 30:] = np.nan
        responses[2, 5:] = np.nan
        return responses

    change_responses(recording, lose)
    explain(recording, tiny, Path("out"))
    healthy, rows = rows_of(Path("healthy/neurons.csv")), rows_of(Path("out/neurons.csv"))
    assert float(rows[0]["cv_r"]) == pytest.approx(float(healthy[0]["cv_r"]), abs=1e-6)
    assert rows[1]["cv_r"] not in ("", healthy[1]["cv_r"])
    assert "responses to only 5 stimuli; at least 20 are needed for 5 folds" in rows[2]["reason"]
    own = {pair["image"] for pair in rows_of(Path("out/pairs.csv")) if pair["neuron"] == "1"}
    assert all(name < "030.png" for name in own)


def test_noise_is_excluded_for_its_reliability(recording: Path, tiny: torch.nn.Module) -> None:
    def add_noise(responses: np.ndarray) -> np.ndarray:
        responses[3] = np.random.default_rng(1).normal(size=responses[3].shape)
        return responses

    change_responses(recording, add_noise)
    explain(recording, tiny, Path("out"))
    row = rows_of(Path("out/neurons.csv"))[3]
    assert row["status"] == "excluded"
    assert row["reason"].startswith("reliability ")
    assert row["reason"].endswith("below 0.3")


def test_a_category_with_a_single_image_is_nobodys(recording: Path, tiny: torch.nn.Module) -> None:
    table = (recording / "stimuli.csv").read_text().replace("002.png,plain", "002.png,unique")
    (recording / "stimuli.csv").write_text(table)
    responses = np.load(recording / "responses.npy")
    responses[0, 2] += 100  # it would win by far
    np.save(recording / "responses.npy", responses)
    explain(recording, tiny, Path("out"))
    assert "unique" not in {row["preferred_category"] for row in rows_of(Path("out/neurons.csv"))}
    assert "are never chosen as preferred: unique." in Path("out/index.html").read_text()
    with pytest.raises(
        ValueError, match=r"at least 5 images, got 'unique'; expected one of \['disc', 'plain', 'stripe'\]"
    ):
        explain(recording, tiny, Path("other"), preferred="unique")


def test_transposed_responses_are_recognized(recording: Path) -> None:
    change_responses(recording, lambda responses: responses.mean(2).T)
    with pytest.raises(
        ValueError, match=r"got shape \(90, 5\): the stimuli are on axis 0, so it looks transposed; pass responses.T"
    ):
        Recording.load(recording)


def test_repeats_first_are_recognized(recording: Path) -> None:
    change_responses(recording, lambda responses: responses.transpose(2, 0, 1))
    with pytest.raises(ValueError, match=r"stimuli are on axis 2.*np.moveaxis\(responses, 2, 1\)"):
        Recording.load(recording)


def test_without_repeats_the_ceiling_is_unknown(recording: Path, tiny: torch.nn.Module) -> None:
    change_responses(recording, lambda responses: responses.mean(2))
    summary = explain(recording, tiny, Path("out"))
    assert summary["median_reliability"] is None
    assert summary["median_cv_r_corrected"] is None
    assert summary["n_explained"] >= 3
    assert {row["reliability"] for row in rows_of(Path("out/neurons.csv"))} == {""}
    assert "There are no repeats" in Path("out/index.html").read_text()


def test_one_category_only(recording: Path, tiny: torch.nn.Module) -> None:
    data = Recording.load(recording)
    same = Recording(data.responses, data.stimuli, ["thing"] * 90)
    with pytest.raises(ValueError, match="no category has at least 5 images and leaves others"):
        explain(recording, tiny, Path("out"), same)


def test_all_corrupt(recording: Path, tiny: torch.nn.Module) -> None:
    for path in (recording / "stimuli").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="90 of 90 stimuli cannot be read"):
        explain(recording, tiny, Path("out"))


def test_copies_of_a_stimulus_share_a_fold() -> None:
    from captum_shared.study.subject import folds_of

    contents = [f"{k % 20}" for k in range(60)]
    folds = folds_of(contents, 5, 0)
    assert all(len({int(f) for f, c in zip(folds, contents, strict=True) if c == content}) == 1 for content in contents)
    assert np.array_equal(np.bincount(folds), [12] * 5)
    with pytest.raises(ValueError, match="`folds` must be at most the number of different stimuli, 3"):
        folds_of(["a", "b", "c", "a"], 4, 0)
