"""Figures, axes, colours and text, in inches and without pyplot.

Whatever a user's matplotlib settings could change (origin, grid, colours, layout, TeX) is set explicitly,
so that a picture looks the same everywhere.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.transforms import BboxBase

WIDTH, MAX_ROW, SINGLE = 7.0, 4.5, 4.0  # inches: a pair at most, a row of panels at most, a lone overlay
MARGIN, GAP, BAR, BAR_TEXT, TITLE, HEADING = 0.12, 0.12, 0.11, 0.5, 0.26, 0.31
THRESHOLD, OPAQUE, ALPHA = 0.05, 0.7, 0.85  # of the scale: no heat up to here, full opacity from here; that opacity
PLAIN: dict[str, Any] = {"color": "0.15", "fontweight": "normal", "parse_math": False, "usetex": False}


def heat_scale(heats: Sequence[np.ndarray], vmax: float | None) -> float:
    """The heat at the hot end of the scale: `vmax`, or the largest of all; 1 if there is no heat."""
    if vmax is None:
        return max(float(heat.max()) for heat in heats) or 1.0
    if not (math.isfinite(vmax) and vmax > 0):
        raise ValueError(f"`vmax` must be positive and finite, got {vmax}")
    return float(vmax)


def heat_colours(cmap: str | Colormap = "hot", threshold: float = THRESHOLD, alpha: float = ALPHA) -> Colormap:
    """The colour map with an opacity that rises smoothly from 0 at `threshold` to `alpha`, so that heat has no edge."""
    import matplotlib
    from matplotlib.colors import Colormap, ListedColormap

    if not 0 <= threshold < 1:
        raise ValueError(f"`threshold` is a fraction of the scale, expected [0, 1), got {threshold}")
    if not 0 < alpha <= 1:
        raise ValueError(f"`alpha` must be in (0, 1], got {alpha}")
    if isinstance(cmap, str) and cmap not in matplotlib.colormaps:
        raise ValueError(f"`cmap` must be a matplotlib colour map such as 'hot', got unknown {cmap!r}")
    base = matplotlib.colormaps[cmap] if isinstance(cmap, str) else cmap
    if not isinstance(base, Colormap):
        raise TypeError(f"`cmap` must be a name or a matplotlib Colormap, got {type(cmap).__name__}")
    level = np.linspace(0, 1, 256)
    # "hot" starts at dark red, for black would pass for a shadow, and stops at yellow, as in the paper's figures:
    # white would pass for a highlight of the grey image.
    rgba = base(0.2 + 0.65 * level if cmap == "hot" else level)
    rise = np.clip((level - threshold) / (OPAQUE * (1 - threshold)), 0, 1)
    rgba[:, 3] = alpha * rise**2 * (3 - 2 * rise)  # level at both ends
    return ListedColormap(rgba)


def show(ax: Axes, picture: np.ndarray) -> None:
    """A picture, (H, W) or (H, W, 3), without frame or ticks."""
    ax.set_axis_off()
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, origin="upper", aspect="equal", interpolation="antialiased")


def show_heat(ax: Axes, heat: np.ndarray, vmax: float, colours: Colormap) -> None:
    """Heat, (H, W), in the scale from 0 to `vmax`."""
    ax.imshow(
        heat,
        cmap=colours,
        vmin=0,
        vmax=vmax,
        origin="upper",
        aspect="equal",
        interpolation="bilinear",
        interpolation_stage="data",
    )


def show_scale(ax: Axes, top: float | None, colours: Colormap, label: str = "heat", size: float = 8) -> None:
    """The colours of heat as they look on mid-grey; `top` is the heat at the hot end, if there is any."""
    rgba = colours(np.linspace(0, 1, 256))
    opaque = rgba[:, :3] * rgba[:, 3:] + 0.6 * (1 - rgba[:, 3:])
    ax.imshow(opaque[:, None], origin="lower", aspect="auto", extent=(0, 1, 0, 1), interpolation="bilinear")
    ends = {0: "0"} if top is None else {0: "0", 1: f"{top:.2g}"}
    ax.set_frame_on(False)
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks(list(ends), list(ends.values()), fontsize=size, **PLAIN)
    ax.yaxis.tick_right()
    ax.tick_params(length=0, pad=3)
    beside: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
    ax.annotate(label, (1, 0.5), rotation=270, fontsize=size, **beside, **PLAIN)


def single_axes(aspect: float) -> Axes:
    """Axes that fill a new figure; `aspect` is width over height."""
    longer = max(aspect, 1)
    return new_figure(SINGLE * aspect / longer, SINGLE / longer).add_axes((0, 0, 1, 1))


def pair_axes(
    aspects: Sequence[float], n_rows: int, heading: bool, colorbar: bool
) -> tuple[Figure, list[list[Axes]], Axes | None]:
    """A new figure with rows of panels of these aspect ratios and of equal height, and axes for the scale."""
    beside = GAP + BAR + BAR_TEXT if colorbar else 0.0
    around = 2 * MARGIN + (len(aspects) - 1) * GAP + beside
    row = min((WIDTH - around) / sum(aspects), MAX_ROW)
    width = row * sum(aspects) + around
    height = (HEADING if heading else 0.0) + TITLE + n_rows * row + (n_rows - 1) * GAP + MARGIN
    figure = new_figure(width, height)

    def panel(left: float, bottom: float, w: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, w / width, row / height))

    lefts = [MARGIN + row * sum(aspects[:i]) + i * GAP for i in range(len(aspects))]
    bottoms = [MARGIN + i * (row + GAP) for i in reversed(range(n_rows))]
    rows = [[panel(left, bottom, row * a) for left, a in zip(lefts, aspects, strict=True)] for bottom in bottoms]
    return figure, rows, panel(width - MARGIN - BAR_TEXT - BAR, MARGIN, BAR) if colorbar else None


def write_titles(figure: Figure, axes: Sequence[Axes], titles: Sequence[str], heading: str) -> None:
    """A title over each of a row of axes, in one font size, and the heading over all of them."""
    from matplotlib.transforms import Bbox

    boxes = [ax.get_position() for ax in axes]
    texts = [ax.set_title(str(t), fontsize=9, pad=4, **PLAIN) for ax, t in zip(axes, titles, strict=True)]
    sizes = [_fit(text, figure, box) for text, box in zip(texts, boxes, strict=True)]
    for text in texts:
        text.set_fontsize(min(sizes))
    if heading:
        panels = Bbox.union(boxes)
        middle, top = (panels.x0 + panels.x1) / 2, 1 - 0.09 / figure.get_figheight()
        _fit(figure.suptitle(heading, x=middle, y=top, va="top", fontsize=11, **PLAIN), figure, panels)


def _fit(text: Text, figure: Figure, box: BboxBase) -> float:
    """Shrink a text to the width of a box, by a quarter at most, then cut out its middle; return its size."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    room = box.width * figure.bbox.width
    size = float(text.get_fontsize())
    smallest = 0.75 * size
    full = text.get_text()
    keep = len(full)
    while text.get_window_extent(renderer).width > room and keep > 4:
        if size > smallest:
            size = max(size - 0.5, smallest)
            text.set_fontsize(size)
            continue
        keep -= 1
        head, tail = math.ceil(keep / 2), keep // 2
        text.set_text(f"{full[:head].rstrip()}…{full[len(full) - tail :].lstrip()}")
    return size


def short(name: str, most: int = 18) -> str:
    """A name in at most `most` characters: the middle of a longer one is cut out."""
    tail = most // 3
    return name if len(name) <= most else f"{name[: most - tail - 1].rstrip()}…{name[len(name) - tail :].lstrip()}"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    figure.set_layout_engine("none")
    FigureCanvasAgg(figure)
    # Notebooks learn to show figures when pyplot is imported; without it, this one shows itself.
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
