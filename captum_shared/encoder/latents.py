"""`LatentEncoder`: a network cut at a layer, pooled to one vector of latents per image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from captum_shared.checks import check_choice, check_images, check_integer, check_network, describe, network_refusals
from captum_shared.encoder.reading import Reader, find_layer, unknown_layer

Pool = str | int | Callable[[Any], Tensor]

POOLS = ("avg", "max", "flatten", "cls")
LAYOUTS = ("auto", "channels_first", "channels_last", "tokens", "vector")
_MOST_EXTRA_TOKENS = 16


class LatentEncoder(nn.Module):
    """Latents z(x) of images: the output of one layer of a network, pooled.

    The user's network runs, as it is at the time, and stops at the layer: what comes after it is not run, except in the
    first pass, which runs to the end (or until the network fails), without gradients after the layer, to check that
    the layer is called only once; so does the next pass after the layer is replaced or the network changes its mode. If
    other images, or a network changed in other ways, call the layer more often, this goes unnoticed, and the first call
    counts. A `forward` that sets something before the layer and resets it afterwards should do so in `finally`.

    Parameters
    ----------
    model : nn.Module
        Any network that takes a batch of images; it is not copied. A compiled network is run uncompiled.
    layer : str
        A name from ``model.named_modules()``. Its output may be a convolutional map, channels first or last,
        (N, K, h, w) or (N, h, w, K), tokens (N, T, K), or vectors (N, K).
    pool : {"avg", "max", "flatten", "cls"}, int or callable, default "avg"
        How a map becomes a vector. "avg", "max": over positions, (N, K). "flatten": all values, (N, K h w).
        "cls": the first token. An integer g: average over a g x g grid, flattened, (N, K g g). A callable takes
        the layer's output and returns (N, D). Tokens that belong to no position (the class token, registers) are
        used by "cls" only. Vectors need no pooling. The paper leaves the pooling open.
    transform : nn.Module or callable, optional
        Applied to the pooled latents, (N, D) -> (N, D'), such as `latent_transform` of a fitted StandardScaler.
        Elementwise products depend on the basis and the scale of the latents.
    layout : {"auto", "channels_first", "channels_last", "tokens", "vector"}, default "auto"
        What the layer's output is. "auto" infers it from the shapes of the output and of the image.

    Raises
    ------
    TypeError, ValueError
        If the layer is unknown, or `pool`, `layout` or `transform` is not one of the above; in the first pass, if the
        layer is not called, or more than once.

    Examples
    --------
    >>> import torch, torchvision
    >>> encoder = LatentEncoder(torchvision.models.squeezenet1_0().eval(), layer="features.12", pool="avg")
    >>> encoder(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 512])
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        pool: Pool = "avg",
        transform: Callable[[Tensor], Tensor] | None = None,
        layout: str = "auto",
    ) -> None:
        super().__init__()
        self.model, self.layer = _uncompiled(check_network(model), layer)
        if find_layer(self.model, self.layer) is self.model:
            raise unknown_layer(self.model, self.layer)
        self.pool = _check_pool(pool)
        self.layout = check_choice("layout", layout, LAYOUTS)
        if transform is not None and not callable(transform):
            raise TypeError(f"`transform` must be a module or callable on latents, got {type(transform).__name__}")
        self.transform = transform
        self.training = model.training
        self._reader = Reader()

    def forward(self, x: Tensor) -> Tensor:
        """Latents z(x), (N, D), of images `x`, (N, C, H, W)."""
        return self.latents(self.layer_output(x), x.shape[-2:])

    def feature_map(self, x: Tensor) -> Tensor:
        """The layer's output as a map, before pooling.

        Parameters
        ----------
        x : Tensor (N, C, H, W)
            Images.

        Returns
        -------
        Tensor (N, K, h, w)
            Channels first; tokens as a grid, without the class token.

        Raises
        ------
        ValueError
            If the layer gives vectors, which have no positions.
        """
        return self.as_map(self.layer_output(x), x.shape[-2:])

    def layer_output(self, x: Tensor) -> object:
        """The layer's output for images `x`, (N, C, H, W)."""
        with network_refusals(check_images(x), self.model, f"layer {self.layer!r}"):
            return self._reader.read(self.model, [self.layer], x, lambda layer, output: output)[self.layer]

    def latents(self, output: object, image_size: torch.Size) -> Tensor:
        """Pooled and transformed latents, (N, D), of the layer's output for images of `image_size` (H, W)."""
        z = self.pool(output) if callable(self.pool) else self._pooled(output, image_size)
        if not isinstance(z, Tensor) or z.ndim != 2:
            raise ValueError(f"pooled latents must be a tensor (N, D), got {describe(z)} from pool={self.pool!r}")
        return z if self.transform is None else self.transform(z)

    def as_map(self, output: object, image_size: torch.Size) -> Tensor:
        """The layer's output for images of `image_size` (H, W) as a map, (N, K, h, w)."""
        return as_map(self._checked(output), image_size, self.layout)

    def _pooled(self, given: object, image_size: torch.Size) -> Tensor:
        output = self._checked(given)
        layout = find_layout(output, image_size, self.layout)
        if self.pool == "cls":
            return _class_token(output, layout, image_size)
        if layout == "vector":
            if isinstance(self.pool, int):
                raise ValueError(f"pool={self.pool} needs a layer with positions, got vectors {tuple(output.shape)}")
            return output
        return pool_map(as_map(output, image_size, layout), self.pool)

    def _checked(self, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"layer {self.layer!r} returned {describe(output)}; expected a tensor. Choose a layer inside it, or "
                "(in Python) give a callable pool, which receives this output and returns (N, D)"
            )
        return output

    def extra_repr(self) -> str:
        """Layer, pooling and layout."""
        return f"layer={self.layer!r}, pool={self.pool!r}, layout={self.layout!r}"


