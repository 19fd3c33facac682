"""The demo network: small, convolutional, trained on the package's own images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from captum_shared.files import write_bytes
from captum_shared.synthetic.layout import CATEGORIES
from captum_shared.synthetic.parts import KINDS

LABELS = (*KINDS, *CATEGORIES)
"""What the demo network's outputs stand for: presence of every kind of part, then of every category."""
CHANNELS = 3
"""Channels of the last convolution for each kind of part."""
DEMO_LAYER = "features.17"
"""The last convolutional layer, after its ReLU: 54 maps of 12 x 12 for an image of 96 x 96."""
WEIGHTS = Path(__file__).with_name("demo_network.safetensors")
"""The weights that ship with the package, as trained by ``python -m captum_shared.synthetic.train``."""


class DemoNetwork(nn.Module):
    """Six convolutions, each with batch normalization and ReLU, an average pool and a linear layer.

    A position of the last map sees 39 x 39 pixels. No module is used twice, so that every Captum method applies.

    ``forward`` takes images (n, 3, height, width) in [0, 1] and returns logits (n, len(LABELS)).

    Examples
    --------
    >>> import torch
    >>> DemoNetwork()(torch.rand(2, 3, 96, 96)).shape == (2, len(LABELS))
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(3, 16, 3, stride=2),
            *_block(16, 32, 3, stride=2),
            *_block(32, 48, 3),
            *_block(48, 64, 3, stride=2),
            *_block(64, 96, 3),
            *_block(96, CHANNELS * len(KINDS), 1),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(CHANNELS * len(KINDS), len(LABELS))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the labels, (n, len(LABELS))."""
        result: Tensor = self.classifier(self.flatten(self.pool(self.features(images))))
        return result

    def locate(self, images: Tensor) -> Tensor:
        """Logits of where each kind of part is, (n, len(KINDS), height / 8, width / 8)."""
        return place_logits(self.features(images))


def place_logits(maps: Tensor) -> Tensor:
    """Maps (n, CHANNELS * len(KINDS), h, w) to logits (n, len(KINDS), h, w): a kind is where its channels are high.

    Nothing is learned here. Trained through this, each latent stands for one kind, high where it is and zero where it
    is not, so that products of two images' latents channel by channel mean something.
    """
    result: Tensor = 4.0 * maps.unflatten(1, (len(KINDS), CHANNELS)).sum(2) - 4.0
    return result


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


def demo_network(weights: str | os.PathLike[str] | None = None) -> DemoNetwork:
    """The demo network with the shipped weights, in evaluation mode.

    Parameters
    ----------
    weights : path, optional
        Another safetensors file written by ``python -m captum_shared.synthetic.train``.

    Returns
    -------
    DemoNetwork

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file does not hold the weights of this network.

    Examples
    --------
    >>> demo_network().training
    False
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = WEIGHTS if weights is None else Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"`weights` must be a safetensors file, found none at {path}")
    network = DemoNetwork()
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"`weights` must hold a DemoNetwork's state, {path} does not: {error}") from error
    return network.eval()


def save_network(state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Write a state dict as safetensors, floating-point numbers in half precision, whole or not at all."""
    from safetensors.torch import save

    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    write_bytes(path, save(half))
