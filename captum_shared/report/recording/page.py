"""``index.html``: a sortable table of neurons, pictures beside it, and how everything was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from captum_shared.report.html import page, table

STYLE = """
body { max-width: 84rem; }
.numbers { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; padding: 0; }
.numbers div { border: 1px solid #ddd; border-radius: 6px; padding: .45rem .7rem; min-width: 5rem; }
.numbers dt { font-size: .78rem; color: #555; } .numbers dd { margin: 0; font-size: 1.25rem; }
.population { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); gap: 1rem; }
table.sortable { width: 100%; } .sortable td { vertical-align: middle; }
.sortable th { position: sticky; top: 0; background: #fff; padding: 0 .2rem; vertical-align: bottom; }
.sortable th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; cursor: pointer;
  padding: .4rem .3rem; text-align: inherit; }
.sortable th[aria-sort] button::after { content: " \\2195"; color: #999; }
.sortable th[aria-sort="ascending"] button::after { content: " \\2191"; color: #c2410c; }
.sortable th[aria-sort="descending"] button::after { content: " \\2193"; color: #c2410c; }
.sortable tbody tr:hover { background: #faf6f2; } .sortable tr.excluded { color: #6b6b6b; }
.sortable img { width: 10.2rem; height: auto; display: block; border-radius: 3px; } .reason { min-width: 12rem; }
button:focus-visible, a:focus-visible { outline: 3px solid #2563eb; outline-offset: 2px; }
dialog { max-width: 96vw; max-height: 94vh; padding: 2.6rem .6rem .6rem; border: 0; border-radius: 8px;
  overflow: auto; }
dialog::backdrop { background: rgba(0, 0, 0, .6); }
dialog img { display: block; max-width: none; width: min(60rem, max(92vw, 44rem)); height: auto; }
dialog form { position: fixed; margin: -2.2rem 0 0; } dialog button { font: inherit; padding: .2rem .8rem; }
.methods { max-width: 56rem; }
@media (max-width: 40rem) { body { padding: 1rem .6rem 3rem; } .sortable { font-size: .82rem; }
  .sortable img { width: 7.4rem; } }
"""

SCRIPT = """
document.querySelectorAll('table.sortable').forEach(function (table) {
  table.querySelectorAll('th[aria-sort] button').forEach(function (button) {
    button.addEventListener('click', function () {
      var head = button.parentNode, column = head.cellIndex, body = table.tBodies[0];
      var numeric = head.classList.contains('number');
      var down = head.getAttribute('aria-sort') === 'none' ? numeric : head.getAttribute('aria-sort') === 'ascending';
      table.querySelectorAll('th[aria-sort]').forEach(function (th) { th.setAttribute('aria-sort', 'none'); });
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      Array.from(body.rows).map(function (row) { return [row.cells[column].dataset.value, row]; })
        .sort(function (a, b) {
          if (a[0] === '' || b[0] === '') return (a[0] === '') - (b[0] === '');
          var order = numeric ? a[0] - b[0] : a[0].localeCompare(b[0], undefined, {numeric: true});
          return down ? -order : order;
        }).forEach(function (pair) { body.appendChild(pair[1]); });
    });
  });
});
var dialog = document.querySelector('dialog');
if (dialog && dialog.showModal) {
  document.querySelectorAll('a.zoom').forEach(function (link) {
    link.addEventListener('click', function (event) {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      var image = dialog.querySelector('img');
      image.src = link.getAttribute('href');
      image.alt = link.querySelector('img').alt;
      dialog.showModal();
      dialog.scrollTo(0, 0);
    });
  });
  dialog.addEventListener('click', function (event) { if (event.target === dialog) dialog.close(); });
}
"""

DIALOG = (
    '<dialog aria-label="Figure"><form method="dialog"><button autofocus>Close</button></form>'
    '<img src="data:," alt=""></dialog>\n'
)

HEADER = (
    ("pairs", None), ("neuron", "neuron"), ("preferred", "preferred_category"), ("d\u2032", "d_prime"),
    ("reliability", "reliability"), ("r", "cv_r"), ("r / ceiling", "cv_r_corrected"),
    ("generalization r", "generalization_r"), ("drivers", "n_drivers"), ("layer", "layer"), ("status", "status"),
    ("reason", "reason"),
)  # fmt: skip
NUMERIC = {"d_prime", "reliability", "cv_r", "cv_r_corrected", "generalization_r", "n_drivers"}


@dataclass(frozen=True)
class LinkedPicture:
    """A picture that opens another, larger one: paths relative to the page, and what it shows."""

    source: str
    target: str
    alt: str
    caption: str = ""
    size: tuple[int, int] | None = None


def report_page(
    title: str,
    numbers: Sequence[tuple[str, Any]],
    notes: Sequence[str],
    population: Sequence[LinkedPicture],
    neurons: Sequence[dict[str, Any]],
    thumbnails: Sequence[LinkedPicture | None],
    methods: Sequence[str],
    settings: Sequence[tuple[str, str]],
) -> str:
    """The whole page.

    Parameters
    ----------
    title : str
    numbers : sequence of (name, value)
        The figures to see first.
    notes : sequence of str
        What a reader must know before believing anything, such as stimuli left out.
    population : sequence of LinkedPicture
    neurons : sequence of dict
        A row of ``neurons.csv`` each.
    thumbnails : sequence of LinkedPicture or None
        One per row.
    methods : sequence of str
        Paragraphs.
    settings : sequence of (name, value)
    """
    sections = [
        _numbers(numbers),
        "".join(f"<p>{escape(note)}</p>\n" for note in notes),
        f'<h2>Population</h2>\n<div class="population">\n{"".join(map(_figure, population))}</div>\n',
        "<h2>Neurons</h2>\n<p>Sort by the heads of the columns. A thumbnail shows the heat on the strongest driver and "
        "on its reference; it opens all pairs of the neuron, its tuning, and prediction against recording.</p>\n",
        _neuron_table(neurons, thumbnails),
        '<h2 id="methods">Methods</h2>\n<div class="methods">',
        "".join(f"<p>{escape(paragraph)}</p>\n" for paragraph in methods),
        "</div>\n",
        table("Settings and versions", ("setting", "value"), settings),
        DIALOG,
    ]
    lead = [
        "Heat marks what a stimulus outside the preferred category and its reference within it share for the neuron. "
        "Where there is no heat, nothing is said: the neuron may still respond to it. A map explains the model of the "
        "neuron: look at its correlations first."
    ]
    return page(title, lead, sections, STYLE, SCRIPT)


def _numbers(numbers: Sequence[tuple[str, Any]]) -> str:
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(_text(value))}</dd></div>" for name, value in numbers)
    return f'<dl class="numbers">{cells}</dl>\n'


def _neuron_table(neurons: Sequence[dict[str, Any]], thumbnails: Sequence[LinkedPicture | None]) -> str:
    head = "".join(_head(name, key) for name, key in HEADER)
    body = "".join(_row(row, picture) for row, picture in zip(neurons, thumbnails, strict=True))
    return (
        '<div class="scroll"><table class="sortable">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _head(name: str, key: str | None) -> str:
    if key is None:
        return f'<th scope="col">{escape(name)}</th>'
    kind = ' class="number"' if key in NUMERIC else ""
    return f'<th scope="col" aria-sort="none"{kind}><button type="button">{escape(name)}</button></th>'


def _row(row: dict[str, Any], picture: LinkedPicture | None) -> str:
    cells = [f"<td>{_link(picture) if picture else ''}</td>"]
    for _, key in HEADER[1:]:
        value = row[str(key)]
        kind = "number" if key in NUMERIC else str(key)
        cells.append(f'<td class="{kind}" data-value="{escape(str(value))}">{escape(_text(value))}</td>')
    return f'<tr class="{escape(str(row["status"]))}">{"".join(cells)}</tr>\n'


def _figure(picture: LinkedPicture) -> str:
    return f"<figure>{_link(picture)}<figcaption>{escape(picture.caption)}</figcaption></figure>\n"


def _link(picture: LinkedPicture) -> str:
    size = f' width="{picture.size[0]}" height="{picture.size[1]}"' if picture.size else ""
    return (
        f'<a class="zoom" href="{escape(picture.target)}">'
        f'<img src="{escape(picture.source)}" alt="{escape(picture.alt)}" loading="lazy"{size}></a>'
    )


def _text(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
