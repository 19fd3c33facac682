"""`TopActivations`, and the running top k behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from captum_shared.checks import check_integer, describe

PARTS = ("activations", "images", "positions")
"""The tensors (U, k) of `TopActivations` and of `RunningTop`, in this order."""


@dataclass(frozen=True)
class TopActivations:
    """The images that activate each of U units most, at one position per image.

    Attributes
    ----------
    layer : str
    activations : Tensor (U, k)
        In decreasing order.
    images : Tensor (U, k)
        Indices into the images. Among equal activations, the lower index comes first.
    positions : Tensor (U, k)
        Where in the map the activation is: row * w + column. Among equals, the lower one.
    map_size : (int, int)
        Height h and width w of the map; (1, 1) for a layer of vectors.
    image_size : (int, int)
        Height and width of the images as the network sees them.
    n_images : int
        How many images there were, unreadable ones included.
    unreadable : mapping of int to str
        Images that could not be read, and why.
    """

    layer: str
    activations: Tensor
    images: Tensor
    positions: Tensor
    map_size: tuple[int, int]
    image_size: tuple[int, int]
    n_images: int
    unreadable: Mapping[int, str] = field(default_factory=dict)

    @property
    def n_units(self) -> int:
        """Number of units, U."""
        return self.activations.shape[0]

    @property
    def k(self) -> int:
        """Number of images of each unit."""
        return self.activations.shape[1]

    def rectified(self) -> Tensor:
        """Activations (U, k) in float64, with those below zero set to zero."""
        return self.activations.double().clamp(min=0)

    def weights(self) -> Tensor:
        """The weights of images in the indices: w_j = a_j / a_1, (U, k) in float64.

        Activations below zero count as zero; units without a positive activation have only zeros.
        """
        rectified = self.rectified()
        return rectified / rectified[:, :1].clamp(min=torch.finfo(torch.float64).tiny)

    def strongest(self, n: int | None) -> TopActivations:
        """The first `n` of the k images of every unit; all of them for None."""
        if n is not None:
            check_integer("n", n, also="None")
        return replace(self, **{name: getattr(self, name)[:, :n] for name in PARTS})

    @classmethod
    def from_responses(cls, responses: ArrayLike, k: int = 100, layer: str = "responses") -> TopActivations:
        """Rank existing responses, such as those of recorded neurons.

        Parameters
        ----------
        responses : (n, U) tensor or array
            Responses to n images; rows with NaN are images without a response and are left out.
        k : int, default 100
            How many images to keep for each unit.
        layer : str
            A name for the population.
        """
        values = as_responses(responses)
        if values.isinf().any():
            raise ValueError("`responses` must be finite, or NaN where there is none, got infinity")
        known = torch.nonzero(~values.isnan().any(1))[:, 0]
        if len(known) == 0:
            raise ValueError("`responses` must have a row without NaN, got none")
        running = RunningTop(k)
        running.update(values[known], torch.zeros_like(values[known], dtype=torch.long), known)
        lost = dict.fromkeys(sorted(set(range(len(values))) - set(known.tolist())), "no response")
        return cls(layer, *running.result(), (1, 1), (1, 1), len(values), lost)


def as_responses(responses: object) -> Tensor:
    """Responses (n, U) of U units to n images, a tensor or an array, as a tensor."""
    try:
        values = torch.as_tensor(responses)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`responses` must be real numbers (n, U), got {describe(responses)}") from error
    if values.is_complex():
        raise TypeError(f"`responses` must be real numbers (n, U), got {values.dtype}")
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"`responses` must be (n, U) and not empty, got {describe(values)}")
    return values


def check_top(top: object) -> TopActivations:
    """The argument, if it is `TopActivations`."""
    if not isinstance(top, TopActivations):
        raise TypeError(f"`top` must be TopActivations, got {type(top).__name__}")
    return top


class RunningTop:
    """The k largest activations of each unit so far: 3 U k numbers, however many images there are."""

    def __init__(self, k: int) -> None:
        self.k = check_integer("k", k)
        self.state: tuple[Tensor, Tensor, Tensor] | None = None

    def update(self, activations: Tensor, positions: Tensor, images: Tensor) -> None:
        """Add activations (N, U) at positions (N, U) of images (N,), whose indices are larger than all before."""
        new = (activations.T, images[:, None].expand_as(activations).T, positions.T)
        values, indices, places = (
            new if self.state is None else tuple(torch.cat(both, 1) for both in zip(self.state, new, strict=True))
        )
        # A stable sort keeps what came first, the lower image index, in front of its equals.
        values, order = values.sort(dim=1, descending=True, stable=True)
        order = order[:, : self.k]
        self.state = (values[:, : self.k].clone(), indices.gather(1, order), places.gather(1, order))

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """Activations, image indices and positions, (U, k) each, on the CPU; fewer if there were fewer images."""
        if self.state is None:
            raise ValueError("no image could be ranked, since none was read")
        values, indices, places = (part.cpu() for part in self.state)
        return values, indices, places
