"""Recordings without categories, with several to an image, with those of folders; and what silences neurons."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from recordings import explain, make_network, make_recording, undraw

from captum_shared import Recording, explain_recording
from captum_shared.cli import main
from captum_shared.labels import folder_labels, members, read_labels, split_labels
from captum_shared.study.category import check_membership
from captum_shared.study.settings import RecordingSettings
from captum_shared.study.subject import open_subject
from captum_shared.study.tuning import category_means, find_tuning

QUICK: dict[str, Any] = {
    "maps": "layer", "min_cv_r": -1.0, "min_d_prime": -9.0, "threshold": 0.5, "layers": ["3"], "pools": ("avg",),
    "n_splits": 2, "figures": 0, "folds": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """The folder of a recording, and the network that its neurons read."""
    folder = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        network = make_network(folder)
    return make_recording(folder, network, n_stimuli=60, n_neurons=3), network


def plain(recording: Recording, keep: Any = slice(None), **changes: Any) -> Recording:
    """The recording without categories, with some of its stimuli."""
    given = {"responses": recording.responses[:, keep], "stimuli": list(np.array(recording.stimuli)[keep]), **changes}
    return Recording(given["responses"], given["stimuli"], changes.get("categories"), recording.neuron_ids)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow  # 6 s: figures are drawn
def test_without_categories(made: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    """The whole report: tables, page, viewer, figures; each pair by the definition, written as a loop."""
    from captum_shared.study.maps import load_maps

    folder, network = made
    recording = plain(Recording.load(folder))
    out = tmp_path / "out"
    summary = explain(folder, network, out, recording, pairs="drivers", drivers=3, **{**QUICK, "figures": 3})
    assert (summary["n_explained"], summary["preferred_categories"]) == (3, {})
    neurons, pairs = rows(out / "neurons.csv"), rows(out / "pairs.csv")
    assert {(n["preferred_category"], n["d_prime"], n["generalization_r"]) for n in neurons} == {("", "", "")}
    assert {n["status"] for n in neurons} == {"explained"}
    assert len(pairs) == summary["n_pairs"]
    names = list(recording.stimulus_names)
    for k, n in enumerate(neurons):
        own = [row for row in pairs if row["neuron"] == n["neuron"]]
        assert load_maps(out / "maps" / f"neuron_{k}.npz", "layer").shape[0] == len(own) == int(n["n_drivers"])
        responses = recording.mean_responses[k]
        level = responses.mean() + 0.5 * responses.std()
        strengths = [responses[names.index(row["image"])] for row in own]
        assert strengths == sorted(strengths, reverse=True)
        for row in own:
            assert row["image"] != row["reference"]
            assert min(responses[names.index(row[side])] for side in ("image", "reference")) >= level
        assert len({frozenset((row["image"], row["reference"])) for row in own}) == len(own)
    page = (out / "index.html").read_text()
    assert "Pairs were chosen among the drivers" in page
    assert "otherwise as unlike as can be" in page
    assert "category" not in page.split("<script")[0].replace("whatever their categories", "").split("Settings and")[0]
    index = (out / "data" / "index.js").read_text()
    columns = [column[0] for column in json.loads(index.split(",", 2)[2].rsplit("]);", 1)[0])["columns"]]
    assert not {"preferred_category", "d_prime", "generalization_r"} & set(columns)


def test_the_pairs_of_the_report_are_those_of_the_definition(
    made: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captum_shared.selection import find_driver_pairs, find_partners
    from captum_shared.study import neurons as module

    seen = []
    find = module.select_neurons

    def watch(study: Any, tuning: Any, latents: Any, models: Any) -> Any:
        found = find(study, tuning, latents, models)
        for n in found:
            z = latents.standardized(int(models.candidate[n.index]))
            partners = find_partners(
                study.responses[n.index], predicted=models.predictions[:, n.index], threshold=0.5, top=2
            )
            expected = find_driver_pairs(z, partners, torch.as_tensor(models.weights[n.index]).double())
            assert n.pairs.images.tolist() == expected.images.tolist()
            assert n.pairs.references.tolist() == expected.references.tolist()
            seen.append(n.index)
        return found

    undraw(monkeypatch)
    monkeypatch.setattr("captum_shared.report.recording.explain.select_neurons", watch)
    folder, network = made
    explain(folder, network, tmp_path / "out", plain(Recording.load(folder)), pairs="drivers", **QUICK)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("kind", ["drivers", pytest.param("category", marks=pytest.mark.slow)])  # 2 s each
def test_what_silences_is_what_excites_the_negated_neuron(
    kind: str, made: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negated responses with the pole "excite" give the same pairs and maps; only what is shown has its own sign."""
    from captum_shared.study.maps import load_maps

    undraw(monkeypatch)
    folder, network = made
    recording = Recording.load(folder)
    negated = Recording(-recording.responses, recording.stimuli, recording.categories, recording.neuron_ids)
    silent, other = tmp_path / f"silent_{kind}", tmp_path / f"negated_{kind}"
    explain(folder, network, silent, recording, pole="suppress", pairs=kind, **QUICK)
    explain(folder, network, other, negated, pairs=kind, **QUICK)
    one, two = rows(silent / "pairs.csv"), rows(other / "pairs.csv")
    assert len(one) >= 2
    for a, b in zip(one, two, strict=True):
        assert [a[name] for name in ("neuron", "image", "reference")] == [
            b[name] for name in ("neuron", "image", "reference")
        ]
        assert float(a["similarity"]) == pytest.approx(float(b["similarity"]), rel=1e-4)
        assert float(a["response"]) == pytest.approx(-float(b["response"]), rel=1e-4)
        assert float(a["predicted"]) == pytest.approx(-float(b["predicted"]), rel=1e-4)
    for a, b in zip(rows(silent / "neurons.csv"), rows(other / "neurons.csv"), strict=True):
        assert a["preferred_category"] == b["preferred_category"]
        assert float(a["d_prime"]) == pytest.approx(float(b["d_prime"]))
    for k in sorted({int(row["neuron"]) for row in one}):
        maps = [load_maps(out / "maps" / f"neuron_{k}.npz", "layer") for out in (silent, other)]
        assert maps[0] == pytest.approx(maps[1], abs=1e-3 * float(abs(maps[1]).max()))
    page = (silent / "index.html").read_text()
    assert "What is explained is what silences the neurons" in page
    assert "standard deviations below their means" in page
    assert "What is explained is what silences" not in (other / "index.html").read_text()


