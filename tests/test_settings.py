"""Settings: one default for each choice, the same in Python and on the command line, each with its meaning."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields

import pytest

from captum_shared import cli
from captum_shared.selection import rule_names
from captum_shared.selectivity.responses import ChangeOptions, changed_responses
from captum_shared.selectivity.top import PassOptions, top_activations
from captum_shared.study.settings import (
    CategoryOptions,
    CategorySettings,
    Options,
    RecordingOptions,
    RecordingSettings,
    Settings,
    make_settings,
    parse_numbers,
)

REQUIRED = {
    CategorySettings: [
        "category",
        "--images",
        "i",
        "--labels",
        "l",
        "--preferred",
        "dog",
        "--model",
        "m",
        "--layer",
        "x",
    ],
    RecordingSettings: ["recording", "--recording", "r", "--model", "m", "--layer", "auto"],
}
NO_FLAG = {
    "folds",
    "n_splits",
    "images_per_job",
    "maps_per_job",
    "map_bits",
    "map_reduction",
}  # may be of Python alone


@pytest.mark.parametrize("kind", REQUIRED)
def test_the_command_line_has_the_defaults_of_the_settings(kind: type[Settings]) -> None:
    given = vars(cli.build_parser().parse_args(REQUIRED[kind]))
    options = {field.name: given[field.name] for field in fields(kind) if field.name in given}
    assert make_settings(kind, options, "test") == kind()
    lacking = {field.name for field in fields(kind)} - set(given)
    assert lacking <= NO_FLAG


@pytest.mark.parametrize("kind", [Settings, *REQUIRED])
def test_every_choice_is_explained(kind: type[Settings]) -> None:
    own = [name for name in kind.__annotations__ if name != "n_steps" or kind is Settings]
    named = {
        name.strip() for line in re.findall(r"^    ([\w, ]+) : ", str(kind.__doc__), re.M) for name in line.split(",")
    }
    assert named == set(own)


def test_every_rule_is_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("category", "recording"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        said = text[text.index("what counts as shared:") : text.index("--maps", text.index("what counts as shared:"))]
        assert all(re.search(rf"\b{name}\b", said) for name in rule_names())


def test_settings_are_read_without_torch() -> None:
    """The command line reads its defaults from them, and its help should come at once."""
    code = "import sys, captum_shared.study.settings; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_an_unknown_choice_is_named_with_those_that_there_are() -> None:
    with pytest.raises(TypeError, match=r"explain_recording takes no option 'driver'; it takes \['standardize', "):
        make_settings(RecordingSettings, {"driver": 3}, "explain_recording")


@pytest.mark.parametrize("text", ["", "0,,3", "3-1", ","])
def test_neurons_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=f"such as 0,3,7-9, got '{text}'"):
        parse_numbers(text)


def test_names_of_neurons_may_be_words_with_hyphens() -> None:
    assert parse_numbers("it-3, 2-3,unit 7") == ["it-3", "2", "3", "unit 7"]


@pytest.mark.parametrize(
    ("named", "kind"),
    [(Options, Settings), (CategoryOptions, CategorySettings), (RecordingOptions, RecordingSettings)],
)
def test_an_editor_knows_every_option(named: type, kind: type[Settings]) -> None:
    """What `**options` are declared to be is what the settings have."""
    assert set(named.__annotations__) == {field.name for field in fields(kind)}


@pytest.mark.parametrize(("named", "function"), [(PassOptions, top_activations), (ChangeOptions, changed_responses)])
def test_an_editor_knows_every_argument(named: type, function: Callable[..., object]) -> None:
    parameters = inspect.signature(function).parameters.values()
    assert set(named.__annotations__) == {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
