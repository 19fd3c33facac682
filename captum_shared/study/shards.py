"""A study in parts, for job arrays: each shard makes its part of the maps, in a folder beside the report's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """One of several parts: number 1 to `of`."""

    number: int
    of: int

    def part(self, items: Sequence[Item]) -> list[Item]:
        """Every `of`-th item, starting at the shard's number."""
        return list(items[self.number - 1 :: self.of])

    def folder(self, out: str | Path) -> Path:
        """Where the shard works: beside the report, so that no two shards write into one folder."""
        return Path(f"{out}.shard-{self.number}-of-{self.of}")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_shard(text: str | None) -> Shard | None:
    """A shard from text such as "3/20"; other text is refused.

    >>> parse_shard("3/20")
    Shard(number=3, of=20)
    """
    if text is None:
        return None
    numbers = re.fullmatch(r"(\d+)/(\d+)", str(text))
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise ValueError(f"`shard` must be like 3/20, a number from 1 to the number of shards, got {text!r}")
    return Shard(int(numbers[1]), int(numbers[2]))


def find_shards(out: str | Path) -> list[Path]:
    """The folders of a report's shards, of which there must be at least one."""
    pattern = re.compile(re.escape(Path(out).name) + r"\.shard-(\d+)-of-(\d+)")
    there = sorted(path for path in Path(out).parent.iterdir() if path.is_dir() and pattern.fullmatch(path.name))
    if not there:
        raise ValueError(f"there is nothing to gather: expected folders such as {Shard(1, 20).folder(out)}")
    return there
