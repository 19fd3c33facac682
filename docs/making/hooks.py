"""What `mkdocs build` does beyond Markdown; named in mkdocs.yml."""

from __future__ import annotations

import html
import logging
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

import commands
import links
import notebooks

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "tutorials"
EXECUTED = ROOT / "out" / "tutorials"
INCLUDED = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}

log = logging.getLogger("mkdocs.hooks")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_config(config: Any) -> Any:
    """The menu, with the tutorials there are."""
    found = [{title: f"tutorials/{name}"} for name, title in _tutorials().items()]
    config.nav = [
        {section: pages + found * (section == "Tutorials")} for item in config.nav for section, pages in item.items()
    ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Pages that are made of files outside docs/."""
    for target, source in INCLUDED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=re.sub(r"\]\(docs/", "](", text)))
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        log.info("Executing %s, unless it has been", path.name)
        page, pictures = notebooks.to_markdown(notebooks.executed(path, EXECUTED))
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The help of the commands and the list of the tutorials, where a page asks for them."""
    listed = "\n".join(f"1. [{title}]({name})" for name, title in _tutorials().items())
    text: str = commands.filled(markdown)
    return text.replace("<!-- tutorials -->", listed)


def on_page_content(text: str, page: Any, config: Any, files: Files) -> str:
    """Formulas as MathML, which browsers draw without a script."""
    return FORMULA.sub(_mathml, text)


def on_post_build(config: Any) -> None:
    """A broken link, anchor or picture is a warning, hence an error of a strict build."""
    for fault in links.faults(Path(config.site_dir)):
        log.warning(fault)


def _tutorials() -> dict[str, str]:
    """File name of the page and title of each tutorial."""
    return {f"{path.stem}.md": notebooks.title(path) for path in sorted(TUTORIALS.glob("*.ipynb"))}


def _mathml(match: re.Match[str]) -> str:
    element, bracket, formula = match.groups()
    mathml = convert(html.unescape(formula).strip(), display="block" if bracket == "[" else "inline")
    if "\\" in mathml:
        log.warning("a command in the formula %s is unknown to latex2mathml", formula)
    return f'<{element} class="math">{mathml}</{element}>'
