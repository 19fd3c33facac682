"""Every command of the how-to on clusters is run as it is written, or the page says that it has not been."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from recordings import SIZE, files_of

import captum_shared
from captum_shared.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "howto" / "cluster.md").read_text()
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SETUP = next(code for kind, code in FENCE.findall(PAGE) if kind == "python")
BLOCKS = [code for kind, code in FENCE.findall(PAGE) if kind == "text"]

ARRAY = "--array=1-20\ncaptum-shared"


def block(word: str) -> str:
    """The one block of text on the page with this word."""
    (found,) = (code for code in BLOCKS if word in code)
    return found


def test_every_block_is_run_here_or_marked() -> None:
    """Six: those of this module's tests, and one that the page says was not run."""
    words = ("LocalCluster", "register_ray", "SLURMCluster", ARRAY, "--gather", "--device cuda")
    assert [sum(word in code for code in BLOCKS) for word in words] == [1] * len(words)
    assert len(BLOCKS) == len(words)
    for word in ("SLURMCluster", "--device cuda"):
        before = PAGE[: PAGE.index(block(word))].rsplit("\n## ", 1)[1]
        assert "We have not run this" in before


def run(script: str, folder: Path) -> None:
    path = folder / "script.py"
    path.write_text(script)
    package = str(Path(captum_shared.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(path)], cwd=folder, capture_output=True, text=True, timeout=400,
        env={**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def report_of(ending: str, folder: Path) -> dict[str, bytes]:
    """The report that the page's recording has with these lines at the end."""
    folder.mkdir()
    run(f"{SETUP}\nencoder = cs.LatentEncoder(network, layer='features.17', pool='avg')\n{ending}", folder)
    return files_of(folder / "report")


@pytest.mark.slow  # starts a cluster of four processes, each of which imports torch: half a minute
def test_dask_with_processes(tmp_path: Path) -> None:
    plain = report_of('cs.explain_recording(recording, encoder, out="report")', tmp_path / "plain")
    head, body = block("LocalCluster").split('if __name__ == "__main__":\n')
    inside = f"{SETUP}\nencoder = cs.LatentEncoder(network, layer='features.17', pool='avg')\nimport joblib\n"
    folder = tmp_path / "dask"
    folder.mkdir()
    run(f'{head}if __name__ == "__main__":\n{textwrap.indent(inside, "    ")}{body}', folder)
    assert files_of(folder / "report") == plain


@pytest.mark.slow  # starts Ray: half a minute
def test_ray(tmp_path: Path) -> None:
    plain = report_of('cs.explain_recording(recording, encoder, out="report")', tmp_path / "plain")
    assert report_of(f"import joblib\n{block('register_ray')}", tmp_path / "ray") == plain


@pytest.mark.slow  # runs the command four times
def test_a_job_array(recording: Path, tiny: object, undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two jobs in place of twenty, and a small network."""
    recording.rename("my_recording")
    small = ["--weights", "tiny.pth", "--image-size", str(SIZE)]

    def words(command: str, out: str) -> list[str]:
        command = command.replace("resnet50", "tiny_network:make").replace("layer3", "3").replace("--out report", out)
        return [*shlex.split(os.path.expandvars(command))[1:], *small]

    shard = re.sub(r"^#SBATCH.*\n", "", block(ARRAY)).replace("\\\n", "").replace("/20", "/2")
    gather = block("--gather").replace("\\\n", "")
    for number in ("1", "2"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", number)
        assert main(words(shard, "--out report")) == 0
    assert main(words(gather, "--out report")) == 0
    assert main(words(gather.replace("--gather", ""), "--out whole")) == 0
    assert files_of(Path("report")) == files_of(Path("whole"))


@pytest.mark.slow  # starts four processes, each of which imports torch: ten seconds
def test_processes_of_one_machine(recording: Path, tiny: object, undrawn: None) -> None:
    assert "`captum-shared recording ... --jobs 4`" in PAGE
    words = ["recording", "--recording", str(recording), "--model", "tiny_network:make", "--weights", "tiny.pth",
             "--layer", "3", "--image-size", str(SIZE)]  # fmt: skip
    assert main([*words, "--out", "one"]) == 0
    assert main([*words, "--out", "four", "--jobs", "4"]) == 0
    assert files_of(Path("one")) == files_of(Path("four"))
