"""What Captum's LRP asks of a linear layer that is not one of its own."""

from __future__ import annotations

from typing import Any

from torch import nn


class LinearLayer(nn.Module):
    """An affine leaf module, which LRP propagates by the epsilon rule as it does `torch.nn.Linear`.

    Captum's LRP looks for an attribute `rule` and deletes it after every call, so that a plain attribute
    would serve only once; the property hands out a fresh rule instead. A user's own rule may be set as on any
    other layer.
    """

    _rule: Any = None

    @property
    def rule(self) -> Any:
        if self._rule is None:
            from captum.attr._utils.lrp_rules import EpsilonRule

            self._rule = EpsilonRule()
        return self._rule

    @rule.setter
    def rule(self, rule: Any) -> None:
        self._rule = rule

    @rule.deleter
    def rule(self) -> None:
        self._rule = None
