"""The three forms a linear step on latents takes, as torch modules that can also be folded into a readout.

Each centres its input before it multiplies, as scikit-learn does: a bias added afterwards would cancel badly
in float32 where the mean of a latent is large beside its spread. Buffers are held in float64 and used in the
dtype of the input.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from captum_shared.readout.layer import LinearLayer


class AffineStep(LinearLayer):
    """An affine map of latents, (N, n_features_in) -> (N, n_features_out)."""

    n_features_in: int
    n_features_out: int

    @abstractmethod
    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (K, n_features_in) and bias (K,) on this step's input, from those on its output."""

    @abstractmethod
    def bound(self, latents: Tensor) -> Tensor:
        """Sum of the absolute terms that each output adds up: what rounding errors are measured against."""

    def extra_repr(self) -> str:
        """Numbers of latents in and out."""
        return f"{self.n_features_in}, {self.n_features_out}"


class Elementwise(AffineStep):
    """``(latents - shift) * scale``, shift and scale (D,)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.n_features_in = self.n_features_out = len(scale)
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, latents: Tensor) -> Tensor:
        """(N, n_features_in) latents to (N, n_features_out), in their dtype."""
        return (latents - self.shift.to(latents.dtype)) * self.scale.to(latents.dtype)

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias on this step's input, from those on its output."""
        weight = weight * self.scale
        return weight, bias - weight @ self.shift

    def bound(self, latents: Tensor) -> Tensor:
        """Sum of the absolute terms of each output."""
        return (latents.abs() + self.shift.abs()) * self.scale.abs()


class Projection(AffineStep):
    """``(latents - shift) @ matrix``, shift (D,), matrix (D, D')."""

    shift: Tensor
    matrix: Tensor

    def __init__(self, shift: Tensor, matrix: Tensor) -> None:
        super().__init__()
        self.n_features_in, self.n_features_out = matrix.shape
        self.register_buffer("shift", shift)
        self.register_buffer("matrix", matrix)

    def forward(self, latents: Tensor) -> Tensor:
        """(N, n_features_in) latents to (N, n_features_out), in their dtype."""
        return (latents - self.shift.to(latents.dtype)) @ self.matrix.to(latents.dtype)

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias on this step's input, from those on its output."""
        weight = weight @ self.matrix.T
        return weight, bias - weight @ self.shift

    def bound(self, latents: Tensor) -> Tensor:
        """Sum of the absolute terms of each output."""
        return (latents.abs() + self.shift.abs()) @ self.matrix.abs()


class Selection(AffineStep):
    """The latents at `index` (D',), out of `n_features_in`."""

    index: Tensor

    def __init__(self, index: Tensor, n_features_in: int) -> None:
        super().__init__()
        self.n_features_in, self.n_features_out = n_features_in, len(index)
        self.register_buffer("index", index)

    def forward(self, latents: Tensor) -> Tensor:
        """(N, n_features_in) latents to (N, n_features_out), in their dtype."""
        return latents.index_select(1, self.index)

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias on this step's input, from those on its output."""
        folded = weight.new_zeros(len(weight), self.n_features_in)
        return folded.index_copy(1, self.index, weight), bias

    def bound(self, latents: Tensor) -> Tensor:
        """Sum of the absolute terms of each output."""
        return self.forward(latents.abs())
