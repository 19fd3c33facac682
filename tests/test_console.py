"""The command line's manners: one line, the right status, the nearest word, pipes that may close."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sqlite3
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch

from captum_shared import cli
from captum_shared.console import closing_pipes, describe

ERRORS: list[tuple[BaseException, int, str]] = [
    (ValueError("`top` must be   positive"), 2, "error: `top` must be positive"),
    (FileNotFoundError(errno.ENOENT, "No such file", "x.csv"), 2, r"error: \[Errno 2\] No such file: 'x.csv'"),
    (KeyboardInterrupt(), 130, "interrupted; rerun the command to resume"),
    (KeyError("gone"), 1, "unexpected error: KeyError: 'gone'; run again with --traceback"),
    (RuntimeError("a strange shape"), 1, "unexpected error: RuntimeError: a strange shape"),
    (MemoryError(), 1, "error: out of memory; try a smaller --batch-size"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), 1, "error: out of memory .*Allocator"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to"), 1, "error: out of memory .*CUDA"),
    (OSError(errno.ENOSPC, "No space left on device", "out/.work/z.npy"), 1, "error: no space left .*z.npy"),
    (OSError(errno.EFBIG, "File too large", "out/z.npy"), 1, "error: no space left .*z.npy"),
    (sqlite3.OperationalError("database or disk is full"), 1, "error: no space left"),
    (URLError("Name or service not known"), 1, "error: cannot download .*service not known.*; pass --weights PATH"),
    (type("TerminatedWorkerError", (Exception,), {})("SIGKILL"), 1, "error: a worker process was killed"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "status", "text"), ERRORS)
def test_every_error_is_one_line(error: BaseException, status: int, text: str) -> None:
    found, line = describe(error)
    assert found == status
    assert "\n" not in line
    assert re.match(text, line)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the demo's work raise."""

    def set_error(error: BaseException) -> None:
        def fail(**_: Any) -> None:
            raise error

        monkeypatch.setattr("captum_shared.report.run_demo", fail)

    return set_error


