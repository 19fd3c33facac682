"""How much more work two processes do at once than one on this machine, measured by a hand-written loop of maps."""

from __future__ import annotations

import subprocess
import sys
import time

import torch

from benchmarks.speed.bulk import map_floor
from captum_shared import load_encoder

NEURONS, STEPS, CHUNK = 12, 16, 4
Network = dict[str, str | int | None]


def ceiling(processes: int, network: Network, rounds: int = 4) -> float:
    """How many times the work of one process this many do in the same time, each with one thread."""
    return processes * _seconds(1, network, rounds) / _seconds(processes, network, rounds)


def loop(network: Network, rounds: int) -> None:
    """Wait for a line, make maps of one image in a loop, and print the seconds."""
    torch.set_num_threads(1)
    encoder = load_encoder(**network)[0].eval().requires_grad_(False)  # type: ignore[arg-type]
    image = torch.rand(3, int(network["image_size"] or 224), int(network["image_size"] or 224))
    map_floor(encoder, image, NEURONS, STEPS, CHUNK)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    for _ in range(rounds):
        map_floor(encoder, image, NEURONS, STEPS, CHUNK)
    print(time.perf_counter() - start, flush=True)


def _seconds(processes: int, network: Network, rounds: int) -> float:
    """Seconds of the slowest of some processes that start together."""
    code = f"from benchmarks.population.ceiling import loop; loop({network!r}, {rounds})"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(processes)]  # type: ignore[call-overload]
    for process in started:
        process.stdout.readline()
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    return max(float(process.communicate()[0]) for process in started)
