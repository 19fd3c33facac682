"""``captum-shared figure``: draw pairs of a report as a figure for a paper; text stays text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from captum_shared.files import figure_bytes, write_bytes
from captum_shared.report.viewer import from_data_url, read_data, restored
from captum_shared.visualization.rows import PairRow, pairs_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = {"single": 3.5, "double": 7.2}
"""Inches: one and two columns of most journals, 89 and 183 mm."""
FORMATS = ("pdf", "svg", "png")


@dataclass(frozen=True)
class SavedReport:
    """What the viewer of a report shows: its index, and where its neurons' scripts are."""

    folder: Path
    index: dict[str, Any]
    page: str

    def number(self, name: str) -> int:
        """The index of the neuron with this name."""
        names = [entry["name"] for entry in self.index["neurons"]]
        if name not in names:
            some = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
            raise ValueError(f"`neuron` must be one of the report's neurons ({some}), got {name!r}")
        return names.index(name)

    def pairs(self, number: int) -> list[list[dict[str, Any]]]:
        """The pairs of a neuron, each a list of references."""
        path = self.folder / "data" / f"neuron_{number}.js"
        text = path.read_text() if path.exists() else self.page
        result: list[list[dict[str, Any]]] = read_data(text, "neuron", number)["pairs"]
        return result

    def picture(self, number: int) -> np.ndarray:
        """An image (H, W, 3) as bytes."""
        source = self.index["images"][number][0]
        content = from_data_url(source) if source.startswith("data:") else (self.folder / source).read_bytes()
        return np.asarray(Image.open(BytesIO(content)).convert("RGB"))


def open_report(folder: str | Path) -> SavedReport:
    """A report that `category`, `recording` or `demo` has written.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such report.
    """
    folder = Path(folder)
    page = folder / "index.html"
    if not page.is_file():
        raise FileNotFoundError(f"no report at {folder}: it has no index.html")
    text, index = page.read_text(), folder / "data" / "index.js"
    source = index.read_text() if index.is_file() else text
    if '["index",0,' not in source:
        raise ValueError(f"the report at {folder} shows no pairs")
    return SavedReport(folder, read_data(source, "index", 0), text)


def report_figure(
    report: SavedReport, neuron: str, pairs: Sequence[int], *, width: str = "double", kind: str | None = None
) -> Figure:
    """The pairs of a neuron, numbered from 1, a row for each, in the width of one or two columns.

    `kind` is the map to draw, by its name in the report, or "layer, dot" for another rule's; by default the first.

    Raises
    ------
    ValueError
        If there is no such neuron, pair or map.
    """
    if width not in WIDTHS:
        raise ValueError(f"`width` must be one of {', '.join(WIDTHS)}, got {width!r}")
    number = report.number(neuron)
    entry, references = report.index["neurons"][number], report.pairs(number)
    wrong = [pair for pair in pairs if not 1 <= pair <= len(references)]
    if wrong or not pairs:
        raise ValueError(f"`pairs` must be from 1 to {len(references)} for neuron {neuron}, got {list(pairs)}")
    rows = [_row(report, entry["pairs"][pair - 1], references[pair - 1][0], kind) for pair in pairs]
    return pairs_figure(rows, WIDTHS[width])


def run_figure(
    report: str | Path, neuron: str, pairs: str = "1", width: str = "double", kind: str | None = None,
    out: str | Path = "figure.pdf",
) -> Path:  # fmt: skip
    """Write `report_figure` to a file: PDF, SVG or PNG, by its extension. `pairs` is text such as "1,3"."""
    path = Path(out)
    if path.suffix.lstrip(".") not in FORMATS:
        raise ValueError(f"`out` must end in {', '.join('.' + name for name in FORMATS)}, got {path.name!r}")
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", pairs):
        raise ValueError(f"`pairs` must be numbers separated by commas, such as 1,3, got {pairs!r}")
    numbers = [int(pair) for pair in pairs.split(",")]
    figure = report_figure(open_report(report), neuron, numbers, width=width, kind=kind)
    write_bytes(path, figure_bytes(figure, 300, path.suffix.lstrip(".")))
    return path


def _row(report: SavedReport, pair: Sequence[Any], reference: dict[str, Any], kind: str | None) -> PairRow:
    maps = {name: (x, y) for name, _, x, y in reference["maps"]}
    maps |= {f"layer, {rule}": (x, y) for rule, _, x, y in reference["others"]}
    chosen = kind or next(iter(maps), "")
    if chosen not in maps:
        raise ValueError(f"`kind` must be one of {', '.join(map(repr, maps))}, got {kind!r}")
    images = pair[0], reference["image"]
    labels = [f"{report.index['images'][i][2] or report.index['images'][i][1]}" for i in images]
    if pair[3] is not None:
        labels[0] += f", response {pair[3]:.2g}"
    labels[1] += f", similarity {reference['similarity']:.2g}"
    x, y = (report.picture(i) for i in images)
    return PairRow((x, y), (restored(maps[chosen][0]), restored(maps[chosen][1])), (labels[0], labels[1]))
