"""Threads take turns at a network: many may run it at once, but one that registers hooks, as some engines do, alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import nn


class HasModules(Protocol):
    """A network, or what holds one."""

    def modules(self) -> Iterator[nn.Module]:
        """As `nn.Module.modules`."""


class _Claim:
    def __init__(self, model: HasModules, alone: bool) -> None:
        self.thread, self.model, self.alone, self.granted = threading.get_ident(), model, alone, False


_claims: list[_Claim] = []  # of all threads, in the order of their coming
_changed = threading.Condition()


@contextmanager
def turn(model: HasModules, alone: bool = False) -> Iterator[None]:
    """Wait until no other thread is `alone` at one of the model's modules; to be `alone`, until no other is there.

    First come, first served. A thread that has a turn may take others inside it.
    """
    claim = _Claim(model, alone)
    try:
        with _changed:
            _claims.append(claim)
            _changed.wait_for(lambda: _may_start(claim))
            claim.granted = True
        yield
    finally:
        with _changed:
            _claims.remove(claim)
            _changed.notify_all()


def _may_start(claim: _Claim) -> bool:
    """Whether it conflicts with no current turn, nor with threads that have waited longer, unless for this thread."""
    nested = any(other.granted and other.thread == claim.thread for other in _claims)
    earlier = _claims[: _claims.index(claim)]
    return not any(_conflict(claim, other) for other in _claims if other.granted or (not nested and other in earlier))


def _conflict(a: _Claim, b: _Claim) -> bool:
    return a.thread != b.thread and (a.alone or b.alone) and _overlap(a.model, b.model)


def _overlap(a: HasModules, b: HasModules) -> bool:
    return a is b or not set(a.modules()).isdisjoint(b.modules())


def _forget() -> None:
    """A process that was forked off has none of the other threads."""
    global _changed
    _claims[:] = [claim for claim in _claims if claim.thread == threading.get_ident()]
    _changed = threading.Condition()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
