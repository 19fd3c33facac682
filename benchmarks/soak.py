"""Many images, some of them broken, and a process that is killed: does a command end as if nothing had happened?

``python -m benchmarks.soak --images N --broken M --out DIR [--compare]`` makes N small images, of which M cannot be
read, and has ``captum-shared selectivity`` and `encode_images` read them all with a tiny network, each in a process of
its own. Both are killed twice (SIGKILL, after a third and after two thirds of the images) and started again. Each
process notes the images that it decodes. ``soak.json`` and ``table.md`` say how many were decoded per second, the peak
memory of a process, how many of the broken images were named, where each process resumed, and how many images were
decoded twice, because they were read after the last checkpoint before a kill. The second process must resume behind
the first image, and the third behind the second's (not with ``--quick``, where a kill may come before the first
checkpoint). With ``--compare``, an uninterrupted run must give the same files. Images that are there already are used
again.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tqdm import tqdm

if TYPE_CHECKING:
    from torch import nn

SIZE, PER_FOLDER, UNITS = 16, 1000, 4
KINDS = ("red", "green", "blue", "grey")
COUNT = re.compile(rb"(\d+)/(\d+) \[")
KILLED_AT = (1 / 3, 2 / 3)


@dataclass
class Row:
    """How a command went."""

    name: str
    images: int
    images_per_second: float = 0.0
    peak_mb: int = 0
    broken: int = 0
    named: int = 0
    resumed_from: list[int] = field(default_factory=list)
    read_again: int = 0
    same_as_without_kills: bool | None = None

    @property
    def good(self) -> bool:
        """Whether each broken image was named, and kills made no difference."""
        return self.named == self.broken and self.same_as_without_kills in (None, True)

    @property
    def resumed(self) -> bool:
        """Whether each process began behind the one before it."""
        return all(one < other for one, other in pairwise(self.resumed_from))


def network() -> nn.Module:
    """A network that does next to nothing, always with the same weights: the images are what is tested."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, UNITS, 5, stride=3), torch.nn.ReLU())


def make_images(folder: Path, n: int, n_broken: int) -> list[str]:
    """Images in folders of a thousand, with ``labels.csv`` and ``broken.json``; the names of the broken ones."""
    broken = {int(k) for k in np.random.default_rng(0).choice(n, n_broken, replace=False)}
    names = [f"{k // PER_FOLDER:04d}/{k:07d}.png" for k in range(n)]
    for start in tqdm(range(0, n, PER_FOLDER), unit="folder", desc="images to read"):
        (folder / names[start]).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(start).integers(0, 120, (PER_FOLDER, SIZE, SIZE, 3), dtype=np.uint8)
        for k in range(start, min(start + PER_FOLDER, n)):
            path = folder / names[k]
            if not path.exists():
                whole = _image(k, noise[k - start])
                path.write_bytes(_broken(k, whole) if k in broken else whole)
    rows = "".join(f"{name},{KINDS[k % len(KINDS)]}\n" for k, name in enumerate(names))
    (folder / "labels.csv").write_text("file,category\n" + rows)
    return [names[k] for k in sorted(broken)]


def encode(images: str, out: str) -> None:
    """`encode_images` in a process of its own: ``latents.npy``, from which NaN tell the unreadable ones."""
    import torch

    from captum_shared import LatentEncoder, encode_images
    from captum_shared.labels import read_labels

    torch.set_num_threads(1)
    paths, _ = read_labels(images, Path(images) / "labels.csv")
    latents = encode_images(
        LatentEncoder(network().eval(), "1"), paths, batch_size=256, progress=True, cache=Path(out) / "cache"
    )
    np.save(Path(out) / "latents.npy", latents.numpy())


def note_reads(path: str) -> None:
    """Have this process note the index of each image that it decodes, one a line; a kill loses none."""
    from captum_shared.encoder.images import ImageItem, ImageSource

    notes = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    read = ImageSource.__getitem__

    def noted(source: ImageSource, index: int) -> ImageItem:
        item = read(source, index)
        if item.image is not None:
            os.write(notes, b"%d\n" % index)
        return item

    setattr(ImageSource, "__getitem__", noted)  # noqa: B010


