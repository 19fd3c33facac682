"""Figures of populations: bins that stay few, panels that are there."""

from __future__ import annotations

import numpy as np
import pytest

from captum_shared.report.recording import figures
from captum_shared.visualization import distribution_figure, feature_grid, unit_sheet
from captum_shared.visualization.population import _edges


@pytest.mark.parametrize(
    "values",
    [
        [0.1, 0.1 + 2e-8, 0.9],  # once: bins as narrow as the smallest difference, and all the memory
        [1.0, 2.0, 4.0],
        [(100 - m) / 99 for m in (1, 2, 3, 7)],
        [0.5],
        [-40.0, 0.2, 0.3],
        [],
    ],
)
def test_bins_are_few_and_hold_the_values(values: list[float]) -> None:
    edges = _edges(np.array(values), bins=24)
    assert 2 <= len(edges) <= 26
    assert (np.diff(edges) > 0).all()
    assert all(value <= edges[-1] for value in values)


def test_a_panel_for_each_layer_and_index() -> None:
    values = {layer: {"a": np.array([0.1, np.nan, 0.7]), "b": np.array([1.0, 2.0, 2.0])} for layer in ("x", "y")}
    assert len(distribution_figure(values, {"x": {"a": 0.4}}).axes) == 4


def test_grids_and_sheets_hold_their_pictures() -> None:
    picture = np.full((5, 5, 3), np.nan)
    assert len(feature_grid([picture] * 7, ["t"] * 7, "heading").axes) == 7
    assert len(unit_sheet("unit", picture, [picture] * 30, {"a": "1"}, {"dog": (0.2, 0.4)}).axes) == 1 + 24 + 1


def test_figures_of_a_recording_of_which_nothing_is_known() -> None:
    """No reliability, no fit, no pair: reports of such recordings are tested without their figures."""
    unknown, none = np.full(3, np.nan), np.zeros(3, dtype=bool)
    assert len(figures.generalization_figure(unknown, unknown).axes) == 1
    assert len(figures.drivers_figure([], []).axes) == 1
    assert len(figures.reliability_figure(unknown, unknown, none).axes) == 1
    assert len(figures.reuse_figure([]).axes) == 1