def find_layout(output: Tensor, image_size: torch.Size, layout: str = "auto") -> str:
    """Which of `LAYOUTS` a layer's output has, (N, K, h, w), (N, h, w, K), (N, T, K) or (N, K), for images (H, W).

    With four dimensions, channels are first or last, whichever makes the two spatial sides scale more evenly.
    """
    if layout != "auto":
        return layout
    if output.ndim not in (2, 3, 4):
        raise ValueError(f"expected a layer output of 2, 3 or 4 dimensions, got shape {tuple(output.shape)}")
    if output.ndim < 4:
        return "vector" if output.ndim == 2 else "tokens"
    first, last = (_unevenness(sides, image_size) for sides in (output.shape[2:], output.shape[1:3]))
    return "channels_first" if first <= last else "channels_last"


def as_map(output: Tensor, image_size: torch.Size, layout: str = "auto") -> Tensor:
    """The output of a layer for images of `image_size` (H, W) as a map, (N, K, h, w), if it has positions."""
    layout = find_layout(output, image_size, layout)
    if layout == "vector":
        raise ValueError(
            f"the layer gives vectors {tuple(output.shape)}; expected a layer with positions: a convolutional map or "
            "tokens"
        )
    if layout == "tokens":  # the last h w of them are a grid, channels last
        extra, h, w = token_grid(output.shape[1], image_size)
        output = output[:, extra:].unflatten(1, (h, w))
    return output if layout == "channels_first" else output.permute(0, 3, 1, 2)


def token_grid(n_tokens: int, image_size: torch.Size) -> tuple[int, int, int]:
    """Number of tokens before the grid, and the grid's height and width.

    It has the fewest extra tokens for which the rest fill a grid with the aspect ratio of the image.
    """
    height, width = image_size
    for extra in range(min(_MOST_EXTRA_TOKENS + 1, n_tokens)):
        n = n_tokens - extra
        h = math.isqrt(n * height // width)
        if h and n % h == 0 and h * width == (n // h) * height:
            return extra, h, n // h
    raise ValueError(
        f"{n_tokens} tokens fit no grid with the aspect ratio of a {height} x {width} image (up to "
        f"{_MOST_EXTRA_TOKENS} extra tokens tried); expected one token per patch. Resize the images, or (in Python) "
        "give a callable pool"
    )


def _unevenness(sides: torch.Size, image_size: torch.Size) -> float:
    return abs(math.log((sides[0] / image_size[0]) / (sides[1] / image_size[1])))


def pool_map(feature_map: Tensor, pool: Pool) -> Tensor:
    """A map (N, K, h, w) as latents (N, D), by a pool that is not a callable."""
    if pool == "avg":
        return feature_map.mean(dim=(2, 3))
    if pool == "max":
        return feature_map.amax(dim=(2, 3))
    if pool == "flatten":
        return feature_map.flatten(1)
    return adaptive_avg_pool2d(feature_map, int(pool)).flatten(1)  # type: ignore[arg-type]


def _class_token(output: Tensor, layout: str, image_size: torch.Size) -> Tensor:
    if layout != "tokens" or token_grid(output.shape[1], image_size)[0] == 0:
        raise ValueError(f"pool='cls' needs a layer with a class token, got {layout} of shape {tuple(output.shape)}")
    return output[:, 0]


def _uncompiled(model: nn.Module, layer: str) -> tuple[nn.Module, str]:
    """The network inside `torch.compile`, whose hooks compiled code may leave out."""
    inside = getattr(model, "_orig_mod", None)
    return (model, layer) if inside is None else (inside, layer.removeprefix("_orig_mod."))


def _check_pool(pool: Pool) -> Pool:
    if callable(pool) or (isinstance(pool, str) and pool in POOLS):
        return pool
    return check_integer("pool", pool, also=f"one of {POOLS} or a callable")
