"""How far is each path from its floor, a hand-written minimal loop on the same work in the same run?

``python -m benchmarks.speed [--quick] --out DIR`` writes ``speed.json`` and ``table.md``. Ratios are medians over
interleaved rounds, with their quartiles; the rows `control` compare a floor with itself: the noise of the machine.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.common.results import ResultStore, finish, write_table
from benchmarks.speed import alternatives, bulk, memory, paths, rules
from benchmarks.speed.timing import Timing
from captum_shared.files import output_folder, write_json

# What the rows must reach: (at most, None) for a cost over the floor, (None, at least) for a gain.
BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "pair gradient": (1.10, None),
    "pair integrated gradients": (1.10, None),
    "neurons gradient": (1.15, None),
    "neurons integrated gradients": (1.15, None),
    "references averaged": (1.10, None),
    "encode": (1.05, None),
    "encode files": (1.25, None),
    "match": (1.30, None),
    "recording": (1.30, None),
    "peak memory": (1.30, None),
    "moments gradient": (1.05, None),
    "moments integrated gradients": (1.05, None),
    "making moments": (5.0, None),
    "gain of truncation": (None, 1.50),
    "gain of neurons gradient": (None, 2.00),
    "gain of neurons integrated gradients": (None, 1.50),
}
EARLY = ("resnet50", "layer1")
QUICK_SIZE = 80  # pixels
# Other sections: functions (quick, device, rounds) -> rows, each resumed as a whole.
SECTIONS: dict[str, Callable[[bool, str, int], list[Timing]]] = {
    "alternatives": alternatives.alternative_rows,
    "memory": memory.memory_rows,
    "bulk": bulk.bulk_rows,
    "rules": rules.rule_rows,
}


def run(
    out: str | Path, *, quick: bool = False, device: str = "cpu", size: int | None = None, progress: bool = True
) -> list[Timing]:
    """Measure what is not measured yet, and write the files."""
    folder = output_folder(out)
    rounds, seconds = (5, 1.0) if quick else (15, 2.5)
    size = size or (QUICK_SIZE if quick else None)
    machine = describe_machine(device)
    settings = {"quick": quick, "size": size, **{name: value for name, value in machine.items() if name != "date"}}
    store = ResultStore(folder / ".rows", settings)
    jobs: list[tuple[dict[str, object], Callable[[], list[Timing]]]] = [
        ({"row": job}, partial(_path_rows, job, device, size, rounds, seconds)) for job in paths.jobs(quick)
    ]
    jobs += [({"section": name}, partial(own, quick, device, rounds)) for name, own in SECTIONS.items()]
    rows = [row for key, measure in tqdm(jobs, "rows", disable=not progress) for row in _kept(store, key, measure)]
    write_json(folder / "speed.json", {"machine": machine, "rows": [asdict(row) for row in rows]})
    write_table(folder / "table.md", [("Time over the floor", table(rows)), ("Machine", _list(machine))])
    return rows


def _path_rows(job: tuple[str, str, str], device: str, size: int | None, rounds: int, seconds: float) -> list[Timing]:
    return [paths.path_row(job, device, size, rounds, seconds)]


def _kept(store: ResultStore, key: dict[str, object], measure: Callable[[], list[Timing]]) -> list[Timing]:
    """The rows of a job, from the folder if an earlier run has measured them."""
    found = store.get(key)
    if found is None:
        found = {"rows": [asdict(row) for row in measure()]}
        store.put(key, found)
    return [Timing(**row) for row in found["rows"]]


def table(rows: Sequence[Timing]) -> str:
    """One line for each row, with its bound and whether it is reached."""
    lines = [
        "| path | network | layer | ratio (quartiles) | bound | seconds | floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"
        cells = (row.name, row.model, row.layer, ratio, verdict(row), f"{row.seconds:.3g}", f"{row.floor:.3g}")
        lines.append(f"| {' | '.join(cells)} |")
    return (
        "\n".join(lines)
        + "\n\nIn rows of a gain the slower way comes first: larger is better. Rows of memory are in MB."
    )


def verdict(row: Timing) -> str:
    """The bound of a row, in bold if it is missed."""
    most, least = bounds(row)
    if most is None and least is None:
        return ""
    text = f"at most {most:.2f}" if most is not None else f"at least {least:.2f}"
    return f"**{text}: missed**" if misses(row.ratio, most, least) else text


def bounds(row: Timing) -> tuple[float | None, float | None]:
    """What a row must reach, (at most, at least)."""
    if row.name == "gain of truncation" and (row.model, row.layer) != EARLY:  # nothing to gain at the last layer
        return None, None
    return BOUNDS.get("encode files" if row.layer == "JPEG files" else row.name, (None, None))


def misses(ratio: float, most: float | None, least: float | None) -> bool:
    """Whether a ratio is out of its bounds."""
    return (most is not None and ratio > most) or (least is not None and ratio < least)


def far_off(rows: Sequence[Timing], factor: float) -> list[Timing]:
    """The rows that miss their bound by more than a factor, even at their better quartile: more than noise."""
    found = []
    for row in rows:
        most, least = bounds(row)
        loose = (None if most is None else most * factor, None if least is None else least / factor)
        if misses(row.low if least is None else row.high, *loose):
            found.append(row)
    return found


def describe_machine(device: str) -> dict[str, object]:
    """What the ratios depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "torch": torch.__version__,
        "captum": version("captum"),
        "date": datetime.date.today().isoformat(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _list(facts: dict[str, object]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out", default="speed", metavar="DIR", help="folder for the results; an interrupted run is resumed"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two networks at their last layers, small images, few rounds"
    )
    parser.add_argument("--check", type=float, metavar="FACTOR",
                        help="exit with status 1 if a row misses its bound by more than this factor")  # fmt: skip
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, mps ... (default: cpu)")
    parser.add_argument(
        "--image-size", type=int, metavar="N",
        help="side of the images in pixels, a multiple of 16 (default: 112; 80 for vit_b_16 and --quick)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch (default: torch's own choice)")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", "Setting forward, backward hooks")
    rows: list[Timing] = []

    def work() -> None:
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        rows.extend(run(options.out, quick=options.quick, device=options.device, size=options.image_size))

    status = finish("speed", options.out, work)
    missed = far_off(rows, options.check) if options.check else []
    for row in missed:
        print(f"benchmarks.speed: {row.name}, {row.model} {row.layer}: {row.ratio:.2f} is far off {verdict(row)}",
              file=sys.stderr)  # fmt: skip
    return 1 if missed else status
