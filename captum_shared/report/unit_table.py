"""A table of units that is searched and sorted in the browser: one small script, no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

NUMBER = ' class="number"'
SHOWN = 2  # of the names of images; all are sought

_STYLE = """<style>
.seek { display: flex; flex-wrap: wrap; gap: .75rem 1.5rem; align-items: center; margin: .5rem 0; }
.seek input { font: inherit; padding: .3rem .5rem; min-width: 16rem; }
.units { max-height: 75vh; overflow: auto; border: 1px solid #ddd; border-radius: 6px; }
.units thead th { position: sticky; top: 0; background: #fff; vertical-align: bottom; z-index: 1; }
.units th button { font: inherit; font-weight: 600; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: inherit; color: inherit; }
.units th button:hover, .units th button:focus-visible { text-decoration: underline; }
.units th[aria-sort=ascending] button::after { content: " \\25B2"; }
.units th[aria-sort=descending] button::after { content: " \\25BC"; }
.units img { display: block; width: 3.5rem; height: 3.5rem; object-fit: contain; image-rendering: auto; }
</style>
"""

_SCRIPT = """<script>
(function () {
  var box = document.getElementById("seek-units"), count = document.getElementById("seek-count");
  var table = document.getElementById("units"), body = table.tBodies[0], rows = Array.from(body.rows);
  function seek() {
    var words = box.value.toLowerCase().split(/\\s+/).filter(Boolean), shown = 0;
    rows.forEach(function (row) {
      var text = row.dataset.text;
      row.hidden = !words.every(function (word) { return text.indexOf(word) >= 0; });
      if (!row.hidden) { shown += 1; }
    });
    count.textContent = shown + " of " + rows.length + " units";
  }
  function key(row, column) {
    var cell = row.cells[column], value = cell.dataset.value;
    return value === undefined ? cell.textContent : value === "" ? NaN : parseFloat(value);
  }
  Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
    var button = head.querySelector("button");
    if (!button) { return; }
    button.addEventListener("click", function () {
      var down = head.getAttribute("aria-sort") !== "descending", sign = down ? -1 : 1;
      Array.from(table.tHead.rows[0].cells).forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      rows.sort(function (a, b) {
        var x = key(a, column), y = key(b, column);
        if (typeof x === "string") { return sign * x.localeCompare(y, undefined, { numeric: true }); }
        if (isNaN(x) || isNaN(y)) { return isNaN(x) - isNaN(y); }
        return sign * (x - y);
      });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
  box.addEventListener("input", seek);
  seek();
}());
</script>
"""


@dataclass(frozen=True)
class Unit:
    """A row: values in the order of the columns, classes and names of images with the strongest first, a JPEG."""

    layer: str
    unit: int
    values: Sequence[float]
    classes: Sequence[str]
    images: Sequence[str]
    picture: bytes


def unit_table(heading: str, columns: Sequence[str], units: Sequence[Unit]) -> str:
    """A section: a search box over layers, units, classes and images, and a table whose columns sort."""
    names = ("layer", "unit", *columns, "classes by base rate", "strongest images")
    kinds = ("", NUMBER, *(NUMBER for _ in columns), "", "")
    head = '<th scope="col">feature</th>' + "".join(
        f'<th scope="col"{kind}><button type="button">{escape(name)}</button></th>'
        for name, kind in zip(names, kinds, strict=True)
    )
    body = "".join(map(_row, units))
    return (
        f"{_STYLE}<h2>{escape(heading)}</h2>\n"
        '<div class="seek"><label for="seek-units">Seek units by layer, number, class or image</label>'
        '<input id="seek-units" type="search" autocomplete="off" placeholder="features.12 dog">'
        f'<span id="seek-count" role="status" aria-live="polite">{len(units)} units</span></div>\n'
        "<p>A click on the head of a column sorts by it.</p>\n"
        '<div class="units" tabindex="0" role="region" aria-label="Table of units">'
        f'<table id="units">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n{_SCRIPT}'
    )


def _row(unit: Unit) -> str:
    name = f"{unit.layer} unit {unit.unit}"
    classes, images = ", ".join(unit.classes), " ".join(unit.images)
    data = base64.b64encode(unit.picture).decode()
    values = "".join(
        f'<td class="number" data-value="{"" if math.isnan(v) else f"{v:.6f}"}">{_shown(v)}</td>' for v in unit.values
    )
    return (
        f'<tr data-text="{escape(f"{name} {classes} {images}".lower())}"><td><img src="data:image/jpeg;base64,{data}" '
        f'alt="Neuron Feature of {escape(name)}" loading="lazy"></td><td>{escape(unit.layer)}</td>'
        f'<td class="number" data-value="{unit.unit}">{unit.unit}</td>{values}<td>{escape(classes)}</td>'
        f"<td>{escape(', '.join(unit.images[:SHOWN]))}</td></tr>\n"
    )


def _shown(value: float) -> str:
    if math.isnan(value):
        return "none"
    return str(int(value)) if value == int(value) and abs(value) > 1 else f"{value:.3f}"
