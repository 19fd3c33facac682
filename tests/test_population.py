"""The population benchmark: its recording has the truth it says, and its table the figures that were measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.population.command import Measurement, Setup, main, table
from benchmarks.population.made import NOISE, REPEATS, make_population


def test_neurons_read_few_latents_and_noise_is_as_stated(tmp_path: Path) -> None:
    network = {"name": "squeezenet1_1", "layer": "features.3", "pool": "avg", "weights": None, "image_size": 32}
    made = make_population(tmp_path, 5, 40, network)
    responses = made.recording.responses
    assert responses.shape == (5, 40, REPEATS)
    assert np.allclose(made.signal.std(0), 1)
    noise = responses - made.signal.T[:, :, None]
    assert noise.std() == pytest.approx(NOISE, rel=0.1)
    again = make_population(tmp_path, 5, 40, network)  # from the images that are there
    assert np.array_equal(again.recording.responses, responses)


def test_table_gives_speed_up_and_what_a_cluster_would_take() -> None:
    setup = Setup(10, 1, 640, 20, "layer", 16, "dask", "net", "layer", "avg", None, 224)
    points = [Measurement(10, n, 1, 2, 3, 36 / n, 5, 900, 12.0, 200, 0.9) for n in (1, 2)]
    text = table(points, setup, {2: 1.93})
    assert "| 10 | 1 | 200 | 1.0 | 2.0 | 3.0 | 36.0 | 5.0 | 47.0 | 180.0 | 900 | 12 | 0.90 |" in text
    assert (
        "10 neurons, 2 workers: maps 2.00 times as fast as with one. As many processes of a hand-written loop do 1.93"
        in text
    )
    assert "1,000 neurons with 20 pairs take 1.0 hours" in text  # 0.18 s a pair
    assert "those of 10,000 neurons 10.0 hours. 32 GPUs take 0.016 hours" in text
    assert "assuming that a GPU does the work of 20 such cores" in text


@pytest.mark.slow  # a process of its own that imports torch and writes a whole report: half a minute
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "population.csv").read_text().startswith("neurons,workers,encode,fit,")
    assert "| 4 | 1 |" in capsys.readouterr().out
