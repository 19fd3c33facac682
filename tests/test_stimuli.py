"""``captum-shared stimuli``, from a report to pictures and a protocol, and from responses to results."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pypdf
import pytest
import torch
from browser import open_browser
from PIL import Image
from recordings import explain, make_network, make_recording, undraw
from scipy import stats

from captum_shared import LatentEncoder, Recording, cli, encode_images
from captum_shared.networks.preprocessing import preprocessing
from captum_shared.report.stimuli import make_stimuli, score_stimuli
from captum_shared.report.stimuli.page import protocol
from captum_shared.report.stimuli.tables import NeuronSet, PairSet, read_set
from captum_shared.stimuli import TrialNoise, luminance_and_contrast, measure_noise, plan_repeats, score_comparisons
from captum_shared.stimuli.pictures import Parts, Stimulus
from captum_shared.study.experiment import ExperimentSettings

ABOUT = {"model": "tiny_network:make", "weights": "tiny.pth", "image_size": 24, "device": "cpu"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with a network, a recording of counts, and its report."""
    folder = tmp_path_factory.mktemp("stimuli")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        undraw(patch)
        network = make_network(folder)
        path = make_recording(folder, network)
        signal = np.load(path / "responses.npy").mean(2) - 10
        counts = np.random.default_rng(0).poisson(np.maximum(6 + 3 * signal, 0.1)[..., None], (*signal.shape, 8))
        np.save(path / "responses.npy", counts.astype(float))
        explain(path, network, folder / "report", maps="layer", figures=0, about=ABOUT, min_reliability=-1, min_cv_r=-1,
                min_d_prime=-9)  # fmt: skip
        assert command("--neurons", "0,2", "--area", "0.2", "--max-repeats", "400") == 0
        yield folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(str(home))
    undraw(monkeypatch)
    return home


def command(*words: str, out: str = "made") -> int:
    given = ["--report", "report", "--recording", "recording", "--weights", "tiny.pth", "--device", "cpu"]
    return cli.main(["stimuli", *given, "--out", out, *words])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def laboratory(folder: Path, repeats: dict[str, int] | None = None, seed: int = 0, lie: float = 1.0) -> Path:
    """Responses as predicted, Poisson-like with the variance in ``neurons.csv``; those of controls times `lie`."""
    rng = np.random.default_rng(seed)
    neurons = {row["neuron"]: row for row in rows_of(folder / "neurons.csv")}
    lines = ["file,neuron,trial,response"]
    for row in rows_of(folder / "stimuli.csv"):
        about = neurons[row["neuron"]]
        noise = float(about["variance_floor"]), float(about["variance_slope"])
        mean = float(row["predicted"]) * (lie if row["control"] else 1.0)
        n = max((repeats or {}).get(row["neuron"], int(about["repeats"])), 2)
        variance = noise[0] + noise[1] * mean
        trials = rng.poisson(mean**2 / variance, n) * variance / mean if mean > 0 else np.zeros(n)
        lines += [f"{row['file']},{row['neuron']},{trial},{value:.6g}" for trial, value in enumerate(trials)]
    path = folder.parent / "measured.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_pictures_tables_and_protocol(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--neurons", "0,2", "--area", "0.2", "--max-repeats", "400") == 0  # there already
    said = capsys.readouterr().out
    made = here / "made"
    stimuli, comparisons = rows_of(made / "stimuli.csv"), rows_of(made / "comparisons.csv")
    n_pairs = len({(row["neuron"], row["pair"]) for row in stimuli})
    assert f"{11 * n_pairs} pictures of {n_pairs} pairs, " in said
    assert {path.name for path in (made / "images").iterdir()} == {row["file"] for row in stimuli}
    pairs: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(here / "report/pairs.csv"):
        pairs.setdefault(row["neuron"], []).append(row)
    for row in stimuli:
        pair = pairs[row["neuron"]][int(row["pair"]) - 1]
        assert (row["image"], row["reference"]) == (pair["image"], pair["reference"])
        picture = np.asarray(Image.open(made / "images" / row["file"]))
        assert picture.shape == (24, 24, 3)
        assert (float(row["luminance"]), float(row["contrast"])) == pytest.approx(
            luminance_and_contrast(picture), rel=1e-5
        )
        original = np.asarray(Image.open(here / "recording/stimuli" / row["image"]))
        changed = (picture != original).any(-1).mean()
        if row["kind"] == "removed":
            assert changed <= 115 / 576
            assert float(row["area"]) == pytest.approx(115 / 576, rel=1e-5)
        if row["kind"] == "image":
            assert not changed
            assert row["area"] == row["expected"] == ""
    predicted = {row["file"]: float(row["predicted"]) for row in stimuli}
    assert len(comparisons) == 3 * n_pairs
    for row in comparisons:
        controls = row["controls"].split(" ")
        difference = predicted[row["file"]] - np.mean([predicted[name] for name in controls])
        assert float(row["predicted_difference"]) == pytest.approx(difference, abs=1e-4)
        assert row["expected"] == {"removed": "lower"}.get(row["kind"], "higher")
    page = (made / "index.html").read_text()
    assert "Welch" in page
    assert "It shows no more than that" in page


