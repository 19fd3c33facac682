"""Turns of threads at a network."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import nn

from captum_shared.turns import turn

NET = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU()))


def waits(model: nn.Module, alone: bool = False) -> bool:
    """Whether another thread has to wait for a turn; it gets one afterwards."""
    started = threading.Event()

    def take() -> None:
        with turn(model, alone):
            started.set()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return not started.wait(0.05)


@pytest.mark.parametrize("other", [NET, NET[1], nn.Sequential(NET), nn.Sequential(nn.Tanh(), NET[0])])
def test_who_is_alone_has_all_modules_to_itself(other: nn.Module) -> None:
    with turn(NET):
        assert not waits(other)
        assert waits(other, alone=True)
    with turn(NET, alone=True):
        assert waits(other)
        assert waits(other, alone=True)
    assert not waits(other, alone=True)


def test_networks_without_a_common_module_do_not_wait() -> None:
    with turn(NET, alone=True):
        assert not waits(nn.Sequential(nn.ReLU()), alone=True)


def test_a_thread_may_take_turns_inside_its_own() -> None:
    with turn(NET), turn(NET[1]), turn(NET, alone=True), turn(NET, alone=True), turn(NET):
        pass
    with turn(NET):
        assert waits(NET, alone=True)  # and goes on waiting, while this thread does not wait for it
        with turn(NET):
            pass


def test_first_come_first_served() -> None:
    order: list[str] = []

    def take(name: str, alone: bool) -> None:
        with turn(NET, alone):
            order.append(name)

    with ThreadPoolExecutor(2) as pool, turn(NET):
        pool.submit(take, "alone", True)
        time.sleep(0.05)
        pool.submit(take, "late reader", False)
        time.sleep(0.05)
        assert order == []
    assert order == ["alone", "late reader"]


def test_a_turn_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), turn(NET, alone=True):
        raise KeyError
    assert not waits(NET, alone=True)


def test_many_threads_keep_the_rule() -> None:
    inside = {True: 0, False: 0}
    broken: list[str] = []
    lock = threading.Lock()

    def take(i: int) -> None:
        alone = i % 3 == 0
        with turn(NET, alone):
            with lock:
                inside[alone] += 1
                if inside[True] > 1 or (inside[True] and inside[False]):
                    broken.append(f"{inside}")
            time.sleep(0.0005)
            with lock:
                inside[alone] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, range(120)))
    assert broken == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_it_lacks() -> None:
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with turn(NET, alone=True):
            ready.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(10)
    child = os.fork()
    if child == 0:
        with turn(NET, alone=True):
            os._exit(7)
    try:
        assert _exit_status(child) == 7
    finally:
        done.set()
        thread.join()


def _exit_status(child: int, seconds: float = 10, sleep: Callable[[float], None] = time.sleep) -> int | None:
    for _ in range(int(seconds / 0.02)):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None
