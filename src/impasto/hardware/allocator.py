"""The C library's allocator: keep freed memory, or return it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# What malloc.h of glibc calls TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD and MMAP_MAX.
_OPTIONS = (-1, -2, -3, -4)
_Options = tuple[int, int, int, int]
# Never trimmed: the largest threshold is 2 GiB, which a picture frees at once.
_KEPT = (-1, 64 * 2**20, 128 * 2**10, 0)
_RETURNED = (128 * 2**10, 128 * 2**10, 128 * 2**10, 65_536)

# As far as the library raises its thresholds by itself as blocks are freed, until it is told any:
# from then on it raises none, and left at 128 KiB every array of a program that has painted once
# would be mapped anew, 3 to 5 times as slow.
_USUAL = (64 * 2**20, 128 * 2**10, 32 * 2**20, 65_536)
_allocation = [_USUAL]  # that of every context entered and not left yet, the innermost last


@contextmanager
def reused_memory(reuse: bool = True) -> Iterator[None]:
    """Within it, freed memory is kept for the next step rather than handed back to the system;
    after it, handed back.

    With glibc every large tensor may otherwise be mapped, filled with zeros and unmapped anew,
    which costs up to half of a step. Not to ``reuse`` it is just that: no gaps are left where a
    limit has to be kept. Where the C library is another one, nothing happens.
    """
    _allocation.append(_KEPT if reuse else _RETURNED)
    _tell_allocator(_allocation[-1])
    try:
        yield
    finally:
        _allocation.pop()
        _tell_allocator(_allocation[-1])
        if _allocation[-1] != _KEPT:
            give_back_memory()


def _tell_allocator(values: _Options) -> None:
    libc = _glibc()
    if libc is not None:
        for option, value in zip(_OPTIONS, values, strict=True):
            libc.mallopt(option, value)


def give_back_memory() -> None:
    """Hand back what was freed and is kept: what one part of the work leaves is not cut to the
    measure of the next.
    """
    torch.cuda.empty_cache()  # nothing where no such device is in use
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6") if sys.platform == "linux" else None
        return libc if libc is not None and libc.mallopt and libc.malloc_trim else None
    except (OSError, AttributeError):
        return None
