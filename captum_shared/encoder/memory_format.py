"""How a network's kernels lie in memory."""

from __future__ import annotations

import torch
from torch import nn


def channels_last(network: nn.Module) -> nn.Module:
    """The same network, with the kernels of its two-dimensional convolutions laid out channels last.

    The kernels determine the layout of the convolutions' outputs, and so of the maps after them. Other parameters stay
    as they are, whereas `Module.to` would raise an error, for example for video networks.
    """
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network
