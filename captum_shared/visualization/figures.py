"""`overlay` and `pair_figure`."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING, TypeVar

from captum_shared.visualization import canvas
from captum_shared.visualization.heat import SMOOTHING, heat_on
from captum_shared.visualization.image import soft_grey, to_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from captum_shared.visualization.image import ArrayLike, ImageLike

TITLES = ("out-of-category image", "reference")

Both = TypeVar("Both", bound=Sized)


def overlay(
    image: ImageLike,
    heat: ArrayLike,
    ax: Axes | None = None,
    *,
    vmax: float | None = None,
    cmap: str | Colormap = "hot",
    threshold: float = canvas.THRESHOLD,
    alpha: float = canvas.ALPHA,
    grey: bool = True,
    smoothing: float = SMOOTHING,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Axes:
    """Draw an attribution over its image: one polarity, transparent where low.

    Parameters
    ----------
    image : torch.Tensor, np.ndarray or PIL image
        One image, as in `to_image`.
    heat : torch.Tensor or np.ndarray
        Its attribution, signed or not, as in `display_heat`: of the image's size, or a coarse map (the grid
        of a layer, at most half the image's size), which is resized bilinearly before it is smoothed.
    ax : matplotlib Axes, optional
        Where to draw. By default on a new figure, `overlay(...).figure`.
    vmax : float, optional
        The heat at the hot end of the scale, by default the map's maximum. One value for several pictures
        makes them comparable. A map without positive heat leaves just the image.
    cmap : str or matplotlib Colormap
        "hot" is drawn from dark red over red to yellow, without its black and white ends.
    threshold : float
        Fraction of `vmax` up to which nothing is drawn, in [0, 1).
    alpha : float
        Opacity at the hot end, in (0, 1]; it falls smoothly to 0 at the threshold, so that heat has no edge.
    grey : bool
        Draw the image in grey, so that heat is the only colour.
    smoothing : float
        As in `display_heat`; 0 draws the map as it is.
    mean, std : sequence of float, optional
        Normalization of the image to undo, as in `to_image`.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TypeError, ValueError
        As `to_image` and `display_heat`; if map and image do not fit; if an option is out of range.

    Examples
    --------
    >>> import torch
    >>> ax = overlay(torch.rand(3, 32, 32), torch.randn(3, 32, 32))
    >>> ax.figure.savefig("map.png")  # doctest: +SKIP
    """
    picture = to_image(image, mean, std)
    height, width = picture.shape[:2]
    warm = heat_on((height, width), heat, smoothing, "heat")
    scale = canvas.heat_scale([warm], vmax)
    colours = canvas.heat_colours(cmap, threshold, alpha)
    if ax is None:
        ax = canvas.single_axes(width / height)
    canvas.show(ax, soft_grey(picture) if grey else picture)
    canvas.show_heat(ax, warm, scale, colours)
    return ax


def pair_figure(
    images: Sequence[ImageLike],
    maps: Sequence[ArrayLike],
    *,
    titles: Sequence[str] | None = None,
    neuron: int | str | None = None,
    similarity: float | None = None,
    response: float | None = None,
    show_images: bool = False,
    colorbar: bool = False,
    vmax: float | None = None,
    cmap: str | Colormap = "hot",
    threshold: float = canvas.THRESHOLD,
    alpha: float = canvas.ALPHA,
    grey: bool = True,
    smoothing: float = SMOOTHING,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Figure:
    """Draw an out-of-category image and its reference side by side, their heat in one common scale.

    Parameters
    ----------
    images : pair of torch.Tensor, np.ndarray or PIL image
        The out-of-category image and the reference, each as in `to_image`. Their sizes may differ.
    maps : pair of torch.Tensor or np.ndarray
        Their attributions, each as in `overlay`.
    titles : pair of str, optional
        Above the panels; by default "out-of-category image" and "reference".
    neuron : int or str, optional
        The neuron's name, for the heading.
    similarity, response : float, optional
        For the heading: of the pair, and to the out-of-category image.
    show_images : bool
        Add a row above with the images as they are.
    colorbar : bool
        Add the scale of the heat, in the units of the attribution.
    vmax : float, optional
        The heat at the hot end of the scale, by default the maximum over both smoothed maps.
    cmap, threshold, alpha, grey, smoothing, mean, std
        As in `overlay`.

    Returns
    -------
    matplotlib Figure
        At most seven inches wide; save it with `figure.savefig(path, dpi=150)`. A notebook shows it.

    Raises
    ------
    TypeError, ValueError
        As `overlay`; if `images`, `maps` or `titles` are not two.

    Examples
    --------
    >>> import torch
    >>> images, maps = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    >>> figure = pair_figure(images, maps, neuron=7, similarity=0.4)
    >>> figure.savefig("pair.png", dpi=150)  # doctest: +SKIP
    """
    images, maps = _two(images, "images"), _two(maps, "maps")
    titles = _two(TITLES if titles is None else titles, "titles")
    heading = _heading(neuron, similarity, response)
    pictures = [to_image(image, mean, std) for image in images]
    heats = [heat_on(pictures[i].shape[:2], maps[i], smoothing, f"maps[{i}]") for i in (0, 1)]
    scale = canvas.heat_scale(heats, vmax)
    colours = canvas.heat_colours(cmap, threshold, alpha)
    aspects = [picture.shape[1] / picture.shape[0] for picture in pictures]
    figure, rows, bar = canvas.pair_axes(aspects, 2 if show_images else 1, bool(heading), colorbar)
    if show_images:
        for ax, picture in zip(rows[0], pictures, strict=True):
            canvas.show(ax, picture)
    for ax, picture, warm in zip(rows[-1], pictures, heats, strict=True):
        canvas.show(ax, soft_grey(picture) if grey else picture)
        canvas.show_heat(ax, warm, scale, colours)
    if bar is not None:
        empty = vmax is None and not any(warm.any() for warm in heats)
        canvas.show_scale(bar, None if empty else scale, colours)
    canvas.write_titles(figure, rows[0], titles, heading)
    return figure


def _two(values: Both, name: str) -> Both:
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise TypeError(f"`{name}` must be a pair, got {type(values).__name__}")
    if len(values) != 2:
        raise ValueError(f"`{name}` must be two, for the out-of-category image and the reference, got {len(values)}")
    return values


def _heading(neuron: int | str | None, similarity: float | None, response: float | None) -> str:
    parts = [] if neuron is None else [f"neuron {neuron}"]
    for name, value in (("similarity", similarity), ("response", response)):
        if value is None:
            continue
        try:
            parts.append(f"{name} {float(value):.3g}")
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"`{name}` must be one number, got {value!r}") from None
    return "  ·  ".join(parts)
