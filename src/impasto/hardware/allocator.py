"""Thresholds of glibc's malloc: keep freed memory for reuse, or return it to the system."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_Thresholds = tuple[int, int, int, int]

# M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD and M_MMAP_MAX in glibc's malloc.h.
_OPTIONS: _Thresholds = (-1, -2, -3, -4)
# Never trim: the largest trim threshold is 2 GiB, and a picture frees more than that at once.
_REUSE: _Thresholds = (-1, 64 * 2**20, 128 * 2**10, 0)
_RETURN: _Thresholds = (128 * 2**10, 128 * 2**10, 128 * 2**10, 65_536)  # glibc's defaults
# glibc raises its thresholds as blocks are freed, but no longer once a program has set one. These
# are the values that it would reach. At 128 KiB, later arrays would be 3 to 5 times as slow.
_NORMAL: _Thresholds = (64 * 2**20, 128 * 2**10, 32 * 2**20, 65_536)

_lock = threading.Lock()
# Thread -> the thresholds of the contexts that it is in, the innermost last.
_active: dict[int, list[_Thresholds]] = {}


@contextmanager
def reused_memory(reuse: bool = True) -> Iterator[None]:
    """Keep freed memory for later allocations inside the context, and return it at the end.

    Without it glibc may map, zero and unmap every large tensor, which costs up to half of the time
    of an evaluation. Not to ``reuse`` asks for that: it leaves no gaps where memory is limited.
    With another C library nothing happens.

    The thresholds belong to the process. In one thread the innermost context applies. If several
    threads are inside, memory is reused only if all of them ask for it, because a limit on memory
    matters more than speed. Threads outside use the same thresholds meanwhile. The last thread to
    leave restores the normal ones.
    """
    thread = threading.get_ident()
    with _lock:
        _active.setdefault(thread, []).append(_REUSE if reuse else _RETURN)
        _set_thresholds(_required())
    try:
        yield
    finally:
        with _lock:
            _active[thread].pop()
            if not _active[thread]:
                del _active[thread]
            thresholds = _required()
            _set_thresholds(thresholds)
        if thresholds != _REUSE:
            give_back_memory()


def _required() -> _Thresholds:
    """Return the thresholds that suit every thread that is inside a context."""
    innermost = {contexts[-1] for contexts in _active.values()}
    if not innermost:
        return _NORMAL
    return _RETURN if _RETURN in innermost else _REUSE


def _set_thresholds(thresholds: _Thresholds) -> None:
    libc = _glibc()
    if libc is not None:
        for option, value in zip(_OPTIONS, thresholds, strict=True):
            libc.mallopt(option, value)


def give_back_memory() -> None:
    """Return freed memory to the system, so that fragments of one stage do not hinder the next."""
    torch.cuda.empty_cache()  # does nothing without a CUDA device in use
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6") if sys.platform == "linux" else None
        return libc if libc is not None and libc.mallopt and libc.malloc_trim else None
    except (OSError, AttributeError):
        return None
