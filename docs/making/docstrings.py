"""Docstrings as the API reference reads them."""

from __future__ import annotations

import re
from typing import Any

import griffe

TOGETHER = re.compile(r"^(\*{0,2}[a-z]\w*(?:, \*{0,2}[a-z]\w*)+)\n((?: +.*\n?|\n(?= ))+)", re.MULTILINE)


class OneByOne(griffe.Extension):
    """Parameters that are described together, ``a, b``, one by one: else all get type and default of the first."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = separated(obj.docstring.value)


def separated(docstring: str) -> str:
    """The docstring with each ``a, b`` and its description as an ``a`` and a ``b`` with that description."""
    return TOGETHER.sub(
        lambda match: "".join(f"{name}\n{match[2].rstrip()}\n" for name in match[1].split(", ")), docstring
    )
