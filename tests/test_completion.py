"""Completion at the prompt, driven in real shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from captum_shared import cli

COMPLETED = {
    "captum-shared cat": ["category"],
    "captum-shared ": ["demo", "category", "selectivity", "recording", "figure"],
    "captum-shared recording --neu": ["--neurons"],
    "captum-shared category --images ph": ["photos"],
    "captum-shared category --labels ph": ["photos", "photos.csv"],
    "captum-shared category --rule mo": ["moments"],
    "captum-shared category --rule moments --engine Sal": ["Saliency"],
    "captum-shared figure --width ": ["single", "double"],
}
BASH = """
source ./script
complete -p captum-shared
COMP_LINE="$1"
read -ra COMP_WORDS <<< "$COMP_LINE"
[[ "$COMP_LINE" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_shtab_captum_shared 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Makes the script of a shell, in a folder with something to complete."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos.csv").write_text("")

    def make(shell: str) -> None:
        with pytest.raises(SystemExit) as ended:
            cli.main(["--print-completion", shell])
        assert not ended.value.code
        Path("script").write_text(capsys.readouterr().out)

    return make


def run(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


def test_bash_completes(script: Any) -> None:
    needs("bash")
    script("bash")
    for line, words in COMPLETED.items():
        registered, *found = run("bash", "--norc", "-c", BASH, "bash", line)
        assert registered.endswith("-F _shtab_captum_shared captum-shared")
        assert set(words) <= set(found), line
        assert all(word.startswith(line.split(" ")[-1]) for word in found)


ZSH = """
wait_for() {
    all=
    repeat 100; do
        while zpty -r -t shell part; do all+=$part; done
        [[ $all == *$1* ]] && return
        sleep 0.1
    done
}
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "cd $PWD; fpath=($PWD \\$fpath); autoload -U compinit; compinit -u -D; print re''ady"
wait_for ready
zpty -w -n shell "captum-shared cat"$'\\t'
wait_for category
print -r -- "$all"
"""


def test_zsh_completes(script: Any) -> None:
    needs("zsh")
    script("zsh")
    Path("script").rename("_captum-shared")
    assert any("captum-shared category" in line for line in run("zsh", "-f", "-c", ZSH))


def test_tcsh_takes_the_script(script: Any) -> None:
    needs("tcsh")
    script("tcsh")
    assert any("category" in line for line in run("tcsh", "-f", "-c", "source ./script; complete captum-shared"))


def test_without_shtab_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--print-completion", "bash"])
    assert ended.value.code == 2
    assert 'needs shtab: pip install "captum-shared[completion]"' in capsys.readouterr().err


def test_only_shells_that_there_are(capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--print-completion", "cmd"])
    assert ended.value.code == 2
    assert "argument --print-completion: invalid choice: 'cmd'" in capsys.readouterr().err
