"""Interventions in the recording's report: the columns, the twin, the controls, and what the page says."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import SIZE, make_network, make_recording

from captum_shared import LatentEncoder, Recording, encode_images, explain_recording, interventions
from captum_shared.networks.preprocessing import preprocessing
from captum_shared.report.recording.effects import effects_sentence, effects_text, effects_warnings
from captum_shared.study.interventions import AREA, CONTROLS, EFFECT_COLUMNS, PairEffects, summarize_effects
from captum_shared.study.maps import load_maps
from captum_shared.study.tables import PAIR_COLUMNS
from captum_shared.visualization.heat import SMOOTHING, heat_on

OPTIONS: dict[str, Any] = {"min_d_prime": -9, "min_cv_r": -1, "threshold": 0.5, "drivers": 2, "figures": 0, "progress": False, "maps": "layer",
                           "neurons": "0,1"}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module, Path]:
    """A report with interventions, the network, and the folder of the recording."""
    folder = tmp_path_factory.mktemp("interventions")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        network = make_network(folder)
    recording = make_recording(folder, network, n_stimuli=60, noise=0.3)
    out = folder / "report"
    encoder = LatentEncoder(network, "3")
    explain_recording(Recording.load(recording), encoder, preprocessing(SIZE), out=out, interventions=True, **OPTIONS)
    return out, network, recording


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "pairs.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert found  # else nothing is tested
    return found


def test_columns_come_after_the_others_and_only_if_asked(
    made: tuple[Path, torch.nn.Module, Path], tmp_path: Path
) -> None:
    out, network, recording = made
    assert tuple(rows(out)[0]) == (*PAIR_COLUMNS, *EFFECT_COLUMNS)
    explain_recording(
        Recording.load(recording), LatentEncoder(network, "3"), preprocessing(SIZE), out=tmp_path / "plain", **OPTIONS
    )
    plain = rows(tmp_path / "plain")
    assert tuple(plain[0]) == PAIR_COLUMNS
    assert [{name: row[name] for name in PAIR_COLUMNS} for row in rows(out)] == plain
    assert "interventions" not in json.loads((tmp_path / "plain" / "summary.json").read_text())


def test_effects_are_those_of_the_images_removed_by_hand(made: tuple[Path, torch.nn.Module, Path]) -> None:
    """The model's own necessity and sufficiency: one fill at a time, one forward pass each, no function of the package's scores."""
    out, network, folder = made
    recording, transform = Recording.load(folder), preprocessing(SIZE)
    paths = dict(zip(recording.stimulus_names, recording.stimuli, strict=True))
    encoder = LatentEncoder(network, "3")
    raw = encode_images(encoder, recording.stimuli, transform).double().numpy()
    mean, spread = raw.mean(0), raw.std(0)
    place = {name: k for k, name in enumerate(recording.stimulus_names)}
    own = [row for row in rows(out) if row["neuron"] == "0"]
    maps = load_maps(out / "maps" / "neuron_0.npz", "layer")
    # The readout, from what the report says it predicts of every stimulus, is not in a file: fit it as the report does.
    from captum_shared.readout import LinearReadout
    from captum_shared.readout.nested import ridge_pipeline

    z = (raw - mean) / spread
    fit = ridge_pipeline(*z.shape).fit(z, recording.mean_responses[:1].T)
    weight = LinearReadout.from_estimator(fit).weight.double().numpy()[0]
    for row, heat in zip(own, maps[:, 0], strict=True):
        from PIL import Image

        x = transform(Image.open(paths[row["image"]]).convert("RGB"))
        mask = interventions.hottest_area(heat_on((SIZE, SIZE), heat, SMOOTHING, "map"), AREA)
        c = weight * z[place[row["reference"]]]
        unit = (z @ c).std()

        def score(image: torch.Tensor, c: np.ndarray = c, unit: float = unit) -> float:
            with torch.no_grad():
                latents = encoder(image[None]).double().numpy()[0]
            return float(((latents - mean) / spread) @ c / unit)

        falls = [score(x) - score(interventions.remove(x, mask, fill)) for fill in ("blur", "mean")]
        nothing = torch.zeros_like(mask)
        rises = [
            score(interventions.keep(x, mask, fill)) - score(interventions.keep(x, nothing, fill))
            for fill in ("blur", "mean")
        ]
        assert float(row["necessity"]) == pytest.approx(np.mean(falls), rel=1e-3, abs=1e-4)
        assert float(row["sufficiency"]) == pytest.approx(np.mean(rises), rel=1e-3, abs=1e-4)


def test_the_twin_reads_another_layer_and_is_compared_with_random_areas(
    made: tuple[Path, torch.nn.Module, Path],
) -> None:
    out, _, _ = made
    for row in rows(out):
        assert row["twin"] == "1 avg"
        assert float(row["twin_r"]) > 0
        levels = [float(row[f"twin_{name}_p"]) for name in ("necessity", "sufficiency")]
        assert all(round(p * (CONTROLS + 1)) == pytest.approx(p * (CONTROLS + 1)) for p in levels)
        passes = {
            (True, True): "both",
            (True, False): "necessity",
            (False, True): "sufficiency",
            (False, False): "neither",
        }
        assert row["twin_passes"] == passes[levels[0] <= 0.05, levels[1] <= 0.05]
        assert all(np.isfinite(float(row[f"twin_necessity_{name}"])) for name in ("readout", "similarity", "shuffled"))
        if levels[0] <= 0.05:
            assert float(row["twin_necessity"]) > float(row["twin_necessity_random"])


def test_summary_page_and_viewer_say_so(made: tuple[Path, torch.nn.Module, Path]) -> None:
    out, _, _ = made
    said = json.loads((out / "summary.json").read_text())["interventions"]
    values = [float(row["twin_necessity"]) for row in rows(out)]
    names = [row["neuron"] for row in rows(out)]
    means = [np.mean([v for v, n in zip(values, names, strict=True) if n == name]) for name in dict.fromkeys(names)]
    assert said["twin_necessity"][0] == pytest.approx(np.mean(means), rel=1e-3)
    assert said["pairs"] == len(values) == sum(said["passes"].values())
    assert "The hottest 10 % of each driver was removed" in (out / "index.html").read_text()
    index = (out / "data" / "index.js").read_text()
    entries = json.loads(index.split(",", 2)[2].rsplit("]);", 1)[0])["neurons"]
    pairs = [pair for entry in entries for pair in entry["pairs"]]
    assert len(pairs) == len(values)
    for pair, row in zip(pairs, rows(out), strict=True):
        assert pair[5].startswith("Interventions, judged by a twin at 1 avg")
        assert any("Fails its controls" in text for text in pair[4]) == (row["twin_passes"] != "both")


def test_several_layers_give_a_twin_among_the_candidates(
    made: tuple[Path, torch.nn.Module, Path], tmp_path: Path
) -> None:
    _, network, folder = made
    explain_recording(Recording.load(folder), network, preprocessing(SIZE), layers=["1", "3"], pools=["avg"], out=tmp_path / "two",
                      interventions=True, **OPTIONS)  # fmt: skip
    with (tmp_path / "two" / "neurons.csv").open(newline="") as file:
        layers = {row["neuron"]: row["layer"] for row in csv.DictReader(file)}
    for row in rows(tmp_path / "two"):
        assert row["twin"] == {"1": "3 avg", "3": "1 avg"}[layers[row["neuron"]]]


def test_a_network_of_one_layer_is_refused(made: tuple[Path, torch.nn.Module, Path], tmp_path: Path) -> None:
    _, _, folder = made
    alone = LatentEncoder(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, stride=2)).eval(), "0")
    with pytest.raises(
        ValueError, match="`interventions` need a twin at another layer than '0', and the network has none"
    ):
        explain_recording(
            Recording.load(folder), alone, preprocessing(SIZE), out=tmp_path / "one", interventions=True, **OPTIONS
        )


def test_setting_is_true_or_false(made: tuple[Path, torch.nn.Module, Path], tmp_path: Path) -> None:
    _, network, folder = made
    with pytest.raises(TypeError, match="`interventions` must be True or False, got 'yes'"):
        explain_recording(
            Recording.load(folder), LatentEncoder(network, "3"), out=tmp_path / "bad", interventions="yes"
        )


EFFECTS = PairEffects(
    0.5, 0.4, 0.3, "features.8 avg", 0.61, 0.42, 0.1, 0.05, 0.4, None, 0.1, 0.2, 0.25, 0.6, -0.04, 0.33, "necessity"
)


def test_sentences_in_words() -> None:
    assert effects_sentence(EFFECTS) == (
        "Interventions, judged by a twin at features.8 avg (r 0.61): without the hottest tenth of the driver, the similarity to the "
        "reference falls by 0.42 SD, \u22120.04 SD more than that to the least similar candidate (random areas: 0.10; the hottest by the readout alone: 0.40); with it alone, it "
        "is 0.20 SD above nothing (random areas: 0.25). The predicted response falls by 0.33 SD."
    )
    assert effects_warnings(EFFECTS) == [
        "Fails its controls: to the twin, the hottest tenth of the driver is necessary, but not sufficient for the similarity to the "
        "reference. Of 19 random areas, 0 do as much when removed, 11 when kept."
    ]
    assert effects_warnings(replace(EFFECTS, twin_passes="both")) == []
    assert "random areas: 0.10)" in effects_sentence(replace(EFFECTS, twin_necessity_readout=None))
    assert "falls by 0.00 SD, 0.00 SD more" in effects_sentence(
        replace(EFFECTS, twin_necessity=-0.001, twin_specificity=-0.004)
    )
    assert "candidate" not in effects_sentence(replace(EFFECTS, twin_specificity=None))
    assert EFFECTS.row()[5] == 0.42
    assert replace(EFFECTS, specificity=None).row()[2] == ""


def test_summary_by_hand() -> None:
    other = replace(EFFECTS, twin_necessity=0.62, twin_passes="both", twin_r=0.71)
    found = summarize_effects({0: [EFFECTS, other], 3: [other]})
    assert found is not None
    assert found["twin_necessity"][0] == pytest.approx((0.52 + 0.62) / 2)
    assert (found["pairs"], found["passes"]) == (3, {"both": 2, "necessity": 1, "sufficiency": 0, "neither": 0})
    assert found["median_twin_r"] == pytest.approx(0.66)
    assert summarize_effects({}) is None
    assert effects_text(None) == ["There are no pairs."]
    assert "Of 3 pairs, 2 do more than every random area in both" in effects_text(found)[1]
