"""How time, memory and disk grow with the neurons of a recording, and how much faster two workers are.

``python -m benchmarks.population --out DIR`` writes ``population.csv`` and ``table.md``: for each number of neurons and
of workers the seconds of every stage, the peak memory of the process and the bytes of the report, each in a process of
its own. Neurons read a few latents of the network, so the table also says how well the encoding models find the truth.
Every worker computes with one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import joblib
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common.results import finish
from benchmarks.population.ceiling import ceiling
from benchmarks.population.made import Population, make_population
from benchmarks.speed.memory import in_a_fresh_process, peak_so_far
from captum_shared.files import output_folder, write_csv, write_text
from captum_shared.folders import report_folder
from captum_shared.report.recording.writing import write_report
from captum_shared.study.encoding import encode_stimuli, fit_models
from captum_shared.study.maps import make_maps
from captum_shared.study.neurons import Findings, select_neurons
from captum_shared.study.run import Run
from captum_shared.study.settings import RecordingSettings, make_settings
from captum_shared.study.study import open_study
from captum_shared.study.subject import open_subject
from captum_shared.study.tuning import find_tuning

STAGES = ("encode", "fit", "select", "maps", "report")
BACKENDS = ("loky", "dask")
PAIRS = 20  # of a neuron, where larger populations are computed
CLUSTER = {"gpus": 32, "neurons": 10_000, "cores": 20}  # a GPU is assumed to be worth this many cores


@dataclass(frozen=True)
class Setup:
    """One measurement: how many neurons, on how many workers, and what is computed."""

    neurons: int
    workers: int
    images: int
    pairs: int
    maps: str
    n_steps: int
    backend: str
    model: str
    layer: str
    pool: str
    weights: str | None
    image_size: int

    @property
    def network(self) -> dict[str, str | int | None]:
        """Arguments of `load_encoder`."""
        pool = int(self.pool) if self.pool.isdigit() else self.pool
        return {"name": self.model, "layer": self.layer, "pool": pool, "weights": self.weights,
                "image_size": self.image_size}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """What one took: seconds by stage, MB of memory, MB on disk; pairs, and the truth found (median r)."""

    neurons: int
    workers: int
    encode: float
    fit: float
    select: float
    maps: float
    report: float
    peak_mb: int
    disk_mb: float
    pairs: int
    truth_r: float

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(float(getattr(self, stage)) for stage in STAGES)


def run(out: str | Path, setups: Sequence[Setup], progress: bool = True) -> list[Measurement]:
    """Measure, each in a fresh process, and write the files."""
    folder, names = output_folder(out), [field.name for field in fields(Measurement)]
    points: list[Measurement] = []
    for setup in tqdm(setups, "measurements", disable=not progress):
        call = f"measure({str(folder.resolve())!r}, {json.dumps(asdict(setup))!r})"
        printed = in_a_fresh_process(f"from benchmarks.population.command import measure; {call}")
        points.append(Measurement(**json.loads(printed.splitlines()[-1])))
        write_csv(folder / "population.csv", names, [[getattr(point, name) for name in names] for point in points])
    ceilings = {n: ceiling(n, setups[0].network) for n in sorted({setup.workers for setup in setups}) if n > 1}
    write_text(folder / "table.md", table(points, setups[0], ceilings))
    return points


def measure(out: str, described: str) -> None:
    """Print one measurement as JSON; runs in a process of its own."""
    torch.set_num_threads(1)
    setup = Setup(**json.loads(described))
    made = make_population(Path(out) / "stimuli", setup.neurons, setup.images, setup.network)
    with _workers(setup):
        print(json.dumps(explain(made, setup, Path(out) / f"report_{setup.neurons}_{setup.workers}")))


def explain(made: Population, setup: Setup, out: Path) -> dict[str, object]:
    """`explain_recording`, stage by stage with the time of each."""
    options = {"drivers": setup.pairs, "threshold": 0.0, "min_cv_r": -1.0, "min_d_prime": -99.0, "maps": setup.maps,
               "n_steps": setup.n_steps, "n_splits": 10, "map_bits": 8, "map_reduction": 2}  # fmt: skip
    settings = make_settings(RecordingSettings, options, "explain")
    study = open_study(open_subject(made.recording, settings), made.encoder, made.transform)
    clock = _Clock()
    with report_folder(out, study.manifest(), overwrite=True) as folder:
        work = Run(folder, setup.workers if setup.backend == "loky" else None, progress=False)
        tuning = find_tuning(study)
        clock.start()
        latents = encode_stimuli(study, work)
        clock.note("encode")
        models = fit_models(study, tuning, latents, work)
        clock.note("fit")
        neurons = select_neurons(study, tuning, latents, models)
        findings = Findings(tuning, latents, models, neurons)
        clock.note("select")
        make_maps(study, findings, work)
        clock.note("maps")
        summary = write_report(study, findings, work)
        clock.note("report")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    truth = [np.corrcoef(made.signal[:, k], models.predictions[:, k])[0, 1] for k in range(setup.neurons)]
    return {
        "neurons": setup.neurons, "workers": setup.workers, **clock.seconds, "peak_mb": peak_so_far("cpu"),
        "disk_mb": size / 2**20, "pairs": summary["n_pairs"], "truth_r": float(np.nanmedian(truth)),
    }  # fmt: skip


class _Clock:
    """Seconds between notes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def start(self) -> None:
        self._last = time.perf_counter()

    def note(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now


@contextmanager
def _workers(setup: Setup) -> Iterator[None]:
    """Dask's worker processes of one thread each, if they are asked for."""
    if setup.backend != "dask" or setup.workers == 1:
        yield
        return
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=setup.workers, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        yield


def table(points: Sequence[Measurement], setup: Setup, ceilings: dict[int, float]) -> str:
    """A Markdown table, the speed-up beside what the machine allows, and what a cluster would take, computed."""
    lines = [
        f"{setup.model} {setup.layer}, pool {setup.pool}, {setup.images} images of {setup.image_size} pixels, maps: "
        f"{setup.maps}, {setup.n_steps} steps; {setup.backend}, one thread a worker.", "",
        "| neurons | workers | pairs | " + " | ".join(f"{stage}, s" for stage in STAGES)
        + " | all, s | maps a pair, ms | peak, MB | disk, MB | truth, median r |",
        "|---" * (9 + len(STAGES)) + "|",
    ]  # fmt: skip
    for p in points:
        stages = [f"{getattr(p, stage):.1f}" for stage in STAGES]
        each = f"{1000 * p.maps / max(p.pairs, 1):.1f}"
        cells = [p.neurons, p.workers, p.pairs, *stages, f"{p.seconds:.1f}", each, p.peak_mb]
        lines.append(f"| {' | '.join(map(str, cells))} | {p.disk_mb:.0f} | {p.truth_r:.2f} |")
    alone = {p.neurons: p.maps for p in points if p.workers == 1}
    lines += [
        f"\n{p.neurons} neurons, {p.workers} workers: maps {alone[p.neurons] / p.maps:.2f} times as fast as with one. "
        f"As many processes of a hand-written loop do {ceilings[p.workers]:.2f} times the work of one."
        for p in points
        if p.workers > 1 and p.neurons in alone
    ]
    largest = max((p for p in points if p.workers == 1 and p.pairs), key=lambda p: p.neurons, default=None)
    if largest is not None:
        lines.append(f"\n{computed(largest)}")
    return "\n".join(lines) + "\n"


def computed(point: Measurement) -> str:
    """What was not run: larger populations at the time per pair of a measurement, on this core and on a cluster."""
    one, many = (neurons * PAIRS * point.maps / point.pairs / 3600 for neurons in (1000, CLUSTER["neurons"]))
    return (
        f"Computed, not run, from {1000 * point.maps / point.pairs:.1f} ms a pair (fewer with more neurons, since more "
        f"maps share an image's forward passes): the maps of 1,000 neurons with {PAIRS} pairs take {one:.1f} hours of "
        f"one such core, and those of {CLUSTER['neurons']:,} neurons {many:.1f} hours. {CLUSTER['gpus']} GPUs take "
        f"{many / CLUSTER['gpus'] / CLUSTER['cores']:.2g} hours for the latter, assuming that a GPU does the work of "
        f"{CLUSTER['cores']} such cores, which was not measured."
    )


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.population", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--neurons", default="100,300,1000", metavar="N,N", help="default: 100,300,1000")
    parser.add_argument("--workers", default="1", metavar="N,N", help="worker processes of one thread (default: 1)")
    parser.add_argument("--backend", choices=BACKENDS, default="dask", help="of several workers (default: dask)")
    parser.add_argument("--images", type=int, default=640, metavar="N", help="stimuli (default: 640)")
    parser.add_argument("--pairs", type=int, default=20, metavar="N", help="pairs of a neuron at most (default: 20)")
    parser.add_argument("--maps", default="layer", help="layer, pixel, or both, separated by a comma (default: layer)")
    parser.add_argument("--steps", dest="n_steps", type=int, default=16, metavar="N", help="default: 16")
    parser.add_argument("--model", default="squeezenet1_0", metavar="NAME", help="default: squeezenet1_0")
    parser.add_argument("--layer", default="features.8", metavar="NAME", help="default: features.8")
    parser.add_argument("--pool", default="avg", metavar="P", help="avg or a grid's side (default: avg)")
    parser.add_argument("--weights", metavar="PATH", help="state dict (default: random weights)")
    parser.add_argument("--image-size", type=int, default=224, metavar="N", help="default: 224")
    parser.add_argument("--quick", action="store_true", help="4 neurons, 40 images of 64 pixels, 2 pairs")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    options = vars(build_parser().parse_args(arguments))
    out, counts, workers, quick = (options.pop(name) for name in ("out", "neurons", "workers", "quick"))
    if quick:
        counts, options = "4", {**options, "images": 40, "pairs": 2, "image_size": 64, "n_steps": 2}
    setups = [Setup(neurons=int(n), workers=int(w), **options) for n in counts.split(",") for w in workers.split(",")]
    return finish("population", out, lambda: run(out, setups))