def test_nobody_foresaw(failing: Any, capsys: Any, tmp_path: Path) -> None:
    failing(KeyError("gone"))
    assert cli.main(["demo", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "captum-shared: unexpected error: KeyError: 'gone'; run again with --traceback to see where"
    ]
    assert said.out == ""
    for words in (["demo", "--traceback"], ["--traceback", "demo"]):
        assert cli.main([*words, "--out", str(tmp_path)]) == 1
        assert "Traceback" in capsys.readouterr().err


def test_the_program_alone_prints_its_help(capsys: Any) -> None:
    assert cli.main([]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: captum-shared")
    assert "examples:" in said.out
    assert said.err == ""


def examples_in(text: str) -> list[list[str]]:
    """The words of each example in a help, as a shell reads them."""
    lines = text.split("examples:\n")[1].replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("  captum-shared ")]


def test_every_example_in_the_help_can_be_run_as_it_stands() -> None:
    parser = cli.build_parser()
    for help_of in (parser, *parser.commands.values()):
        found = examples_in(help_of.format_help())
        assert found
        for words in found:
            parser.parse_args(words)


def test_the_help_of_a_command_shows_its_own_examples() -> None:
    parser = cli.build_parser()
    of_all = [words[0] for words in examples_in(parser.format_help())]
    assert of_all == list(parser.commands)
    for name, command in parser.commands.items():
        assert {words[0] for words in examples_in(command.format_help())} == {name}


MISSPELT = {
    "categry": "unknown command 'categry'; did you mean category?; see captum-shared --help",
    "quixotic": "unknown command 'quixotic'; there are category, demo,",
    "category --imagse x": "category has no flag --imagse; did you mean --images?; see captum-shared category --help",
    "category --images x --smilarity=dot": "no flag --smilarity; did you mean --similarity?",
    "recording --layers a": "recording has no flag --layers; did you mean --layer?",
    "demo --tracebakc": "did you mean --traceback?",
    "demo --top x": "argument --top: invalid int value: 'x'; see captum-shared demo --help",
    "category": "the following arguments are required: --images",
    "demo stray": "unrecognized arguments: stray",
}


@pytest.mark.parametrize("words", MISSPELT)
def test_misspelt_words(words: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words.split())
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert MISSPELT[words] in lines[0]


def test_several_lines_become_one() -> None:
    error = ValueError("2 images cannot be read:\n  a.png: it is empty\n  b.png: it is text\nThey are left out.")
    assert describe(error)[1] == (
        "error: 2 images cannot be read: a.png: it is empty; b.png: it is text. They are left out."
    )


def test_a_prefix_of_one_flag_is_that_flag(failing: Any, tmp_path: Path, capsys: Any) -> None:
    failing(ValueError("reached"))
    assert cli.main(["demo", "--batch", "4", "--out", str(tmp_path)]) == 2
    assert "reached" in capsys.readouterr().err


def test_a_closed_pipe_takes_nothing_from_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with closing_pipes():
            print("nobody reads this")
            print("x" * 100_000)
            done = True
        assert sys.stdout is stream
    assert done


def test_the_status_is_that_of_the_work_also_with_a_closed_pipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("captum_shared.report.run_demo", lambda **_: {"pairs": 0})
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(["demo", "--out", str(tmp_path)]) == 0


INDICES = {"color_selectivity": {"mean": 0.2}, "class_selectivity_normalized": {"mean": 0.9}}
SAID: dict[str, tuple[str, dict[str, Any], str]] = {
    "demo": (
        "captum_shared.report.run_demo",
        {"pairs": 6, "mean_share": {"ParallelBackprop": 0.812, "Saliency": 0.3}, "mean_area": 0.0612},
        "6 pairs; share of heat on what both images share 0.81, which is 0.06 of the image; open out/index.html",
    ),
    "category": (
        "captum_shared.report.run_category",
        {"reference_counts": {"a.png": 1}, "cv_auc": 0.9312},
        "1 pair; cross-validated area under the ROC curve 0.931; open out/index.html",
    ),
    "selectivity": (
        "captum_shared.report.run_selectivity",
        {"layers": {"a": {"n_units": 8, "indices": INDICES}, "b": {"n_units": 4, "indices": {key: {} for key in INDICES}}}},
        "12 units of 2 layers; mean colour selectivity 0.20 in a, unknown in b; mean class selectivity 0.90 in a, unknown in b; "
        "open out/index.html",
    ),
    "recording": (
        "captum_shared.report.run_recording",
        {"n_explained": 1, "n_neurons": 1, "n_pairs": 5, "median_cv_r": 0.51239, "median_cv_r_corrected": 0.7},
        "1 of 1 neuron explained, 5 pairs; median cross-validated r 0.512; corrected for the noise ceiling 0.700; "
        "open out/index.html",
    ),
    "figure": (
        "captum_shared.report.published.run_figure",
        {},
        "2 pairs of dog, for one column; open out/figure.pdf",
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", SAID)
def test_every_command_ends_with_its_headline_and_where_its_report_is(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    name, summary, text = SAID[command]
    monkeypatch.setattr(name, lambda **_: summary or Path("out/figure.pdf"))
    for check in ("category", "common", "recording", "selectivity"):
        monkeypatch.setattr(f"captum_shared.report.arguments.check_{check}", lambda **_: None)
    required = {
        "category": ["--images", "i", "--labels", "l", "--preferred", "dog", "--model", "m", "--layer", "x"],
        "selectivity": ["--images", "i", "--labels", "l", "--model", "m", "--layers", "x"],
        "recording": ["--recording", "r", "--model", "m", "--layer", "x"],
        "figure": ["--report", "r", "--neuron", "dog", "--pairs", "1,3", "--width", "single"],
    }
    assert cli.main([command, *required.get(command, []), "--out", "out"]) == 0
    assert capsys.readouterr().out == f"{text}\n"