def test_the_same_image_twice_is_not_paired_with_itself(
    made: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image is there twice, under two names, with the same response; no neuron's pair is of one image."""
    undraw(monkeypatch)
    folder, network = made
    recording = Recording.load(folder)
    copies = []
    for path in recording.stimuli[:40]:
        copies.append(tmp_path / f"copy_{path.name}")
        shutil.copy(path, copies[-1])
    twice = plain(
        recording, responses=np.concatenate([recording.responses[:, :40]] * 2, axis=1),
        stimuli=[*recording.stimuli[:40], *copies],
    )  # fmt: skip
    explain(folder, network, tmp_path / "out", twice, pairs="drivers", drivers=9, **QUICK)
    pairs = rows(tmp_path / "out" / "pairs.csv")
    assert len(pairs) > 6
    for row in pairs:
        assert row["image"].removeprefix("copy_") != row["reference"].removeprefix("copy_")
        assert not row["reference"].startswith("copy_")  # of equal ones the first is kept


def test_fewer_than_two_drivers(
    made: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undraw(monkeypatch)
    folder, network = made
    recording = plain(Recording.load(folder))
    for pole, side in (("excite", "above"), ("suppress", "below")):
        options = {**QUICK, "threshold": 9.0, "pairs": "drivers", "pole": pole}
        summary = explain(folder, network, tmp_path / pole, recording, **options)
        reason = f"fewer than two different stimuli with recorded and predicted response 9 standard deviations {side}"
        assert all(text.startswith(reason) for text in summary["not_explained"].values())
        assert len(summary["not_explained"]) == 3


@pytest.mark.slow  # 2 s, likewise
def test_missing_responses_are_no_drivers(
    made: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undraw(monkeypatch)
    folder, network = made
    recording = plain(Recording.load(folder))
    responses = recording.responses.copy()
    best = np.argsort(-recording.mean_responses[0])[:4]
    responses[0, best] = np.nan
    explain(folder, network, tmp_path / "out", plain(recording, responses=responses), pairs="drivers", **QUICK)
    names = {recording.stimulus_names[place] for place in best}
    own = [row for row in rows(tmp_path / "out" / "pairs.csv") if row["neuron"] == recording.neuron_ids[0]]
    assert own
    assert not names & {row[side] for row in own for side in ("image", "reference")}


def test_no_categories_and_no_pairs_of_drivers(made: tuple[Path, torch.nn.Module]) -> None:
    with pytest.raises(ValueError, match="without categories, set `pairs` to 'drivers'"):
        explain_recording(plain(Recording.load(made[0])), made[1])


def test_the_command_says_which_flag(made: tuple[Path, torch.nn.Module], tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "recording"
    shutil.copytree(made[0], folder)
    names = [row["file"] for row in rows(folder / "stimuli.csv")]
    (folder / "stimuli.csv").write_text("file\n" + "".join(f"{name}\n" for name in names))
    command = ["recording", "--recording", str(folder), "--model", "resnet18", "--layer", "layer1"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "--pairs" in said
    assert "'drivers'" in said
    assert said.count("\n") == 1


def test_a_preferred_category_that_there_is_not(made: tuple[Path, torch.nn.Module]) -> None:
    with pytest.raises(ValueError, match="`preferred` must be a category .* got 'dog'; expected one of"):
        explain_recording(plain(Recording.load(made[0])), made[1], pairs="drivers", preferred="dog")


def settings(**options: Any) -> RecordingSettings:
    return RecordingSettings(n_splits=5, **options)


def test_an_image_in_several_categories(made: tuple[Path, torch.nn.Module]) -> None:
    """d' of a label is that of the images that have it, whatever else they have; means are over these, too."""
    recording = Recording.load(made[0])
    kinds = list(recording.categories or ())
    odd = [i % 4 == 1 for i in range(60)]
    several = [f"{kind};odd" if flag else kind for kind, flag in zip(kinds, odd, strict=True)]
    subject = open_subject(plain(recording, categories=several), settings())
    assert str(subject.recording).count("4 categories")
    tuning = find_tuning(subject)
    for k, (preferred, found) in enumerate(zip(tuning.preferred, tuning.d_prime, strict=True)):
        d_primes = {}
        for name in ("disc", "odd", "plain", "stripe"):
            inside = [i for i in range(60) if kinds[i] == name or (name == "odd" and odd[i])]
            r = recording.mean_responses[k]
            a, b = r[inside], np.delete(r, inside)
            d_primes[name] = (a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        assert preferred == max(d_primes, key=lambda name: d_primes[name])
        assert found == pytest.approx(max(d_primes.values()))
    means = {name: mean for name, mean, _ in category_means(subject.responses[0], subject.categories)}
    assert means["odd"] == pytest.approx(subject.responses[0][odd].mean())
    assert set(means) == {"disc", "odd", "plain", "stripe"}
    assert any("several categories" in note for note in subject.notes)
    assert not any("several categories" in note for note in open_subject(recording, settings()).notes)


@pytest.mark.slow  # 2 s: with the others, this file would take too long
def test_several_categories_through_the_report(
    made: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver outside the category has no such label among its own, and a reference has."""
    undraw(monkeypatch)
    folder, network = made
    recording = Recording.load(folder)
    several = [f"{kind}; {'even' if i % 2 else 'odd'}" for i, kind in enumerate(recording.categories or ())]
    explain(folder, network, tmp_path / "out", plain(recording, categories=several), preferred="even", **QUICK)
    even = {name for i, name in enumerate(recording.stimulus_names) if i % 2}
    pairs = rows(tmp_path / "out" / "pairs.csv")
    assert pairs
    assert all(row["reference"] in even and row["image"] not in even for row in pairs)


def test_labels_and_members_by_hand() -> None:
    assert split_labels("a;b; a ;;c") == ("a", "b", "c")
    assert members(np.array(["a;b", "ab", "", "b"]), "b").tolist() == [True, False, False, True]
    check_membership(["dog;out", "dog", "cat;out", "cat"], "out", 2)
    with pytest.raises(ValueError, match="got 1 of 'dog' and 3 others"):
        check_membership(["dog;out", "out", "cat;out", "cat"], "dog", 2)
    with pytest.raises(ValueError, match=r"got 'dog;out'; expected one of \['cat', 'dog', 'out'\]"):
        check_membership(["dog;out", "cat"], "dog;out", 2)


def test_categories_of_folders(tmp_path: Path) -> None:
    for name in ("animals/dog/1.png", "animals/cat/2.JPG", "car/3.png", "4.png", "car/.5.png", "car/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    paths, categories = read_labels(tmp_path, "folders")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "animals/cat/2.JPG", "animals/dog/1.png", "car/3.png"
    ]  # fmt: skip
    assert categories == ["animals;cat", "animals;dog", "car"]
    assert folder_labels(["./x/1.png", "/y/2.png", "../z/3.png"]) == ["x", "y", "z"]
    with pytest.raises(ValueError, match="must be in a folder that names its category.* got 1 that are not: 4.png"):
        folder_labels(["car/3.png", "4.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images in the folders below"):
        read_labels(tmp_path / "empty", "folders")


def test_a_recording_with_categories_of_folders(made: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    recording = Recording.load(made[0])
    names = []
    for path, kind in zip(recording.stimuli, recording.categories or (), strict=True):
        names.append(f"{kind}/{path.name}")
        (tmp_path / "stimuli" / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "stimuli" / names[-1])
    np.save(tmp_path / "responses.npy", recording.responses)
    (tmp_path / "stimuli.csv").write_text("file\n" + "".join(f"{name}\n" for name in names))
    assert Recording.load(tmp_path).categories is None
    assert Recording.load(tmp_path, labels="folders").categories == recording.categories


@pytest.mark.parametrize(("name", "value"), [("pairs", "all"), ("pole", "both")])
def test_unknown_choice(name: str, value: str, made: tuple[Path, torch.nn.Module]) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be one of .*, got '{value}'"):
        explain_recording(Recording.load(made[0]), made[1], **{name: value})


@pytest.mark.slow  # 10 s: two reports with interventions, and twins for both
def test_interventions_of_what_silences_are_those_of_the_negated_neuron(
    made: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until this test the twin's readout had the sign of the responses, whatever the pole."""
    undraw(monkeypatch)
    folder, network = made
    recording = Recording.load(folder)
    negated = Recording(-recording.responses, recording.stimuli, recording.categories, recording.neuron_ids)
    options = {**QUICK, "layers": ["1", "3"], "interventions": True, "pairs": "drivers", "neurons": "0"}
    explain(folder, network, tmp_path / "silent", recording, pole="suppress", **options)
    explain(folder, network, tmp_path / "negated", negated, **options)
    one, two = rows(tmp_path / "silent" / "pairs.csv"), rows(tmp_path / "negated" / "pairs.csv")
    columns = [name for name in one[0] if name.startswith(("necessity", "sufficiency", "specificity", "twin"))]
    assert len(columns) > 9
    for a, b in zip(one, two, strict=True):
        for name in columns:
            if name in ("twin", "twin_passes") or not a[name]:
                assert a[name] == b[name]
            else:
                assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-3, abs=1e-4), name


@pytest.mark.slow  # 4 s: a report is drawn
def test_category_takes_folders_and_an_image_in_several(made: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    """Photographs in shapes/disc, shapes/stripe and plain: what plain ones share with shapes, of either kind."""
    from captum_shared import LatentEncoder
    from captum_shared.networks.preprocessing import preprocessing
    from captum_shared.report.category import explain_category

    recording = Recording.load(made[0])
    inside = set()
    for path, kind in zip(recording.stimuli, recording.categories or (), strict=True):
        folder = tmp_path / "images" / (kind if kind == "plain" else f"shapes/{kind}")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.name)
        inside |= {path.name} if kind != "plain" else set()
    encoder = LatentEncoder(made[1], "3")
    images, out = tmp_path / "images", tmp_path / "out"
    explain_category(
        images, "folders", "shapes", encoder, preprocessing(24), out=out, top=3, maps="layer", progress=False
    )
    pairs = rows(out / "pairs.csv")
    assert len(pairs) == 3
    assert all(row["reference"] in inside and row["image"] not in inside for row in pairs)
    assert '"shapes, disc"' in (out / "index.html").read_text()
