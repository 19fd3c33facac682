"""Peak memory of a pair with integrated gradients beside that of the hand-written loop with as many images in a pass.

Which chunks of images the loop is fastest in changes from run to run, since several are equally fast, and with them its
memory, by a factor of up to six.

``python -m benchmarks.memory`` prints both peaks in MB and their ratio. Each is the peak of a fresh
process above what it took before, with its imports and the network. `benchmarks.speed` has the same rows.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.speed import paths
from benchmarks.speed.timing import Timing

MODELS = {"resnet18": "layer4", "squeezenet1_0": "features.12"}
SIZE, N_STEPS = 224, 50
SIDES = ("path", "floor")
STATUS = Path("/proc/self/status")


def memory_rows(quick: bool, device: str, rounds: int) -> list[Timing]:
    """Rows of a ratio of peaks; `seconds` and `floor` hold the peaks, in MB."""
    chunks = [images_in_a_pass(*at, device) for at in MODELS.items()]
    rounds = 1 if quick else 3
    return [memory_row(*at, device, rounds, chunk) for at, chunk in zip(MODELS.items(), chunks, strict=True)]


def images_in_a_pass(model: str, layer: str, device: str) -> int:
    """The most that the path puts through the network at once."""
    workload, counts = paths.make_workload(model, layer, device, SIZE), [0]
    with workload.model.register_forward_pre_hook(lambda module, inputs: counts.append(len(inputs[0]))):
        paths.integrated_runs(workload, N_STEPS)[0]()
    return max(counts)


def memory_row(model: str, layer: str, device: str, rounds: int, chunk: int) -> Timing:
    """The median of `rounds` with the lowest and the highest; fresh processes differ a little."""
    peaks = [[peak(side, model, layer, device, SIZE, chunk) for side in SIDES] for _ in range(rounds)]
    _, (own, floor) = sorted((path / loop, (path, loop)) for path, loop in peaks)[rounds // 2]
    ratios = [path / loop for path, loop in peaks]
    return Timing("peak memory", model, layer, own / floor, min(ratios), max(ratios), own, floor)


def peak(side: str, model: str, layer: str, device: str, size: int, chunk: int) -> int:
    """What the peak memory of a fresh process grows by, in MB, when it explains one pair in 50 steps, by a side."""
    call = f"explain({side!r}, {model!r}, {layer!r}, {device!r}, {size}, {chunk})"
    return int(in_a_fresh_process(f"from benchmarks.speed.memory import explain; print({call})"))


def in_a_fresh_process(code: str) -> str:
    """What the code prints."""
    # One malloc arena: how threads scatter free memory over arenas would drown what is measured.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def explain(side: str, model: str, layer: str, device: str, size: int, chunk: int) -> int:
    """Run one side in this process, and return what the peak grew by, in MB: of the process, or of the GPU."""
    path, loop = paths.integrated_runs(paths.make_workload(model, layer, device, size), N_STEPS)
    run = path if side == "path" else partial(loop, chunk)
    before = peak_so_far(device)
    run()
    return peak_so_far(device) - before


def peak_so_far(device: str) -> int:
    """MB: of this process, or of the GPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() // 2**20
    if STATUS.is_file():  # Linux, where `ru_maxrss` of a new process starts at the peak of the one that started it
        return int(of_this_process("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2 ** (20 if sys.platform == "darwin" else 10)


def of_this_process(name: str) -> float:
    """MB, by the name that Linux gives it: VmHWM, the peak, or VmRSS, at present."""
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith(f"{name}:"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its only argument is the device."""
    device = (list(sys.argv[1:] if arguments is None else arguments) or ["cpu"])[0]
    for row in memory_rows(False, device, 0):
        spread = f"({row.low:.2f} to {row.high:.2f})"
        print(f"{row.model} {row.layer}: {row.seconds:.0f} / {row.floor:.0f} MB = {row.ratio:.2f} {spread}")
    return 0
