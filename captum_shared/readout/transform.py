"""`latent_transform`: standardizing, rotating and selecting latents, as part of the encoder."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from captum_shared.checks import check_latents
from captum_shared.readout.affine import AffineStep
from captum_shared.readout.steps import affine_step, named_steps

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


class LatentTransform(nn.Sequential):
    """Affine steps on latents, (N, n_features_in) -> (N, n_features_out); made by `latent_transform`.

    The steps keep their values in float64 buffers, and use them in the dtype of the latents.
    """

    @property
    def n_features_in(self) -> int:
        """Number of latents that the first step takes, D."""
        return self._step(0).n_features_in

    @property
    def n_features_out(self) -> int:
        """Number of latents that the last step gives, D'."""
        return self._step(-1).n_features_out

    def forward(self, latents: Tensor) -> Tensor:
        """(N, D) latents to (N, D'), in their dtype."""
        check_latents("latents", latents, d=self.n_features_in)
        if not latents.is_floating_point():
            raise TypeError(f"`latents` must be of a floating dtype, got {latents.dtype}")
        self._step(0).check_device(latents)
        for step in self:
            latents = step(latents)
        return latents

    def _step(self, index: int) -> AffineStep:
        return cast(AffineStep, self[index])


def latent_transform(*transformers: BaseEstimator, nmf_least_squares: bool = False) -> LatentTransform:
    """Turn fitted scikit-learn transformers into a differentiable module, for the encoder to apply.

    Products of latents depend on their basis and scale. With ``LatentEncoder(..., transform=...)``, similarities
    and shared weights are computed in the standardized or rotated space, and attributions go through it down to
    the pixels.

    Parameters
    ----------
    *transformers : fitted transformers or Pipelines of them
        Applied in this order. Scalers (Standard, MinMax, MaxAbs, Robust) stay elementwise, selectors
        (SelectKBest, VarianceThreshold ...) pick columns, and PCA, IncrementalPCA, TruncatedSVD, FastICA,
        FactorAnalysis, random projections and PLS multiply by a matrix.
    nmf_least_squares : bool
        NMF's `transform` solves a non-negative least-squares problem and is not linear, so it is refused by
        default. If true, the unconstrained solution is used, ``latents @ pinv(components_)``: it equals NMF's
        where that is positive in every component and no penalty was set (``alpha_W=0``); elsewhere it may be
        negative.

    Returns
    -------
    LatentTransform
        A `torch.nn.Sequential` of the steps, (N, D) -> (N, D'), equal to the transformers in float64; it
        computes in the dtype of its input. It has `n_features_in` (D) and `n_features_out` (D').

    Raises
    ------
    ValueError
        If a transformer is not linear or not fitted (the message names it), or two successive ones do not fit
        together.
    TypeError
        If anything other than an estimator is given.

    Examples
    --------
    >>> import torch
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.preprocessing import StandardScaler
    >>> latents = torch.randn(50, 8, dtype=torch.float64)
    >>> scaler = StandardScaler().fit(latents.numpy())
    >>> pca = PCA(3).fit(scaler.transform(latents.numpy()))
    >>> latent_transform(scaler, pca)(latents).shape
    torch.Size([50, 3])
    """
    named = [pair for transformer in transformers for pair in named_steps(transformer)]
    if not named:
        raise ValueError("expected at least one fitted transformer, got none")
    steps = [affine_step(step, label, nmf_least_squares) for label, step in named]
    for (first, (label, _)), (second, (next_label, _)) in pairwise(zip(steps, named, strict=True)):
        if first.n_features_out != second.n_features_in:
            raise ValueError(
                f"{next_label} takes {second.n_features_in} latents, but {label} before it gives {first.n_features_out}"
            )
    return LatentTransform(*steps)
