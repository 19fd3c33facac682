"""What the streaming pass of `top_activations` costs beside a plain forward pass, in time and in memory.

    python -m benchmarks.selectivity_pass --out DIR [--quick]

Time: both passes read the same images with the same loader and stop behind the same layer, so that not running what
lies behind it is no advantage. They alternate; the ratio is the median over rounds of streaming over plain, with the
lowest and the highest: of the processor's time, which busy neighbours hardly change, and of the time on the clock. On a
GPU only the clock tells. Memory: the peak of a fresh process at 500 and at 5,000 images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from benchmarks.speed.memory import in_a_fresh_process, peak_so_far
from captum_shared import LatentEncoder
from captum_shared.selectivity import top_activations

LAYERS = ("features.3", "features.7", "features.12")
MODEL, BATCH = "squeezenet1_0", 32


class Noise(Dataset[Tensor]):
    """Images of noise, made when asked for, so that they take no memory."""

    def __init__(self, n: int, size: int) -> None:
        self.n, self.size = n, size

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Tensor:
        return torch.randn(3, self.size, self.size, generator=torch.Generator().manual_seed(index))


def plain_pass(body: Callable[[Tensor], object], images: Dataset[Tensor], device: str) -> None:
    """All images through the network, up to its last indexed layer, and nothing else."""
    with torch.no_grad():
        for batch in DataLoader(images, BATCH):
            body(batch.to(device))


def ratios(rounds: int, n: int, size: int, device: str) -> dict[str, list[float]]:
    """Times of the streaming pass over those of the plain one, round by round, taking turns in who goes first."""
    model = torchvision.models.get_model(MODEL, weights=None).eval().to(device)
    body, images = LatentEncoder(model, LAYERS[-1]).layer_output, Noise(n, size)
    runs: list[Callable[[], object]] = [
        lambda: plain_pass(body, images, device),
        lambda: top_activations(model, LAYERS, images, batch_size=BATCH),
    ]
    for run in runs:  # warm-up
        run()
    found: dict[str, list[float]] = {"processor": [], "clock": []}
    for i in tqdm(range(rounds), unit="round"):
        seconds = {which: timed(runs[which], device) for which in ((0, 1), (1, 0))[i % 2]}
        for kind, (plain, streaming) in zip(found, zip(seconds[0], seconds[1], strict=True), strict=True):
            found[kind].append(streaming / plain)
    return found


def timed(run: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds of the processor, and on the clock."""
    start = time.process_time(), time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def peak_in_this_process(n: int, size: int, device: str) -> int:
    """Peak memory in MB of a pass over `n` images: of the process, or of the GPU."""
    model = torchvision.models.get_model(MODEL, weights=None).eval().to(device)
    top_activations(model, LAYERS, Noise(n, size), batch_size=BATCH)
    return peak_so_far(device)


def peak(n: int, size: int, device: str) -> int:
    """The same in a fresh process."""
    call = f"peak_in_this_process({n}, {size}, {device!r})"
    return int(in_a_fresh_process(f"from benchmarks.speed.selectivity_pass import peak_in_this_process; print({call})"))


def main() -> None:
    """Measure, print, and write ``selectivity_pass.json`` and ``table.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="selectivity_pass", help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and images")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    rounds, n, memory_size = (3, 64, 32) if options.quick else (15, 96, 64)
    found = ratios(rounds, n, 224, options.device)
    main_kind = "processor" if options.device == "cpu" else "clock"
    rows: list[dict[str, Any]] = [
        {
            "name": "selectivity pass", "model": MODEL, "layer": ",".join(LAYERS), "time": kind,
            "ratio": statistics.median(some), "low": min(some), "high": max(some),
        }
        for kind, some in sorted(found.items(), key=lambda item: item[0] != main_kind)
    ]  # fmt: skip
    peaks = {count: peak(count, memory_size, options.device) for count in (500, 5000)}
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "rows": rows, "ratios": found, "peak_mb": peaks, "rounds": rounds, "images": n, "device": options.device,
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    (out / "selectivity_pass.json").write_text(json.dumps(facts, indent=2) + "\n")
    table = (
        "| what | value |\n|---|---|\n"
        + "".join(
            f"| streaming / plain pass, {row['time']} time, median of {rounds} (lowest to highest) | "
            f"{row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f}) |\n"
            for row in rows
        )
        + "".join(f"| peak memory at {count} images (MB) | {mb} |\n" for count, mb in peaks.items())
    )
    (out / "table.md").write_text(table)
    print(table)
