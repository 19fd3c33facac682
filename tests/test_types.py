"""What a type checker, and so an editor, tells a user: the misspelled option, the key that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import captum_shared

ROOT = Path(captum_shared.__file__).parent.parent

RIGHT = """
import captum_shared as cs
import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn


def use(recording: cs.Recording, network: nn.Module, encoder: cs.LatentEncoder, x: Tensor) -> None:
    count: int = cs.explain_recording(recording, network, threshold=1.0, neurons="0,3", maps=["pixel"])["n_pairs"]
    maps: tuple[Tensor, Tensor] = cs.ParallelBackprop(encoder).attribute((x, x), readout=np.ones(8), n_steps=8)
    tops: dict[str, cs.selectivity.TopActivations] = cs.selectivity.top_activations(network, ["a"], x, batch_size=2)
    readout: cs.LinearReadout = cs.fit_readout(x, [0.0, 1.0], Ridge(), cv=[([0], [1])]).readout
    cs.encode_images(encoder, ["a.png"], lambda image: torch.ones(3, 8, 8), autocast=torch.bfloat16)
"""
WRONG = {
    "cs.explain_recording(recording, network, treshold=1.0)": 'Unexpected keyword argument "treshold"',
    "cs.explain_recording(recording, network, threshold='high')": 'Argument "threshold".*expected "float"',
    "cs.explain_recording(recording, network)['n_pair']": 'has no key "n_pair"',
    "cs.ParallelBackprop(encoder).attribute((x, x), readout='w')": 'No overload variant of "attribute"',
    "cs.selectivity.top_activations(network, 'a', x, batchsize=2)": 'Unexpected keyword argument "batchsize"',
    "cs.selectivity.transform_selectivity_index(network, 0, x, abs)": 'Argument 2 .*expected "TopActivations"',
    "cs.find_drivers(x, x > 0, treshold=1.0)": 'Unexpected keyword argument "treshold"',
    "cs.fit_readout(x, x, cv='five')": 'Argument "cv" to "fit_readout"',
    "cs.Recording.load('a.nwb', windw=(0, 1))": 'Unexpected keyword argument "windw"',
    "cs.ReferenceMatcher(x, similarity=3)": 'Argument "similarity"',
}


def checked(text: str, folder: Path) -> str:
    """What mypy says of a user's program, with the settings of this repository."""
    (folder / "program.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(folder / "program.py")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow  # mypy reads the package, torch and NumPy: 20 seconds the first time
def test_a_type_checker_finds_what_is_misspelled(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    assert "Success" in checked(RIGHT, tmp_path)
    found = checked(RIGHT + "".join(f"    {line}\n" for line in WRONG), tmp_path)
    first = RIGHT.count("\n") + 1
    for number, (line, message) in enumerate(WRONG.items(), start=first):
        assert re.search(rf"program.py:{number}: error: .*{message}", found), f"{line}\n{found}"
