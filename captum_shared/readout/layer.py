"""What Captum's LRP asks of a linear layer that is not one of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from captum.attr._utils.lrp_rules import PropagationRule
    from typing_extensions import Self


class LinearLayer(nn.Module):
    """An affine leaf module, which LRP propagates by the epsilon rule as it does `torch.nn.Linear`.

    Captum's LRP looks for an attribute `rule` and deletes it after every call, so that a plain attribute
    would serve only once; the property hands out a fresh rule instead. A user's own rule may be set as on any
    other layer.
    """

    _rule: PropagationRule | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        except TypeError:  # a device without float64, such as Apple's MPS, whose latents are float32 at most
            super()._apply(  # type: ignore[no-untyped-call]
                lambda t: fn(t.float() if t.dtype == torch.float64 else t), recurse
            )
        return self

    def check_device(self, latents: Tensor) -> None:
        """Refuse latents that are elsewhere than the layer's own numbers."""
        own = next(self.buffers())
        if own.device != latents.device:
            raise ValueError(
                f"`latents` are on {latents.device}, the {type(self).__name__} is on {own.device}; expected one: "
                "move the readout, or the encoder that holds the transform, by its `.to(...)`"
            )

    @property
    def rule(self) -> PropagationRule:
        """The rule that LRP takes for this layer: the user's, or a fresh epsilon rule."""
        if self._rule is None:
            from captum.attr._utils.lrp_rules import EpsilonRule

            self._rule = EpsilonRule()
        return self._rule

    @rule.setter
    def rule(self, rule: PropagationRule) -> None:
        self._rule = rule

    @rule.deleter
    def rule(self) -> None:
        self._rule = None
