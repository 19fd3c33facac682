"""How the numbers of a network lie in memory."""

from __future__ import annotations

import torch
from torch import nn


def channels_last(network: nn.Module) -> nn.Module:
    """The same network, with the kernels of its two-dimensional convolutions laid out channels last.

    The kernels decide: the convolutions' outputs, and so the maps behind them, follow. Others stay, for which
    `Module.to` has an error: networks of videos, say.
    """
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network
