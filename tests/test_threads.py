"""The number of processor threads changes in the calling thread alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from impasto.hardware.threads import use_threads


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_new_thread(function: Callable[[], object]) -> object:
    """The result of a function that runs in a thread of its own."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join(10)
    return results[0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_calling_thread_uses_the_count_and_then_its_own(count: int):
    with use_threads(count):
        assert torch.get_num_threads() == count
    assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError), use_threads(count):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2


def test_nothing_changes_for_0():
    with use_threads(0):
        assert torch.get_num_threads() == 2


def test_contexts_can_be_nested():
    with use_threads(1):
        with use_threads(3):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_threads_that_start_meanwhile_have_the_usual_number():
    with use_threads(1):
        assert in_new_thread(torch.get_num_threads) == 2
    assert in_new_thread(torch.get_num_threads) == 2


def test_two_threads_use_their_own_counts_in_whatever_order_they_leave():
    entered, leaving = threading.Event(), threading.Event()
    counts: list[int] = []

    def paint() -> None:
        with use_threads(3):
            entered.set()
            leaving.wait(10)
            counts.append(torch.get_num_threads())
        counts.append(torch.get_num_threads())

    with use_threads(1):
        other = threading.Thread(target=paint)
        other.start()
        assert entered.wait(10)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    leaving.set()
    other.join(10)
    assert counts == [3, 2]
    assert torch.get_num_threads() == 2
    assert in_new_thread(torch.get_num_threads) == 2
