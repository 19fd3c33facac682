"""The commands in the world that nobody has broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faults.faulty import COMMANDS, run, snapshot, words_of


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "demo"])
def test_nothing_wrong(command: str, world: Path, capsys: Any) -> None:
    before = snapshot(Path())
    assert run(words_of(command, {})) == 0
    said = capsys.readouterr()
    assert "out/index.html" in said.out
    assert "error" not in said.err
    assert Path("out/index.html").is_file()
    assert snapshot(Path()) == before
