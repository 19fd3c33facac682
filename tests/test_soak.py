"""The soak benchmark itself, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.soak import make_images


def test_broken_images_are_those_that_cannot_be_read(tmp_path: Path) -> None:
    from captum_shared.images import open_rgb

    broken = make_images(tmp_path, 40, 8)
    assert len(broken) == 8
    for path in tmp_path.rglob("*.png"):
        name = path.relative_to(tmp_path).as_posix()
        if name in broken:
            with pytest.raises(ValueError, match="cannot be read"):
                open_rgb(path)
        else:
            assert open_rgb(path).size == (16, 16)


@pytest.mark.slow  # eight processes that import torch: half a minute
def test_killed_twice_and_the_same(tmp_path: Path) -> None:
    from benchmarks.soak import main

    assert main(["--quick", "--out", str(tmp_path)]) == 0
    for row in json.loads((tmp_path / "soak.json").read_text()):
        assert row["named"] == row["broken"] == 12
        assert len(row["resumed_from"]) == 3
        assert row["same_as_without_kills"]