@pytest.mark.slow  # a second for each set; together over 5
def test_predictions_are_those_of_the_reports_readout(here: Path) -> None:
    """The readout by hand: from the standardized latents of all stimuli and scikit-learn's ridge regression."""
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    from captum_shared.readout.fitting import ALPHAS

    assert command("--neurons", "2", "--pairs", "2", out="predicted") == 0
    layer = {row["neuron"]: row for row in rows_of(here / "report/layers.csv") if row["chosen"] == "1"}["2"]
    pool = int(layer["pool"]) if layer["pool"].isdigit() else layer["pool"]
    network = make_network(here)
    encoder, transform = LatentEncoder(network, layer["layer"], pool), preprocessing(24)
    recording = Recording.load(here / "recording")
    scaler = StandardScaler()
    z = scaler.fit_transform(encode_images(encoder, list(recording.stimuli), transform).double().numpy())
    ridge = RidgeCV(alphas=ALPHAS).fit(z, recording.mean_responses[2])
    rows = rows_of(here / "predicted/stimuli.csv")
    pictures = [here / "predicted/images" / row["file"] for row in rows]
    expected = ridge.predict(scaler.transform(encode_images(encoder, pictures, transform).double().numpy()))
    assert [float(row["predicted"]) for row in rows] == pytest.approx(np.maximum(expected, 0), rel=1e-3, abs=1e-3)
    noise = measure_noise(recording.responses[2])
    about = rows_of(here / "predicted/neurons.csv")[0]
    assert (float(about["variance_floor"]), float(about["variance_slope"])) == pytest.approx(
        (noise.floor, noise.slope), rel=1e-4
    )


@pytest.mark.slow  # a second for each set; together over 5
def test_equal_luminance_and_contrast(here: Path) -> None:
    assert command("--neurons", "0", "--match-luminance", "--match-contrast", out="equal") == 0
    rows = rows_of(here / "equal/stimuli.csv")
    assert np.ptp([float(row["luminance"]) for row in rows]) < 0.01
    for alone in (True, False):
        assert np.ptp([float(row["contrast"]) for row in rows if (row["kind"] == "alone") is alone]) < 0.05


