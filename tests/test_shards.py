"""A recording explained in parts, as a job array would, and gathered: the files of one run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recordings import explain, files_of
from test_recording_report import command

from captum_shared import cli
from captum_shared.study.shards import Shard, parse_shard

pytestmark = pytest.mark.usefixtures("undrawn")


def test_parts_are_all_of_it_once() -> None:
    parts = [Shard(k, 3).part("abcdefgh") for k in (1, 2, 3)]
    assert sorted(item for part in parts for item in part) == list("abcdefgh")
    assert [len(part) for part in parts] == [3, 3, 2]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5"])
def test_no_shard(text: str) -> None:
    with pytest.raises(ValueError, match=r"`shard` must be like 3/20.*got '"):
        parse_shard(text)


def test_gathered_shards_are_the_files_of_one_run(recording: Path, tiny: torch.nn.Module) -> None:
    explain(recording, tiny, Path("whole"), maps_per_job=4)
    for number in (1, 2, 3):
        explain(recording, tiny, Path("parts"), maps_per_job=4, shard=f"{number}/3")
    made = [path.name for k in (1, 2, 3) for path in Path(f"parts.shard-{k}-of-3/.work").glob("maps_*")]
    assert len(set(made)) == len(made) > 3  # each part of the maps is made once
    assert not Path("parts").exists()
    explain(recording, tiny, Path("parts"), maps_per_job=4, gather=True)
    assert files_of(Path("parts")) == files_of(Path("whole"))


def test_the_command(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command(recording, "parts"), "--shard", "1/1"]) == 0
    assert "shard 1/1 is done, in parts.shard-1-of-1; when all are" in capsys.readouterr().out
    assert cli.main([*command(recording, "parts"), "--gather"]) == 0
    assert Path("parts/index.html").exists()


def test_gathering_makes_what_is_missing_or_damaged(recording: Path, tiny: torch.nn.Module) -> None:
    explain(recording, tiny, Path("whole"), maps_per_job=4)
    explain(recording, tiny, Path("out"), maps_per_job=4, shard="2/2")
    damaged = next(iter(Path("out.shard-2-of-2/.work").glob("maps_*pixel.npy")))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\7")
    with pytest.warns(UserWarning, match=f"{damaged.name} is damaged or was changed"):
        explain(recording, tiny, Path("out"), maps_per_job=4, gather=True)
    assert files_of(Path("out")) == files_of(Path("whole"))


def test_shards_of_another_configuration_are_refused(recording: Path, tiny: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match=r"nothing to gather: expected folders such as out.shard-1-of-20"):
        explain(recording, tiny, Path("out"), gather=True)
    explain(recording, tiny, Path("out"), shard="1/2", drivers=1)
    with pytest.raises(ValueError, match=r"is of another configuration.*`drivers`: 1 -> 2"):
        explain(recording, tiny, Path("out"), gather=True)
    Path("other.shard-2-of-2").mkdir()
    with pytest.raises(ValueError, match=r"other.shard-2-of-2 holds no run of this program"):
        explain(recording, tiny, Path("other"), gather=True)
