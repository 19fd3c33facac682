"""Checks of arguments: what passes, and what the refusals say."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from captum_shared import checks

REFUSED: list[tuple[type[Exception], str, Callable[[], Any]]] = [
    (ValueError, "`k` must be a positive integer, got 0", lambda: checks.check_integer("k", 0)),
    (ValueError, "`k` must be a positive integer, got '8'", lambda: checks.check_integer("k", "8")),
    (ValueError, "`k` must be a positive integer, got True", lambda: checks.check_integer("k", True)),
    (ValueError, "`k` must be a positive integer, got 2.0", lambda: checks.check_integer("k", 2.0)),
    (ValueError, "`k` must be an integer of at least 0, got -1", lambda: checks.check_integer("k", -1, least=0)),
    (ValueError, "`k` must be an integer of at least 2, got 1", lambda: checks.check_integer("k", 1, least=2)),
    (ValueError, "`k` must be a positive integer or None, got 0", lambda: checks.check_integer("k", 0, also="None")),
    (TypeError, "`t` must be a number, got None", lambda: checks.check_number("t", None)),
    (TypeError, "`t` must be a number, got '0.9'", lambda: checks.check_number("t", "0.9")),
    (TypeError, "`t` must be a number, got True", lambda: checks.check_number("t", True)),
    (ValueError, "`t` must be finite, got nan", lambda: checks.check_number("t", math.nan)),
    (ValueError, "`rule` must be one of ('a', 'b'), got 'c'", lambda: checks.check_choice("rule", "c", ("a", "b"))),
    (ValueError, "`rule` must be one of ('a', 'b'), got ['a']", lambda: checks.check_choice("rule", ["a"], ("a", "b"))),
    (TypeError, "`z` must be a tensor, got list", lambda: checks.check_tensor("z", [1.0])),
    (
        TypeError,
        "`z` must be a tensor, got ndarray; use torch.as_tensor",
        lambda: checks.check_tensor("z", np.ones(2)),
    ),
    (ValueError, "`z` must be (N, D), got shape (3,)", lambda: checks.check_latents("z", torch.ones(3))),
    (ValueError, "`z` must be (G, 4), got shape (2, 3)", lambda: checks.check_latents("z", torch.ones(2, 3), "G", 4)),
    (ValueError, "`z` must be (5, D), got shape (2, 3)", lambda: checks.check_latents("z", torch.ones(2, 3), 5)),
    (
        ValueError,
        "images must be (N, C, H, W), got shape (3, 64, 64); a batch of one image is image[None]",
        lambda: checks.check_images(torch.zeros(3, 64, 64)),
    ),
    (
        ValueError,
        "the encoder must return latents (N, D) = (2, D), got shape (2, 3, 4)",
        lambda: checks.check_encoded(torch.ones(2, 3, 4), 2),
    ),
    (ValueError, "(N, D) = (2, D), got None", lambda: checks.check_encoded(None, 2)),
    (ValueError, "(N, D) = (2, D), got an int", lambda: checks.check_encoded(3, 2)),
    (
        ValueError,
        "expected one device, got `a` on cpu, `b` on meta",
        lambda: checks.check_one_device(a=torch.ones(1), none=None, b=torch.ones(1, device="meta")),
    ),
    (
        TypeError,
        "expected one dtype, got `a` of torch.float32, `b` of torch.float64",
        lambda: checks.check_one_dtype(a=torch.ones(1), none=None, b=torch.ones(1).double()),
    ),
    (ValueError, "`w` must be finite, got NaN or infinity", lambda: checks.check_finite("w", torch.tensor([math.inf]))),
]


@pytest.mark.parametrize(("error", "text", "call"), REFUSED)
def test_refusals_say_what_was_received(error: type[Exception], text: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=f"{re.escape(text)}$"):
        call()


def test_what_passes_is_returned() -> None:
    z = torch.ones(2, 3)
    assert checks.check_integer("k", np.int64(3)) == 3
    assert type(checks.check_integer("k", np.int64(3))) is int
    assert checks.check_number("t", np.float32(0.5)) == 0.5
    assert checks.check_choice("rule", "a", {"a": 1}) == "a"
    assert all(value is z for value in (checks.check_tensor("z", z), checks.check_latents("z", z, 2, 3)))
    assert checks.check_encoded(z, 2) is z
    assert checks.check_finite("z", z) is z
    assert (checks.describe(z), checks.describe([1, 2])) == ("shape (2, 3)", "a list")
