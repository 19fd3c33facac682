"""`LinearReadout`: the weights of linear neurons on the latents, as a torch module."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor
from torch.nn import functional as F

from captum_shared.checks import check_latents
from captum_shared.files import write_bytes
from captum_shared.readout.layer import LinearLayer

if TYPE_CHECKING:
    from captum_shared.readout.steps import Estimator


class LinearReadout(LinearLayer):
    """Linear neurons on latents: ``responses = latents @ weight.T + bias``.

    Weight and bias are buffers, not parameters: a readout is fitted, not trained further, and no optimizer
    picks it up. The product is computed in the dtype of the latents (float32 for half precision), so that a float64
    readout works with a float32 encoder; `.to(...)` moves and converts it like any module, to float32 on a device
    without float64. Captum's own methods take ``torch.nn.Sequential(encoder, readout)``, with the neuron as ``target``.

    Parameters
    ----------
    weight : (K, D) or (D,) tensor or array
        One row for each neuron; (D,) is one neuron. Copied; its dtype is kept (integers become floats).
    bias : (K,) tensor or array, optional
        Default: zeros. For one neuron, a number also works.
    neuron_ids : sequence of K str, optional
        Names of the neurons, kept in the file.

    Attributes
    ----------
    weight : (K, D) tensor
    bias : (K,) tensor
    n_neurons, n_latents : int
        K and D.
    neuron_ids : tuple of str or None

    Raises
    ------
    ValueError
        For wrong shapes, values that are not finite, or a bias or `neuron_ids` that do not fit the weight.

    Examples
    --------
    >>> readout = LinearReadout([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]], bias=[0.5, 0.0])
    >>> readout(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[-1.5000,  4.0000]])
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self, weight: ArrayLike, bias: ArrayLike | None = None, neuron_ids: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        w = _finite(weight, "weight")
        if w.ndim not in (1, 2) or 0 in w.shape:
            raise ValueError(f"`weight` must be (K, D) or (D,) and not empty, got shape {tuple(w.shape)}")
        w = torch.atleast_2d(w)
        n_neurons = len(w)
        b = w.new_zeros(n_neurons) if bias is None else torch.atleast_1d(_finite(bias, "bias")).to(w)
        if b.shape != (n_neurons,):
            raise ValueError(f"`bias` must be ({n_neurons},) to fit `weight`, got shape {tuple(b.shape)}")
        if neuron_ids is not None and len(neuron_ids) != n_neurons:
            raise ValueError(f"`neuron_ids` must name {n_neurons} neurons, got {len(neuron_ids)}")
        self.register_buffer("weight", w)
        self.register_buffer("bias", b)
        self.neuron_ids = None if neuron_ids is None else tuple(str(name) for name in neuron_ids)

    @property
    def n_neurons(self) -> int:
        """Number of neurons, K."""
        return self.weight.shape[0]

    @property
    def n_latents(self) -> int:
        """Number of latents, D."""
        return self.weight.shape[1]

    def forward(self, latents: Tensor) -> Tensor:
        """Compute (N, K) responses from (N, D) latents, in the dtype of the latents."""
        check_latents("latents", latents, d=self.n_latents)
        if not latents.is_floating_point():
            raise TypeError(f"`latents` must be of a floating dtype, got {latents.dtype}")
        self.check_device(latents)
        wide = torch.promote_types(latents.dtype, torch.float32)
        return F.linear(latents.to(wide), self.weight.to(wide), self.bias.to(wide)).to(latents.dtype)

    def extra_repr(self) -> str:
        """Sizes and dtype."""
        return f"n_latents={self.n_latents}, n_neurons={self.n_neurons}, dtype={self.weight.dtype}"

    @classmethod
    def from_estimator(cls, estimator: Estimator) -> LinearReadout:
        """Fold a fitted linear model, or a Pipeline of linear steps, into one readout on the raw latents.

        The readout equals the estimator's `decision_function` if it has one and its `predict` otherwise, in
        float64. Supported are

        - as steps: every step that `latent_transform` takes, except NMF; "passthrough" and nested pipelines;
        - as the model: whatever has a ``coef_`` and is linear in its input (Ridge, RidgeCV, Lasso,
          ElasticNet, LinearRegression, PLSRegression, LinearSVR, LinearSVC, LogisticRegression, SGD, Huber
          ...);
        - around the model: GridSearchCV and similar, TransformedTargetRegressor with a scaler,
          MultiOutputRegressor, OneVsRestClassifier.

        No step is trusted to be linear: its folded form is compared with the step's output at a few probe points,
        which reveals a link function or a clipping step.

        Parameters
        ----------
        estimator : fitted estimator or Pipeline
            Of scikit-learn; not changed.

        Returns
        -------
        LinearReadout
            In float64. A binary classifier gives K = 1, one of C > 2 classes K = C.

        Raises
        ------
        ValueError
            If a step is not linear or not fitted; the message names it.

        Examples
        --------
        >>> from sklearn.linear_model import Ridge
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> latents = np.random.default_rng(0).normal(size=(50, 6))
        >>> pipeline = make_pipeline(StandardScaler(), Ridge()).fit(latents, latents[:, :2] - latents[:, 2:4])
        >>> readout = LinearReadout.from_estimator(pipeline)
        >>> bool(np.allclose(readout(torch.from_numpy(latents)).numpy(), pipeline.predict(latents)))
        True
        """
        from captum_shared.readout.folding import fold_estimator

        return cls(*fold_estimator(estimator))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weight, bias and `neuron_ids` to a safetensors file, atomically."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        metadata = None if self.neuron_ids is None else {"neuron_ids": json.dumps(self.neuron_ids)}
        write_bytes(path, to_bytes(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LinearReadout:
        """Read what `save` wrote, onto the CPU; no code in the file is run.

        Raises
        ------
        ValueError
            If the file is not a safetensors file or holds no weight and bias.
        """
        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
        except SafetensorError as error:
            raise ValueError(f"{os.fspath(path)!r} is not a readable safetensors file: {error}") from error
        if set(tensors) != {"weight", "bias"}:
            raise ValueError(
                f"{os.fspath(path)!r} is not a readout: expected the tensors 'weight' and 'bias', got {sorted(tensors)}"
            )
        names = metadata.get("neuron_ids")
        return cls(**tensors, neuron_ids=None if names is None else json.loads(names))


def _finite(values: object, name: str) -> Tensor:
    """A copy of `values` as a floating tensor, refused unless all of it is finite."""
    if not isinstance(values, Tensor):
        values = torch.from_numpy(np.array(values, dtype=None if hasattr(values, "dtype") else np.float64))
    copy: Tensor = values.detach().clone()
    if copy.is_complex():
        raise ValueError(f"`{name}` must be real, got {copy.dtype}")
    if not copy.is_floating_point():
        copy = copy.to(torch.get_default_dtype())
    n_bad = int((~torch.isfinite(copy)).sum())
    if n_bad:
        raise ValueError(f"`{name}` must be finite, got {n_bad} NaN or infinite values")
    return copy
