from __future__ import annotations

import io
import pickle
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from captum_shared.visualization import display_heat, overlay, pair_figure, to_image
from captum_shared.visualization.canvas import heat_colours, short

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGE = random(3, 40, 60)
MAP = noise(3, 40, 60)


def drawn_heat(ax: Axes) -> tuple[np.ndarray, np.ndarray]:
    """The heat that an overlay drew, and the picture under it."""
    picture, heat = ax.images
    return np.asarray(heat.get_array()), np.asarray(picture.get_array())


def rgba(figure: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    return np.asarray(Image.open(buffer).convert("RGBA"))


# --- display_heat ---


def slow_smooth(signed: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing, tap by tap, of a map mirrored at its border as often as the taps need it."""
    reach = int(4 * sigma + 0.5)
    taps = [np.exp(-0.5 * (d / sigma) ** 2) for d in range(-reach, reach + 1)]
    taps = np.array(taps) / sum(taps)

    def mirrored(i: int, size: int) -> int:
        i %= 2 * size
        return min(i, 2 * size - 1 - i)

    out = np.zeros_like(signed)
    height, width = signed.shape
    for i in range(height):
        for j in range(width):
            out[i, j] = sum(
                taps[di + reach] * taps[dj + reach] * signed[mirrored(i + di, height), mirrored(j + dj, width)]
                for di in range(-reach, reach + 1)
                for dj in range(-reach, reach + 1)
            )
    return out


@pytest.mark.parametrize("shape", [(7, 9), (2, 11), (1, 1)])
def test_heat_equals_the_slow_version(shape: tuple[int, ...]) -> None:
    attribution = noise(3, *shape, seed=1)
    expected = slow_smooth(attribution.double().sum(0).numpy(), 0.1 * max(shape)).clip(0)
    np.testing.assert_allclose(display_heat(attribution, smoothing=0.1), expected, atol=1e-6)


def test_heat_without_smoothing_is_the_positive_part_of_the_channel_sum() -> None:
    np.testing.assert_allclose(display_heat(MAP, smoothing=0), MAP.sum(0).clamp(min=0).numpy(), atol=1e-6)


@pytest.mark.parametrize("make", [lambda m: m, lambda m: m[None], lambda m: m.numpy(), lambda m: m.double()])
def test_forms_of_an_attribution(make: Callable[..., object]) -> None:
    np.testing.assert_array_equal(display_heat(make(MAP)), display_heat(MAP))


def test_two_dimensional_and_one_channel_maps() -> None:
    single = MAP.sum(0)
    np.testing.assert_array_equal(display_heat(single[None]), display_heat(single))
    np.testing.assert_allclose(display_heat(single), display_heat(MAP), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int32])
def test_heat_dtypes(dtype: torch.dtype) -> None:
    attribution = (4 * MAP).round().to(dtype).requires_grad_(dtype.is_floating_point)
    heat = display_heat(attribution)
    assert heat.dtype == np.float32
    assert heat.shape == (40, 60)
    assert heat.min() >= 0
    np.testing.assert_array_equal(heat, display_heat((4 * MAP).round()))


def test_smoothing_is_linear_while_positive() -> None:
    one, two = random(1, 20, 30, seed=1), random(1, 20, 30, seed=2)
    both = display_heat(2 * one + 3 * two)
    np.testing.assert_allclose(both, 2 * display_heat(one) + 3 * display_heat(two), rtol=1e-5)


@given(height=st.integers(1, 30), width=st.integers(1, 30), smoothing=st.floats(0, 0.99), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_smoothing_keeps_the_sum_even_at_the_border(height: int, width: int, smoothing: float, seed: int) -> None:
    positive = random(1, height, width, seed=seed)
    assert display_heat(positive, smoothing).sum() == pytest.approx(float(positive.sum()), rel=1e-4)


def test_smoothing_is_a_fraction_of_the_longer_side() -> None:
    spread = []
    for size in (64, 128):
        impulse = np.zeros((size // 2, size))
        impulse[size // 4, size // 2] = 1
        rows = display_heat(impulse, smoothing=0.05).sum(axis=0)
        spread.append(np.sqrt((rows * (np.arange(size) - size // 2) ** 2).sum()))
    assert spread[0] == pytest.approx(0.05 * 64, rel=0.02)
    assert spread[1] == pytest.approx(0.05 * 128, rel=0.02)


def test_the_positive_part_is_taken_after_smoothing() -> None:
    """Noise that cancels must vanish; its positive part alone would glow all over, and hide what is hot."""
    rows, columns = np.indices((64, 64))
    checkered = np.where((rows + columns) % 2, 1.0, -1.0)
    hot = checkered.copy()
    hot[20:30, 20:30] += 0.5
    heat = display_heat(hot, smoothing=0.03)
    trap = display_heat(hot.clip(0), smoothing=0.03)
    inside, outside = np.s_[22:28, 22:28], np.s_[40:, 40:]
    assert heat[inside].mean() > 100 * heat[outside].mean()
    assert trap[inside].mean() < 2 * trap[outside].mean()


def test_channels_are_summed_before_the_positive_part() -> None:
    opposed = torch.stack([torch.ones(8, 8), -torch.ones(8, 8), torch.zeros(8, 8)])
    assert not display_heat(opposed).any()


def test_negative_maps_have_no_heat() -> None:
    assert not display_heat(-random(3, 10, 10)).any()


@pytest.mark.parametrize(
    ("attribution", "error", "text"),
    [
        (torch.ones(5), ValueError, r"`attribution` has shape \(5,\), expected \(C, H, W\)"),
        (torch.ones(3, 0, 4), ValueError, r"shape \(3, 0, 4\), expected .* not empty"),
        (torch.ones(2, 3, 8, 8), ValueError, r"must be a single one, got a batch of shape \(2, 3, 8, 8\)"),
        (torch.ones(1, 1, 3, 8, 8), ValueError, r"has shape \(1, 1, 3, 8, 8\), expected"),
        (
            np.ones((8, 9, 3)),
            ValueError,
            r"shape \(8, 9, 3\), which looks channels-last: expected \(C, H, W\)",
        ),
        (MAP * torch.nan, ValueError, r"`attribution` must be finite, got NaN"),
        (MAP / 0, ValueError, r"must be finite, got NaN or infinite"),
        (MAP.to(torch.complex64), TypeError, r"real numbers, got dtype complex64"),
        (np.array([["a"]]), TypeError, r"real numbers, got dtype <U1"),
        ([[1.0]], TypeError, r"must be a torch.Tensor or np.ndarray, got list"),
    ],
)
def test_heat_errors(attribution: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        display_heat(attribution)


@pytest.mark.parametrize("smoothing", [-0.1, 1, 5, float("nan")])
def test_smoothing_out_of_range(smoothing: float) -> None:
    with pytest.raises(ValueError, match=r"fraction of the longer side, expected \[0, 1\), got"):
        display_heat(MAP, smoothing)


# --- to_image ---


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: x[None],
        lambda x: x.numpy(),
        lambda x: x.permute(1, 2, 0).numpy(),
        lambda x: x.double().requires_grad_(),
        lambda x: (x * 255).round().byte(),
        lambda x: (x * 255).round().byte().permute(1, 2, 0).numpy(),
        lambda x: Image.fromarray((x * 255).round().byte().permute(1, 2, 0).numpy()),
    ],
)
def test_forms_of_an_image(make: Callable[..., object]) -> None:
    image = (IMAGE * 255).round() / 255
    array = to_image(make(image))
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, image.permute(1, 2, 0).numpy(), atol=1e-6)


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x[None], lambda x: x[..., None], lambda x: x[None, None]])
def test_grey_images(make: Callable[..., object]) -> None:
    grey = IMAGE[0]
    np.testing.assert_array_equal(to_image(make(grey)), grey[..., None].expand(-1, -1, 3).numpy())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F"])
def test_pil_modes(mode: str) -> None:
    array = to_image(Image.new("L", (6, 4), 1).convert(mode))
    assert array.shape == (4, 6, 3)


def test_channels_come_first_where_both_ends_could_be() -> None:
    image = random(3, 5, 3)
    np.testing.assert_array_equal(to_image(image), image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalization_is_undone(dtype: torch.dtype) -> None:
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    normalized = ((IMAGE - mean) / std).to(dtype)
    array = to_image(normalized, mean=MEAN, std=STD)
    np.testing.assert_allclose(array, IMAGE.permute(1, 2, 0).numpy(), atol=0.02 if dtype.itemsize == 2 else 1e-6)


@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        (
            noise(3, 8, 8),
            ValueError,
            r"values in \[0, 1\], got \[-.*\]: if it is normalized.*`mean` and `std`",
        ),
        (255 * IMAGE, ValueError, r"values in \[0, 1\], got \[.*, 255\].*pass it as uint8"),
        (IMAGE * torch.nan, ValueError, r"values in \[0, 1\], got \[nan, nan\]"),
        (
            torch.ones(2, 3, 8, 8),
            ValueError,
            r"`image` must be a single one, got a batch of shape \(2, 3, 8, 8\)",
        ),
        (torch.ones(4, 8, 8), ValueError, r"`image` has shape \(4, 8, 8\), expected .* 1 or 3 channels"),
        (torch.ones(3, 0, 8), ValueError, r"`image` has shape \(3, 0, 8\)"),
        (torch.ones(8), ValueError, r"`image` has shape \(8,\)"),
        (torch.ones(3, 8, 8, dtype=torch.int64), TypeError, r"uint8 or floating point, got dtype int64"),
        ("photo.jpg", TypeError, r"torch.Tensor, np.ndarray or PIL image, got str"),
    ],
)
def test_image_errors(image: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        to_image(image)


@pytest.mark.parametrize(
    ("image", "mean", "std", "text"),
    [
        (IMAGE, MEAN, None, r"`mean` and `std` go together, got mean=.* and std=None"),
        (IMAGE, (0.5, 0.5), STD, r"one value per channel, 3, got 2 and 3"),
        ((255 * IMAGE).byte(), MEAN, STD, r"got a uint8 image, which is not normalized"),
    ],
)
def test_normalization_errors(image: object, mean: object, std: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        to_image(image, mean, std)


# --- overlay ---


def test_overlay_draws_the_heat_over_a_grey_image() -> None:
    ax = overlay(IMAGE, MAP)
    heat, picture = drawn_heat(ax)
    np.testing.assert_array_equal(heat, display_heat(MAP))
    assert picture.shape == (40, 60)
    assert ax.images[1].get_clim() == pytest.approx((0, display_heat(MAP).max()))


def test_overlay_in_colour() -> None:
    _, picture = drawn_heat(overlay(IMAGE, MAP, grey=False))
    np.testing.assert_array_equal(picture, to_image(IMAGE))


def test_overlay_on_given_axes() -> None:
    figure = Figure()
    ax = figure.add_subplot()
    assert overlay(IMAGE, MAP, ax) is ax
    assert figure.axes == [ax]


def test_overlay_is_transparent_where_low_and_clearer_the_hotter() -> None:
    ax = overlay(IMAGE, MAP, vmax=2.0, threshold=0.25, alpha=0.7)
    opacity = ax.images[1].to_rgba(np.linspace(0, 3, 100)[None])[0, :, 3]
    level = np.linspace(0, 3, 100) / 2
    assert not opacity[level < 0.25].any()
    assert (np.diff(opacity) >= 0).all()
    assert opacity[-1] == pytest.approx(0.7)
    assert (opacity[level > 0.3] > 0).all()


def test_heat_fades_in_from_nothing() -> None:
    """No step of the scale, the first included, may show as an edge."""
    for threshold in (0.0, 0.05, 0.4):
        opacity = heat_colours(threshold=threshold)(np.linspace(0, 1, 256))[:, 3]
        assert opacity[0] == 0
        assert np.diff(opacity).max() < 0.02 / (1 - threshold)
        assert opacity[np.linspace(0, 1, 256) < threshold + 0.01].max() < 0.002


def test_black_stays_black_under_the_overlay() -> None:
    halves = torch.zeros(3, 40, 60)
    halves[:, :, 30:] = 1
    blob = torch.zeros(40, 60)
    blob[:, 30:] = 1
    drawn = rgba(overlay(halves, blob, smoothing=0).figure)
    assert drawn[:, : drawn.shape[1] // 2 - 8, :3].max() == 0


def test_an_all_zero_map_leaves_just_the_image() -> None:
    with_map = overlay(IMAGE, torch.zeros(3, 40, 60))
    without = overlay(IMAGE, torch.zeros(3, 40, 60))
    without.images[1].remove()
    np.testing.assert_array_equal(rgba(with_map.figure), rgba(without.figure))


def test_heat_shows_where_it_is_and_nowhere_else() -> None:
    blob = torch.zeros(40, 60)
    blob[10:20, 10:25] = 1
    black = rgba(overlay(torch.zeros(3, 40, 60), blob).figure).astype(int)
    colourful = black[..., :3].max(-1) - black[..., :3].min(-1)
    height, width = colourful.shape
    hot = colourful[int(height * 12 / 40) : int(height * 18 / 40), int(width * 13 / 60) : int(width * 22 / 60)]
    assert hot.min() > 60
    assert colourful[height // 2 + height // 8 :].max() == 0


@pytest.mark.parametrize("shape", [(1, 10, 15), (10, 15), (1, 1, 10, 15), (512, 10, 15), (1, 5, 7), (1, 20, 30)])
def test_coarse_maps_are_resized_while_signed(shape: tuple[int, ...]) -> None:
    coarse = noise(*shape)
    heat, _ = drawn_heat(overlay(IMAGE, coarse))
    signed = coarse.reshape(-1, *shape[-2:]).double().sum(0)[None, None]
    large = torch.nn.functional.interpolate(signed, (40, 60), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(heat, display_heat(large), atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 41, 60), (3, 60, 40), (1, 39, 59), (1, 15, 10), (1, 80, 120), (1, 3, 20)])
def test_maps_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    text = rf"`heat` is a map of \({shape[1]}, {shape[2]}\) over an image of \(40, 60\): expected the same size"
    with pytest.raises(ValueError, match=text):
        overlay(IMAGE, torch.ones(shape))


@pytest.mark.parametrize(("image", "grid"), [(224, 7), (224, 14), (227, 13), (227, 114), (299, 8), (33, 1)])
def test_grids_of_real_layers_are_coarse_maps(image: object, grid: int) -> None:
    assert drawn_heat(overlay(torch.zeros(image, image), torch.ones(1, grid, grid)))[0].shape == (
        image,
        image,
    )


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"cmap": "hott"},
            ValueError,
            r"`cmap` must be a matplotlib colour map such as 'hot', got unknown 'hott'",
        ),
        ({"cmap": 3}, TypeError, r"`cmap` must be a name or a matplotlib Colormap, got int"),
        (
            {"threshold": 1.0},
            ValueError,
            r"`threshold` is a fraction of the scale, expected \[0, 1\), got 1.0",
        ),
        ({"threshold": -0.1}, ValueError, r"`threshold`"),
        ({"alpha": 0}, ValueError, r"`alpha` must be in \(0, 1\], got 0"),
        ({"alpha": 1.5}, ValueError, r"`alpha`"),
        ({"vmax": 0}, ValueError, r"`vmax` must be positive and finite, got 0"),
        ({"vmax": float("nan")}, ValueError, r"`vmax`"),
        ({"smoothing": 3}, ValueError, r"`smoothing` is a fraction"),
        ({"mean": MEAN}, ValueError, r"`mean` and `std` go together"),
    ],
)
def test_option_errors(options: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        overlay(IMAGE, MAP, **options)
    with pytest.raises(error, match=text):
        pair_figure((IMAGE, IMAGE), (MAP, MAP), **options)


# --- pair_figure ---


def panels(figure: Figure) -> list[Axes]:
    """Axes that hold an overlay, left to right."""
    return [ax for ax in figure.axes if len(ax.images) == 2]


def test_a_pair_has_one_common_scale() -> None:
    weak, strong = 0.3 * MAP, noise(3, 40, 60, seed=5)
    figure = pair_figure((IMAGE, IMAGE), (weak, strong))
    left, right = panels(figure)
    top = max(display_heat(weak).max(), display_heat(strong).max())
    assert left.images[1].get_clim() == right.images[1].get_clim() == pytest.approx((0, top))
    np.testing.assert_array_equal(drawn_heat(left)[0], display_heat(weak))
    np.testing.assert_array_equal(drawn_heat(right)[0], display_heat(strong))


def test_the_scale_can_be_given() -> None:
    for ax in panels(pair_figure((IMAGE, IMAGE), (MAP, MAP), vmax=7)):
        assert ax.images[1].get_clim() == (0, 7)


def test_one_map_all_zero_or_both() -> None:
    zero = torch.zeros(3, 40, 60)
    left, right = panels(pair_figure((IMAGE, IMAGE), (MAP, zero)))
    assert left.images[1].get_clim() == right.images[1].get_clim()
    assert right.images[1].to_rgba(drawn_heat(right)[0])[..., 3].max() == 0
    for ax in panels(pair_figure((IMAGE, IMAGE), (zero, zero), colorbar=True)):
        assert ax.images[1].to_rgba(drawn_heat(ax)[0])[..., 3].max() == 0
        assert ax.images[1].get_clim() == (0, 1)


def test_panels_keep_aspect_ratios_and_share_their_height() -> None:
    wide, tall = random(3, 20, 80), random(3, 50, 25)
    figure = pair_figure((wide, tall), (noise(3, 20, 80), noise(3, 50, 25)), neuron=1, colorbar=True)
    width, height = figure.get_size_inches()
    boxes = [ax.get_position() for ax in panels(figure)]
    assert boxes[0].height == pytest.approx(boxes[1].height)
    ratios = [box.width * width / (box.height * height) for box in boxes]
    assert ratios == pytest.approx([4, 0.5])
    for ax in figure.axes:
        box = ax.get_position()
        assert box.x0 > 0
        assert box.y0 > 0
        assert box.x1 < 1
        assert box.y1 < 1
    assert width == pytest.approx(7)


@pytest.mark.parametrize("tall", [20, 200])
def test_figures_stay_within_a_notebook(tall: float) -> None:
    image, heat = random(3, tall, 20), noise(3, tall, 20)
    width, height = pair_figure((image, image), (heat, heat), neuron=3).get_size_inches()
    assert width <= 7 + 1e-9
    assert height <= 6


def test_raw_images_stand_above_their_overlays() -> None:
    figure = pair_figure((IMAGE, IMAGE.flip(0)), (MAP, MAP), show_images=True)
    raw = [ax for ax in figure.axes if len(ax.images) == 1]
    for ax, below, image in zip(raw, panels(figure), (IMAGE, IMAGE.flip(0)), strict=True):
        np.testing.assert_array_equal(np.asarray(ax.images[0].get_array()), to_image(image))
        assert ax.get_position().y0 > below.get_position().y1
        assert ax.get_position().x0 == pytest.approx(below.get_position().x0)
        assert ax.get_title()
        assert not below.get_title()


def test_titles_and_heading() -> None:
    figure = pair_figure((IMAGE, IMAGE), (MAP, MAP), neuron=17, similarity=torch.tensor(0.83123), response=4.2)
    assert [ax.get_title() for ax in panels(figure)] == ["out-of-category image", "reference"]
    assert figure.get_suptitle() == "neuron 17  ·  similarity 0.831  ·  response 4.2"
    figure = pair_figure((IMAGE, IMAGE), (MAP, MAP), titles=("sled", "beagle"), response=0.0)
    assert [ax.get_title() for ax in panels(figure)] == ["sled", "beagle"]
    assert figure.get_suptitle() == "response 0"
    assert not pair_figure((IMAGE, IMAGE), (MAP, MAP)).get_suptitle()


def test_long_and_odd_texts_fit_and_are_taken_literally() -> None:
    title = "n02088364_a_very_long_$file_name^of%a#stimulus_" + 60 * "x" + ".jpg"
    figure = pair_figure((IMAGE, IMAGE), (MAP, MAP), titles=(title, "$x^$"), neuron=title, colorbar=True)
    rgba(figure)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    left, right = panels(figure)
    assert left.title.get_window_extent(renderer).width <= left.get_window_extent(renderer).width
    assert left.get_title().startswith("n02088364")
    assert left.get_title().endswith(".jpg")
    assert "…" in left.get_title()
    assert left.title.get_fontsize() == right.title.get_fontsize()
    heading = figure._suptitle.get_window_extent(renderer)  # type: ignore[attr-defined]
    assert heading.x0 >= 0
    assert heading.x1 <= figure.bbox.width


def test_colour_bar_names_the_scale() -> None:
    figure = pair_figure((IMAGE, IMAGE), (MAP, MAP), vmax=0.25, colorbar=True)
    bar = next(ax for ax in figure.axes if len(ax.images) == 1)
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "0.25"]
    assert len(pair_figure((IMAGE, IMAGE), (MAP, MAP)).axes) == 2


def test_colour_bar_of_maps_without_heat_claims_no_maximum() -> None:
    figure = pair_figure((IMAGE, IMAGE), (-MAP.abs(), -MAP.abs()), colorbar=True)
    bar = next(ax for ax in figure.axes if len(ax.images) == 1)
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0"]


def test_pairs_as_tensors_and_batches_of_one() -> None:
    figure = pair_figure(torch.stack([IMAGE, IMAGE]), (MAP[None], MAP[None]))
    np.testing.assert_array_equal(drawn_heat(panels(figure)[0])[0], display_heat(MAP))


def test_normalized_pairs() -> None:
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    figure = pair_figure(2 * [(IMAGE - mean) / std], (MAP, MAP), mean=MEAN, std=STD, grey=False)
    np.testing.assert_allclose(drawn_heat(panels(figure)[0])[1], to_image(IMAGE), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        (([IMAGE], [MAP, MAP]), {}, ValueError, r"`images` must be two, .* got 1"),
        (([IMAGE, IMAGE], [MAP] * 3), {}, ValueError, r"`maps` must be two, .* got 3"),
        ((IMAGE, [MAP, MAP]), {}, ValueError, r"`images` must be two, .* got 3"),
        ((iter([IMAGE]), [MAP, MAP]), {}, TypeError, r"`images` must be a pair, got list_iterator"),
        (([IMAGE] * 2, [MAP] * 2), {"titles": ["one"]}, ValueError, r"`titles` must be two, .* got 1"),
        (([IMAGE] * 2, [MAP] * 2), {"titles": "ab"}, TypeError, r"`titles` must be a pair, got str"),
        (
            ([IMAGE] * 2, [MAP, MAP[:, :30]]),
            {},
            ValueError,
            r"`maps\[1\]` is a map of \(30, 60\) over an image",
        ),
        (([IMAGE] * 2, [MAP, MAP * torch.nan]), {}, ValueError, r"`maps\[1\]` must be finite"),
        (
            ([IMAGE] * 2, [MAP] * 2),
            {"similarity": "high"},
            TypeError,
            r"`similarity` must be one number, got 'high'",
        ),
        (([IMAGE] * 2, [MAP] * 2), {"response": torch.ones(2)}, TypeError, r"`response` must be one number"),
    ],
)
def test_pair_errors(
    arguments: tuple[object, ...], options: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        pair_figure(*arguments, **options)


# --- what is left alone ---


def test_inputs_are_left_as_they_are() -> None:
    image, attribution = IMAGE.clone(), MAP.clone()
    pair_figure((image, image), (attribution, attribution), show_images=True)
    assert torch.equal(image, IMAGE)
    assert torch.equal(attribution, MAP)


def test_settings_are_left_alone_and_do_not_turn_the_picture_around() -> None:
    plain = rgba(pair_figure((IMAGE, IMAGE), (MAP, MAP), show_images=True))
    odd = {
        "image.origin": "lower",
        "axes.grid": True,
        "figure.facecolor": "black",
        "text.color": "white",
        "axes.titlecolor": "white",
        "figure.autolayout": True,
        "image.interpolation": "nearest",
        "image.aspect": "auto",
        "font.weight": "bold",
    }
    with matplotlib.rc_context(odd), warnings.catch_warnings():
        before = dict(matplotlib.rcParams)
        warnings.simplefilter("error")  # tight layout warns of axes that it cannot place
        turned = rgba(pair_figure((IMAGE, IMAGE), (MAP, MAP), show_images=True))
        assert dict(matplotlib.rcParams) == before
    np.testing.assert_array_equal(turned, plain)


def test_a_figure_shows_itself_in_a_notebook_and_can_be_pickled() -> None:
    figure = pair_figure((IMAGE, IMAGE), (MAP, MAP))
    for one in (figure, pickle.loads(pickle.dumps(figure))):
        assert one._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow  # another process imports torch
def test_pyplot_is_never_imported_and_drawing_is_headless() -> None:
    program = """
        import io, sys
        import captum_shared
        from captum_shared.visualization import display_heat, overlay, pair_figure
        assert "matplotlib" not in sys.modules, "matplotlib imported with the package"
        import torch
        image, heat = torch.rand(3, 20, 20), torch.randn(3, 20, 20)
        display_heat(heat)
        assert "matplotlib" not in sys.modules, "matplotlib imported by display_heat"
        import matplotlib
        before = matplotlib.rcParams.copy()
        figure = pair_figure((image, image), (heat, heat), neuron=1, show_images=True, colorbar=True)
        figure.savefig(io.BytesIO(), format="png", dpi=50)
        overlay(image, heat).figure.savefig(io.BytesIO(), format="png", dpi=50)
        assert "matplotlib.pyplot" not in sys.modules, "pyplot imported"
        assert dict.__eq__(before, matplotlib.rcParams.copy()), "rcParams changed"
        import matplotlib.pyplot as plt
        assert plt.get_fignums() == [], "a figure was registered"
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@given(name=st.text(st.characters(codec="ascii"), max_size=60), most=st.integers(6, 40))
@settings(max_examples=60)
def test_short_names_keep_both_ends(name: str, most: int) -> None:
    cut = short(name, most)
    assert len(cut) <= most
    assert cut == name or (name.startswith(cut.split("…")[0]) and name.endswith(cut.split("…")[-1]))