def test_the_round_trip(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = here / "made"
    tests = [row for row in rows_of(made / "comparisons.csv") if row["tested"] == "yes"]
    assert len(tests) > 3
    assert cli.main(["stimuli", "--responses", str(laboratory(made)), "--out", str(made)]) == 0
    assert capsys.readouterr().out.strip().endswith("open " + str(made / "results/index.html"))
    results = rows_of(made / "results/results.csv")
    summary = json.loads((made / "results/summary.json").read_text())
    assert [row["outcome"] != "not tested" for row in results] == [
        row["tested"] == "yes" for row in rows_of(made / "comparisons.csv")
    ]
    assert summary["n_tests"] == len(tests)
    assert summary["n_confirmed"] > 0.6 * len(tests)
    assert summary["n_refuted"] == 0
    measured: dict[str, list[float]] = {}
    for row in rows_of(here / "measured.csv"):
        measured.setdefault(row["file"], []).append(float(row["response"]))
    alone = next(row for row in results if row["kind"] == "removed")
    comparison = next(
        r
        for r in rows_of(made / "comparisons.csv")
        if (r["neuron"], r["pair"], r["kind"]) == (alone["neuron"], alone["pair"], "removed")
    )
    controls = np.mean([np.mean(measured[name]) for name in comparison["controls"].split(" ")])
    assert float(alone["difference"]) == pytest.approx(np.mean(measured[comparison["file"]]) - controls, rel=1e-4)
    assert "What became of the predictions" in (made / "results/index.html").read_text()


@pytest.mark.slow  # a second for each set; together over 5
def test_other_responses_are_refused_then_replaced(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--neurons", "0", "--max-repeats", "400", out="again") == 0
    made = here / "again"
    score_stimuli(made, laboratory(made))
    other = laboratory(made, seed=1, lie=3.0)
    capsys.readouterr()
    assert cli.main(["stimuli", "--responses", str(other), "--out", str(made)]) == 2
    error = capsys.readouterr().err
    assert "holds a report of another configuration" in error
    assert error.count("\n") == 1
    assert score_stimuli(made, other, overwrite=True)["n_tests"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--neurons", "9"], "must be names of the recording's neurons (0, 1, 2, 3, 4), got ['9']"),
        (["--pairs", "1,7"], "--pairs must be from 1 to 1 for neuron 0, got 7"),
        (["--pairs", "a"], "--pairs must be numbers separated by commas"),
        (["--area", "0"], "--area must be above 0 and below 1, got 0.0"),
        (["--map", "pixel"], "--map must be a kind of map that the report has, layer, got 'pixel'"),
        (["--controls", "0"], "--controls must be a positive integer, got 0"),
        (["--fano", "-1"], "--fano must be above 0"),
        (["--report", "nowhere"], "no report at nowhere"),
        (["--weights", "nowhere.pth"], "no weights at nowhere.pth"),
        (["--image-size", "32"], "the recording or the network is not that of the report at report. Different"),
        (["--out", "report"], "holds a report of another configuration"),
        (["--out", "recording"], "--out must be an empty folder or hold a report"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(here: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert command(*words, out="wrong") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_what_is_missing_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def says(*words: str) -> str:
        assert cli.main(["stimuli", *words]) == 2
        return capsys.readouterr().err

    assert "--recording is needed" in says("--report", "report", "--weights", "tiny.pth")
    shutil.move(here / "tiny.pth", here / "elsewhere.pth")
    try:
        lacking = says("--report", "report", "--recording", "recording", "--out", "wrong")
    finally:
        shutil.move(here / "elsewhere.pth", here / "tiny.pth")
    assert "made with the weights tiny.pth; give their path as --weights" in lacking
    assert "are for making stimuli" in says("--responses", "a.csv", "--neurons", "1")
    assert "no stimuli at empty" in says("--responses", "a.csv", "--out", "empty")
    assert "holds no finished stimuli" in says("--responses", "a.csv", "--out", "report")


@pytest.mark.slow  # a second for each set; together over 5
def test_changed_predictions_are_not_scored(here: Path) -> None:
    assert command("--neurons", "1", "--pairs", "1", out="changed") == 0
    path = here / "changed/comparisons.csv"
    path.write_text(path.read_text().replace("lower", "higher"))
    with pytest.raises(ValueError, match=r"comparisons.csv was changed since it was written"):
        score_stimuli(here / "changed", here / "measured.csv")


@pytest.mark.slow  # a second for each set; together over 5
def test_pairs_without_heat_are_left_out(here: Path) -> None:
    shutil.copytree(here / "report", here / "cold")
    path = here / "cold/maps/neuron_2.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["layer"][0, 1] = -1
    np.savez(path, **arrays)
    assert command("--report", "cold", "--neurons", "2", out="warm") == 0
    assert rows_of(here / "warm/neurons.csv")[0]["pairs_without_heat"] == "1"
    assert {row["pair"] for row in rows_of(here / "warm/stimuli.csv")} == {"2"}
    assert "Left out because a map has no heat: 2 (pair 1)" in (here / "warm/index.html").read_text()
    assert command("--report", "cold", "--neurons", "0,2", "--pairs", "1", "--alpha", "0.01", out="half") == 0
    half = {row["neuron"]: row for row in rows_of(here / "half/neurons.csv")}
    assert (half["2"]["files"], half["2"]["level"]) == ("0", "0.01")
    assert command("--report", "cold", "--neurons", "2", "--pairs", "1", out="cool") == 2
    path.write_bytes(b"")
    assert command("--report", "cold", "--neurons", "2", out="cool") == 2


@pytest.mark.slow  # a second for each set; together over 5
def test_without_repeats_the_fano_factor_must_be_given(here: Path, tmp_path: Path) -> None:
    network, recording = make_network(here), Recording.load(here / "recording")
    single = Recording(recording.mean_responses, recording.stimuli, recording.categories, recording.neuron_ids)
    explain(here / "recording", network, tmp_path / "report", single, maps="layer", figures=0, min_cv_r=-1, min_d_prime=-9,
            neurons="0")  # fmt: skip
    options = {"neurons": "0", "pairs": "1", "progress": False}
    with pytest.raises(ValueError, match="neuron 0: trial noise needs a stimulus with at least two repeats"):
        make_stimuli(tmp_path / "report", single, network, preprocessing(24), out=tmp_path / "a", **options)
    make_stimuli(tmp_path / "report", single, network, preprocessing(24), out=tmp_path / "b", fano=1.5, **options)
    assert rows_of(tmp_path / "b/neurons.csv")[0]["variance_slope"] == "1.5"


@pytest.mark.slow  # 500 experiments of some ten tests each
def test_the_power_matches_the_plan(here: Path) -> None:
    """Of each planned comparison the share of significant experiments, at the plan's level, is the planned power."""
    made, rng, n = read_set(here / "made"), np.random.default_rng(0), 500
    about = {row["neuron"]: row for row in rows_of(here / "made/neurons.csv")}
    power = {
        row["file"]: float(row["power"]) for row in rows_of(here / "made/comparisons.csv") if row["tested"] == "yes"
    }
    found = dict.fromkeys(power, 0)
    confirmed = dict.fromkeys(power, 0)
    for neuron, comparisons in made.comparisons.items():
        noise = TrialNoise(float(about[neuron]["variance_floor"]), float(about[neuron]["variance_slope"]))
        for _ in range(n):
            means = made.predicted[neuron]
            trials = dict(zip(means, noise.draw(list(means.values()), made.repeats[neuron], rng), strict=True))
            for one in score_comparisons([each for each in comparisons if each[1]], trials, alpha=made.alpha):
                found[one.comparison.file] += one.test.p <= float(about[neuron]["level"])
                confirmed[one.comparison.file] += one.outcome == "confirmed"
    assert len(power) > 3
    for file, planned in power.items():
        interval = stats.binomtest(found[file], n).proportion_ci(1 - 0.05 / len(power))
        assert interval.low <= planned <= interval.high, file
        assert confirmed[file] >= found[file] - n // 100  # Holm's correction loses nothing


@pytest.mark.slow  # a second for each set; together over 5
def test_what_silences_a_neuron_goes_the_other_way(here: Path, tmp_path: Path) -> None:
    """The responses are predicted, not their negative, and a part without which they rise is expected to be shown."""
    network, recording = make_network(here), Recording.load(here / "recording")
    explain(here / "recording", network, tmp_path / "none", maps="layer", figures=0, neurons="0", threshold=9)
    with pytest.raises(ValueError, match="explains no neuron, so it has no pairs to test"):
        make_stimuli(tmp_path / "none", recording, network, preprocessing(24), out=tmp_path / "made")
    explain(here / "recording", network, tmp_path / "report", maps="layer", figures=0, min_cv_r=-1, min_d_prime=-9,
            pole="suppress", pairs="drivers", threshold=0.3)  # fmt: skip
    make_stimuli(tmp_path / "report", recording, network, preprocessing(24), out=tmp_path / "made", progress=False)
    expected = {row["kind"]: row["expected"] for row in rows_of(tmp_path / "made/comparisons.csv")}
    assert expected == {"removed": "higher", "alone": "lower", "transplant": "lower"}
    stimuli = [row for row in rows_of(tmp_path / "made/stimuli.csv") if row["kind"] in ("image", "reference")]
    shown = {(row["neuron"], row[row["kind"]]): float(row["predicted"]) for row in stimuli}
    recorded = [recording.mean_responses[int(n), recording.stimulus_names.index(name)] for n, name in shown]
    of = [int(neuron) for neuron, _ in shown]
    assert np.mean(list(shown.values())) < recording.mean_responses[of].mean()
    assert np.abs(np.array(list(shown.values())) - recorded).mean() < 2
    assert "without the part, the response is higher" in (tmp_path / "made/index.html").read_text()


@pytest.mark.slow  # a second for each set; together over 5
def test_all_pictures_have_one_size(here: Path, tmp_path: Path) -> None:
    """Also if the stimuli have several, and each neuron has others."""
    shutil.copytree(here / "recording", tmp_path / "recording")
    for path in sorted((tmp_path / "recording/stimuli").iterdir())[::3]:
        Image.open(path).resize((36, 28)).save(path)
    network, recording = make_network(here), Recording.load(tmp_path / "recording")
    explain(tmp_path, network, tmp_path / "report", recording, maps="layer", figures=0, min_cv_r=-1, min_reliability=-1,
            min_d_prime=-9, threshold=0.2, neurons="0,2")  # fmt: skip
    for size, wanted in ((None, {(24, 24)}), (60, {(60, 60)})):
        out = tmp_path / f"made_{size}"
        make_stimuli(tmp_path / "report", recording, network, preprocessing(24), out=out, size=size, progress=False)
        assert {Image.open(path).size for path in (out / "images").iterdir()} == wanted


@pytest.mark.slow  # a browser
def test_the_protocol_is_one_page(here: Path, tmp_path: Path) -> None:
    """Also for more neurons than its table holds."""
    settings, summary = ExperimentSettings(), json.loads((here / "made/summary.json").read_text())
    picture = np.zeros((24, 24, 3), np.uint8)
    mask = torch.ones(24, 24, dtype=torch.bool)
    pair = PairSet(1, "a.png", "b.png", Parts(mask, mask, (), ()), {"a.png": Stimulus("image", 0, picture)})
    noise = TrialNoise(0.123, 0.987)
    sets = [
        NeuronSet(
            f"a neuron with a long name {k}", (pair,), noise, 1.234, {"a.png": 1.0}, plan_repeats([], {}, noise), (2, 3)
        )
        for k in range(30)
    ]
    (tmp_path / "index.html").write_text(protocol(sets, settings, {**summary, "n_neurons": 30}))
    with open_browser() as browser:
        browser.get((tmp_path / "index.html").as_uri())
        pdf = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
    assert len(pypdf.PdfReader(io.BytesIO(base64.b64decode(pdf))).pages) == 1
