"""Files and pages of a report: whole or not there, escaped, self-contained."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pytest

from captum_shared import files
from captum_shared.report import html


def test_output_folder(tmp_path: Path) -> None:
    assert files.output_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`out` must be a folder, got the file"):
        files.output_folder(tmp_path / "file")


class Page(HTMLParser):
    """Collects tags, and refuses ones that are closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_page_escapes_what_it_shows_and_needs_nothing_else() -> None:
    evil = '<script>alert("1")</script>&'
    picture = html.Picture(b"\x89PNG", evil, evil)
    text = html.page(
        evil, [evil], [html.gallery(evil, [picture]), html.table(evil, [evil, "n"], [(evil, 0.12345), ("b", 2)])]
    )
    page = Page(text)
    assert not any(tag == "script" for tag, _ in page.tags)
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images[0]["src"] == "data:image/png;base64,iVBORw=="
    assert images[0]["alt"] == evil
    assert page.words.count(evil) == 8  # title, heading, paragraph, two headings, caption, column, cell
    assert "0.123" in page.words
    assert [a.get("class") for t, a in page.tags if t == "td"] == [None, "number", None, "number"]


def test_templates_are_part_of_the_package() -> None:
    names = {file.name for file in resources.files("captum_shared.report").joinpath("templates").iterdir()}
    assert {"page.html", "table.html", "style.css", "tables.js", "viewer.js", "report.js"} <= names
    for name in names:
        assert html.asset(name).strip()


def test_a_template_with_an_unknown_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="heading"):
        html.page("x", [], [html.Section("table.html", {})])


def test_the_script_comes_only_where_something_needs_it() -> None:
    still = html.page("x", [], [html.text(["y"])])
    moving = html.page("x", [], [html.Section("paragraphs.html", {"heading": "", "paragraphs": []}, interactive=True)])
    assert "<script>" not in still
    assert moving.count("<script>") == 1
