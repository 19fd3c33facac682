"""Going on after a kill, and units of work on a local cluster: the same files in the end."""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import joblib
import processes
import pytest
import torch
from recordings import SIZE, explain, files_of, make_recording

from captum_shared import cli

KILLS = 10


def command(recording: Path, out: Path) -> list[str]:
    words = ["recording", "--recording", recording, "--model", "tiny_network:make", "--weights", "tiny.pth", "--layer",
             "auto", "--image-size", SIZE, "--steps", 2, "--drivers", 2, "--out", out, "--device", "cpu"]  # fmt: skip
    return [str(word) for word in words]


def start(words: list[str]) -> ForkServerProcess:
    """The command in a process of its own."""
    return processes.start("import sys; from captum_shared.cli import main; sys.exit(main(sys.argv[1:]))", *words)


@pytest.mark.slow  # starts a dozen processes, each of which draws figures: over 20 seconds
def test_killed_at_ten_random_moments(tmp_path: Path, tiny: torch.nn.Module) -> None:
    """SIGKILL at random moments of the work; the same command goes on to the files of a run left in peace."""
    recording = make_recording(tmp_path, tiny, n_stimuli=60, n_neurons=3)
    assert processes.end(start(command(recording, Path("first")))) == 0  # has loaded what is loaded late
    begun = time.monotonic()
    assert processes.end(start(command(recording, Path("peace")))) == 0
    duration = time.monotonic() - begun
    wanted = files_of(Path("peace"))
    assert len(wanted) > 15

    rng = random.Random(0)
    found: list[int] = []  # how many files were there
    attempts = 0
    while len(found) < KILLS:
        attempts += 1
        out = Path(f"out{attempts}")
        process = start(command(recording, out))
        time.sleep(duration * rng.random() ** 2)  # earlier moments more often: most units of work are done early
        process.kill()
        if processes.end(process) == -signal.SIGKILL:
            found.append(len(files_of(out)) if out.exists() else 0)
            assert cli.main(command(recording, out)) == 0
        assert files_of(out) == wanted
    print(f"\n{KILLS} kills in {attempts} attempts over {duration:.1f} s, with {sorted(found)} files there")
    assert len(set(found)) >= 3  # the moments differ


@pytest.mark.usefixtures("undrawn")
def test_half_written_files_are_not_taken_for_whole(recording: Path, tiny: torch.nn.Module) -> None:
    """What a kill can leave behind, temporary files, is swept away; whole units are kept."""
    explain(recording, tiny, Path("peace"))
    wanted = files_of(Path("peace"))
    calls = []

    def stop(*_: object) -> None:
        calls.append(1)
        raise KeyboardInterrupt

    from captum_shared.report.recording import writing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_draw", stop)
        with pytest.raises(KeyboardInterrupt):
            explain(recording, tiny, Path("out"))
    assert calls == [1]
    maps = sorted(Path("out/maps").iterdir())
    half = maps[0].read_bytes()[:200]
    maps[0].with_name(f".{maps[0].name}.4711.tmp").write_bytes(half)
    (Path("out/.work") / ".latents_00000.npy.4711.tmp").write_bytes(half)
    before = maps[1].stat().st_mtime_ns
    explain(recording, tiny, Path("out"))
    assert files_of(Path("out")) == wanted
    assert maps[1].stat().st_mtime_ns == before  # not computed again


@pytest.mark.slow  # starts two processes, each of which imports torch and scikit-learn: half a minute
def test_two_processes_give_the_same_files(recording: Path, tiny: torch.nn.Module) -> None:
    explain(recording, tiny, Path("one"), images_per_job=30, maps_per_job=8)
    explain(recording, tiny, Path("two"), images_per_job=30, maps_per_job=8, n_jobs=2)
    assert files_of(Path("one")) == files_of(Path("two"))


@pytest.mark.slow  # starts a cluster of two processes, each of which imports torch and scikit-learn: half a minute
def test_local_dask_cluster_of_two_processes_gives_the_same_files(recording: Path, tiny: torch.nn.Module) -> None:
    distributed = pytest.importorskip("distributed")
    explain(recording, tiny, Path("here"), images_per_job=30, maps_per_job=8)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        workers = client.run(os.getpid)
        assert len(set(workers.values()) - {os.getpid()}) == 2
        with joblib.parallel_config(backend="dask"):
            explain(recording, tiny, Path("there"), images_per_job=30, maps_per_job=8)
    assert files_of(Path("here")) == files_of(Path("there"))


@pytest.mark.parametrize("kept", ["latents_00000.npy", "fit_000_000.safetensors"])
def test_a_flipped_bit_in_a_working_file_changes_nothing(
    kept: str, recording: Path, tiny: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed before: whatever was there under the name was taken for whole."""
    from captum_shared.report.recording import writing

    monkeypatch.setattr(writing, "_draw", lambda *_: (b"figure", b"small"))
    monkeypatch.setattr("captum_shared.report.recording.figures.png_bytes", lambda *_, **__: b"population")
    explain(recording, tiny, Path("peace"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(writing, "write_report", interrupt)
        patch.setattr("captum_shared.report.recording.explain.write_report", interrupt)
        explain(recording, tiny, Path("out"))
    path = Path("out/.work") / kept
    content = bytearray(path.read_bytes())
    content[-3] ^= 64
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{kept} is damaged or was changed; it will be remade"):
        explain(recording, tiny, Path("out"))
    assert files_of(Path("out")) == files_of(Path("peace"))


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
