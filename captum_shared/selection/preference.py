"""`d_prime`: how well responses tell a category from the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from captum_shared.selection.arguments import as_array, as_member


def d_prime(responses: ArrayLike, member: ArrayLike) -> np.ndarray:
    """How well responses tell a category from the rest, in units of their spread.

    d' = (mean_in - mean_out) / sqrt((var_in + var_out) / 2), with unbiased variances over images.

    Parameters
    ----------
    responses : (n, K) array or Tensor
        Of K neurons to n images; NaN where there is none.
    member : (n,) bool array or Tensor
        Whether each image is in the category.

    Returns
    -------
    (K,) array
        NaN where fewer than two responses are known on either side, or all are equal.

    Raises
    ------
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> d_prime(np.array([[4.0], [6.0], [1.0], [3.0]]), np.array([True, True, False, False])).round(4)
    array([2.1213])
    """
    member, values = as_member(member), as_array(responses)
    if values.ndim != 2 or len(values) != len(member):
        raise ValueError(f"`responses` must be (n, K) with n = {len(member)}, got shape {values.shape}")
    (mean_in, var_in), (mean_out, var_out) = (_mean_and_variance(values[part]) for part in (member, ~member))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((mean_in - mean_out) / np.sqrt((var_in + var_out) / 2))


def _mean_and_variance(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the finite values in each column; NaN where there are fewer than two."""
    known = np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, values, 0).sum(0) / known.sum(0)
        squares = np.where(known, values - mean, 0) ** 2
        return mean, np.where(known.sum(0) > 1, squares.sum(0) / (known.sum(0) - 1), np.nan)
