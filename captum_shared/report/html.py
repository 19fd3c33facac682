"""Pages of reports: nothing from the network, everything escaped, no script but those of sortable tables."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 72rem; margin: 0 auto;
  padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 48rem; margin: .5rem 0; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); gap: 1.25rem; }
.wide { grid-template-columns: 1fr; }
figure { margin: 0; border: 1px solid #ddd; border-radius: 6px; padding: .5rem; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; color: #444; padding: .25rem .25rem 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e3e3e3; text-align: left; }
td.number, th.number { text-align: right; }
"""


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption and what it shows, for those who cannot see it."""

    png: bytes
    caption: str
    alt: str


def page(title: str, paragraphs: Sequence[str], sections: Sequence[str], style: str = "", script: str = "") -> str:
    """A whole page: a title, paragraphs of plain text, and sections made by the functions below.

    `style` and `script` are the report's own, constant text.
    """
    text = "".join(f"<p>{escape(paragraph)}</p>\n" for paragraph in paragraphs)
    code = f"<script>{script}</script>\n" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{text}{''.join(sections)}</main>\n{code}</body>\n</html>\n"
    )


def gallery(heading: str, pictures: Sequence[Picture], wide: bool = False) -> str:
    """Pictures in a grid, or one per row."""
    kind = "pairs wide" if wide else "pairs"
    return f'<h2>{escape(heading)}</h2>\n<div class="{kind}">\n{"".join(map(_figure, pictures))}</div>\n'


def table(heading: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers are set to the right, to three digits."""
    numeric = [all(isinstance(row[i], float | int) for row in rows) for i in range(len(header))]
    head = "".join(_cell("th", name, number) for name, number in zip(header, numeric, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell('td', value, number) for value, number in zip(row, numeric, strict=True))}</tr>\n"
        for row in rows
    )
    return (
        f'<h2>{escape(heading)}</h2>\n<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(picture.alt)}" loading="lazy">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>\n"
    )


def _cell(tag: str, value: Any, number: bool) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    kind = ' class="number"' if number else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"
