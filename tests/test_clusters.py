"""A recording explained on real workers, with a real network: the files of one process, also after a worker is killed."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import files_of

import captum_shared

# Arguments: where to run, whether to kill a worker when the first maps are there, the recording, the weights, the folder.
SCRIPT = """
import os, pathlib, signal, sys, threading, time
import joblib, psutil
import captum_shared as cs

def main(place, kill, recording, weights, out):
    def run():
        encoder, transform = cs.load_encoder("squeezenet1_0", layer="features.8", pool=2, weights=weights, image_size=64)
        data = cs.Recording.load(recording)
        cs.explain_recording(data, encoder, transform, out=out, drivers=3, n_steps=4, n_splits=10, min_cv_r=-1,
                             maps="pixel,layer", maps_per_job=6, images_per_job=15, threshold=0.3, progress=False)

    def killer():
        while not list(pathlib.Path(out).glob(".work/maps_*")):
            time.sleep(0.005)
        words = [(p, p.cmdline()) for p in psutil.Process().children(recursive=True)]
        workers = [p for p, word in words if any("spawn_main" in w for w in word) or word[0].startswith("ray::_call")]
        workers[0].kill()
        pathlib.Path(out + ".killed").write_text(str(workers[0].pid))

    if kill == "kill":
        threading.Thread(target=killer, daemon=True).start()
    if place == "dask":
        from distributed import Client, LocalCluster
        with LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as cluster:
            with Client(cluster), joblib.parallel_config(backend="dask"):
                run()
    elif place == "ray":
        import ray
        from ray.util.joblib import register_ray
        register_ray()
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,
                 runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"], "OMP_NUM_THREADS": "1"}})
        with joblib.parallel_config(backend="ray"):
            run()
        ray.shutdown()
    elif place == "here":
        run()
    else:
        with joblib.parallel_config(backend=place, n_jobs=2):
            run()

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture(scope="module")
def recording(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six of the V4 neurons, and 60 of their stimuli from all categories."""
    folder = tmp_path_factory.mktemp("v4")
    source = data / "v4_recording"
    with (source / "stimuli.csv").open() as file:
        rows = list(csv.DictReader(file))
    chosen = [
        i
        for name in sorted({row["category"] for row in rows})
        for i in [i for i, row in enumerate(rows) if row["category"] == name][:8]
    ][:60]
    responses = np.load(source / "responses.npy")[:6][:, chosen]
    np.save(folder / "responses.npy", responses)
    (folder / "stimuli").symlink_to(source / "stimuli")
    with (folder / "stimuli.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "category"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows[i] for i in chosen)
    return folder


def explained(place: str, kill: str, recording: Path, weights: Path, out: Path) -> dict[str, bytes]:
    """The report's files, made by a process of its own, so that every worker computes with one thread."""
    script = recording / "explain.py"
    script.write_text(SCRIPT)
    package = str(Path(captum_shared.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(script), place, kill, str(recording), str(weights), str(out)],
        env={**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(f"{out}.killed").exists() == (kill == "kill")
    return files_of(out)


@pytest.fixture(scope="module")
def weights(data: Path) -> Path:
    return data / "squeezenet1_0_imagenet.pth"


@pytest.fixture(scope="module")
def in_one_process(recording: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    files = explained("here", "no", recording, weights, tmp_path_factory.mktemp("here") / "report")
    assert sum(name.startswith("maps/") for name in files) >= 3
    return files


@pytest.mark.real
@pytest.mark.slow  # starts processes that import torch, and a cluster of two more: half a minute each
@pytest.mark.parametrize(
    ("place", "kill"),
    [("threading", "no"), ("loky", "no"), ("dask", "no"), ("dask", "kill"), ("ray", "no"), ("ray", "kill")],
)
def test_every_file_is_that_of_one_process(
    place: str, kill: str, recording: Path, weights: Path, in_one_process: dict[str, bytes], tmp_path: Path
) -> None:
    files = explained(place, kill, recording, weights, tmp_path / "report")
    assert sorted(files) == sorted(in_one_process)
    assert [name for name in files if files[name] != in_one_process[name]] == []
