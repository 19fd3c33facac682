"""The identity of an estimator of the user's: what it does on a small problem, and not its `repr` alone."""

from __future__ import annotations

import random
import re

import numpy as np
import torch

from captum_shared.files import sha256
from captum_shared.identity import random_state_kept
from captum_shared.readout.fitting import check_estimator
from captum_shared.readout.folding import linear_output
from captum_shared.readout.nested import fit_clone
from captum_shared.readout.steps import Estimator
from captum_shared.store import Identity, close

SHOWN = 16
"""How many predictions for each response an identity holds."""


def identify_estimator(estimator: Estimator, n: int, d: int) -> Identity:
    """Identify an estimator by what it predicts once it is fitted on a problem with `n` stimuli and `d` latents.

    Two estimators with the same `repr` may do different things: a class of a notebook that was changed, a
    `FunctionTransformer` of another lambda, attributes that are no parameters. Addresses in the `repr` do not count.

    It is cloned, not changed. `n` and `d` are those of the study, since PCA and the like need enough of both. What is
    no estimator, cannot be fitted, or predicts something else each time is refused.

    >>> from sklearn.linear_model import Ridge
    >>> one, other = (identify_estimator(Ridge(alpha), 30, 8) for alpha in (1.0, 2.0))
    >>> one.matches(other), one.matches(identify_estimator(Ridge(1.0), 30, 8))
    (False, True)
    """
    check_estimator(estimator)
    rows, again = (_predictions(estimator, n, d) for _ in "12")
    if not close(rows, again):
        raise ValueError(
            "`estimator` gives different predictions each time it is fitted on the same data, so results obtained with "
            "it cannot be kept or repeated; expected one without random steps, or with a fixed random_state"
        )
    return Identity(sha256(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(estimator)).encode()), rows)


def _predictions(estimator: Estimator, n: int, d: int) -> tuple[tuple[float, ...], ...]:
    """What a clone predicts for stimuli that it has not seen, a row for each of two responses, or for one."""
    rng = np.random.default_rng(0)
    x, unseen = rng.normal(size=(n, d)), 2 * rng.normal(size=(SHOWN, d))
    y = x @ rng.normal(size=(d, 2)) / d**0.5 + 0.5 * rng.normal(size=(n, 2))
    with random_state_kept(torch.device("cpu")):
        random.seed(0)
        np.random.seed(0)
        try:
            fitted = fit_clone(estimator, x, y)
        except ValueError:  # it takes a single response
            fitted = fit_clone(estimator, x, y[:, :1])
        return tuple(tuple(float(value) for value in column) for column in linear_output(fitted, unseen).T)
