"""Every exported function says what it takes, gives and raises, and shows it in an example that runs."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import captum_shared as cs
from captum_shared import interventions, metrics, selectivity, stimuli, synthetic

SECTIONS = ("Parameters", "Returns", "Raises", "Examples")


def exported() -> Iterator[tuple[str, Any]]:
    """Functions and classes by their public names."""
    for module in (cs, interventions, metrics, selectivity, stimuli, synthetic):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isroutine(value) or inspect.isclass(value):
                yield f"{module.__name__}.{name}", value


def expected_sections(value: Any) -> set[str]:
    """Classes return nothing; what takes nothing has no `Parameters`; of a dataclass the fields must be described."""
    if inspect.isclass(value):
        if issubclass(value, tuple) or hasattr(value, "__dataclass_fields__"):
            return {"Attributes"} - ({"Attributes"} if "Parameters" in sections(value) else set())
        return {"Parameters", "Raises", "Examples"} if inspect.signature(value).parameters else {"Examples"}
    takes = bool(inspect.signature(value).parameters)
    return set(SECTIONS) if takes else {"Returns", "Examples"}


def sections(value: Any) -> set[str]:
    text = inspect.getdoc(value) or ""
    found = set(re.findall(r"^(\w+)\n-+$", text, flags=re.MULTILINE))
    return {"Returns" if name == "Yields" else name for name in found}


def test_every_section_is_there() -> None:
    lacks = {name: expected_sections(value) - sections(value) for name, value in exported()}
    assert {name: some for name, some in lacks.items() if some} == {}


@pytest.mark.parametrize("name", [name for name, value in exported() if "Examples" in sections(value)])
def test_examples_hold_code(name: str) -> None:
    """Pytest runs them with the modules; here only that there is something to run."""
    value = dict(exported())[name]
    assert doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")


def test_parameters_are_those_of_the_signature() -> None:
    """No name in `Parameters` that the function does not take; `**options` stands for names of another function."""
    for name, value in exported():
        text = inspect.getdoc(value) or ""
        part = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n-+$|\Z)", text, flags=re.MULTILINE | re.DOTALL)
        if part is None:
            continue
        listed = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: :.*)?$", part[1], flags=re.MULTILINE)
        names = {one.strip("*") for line in listed for one in line.split(", ")}
        taken = set(inspect.signature(value).parameters)
        assert names <= taken, f"{name}: {names - taken}"


def undescribed(text: str) -> set[str]:
    """Names in `Parameters` that no indented line follows."""
    part = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n-+$|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    lines = part[1].split("\n") if part else [""]
    bare = [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if line[:1].strip() and after[:1] != " "]
    return {line.split(" : ")[0] for line in bare}


def test_every_parameter_is_described() -> None:
    """Also those of public methods."""
    values = dict(exported())
    for name, value in exported():
        methods = vars(value).items() if inspect.isclass(value) else ()
        values |= {f"{name}.{other}": getattr(value, other) for other, _ in methods if not other.startswith("_")}
    bare = {name: undescribed(inspect.getdoc(value) or "") for name, value in values.items()}
    assert {name: some for name, some in bare.items() if some} == {}
    assert undescribed("Do.\n\nParameters\n----------\na : int\nb, c : str\n    Two.\n") == {"a"}