def soak(name: str, images: Path, out: Path, n: int, kills: Sequence[float]) -> Row:
    """Run a command on the `n` images, killing it at some shares of them."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    row, code = Row(name, n), _code(name, images, out)
    read: list[int] = []
    seconds = 0.0
    for share in (*kills, None):
        run = _run(code, out / "read.txt", n, share)
        row.peak_mb = max(row.peak_mb, run.peak_mb)
        row.resumed_from.append(min(run.read, default=n))
        read, seconds = read + run.read, seconds + run.seconds
    row.read_again = len(read) - len(set(read))
    row.images_per_second = round(len(read) / max(seconds, 1e-9), 1)
    return row


@dataclass
class Run:
    """One process: the images that it decoded in the pass over all, in how many seconds, and its peak memory."""

    read: list[int]
    seconds: float
    peak_mb: int


def _run(code: str, notes: Path, n: int, killed_at: float | None) -> Run:
    noting = f"from benchmarks.soak import note_reads; note_reads({str(notes)!r})\n{code}"
    process = subprocess.Popen([sys.executable, "-c", noting], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    counts: list[tuple[float, int]] = []
    text = b""
    while block := os.read(process.stderr.fileno(), 1 << 16):
        text = (text + block)[-100_000:]
        for count, total in COUNT.findall(block):
            if int(total) == n and (not counts or int(count) > counts[-1][1]):
                counts.append((time.monotonic(), int(count)))
        if killed_at is not None and counts and counts[-1][1] >= killed_at * n:
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in ((0,) if killed_at is None else (0, -signal.SIGKILL)):
        raise RuntimeError(f"{code} ended with {process.returncode}: {text[-500:].decode()}")
    seconds = counts[-1][0] - counts[0][0] if counts else 0.0
    return Run(_of_the_pass(notes), seconds, usage.ru_maxrss // 1024)


def _of_the_pass(notes: Path) -> list[int]:
    """The images of the pass over all, which takes them in order; what follows it looks at single images again."""
    read = [int(line) for line in notes.read_text().splitlines()]
    ends = (k for k, (one, other) in enumerate(pairwise(read), 1) if other <= one)
    return read[: next(ends, len(read))]


def run_soak(n: int, n_broken: int, out: Path, compare: bool) -> list[Row]:
    """Both commands; what ``soak.json`` holds."""
    images = out / "images"
    broken = make_images(images, n, n_broken)
    rows = []
    for name in ("selectivity", "encode_images"):
        row = soak(name, images, out / name, n, KILLED_AT)
        row.broken, row.named = len(broken), len(set(broken) & set(_named(name, images, out / name)))
        if compare:
            other = out / f"{name}_unkilled"
            soak(name, images, other, n, ())
            row.same_as_without_kills = _result(name, out / name) == _result(name, other)
        rows.append(row)
        _write(out, rows)
    return rows


def _code(name: str, images: Path, into: Path) -> str:
    """What the process runs."""
    if name == "encode_images":
        return f"from benchmarks.soak import encode; encode({str(images)!r}, {str(into)!r})"
    words = [
        "selectivity", "--images", str(images), "--labels", str(images / "labels.csv"),
        "--model", "benchmarks.soak:network", "--weights", "none", "--image-size", str(SIZE), "--layers", "0",
        "--top", "20", "--crops", "1", "--sheets", "0", "--batch-size", "256", "--device", "cpu",
        "--out", str(into / "report"),
    ]  # fmt: skip
    return f"import sys; from captum_shared.cli import main; sys.exit(main({words!r}))"


def _named(name: str, images: Path, into: Path) -> list[str]:
    if name == "selectivity":
        unreadable = json.loads((into / "report" / "summary.json").read_text())["unreadable"]
        return [f"{int(Path(one).stem) // PER_FOLDER:04d}/{Path(one).name}" for one in unreadable]
    lost = np.isnan(np.load(into / "latents.npy")).any(1)
    listed = [line.split(",")[0] for line in (images / "labels.csv").read_text().splitlines()[1:]]
    return [one for one, gone in zip(listed, lost, strict=True) if gone]


def _result(name: str, into: Path) -> bytes:
    return (into / ("report/units.csv" if name == "selectivity" else "latents.npy")).read_bytes()


def _image(k: int, noise: np.ndarray) -> bytes:
    """Noise with a cast of the category's colour."""
    noise[..., k % 4 if k % 4 < 3 else slice(None)] += 120
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _broken(k: int, whole: bytes) -> bytes:
    return (b"", b"no image", whole[: len(whole) // 2], bytes(len(whole)))[k % 4]


def _write(out: Path, rows: Sequence[Row]) -> None:
    (out / "soak.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    header = list(asdict(rows[0]))
    lines = [header, ["---"] * len(header), *([str(value) for value in asdict(row).values()] for row in rows)]
    (out / "table.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, metavar="N", help="how many images (default: 10,000)")
    parser.add_argument("--broken", type=int, default=200, metavar="M", help="how many are broken (default: 200)")
    parser.add_argument("--out", default="out/soak", metavar="DIR", help="folder for the results (default: out/soak)")
    parser.add_argument("--compare", action="store_true", help="compare with uninterrupted runs")
    parser.add_argument("--quick", action="store_true", help="600 images, 12 of them broken")
    options = parser.parse_args(arguments)
    n, n_broken = (600, 12) if options.quick else (options.images, options.broken)
    rows = run_soak(n, n_broken, Path(options.out), options.compare or options.quick)
    print((Path(options.out) / "table.md").read_text())
    return 0 if all(row.good and (row.resumed or options.quick) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
