"""Bulk paths beside their floors: encoding, matching, the selectivity pass, and a recording as a whole.

Each floor is a minimal loop written by hand, on the same work. `benchmarks.speed` gathers these rows; the memory of
matching in a file of 1,000,000 latents is measured by

    python -m benchmarks.speed_bulk [FOLDER [N]]
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from benchmarks.speed import floors, selectivity_pass
from benchmarks.speed.memory import of_this_process
from benchmarks.speed.timing import Timing, compare, fastest
from captum_shared import LatentEncoder, Recording, ReferenceMatcher, encode_images, explain_recording
from captum_shared.networks.preprocessing import preprocessing
from captum_shared.networks.registry import load_network
from captum_shared.selectivity import top_activations
from captum_shared.study.tables import RecordingSummary

SIZE, DIMENSIONS = 224, 512
# Networks, with neurons, stimuli, the layer that the neurons read and those to choose from.
RECORDINGS = {
    "squeezenet1_1": (8, 120, "features.7", ("features.5", "features.7", "features.10")),
    "resnet18": (4, 60, "layer3", ("layer2", "layer3", "layer4")),
}


def bulk_rows(quick: bool, device: str, rounds: int) -> list[Timing]:
    """Rows `encode` from tensors and from files, `match`, `selectivity pass`, and, unless quick, `recording`."""
    few = min(rounds, 3)
    n, rounds = (32, few) if quick else (64, rounds)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            *encode_rows(Path(folder), n, device, rounds),
            match_row(*((8, 50, 20_000) if quick else (64, 100, 100_000)), device, few),
            selectivity_row(n, device, rounds),
        ]
        if not quick:
            rows += [recording_row(Path(folder) / name, name, device, few) for name in RECORDINGS]
        return rows


# Encoding


def photographs(folder: Path, n: int, categories: Sequence[str] = ("a",)) -> list[Path]:
    """JPEG files of 500 x 375, as smooth as photographs: blobs, coarser in some categories."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    paths = [folder / f"{i:04d}.jpg" for i in range(n)]
    for i, path in enumerate(paths):
        grain = 2 + i % len(categories)
        blobs = random.integers(0, 256, (75 // grain, 100 // grain, 3), dtype=np.uint8)
        Image.fromarray(blobs).resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def encode_rows(folder: Path, n: int, device: str, rounds: int) -> list[Timing]:
    """resnet18's last layer: from tensors, and from files; the floor has its batches in memory."""
    model = torchvision.models.resnet18(weights=None).eval().to(device)
    encoder, transform = LatentEncoder(model, "layer4"), preprocessing(SIZE)
    body = nn.Sequential(*list(model.children())[:-2])
    paths = photographs(folder / "encode", n)
    images = torch.stack([transform(Image.open(path)) for path in paths])
    batches = images.split(32)

    def floor() -> Tensor:
        with torch.no_grad():
            return torch.cat([body(batch.to(device)).mean((2, 3)).cpu() for batch in batches])

    same = torch.allclose(floor()[:8], encode_images(encoder, paths[:8], transform), atol=1e-3)
    if not same:
        raise RuntimeError("the path and its floor do not give the same latents")
    kinds: dict[str, Callable[[], object]] = {
        "tensors": lambda: encode_images(encoder, images),
        "JPEG files": lambda: encode_images(encoder, paths, transform),
    }
    return [compare("encode", "resnet18", kind, path, floor, rounds) for kind, path in kinds.items()]


# Matching


def match_row(n_neurons: int, n_queries: int, n_gallery: int, device: str, rounds: int) -> Timing:
    """The check of the gallery's values is part of the path; the floor is products, the largest, and a merge."""
    random = torch.Generator().manual_seed(0)
    shapes = (n_gallery, DIMENSIONS), (n_queries, DIMENSIONS), (n_neurons, DIMENSIONS)
    gallery, query, weight = (torch.randn(shape, generator=random).to(device) for shape in shapes)

    def floor(gallery: Tensor = gallery) -> Tensor:
        rows = (weight[:, None] * query).flatten(0, 1)
        best, index = rows.new_full((len(rows), 1), -torch.inf), rows.new_zeros((len(rows), 1), dtype=torch.int64)
        for start in range(0, len(gallery), 4096):
            values, place = (rows @ gallery[start : start + 4096].T).topk(1)
            best, which = torch.cat([best, values], 1).topk(1)
            index = torch.cat([index, place + start], 1).gather(1, which)
        return index.reshape(n_neurons, n_queries, 1)

    def path(gallery: Tensor = gallery) -> Tensor:
        return ReferenceMatcher(gallery).match(query, weight).index

    if (path(gallery[:9000]) != floor(gallery[:9000])).float().mean() > 1e-3:  # blocks of other shapes round otherwise
        raise RuntimeError("the path and its floor do not choose the same references")
    return compare("match", f"{n_neurons} x {n_queries} x {n_gallery}", f"{DIMENSIONS} latents", path, floor, rounds)


def mapped_match_peak(folder: str | Path, n: int, quick_queries: int = 10) -> float:
    """MB that a search in a file of `n` latents adds to this process at its peak, pages of the file included."""
    path = Path(folder) / "gallery.npy"
    written = np.lib.format.open_memmap(path, "w+", np.float32, (n, DIMENSIONS))
    random = np.random.default_rng(0)
    for start in range(0, n, 10_000):
        written[start : start + 10_000] = random.normal(size=(min(10_000, n - start), DIMENSIONS))
    del written  # with its pages
    query, weight = torch.randn(quick_queries, DIMENSIONS), torch.randn(4, DIMENSIONS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = of_this_process("VmRSS")
    ReferenceMatcher(np.load(path, mmap_mode="r")).match(query, weight, 5)
    path.unlink()
    return of_this_process("VmHWM") - before


# Selectivity


def selectivity_row(n: int, device: str, rounds: int) -> Timing:
    """As in `benchmarks.selectivity_pass`, on the clock."""
    model = torchvision.models.get_model(selectivity_pass.MODEL, weights=None).eval().to(device)
    layers, images = selectivity_pass.LAYERS, selectivity_pass.Noise(n, SIZE)
    body = LatentEncoder(model, layers[-1]).layer_output
    return compare(
        "selectivity pass", selectivity_pass.MODEL, ",".join(layers),
        lambda: top_activations(model, layers, images, batch_size=selectivity_pass.BATCH, device=device),
        lambda: selectivity_pass.plain_pass(body, images, device), rounds,
    )  # fmt: skip


# A recording


@dataclass
class Experiment:
    """A recording of a network's own latents, and the network."""

    recording: Recording
    model: nn.Module
    layers: tuple[str, ...]
    options: dict[str, Any]


def experiment(folder: Path, name: str, device: str) -> Experiment:
    """Neurons that read a network's latents of stimuli of four categories."""
    kinds = ("a", "b", "c", "d")
    n_neurons, n_stimuli, layer, layers = RECORDINGS[name]
    torch.manual_seed(0)
    model = load_network(name, weights=None)[0].to(device)
    paths = photographs(folder, n_stimuli, kinds)
    z = encode_images(LatentEncoder(model, layer), paths, preprocessing(SIZE)).double().numpy()
    z = (z - z.mean(0)) / (z.std(0) + 1e-6)
    random = np.random.default_rng(0)
    signal = random.normal(size=(n_neurons, z.shape[1])) @ z.T
    signal /= signal.std(axis=1, keepdims=True)
    responses = signal[:, :, None] + 0.5 * random.normal(size=(*signal.shape, 4))
    recording = Recording(responses, paths, [kinds[i % len(kinds)] for i in range(n_stimuli)])
    options = {
        "pools": ("avg",), "n_steps": 16, "progress": False,
        "min_cv_r": -1, "threshold": 0.0,  # so that every neuron has pairs
    }  # fmt: skip
    return Experiment(recording, model, layers, options)


def explain(e: Experiment) -> tuple[RecordingSummary, list[dict[str, str]], list[dict[str, str]]]:
    """The whole report, into a folder that goes afterwards; the summary, and its neurons and pairs."""
    with tempfile.TemporaryDirectory() as out:
        summary = explain_recording(
            e.recording, e.model, preprocessing(SIZE), layers=e.layers, out=Path(out) / "report", **e.options
        )
        tables = [list(csv.DictReader((Path(out) / "report" / f"{name}.csv").open())) for name in ("neurons", "pairs")]
    return summary, tables[0], tables[1]


def recording_row(folder: Path, name: str, device: str, rounds: int) -> Timing:
    """The report beside its encoding forwards, fits and maps; pictures, tables and page are not in the floor."""
    e = experiment(folder, name, device)
    _, neurons, pairs = explain(e)
    floor = recording_floor(e, neurons, pairs, device)
    size = f"{e.recording.n_neurons} neurons, {e.recording.n_stimuli} stimuli, {len(pairs)} pairs"
    return compare("recording", name, size, lambda: explain(e), floor, rounds)


def recording_floor(
    e: Experiment, neurons: list[dict[str, str]], pairs: list[dict[str, str]], device: str
) -> Callable[[], None]:
    """Each image once for the latents; ridge regressions; for maps a forward per step and a backward per map.

    Two pairs of a neuron with the same reference have two maps of it, for their constants differ.

    Nothing of it is the report's: a slowness that path and floor shared would not show.
    """
    transform = preprocessing(SIZE)
    images = {path.name: transform(Image.open(path).convert("RGB")) for path in e.recording.stimuli}
    batches = torch.stack(list(images.values())).split(32)
    layer_of = {row["neuron"]: row["layer"].split()[0] for row in neurons if row["layer"]}
    wanted = Counter((layer_of[row["neuron"]], row[side]) for row in pairs for side in ("image", "reference"))
    counts = [(layer, images[image], n) for (layer, image), n in wanted.items()]
    encoders = {layer: LatentEncoder(e.model, layer) for layer, _, _ in counts}
    responses, categories = e.recording.mean_responses.T, np.array(e.recording.categories)
    preferred = np.array([row["preferred_category"] for row in neurons])
    folds = np.random.default_rng(0).permutation(len(responses)) % 5

    def run() -> None:
        for z in floors.latents_of_layers(e.model, e.layers, [batch.to(device) for batch in batches]):
            for fold in range(5):
                floors.ridge(z[folds != fold], responses[folds != fold], z[folds == fold])
            floors.ridge(z, responses, z)
            for category in set(preferred):
                inside = categories == category
                floors.ridge(z[inside], responses[inside][:, preferred == category], z)
        for layer, image, n in counts:
            map_floor(encoders[layer], image.to(device), n, n_steps, chunk)

    layer, image, n = counts[0]
    n_steps = e.options["n_steps"]
    chunk = fastest((4, 8, n_steps), lambda size: map_floor(encoders[layer], image.to(device), n, n_steps, size))
    return run


def map_floor(encoder: nn.Module, image: Tensor, n: int, n_steps: int, chunk: int) -> Tensor:
    """Integrated gradients of `n` neurons: chunks of steps, a backward pass of each for every neuron."""
    maps = torch.zeros(n, *image.shape, device=image.device)
    for steps in torch.linspace(0, 1, n_steps, device=image.device)[:, None, None, None].split(chunk):
        points = (steps * image).requires_grad_()
        z = encoder(points)
        for k in range(n):
            maps[k] += torch.autograd.grad(z, points, torch.ones_like(z), retain_graph=k < n - 1)[0].sum(0)
    return maps * image / n_steps


def main() -> None:
    """Print the memory of a search in a file."""
    folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir()
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    print(json.dumps({"gallery": n, "file_mb": n * DIMENSIONS * 4 / 2**20, "peak_mb": mapped_match_peak(folder, n)}))
