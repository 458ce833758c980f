"""Use a number of processor threads for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` processor threads in the calling thread; 0 changes nothing.

    torch has a number for each thread, and a default with which new threads start. Only the
    calling thread's number changes, so other threads may compute meanwhile with their own.
    """
    before = torch.get_num_threads()
    if count in (0, before):
        yield
        return
    _set_number(count, default=before)
    try:
        yield
    finally:
        _set_number(before, default=before)


def _set_number(count: int, default: int) -> None:
    """Set the calling thread's number of threads, and the default of new threads."""
    torch.set_num_threads(count)  # it sets the default too
    if default != count:
        other = threading.Thread(target=torch.set_num_threads, args=(default,))
        other.start()
        other.join()
