"""The panels of a neuron's pairs, drawn as one picture."""

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from captum_shared.report.recording import figures
from captum_shared.report.recording.mosaic import draw_pairs, scaled_heat, tiled
from captum_shared.visualization.canvas import new_figure


def rendered(figure: Figure) -> np.ndarray:
    picture = Image.open(io.BytesIO(figures.png_bytes(figure, dpi=100))).convert("RGB")
    return np.asarray(picture).astype(float) / 255


@pytest.mark.parametrize("size", [(20, 20), (12, 20), (20, 12)])
def test_panels_lie_in_the_middle_of_their_squares(size: tuple[int, int]) -> None:
    rows = [[np.full((*size, 3), 0.1 * (3 * i + j), np.float32) for j in range(3)] for i in range(2)]
    picture = tiled(rows, 1.0)
    pitch, (top, left) = 21, ((20 - size[0]) // 2, (20 - size[1]) // 2)
    assert picture.shape == (41, 62, 3)
    for i in range(2):
        for j in range(3):
            y, x = i * pitch + top, j * pitch + left
            assert (picture[y : y + size[0], x : x + size[1]] == rows[i][j]).all()
            picture[y : y + size[0], x : x + size[1]] = 1.0
    assert (picture == 1.0).all()  # nothing but background elsewhere


def test_a_pair_has_one_scale_and_an_empty_map_stays_empty() -> None:
    maps = np.zeros((2, 32, 32), np.float32)
    maps[0, 8:16, 8:16], maps[1, 8:16, 8:16], maps[1, 20:28, 20:28] = 4, 1, -9
    driver, reference = scaled_heat(maps)
    assert (driver.max(), reference.max()) == pytest.approx((1, 0.25))
    assert reference[20:28, 20:28].max() == 0  # what is negative has no heat
    assert not any(heat.any() for heat in scaled_heat(np.zeros((2, 32, 32), np.float32)))


def test_every_panel_is_where_its_row_and_column_say() -> None:
    """Grey images; heat in another corner of each of the middle panels, and in none of the others."""
    images = [(torch.full((3, 40, 40), 0.2 * p + 0.1), torch.full((3, 40, 40), 0.2 * p + 0.2)) for p in range(3)]
    corners = [(0, 0), (0, 20), (20, 0), (20, 20), (0, 0), (20, 20)]
    maps = np.zeros((3, 2, 40, 40), np.float32)
    for own, (y, x) in zip(maps.reshape(6, 40, 40), corners, strict=True):
        own[y + 6 : y + 14, x + 6 : x + 14] = 1
    figure = new_figure(3 * 0.42 - 0.02, 4 * 0.42 - 0.02)  # one point per pixel
    draw_pairs(figure.add_axes((0, 0, 1, 1)), images, [maps])
    seen = rendered(figure)[:166, :124]
    warm = seen[..., 0] - seen[..., 2]
    for p in range(3):
        panels = [seen[42 * r : 42 * r + 40, 42 * p : 42 * p + 40] for r in range(4)]
        for panel, level in zip((panels[0], panels[3]), (0.2 * p + 0.1, 0.2 * p + 0.2), strict=True):
            assert panel[3:-3, 3:-3].mean() == pytest.approx(level, abs=0.02)
            assert np.ptp(panel[3:-3, 3:-3], axis=2).max() == 0
        for side in (0, 1):
            hot = warm[42 * (1 + side) : 42 * (1 + side) + 40, 42 * p : 42 * p + 40]
            y, x = corners[2 * p + side]
            assert hot[y + 5 : y + 15, x + 5 : x + 15].mean() > 0.3
            hot[y : y + 20, x : x + 20] = 0
            assert hot[2:-2, 2:-2].max() < 0.05
