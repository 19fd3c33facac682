"""Drivers, candidates, pairs and centers against loops written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from captum_shared.report import category
from captum_shared.report.recording import neurons
from captum_shared.report.recording.settings import Settings


def test_pinned_candidates_of_the_command_category() -> None:
    """As at 6eba5b3: the images of the category at or above its median response."""
    rng = np.random.default_rng(0)
    response, member = rng.normal(size=60), rng.random(60) < 0.3
    median = np.median(response[member])
    assert category._candidates(member, response, "drivers").tolist() == [
        i for i in range(60) if member[i] and response[i] >= median
    ]
    assert category._candidates(member, response, "category").tolist() == [i for i in range(60) if member[i]]


@pytest.mark.parametrize("references", ["drivers", "category"])
def test_pinned_drivers_and_candidates_of_the_command_recording(references: str) -> None:
    """As at 6eba5b3: drivers by recorded and predicted response, candidates by recorded response alone."""
    rng = np.random.default_rng(1)
    recorded, member = rng.normal(size=80), rng.random(80) < 0.3
    predicted = recorded + rng.normal(size=80)
    recorded[3] = np.nan
    drivers, candidates = neurons._drivers(recorded, predicted, member, Settings(references=references))
    r = (recorded - np.nanmean(recorded)) / np.nanstd(recorded)
    p = (predicted - predicted.mean()) / predicted.std()
    by_hand = [i for i in range(80) if not member[i] and r[i] >= 1 and p[i] >= 1]
    assert drivers.tolist() == sorted(by_hand, key=lambda i: -recorded[i])
    assert candidates.tolist() == [
        i for i in range(80) if member[i] and i != 3 and (r[i] >= 1 or references == "category")
    ]
