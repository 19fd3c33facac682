"""Which categories and photographs rules are tuned, validated and judged on, and who has looked at them.

`splits.json` was committed before any rule was tuned on it; `ledger.csv` has a line for every run on one of its splits,
written by the command itself. A script that tries variants on a split calls `enter`, too.
"""

from __future__ import annotations

import csv
import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common.results import markdown

SPLITS = ("tuning", "validation", "held_out")
FILE, LEDGER = Path(__file__).parent / "splits.json", Path(__file__).parent / "ledger.csv"
HEADER = ("date", "split", "model", "layer", "seed", "composites", "new_rows", "rows")


@dataclass(frozen=True)
class Split:
    """What is played: composites are made of the photographs `played`; those of later splits stay unseen.

    Attributes
    ----------
    categories : tuple of str
    played, seen : set of str
        File names.
    """

    categories: tuple[str, ...]
    played: frozenset[str]
    seen: frozenset[str]


def read_split(name: str) -> Split:
    """Rules are tuned and validated without the held-out photographs; the held-out game has all in its galleries."""
    content = json.loads(FILE.read_text())
    seen = SPLITS if name == "held_out" else SPLITS[:2]
    files = [file for split in seen for file in content[split]["photographs"]]
    own = content[name]
    return Split(tuple(own["categories"]), frozenset(own["photographs"]), frozenset(files))


def photographs_of(
    split: Split, paths: Sequence[Path], names: Sequence[str]
) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Photographs that a split may see, with their categories, and whether they are played."""
    keep = [k for k, path in enumerate(paths) if path.name in split.seen]
    played = np.array([paths[k].name in split.played for k in keep])
    return [paths[k] for k in keep], np.array([names[k] for k in keep]), played


def enter(split: str, rows: Sequence[str], about: tuple[str, str, int, int]) -> None:
    """Add a look at a split to the ledger, counting the rows that had never been played there before.

    `about` is what was played: model, layer, seed and composites of each pair.
    """
    earlier = {row for line in read_ledger() if line["split"] == split for row in line["rows"].split("; ")}
    fresh = not LEDGER.is_file()
    with LEDGER.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(HEADER)
        today, new = datetime.date.today().isoformat(), len(set(rows) - earlier)
        writer.writerow((today, split, *about, new, "; ".join(rows)))


def read_ledger() -> list[dict[str, str]]:
    """The lines of the ledger; none if there is none yet."""
    if not LEDGER.is_file():
        return []
    with LEDGER.open(newline="") as file:
        return list(csv.DictReader(file))


def looks() -> str:
    """How often each split was looked at, and with how many different rows, as a Markdown table."""
    ledger = read_ledger()
    own = {split: [int(line["new_rows"]) for line in ledger if line["split"] == split] for split in SPLITS}
    rows = [(split, len(new), sum(new)) for split, new in own.items()]
    return markdown(["split", "games played", "different rows"], rows)
