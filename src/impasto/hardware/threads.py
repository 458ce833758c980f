"""Use a number of processor threads for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_users: list[int] = []  # the counts in use, the newest last
_original = 0


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads inside the context; 0 changes nothing.

    The number belongs to the process. If two threads are inside at once, the newest count applies.
    The last one to leave restores the number from before the first entered.
    """
    if count == 0:
        yield
        return
    global _original
    with _lock:
        if not _users:
            _original = torch.get_num_threads()
        _users.append(count)
        _set(count)
    try:
        yield
    finally:
        with _lock:
            _users.remove(count)
            _set(_users[-1] if _users else _original)


def _set(count: int) -> None:
    if count != torch.get_num_threads():
        torch.set_num_threads(count)
