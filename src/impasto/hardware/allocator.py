"""Settings of the C library's allocator: keep freed memory for reuse, or return it."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# glibc's M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD and M_MMAP_MAX (malloc.h).
_OPTIONS = (-1, -2, -3, -4)
_Settings = tuple[int, int, int, int]
# Never trimmed: the largest possible threshold is 2 GiB, which a large picture frees at once.
_REUSE = (-1, 64 * 2**20, 128 * 2**10, 0)
_RETURN = (128 * 2**10, 128 * 2**10, 128 * 2**10, 65_536)

# The values up to which glibc raises its thresholds by itself. It stops raising them once they have
# been set. At its initial 128 KiB every large array of a program that has painted once would be
# mapped anew, which is 3 to 5 times as slow.
_DEFAULT = (64 * 2**20, 128 * 2**10, 32 * 2**20, 65_536)

_lock = threading.Lock()
# Open contexts in the order in which they were entered: the thread, and its settings.
_open: dict[object, tuple[int, _Settings]] = {}


@contextmanager
def reused_memory(reuse: bool = True) -> Iterator[None]:
    """Keep freed memory for the next evaluation inside the context, and return it at the end.

    Without it glibc may map, zero and unmap every large tensor anew, which costs up to half of an
    evaluation. With ``reuse`` False it does just that: no gaps remain where a memory limit has to
    be kept. With other C libraries nothing changes.

    The settings belong to the process. In one thread the newest open context decides. If several
    threads are inside, freed memory is kept only if all of them want that: a memory limit matters
    more than speed. Contexts may close in any order, and after the last one the defaults apply.
    The settings change time and memory, never a result.
    """
    context = object()
    with _lock:
        _open[context] = threading.get_ident(), _REUSE if reuse else _RETURN
        _apply(_required())
    try:
        yield
    finally:
        with _lock:
            del _open[context]
            settings = _required()
            _apply(settings)
        if settings != _REUSE:
            give_back_memory()


def _required() -> _Settings:
    """The settings that suit every thread with an open context."""
    newest = dict(_open.values()).values()  # of each thread
    if not newest:
        return _DEFAULT
    return _RETURN if _RETURN in newest else _REUSE


def _apply(settings: _Settings) -> None:
    libc = _glibc()
    if libc is not None:
        for option, value in zip(_OPTIONS, settings, strict=True):
            libc.mallopt(option, value)


def give_back_memory() -> None:
    """Return freed memory to the system.

    The blocks that one stage leaves do not fit the tensors of the next.
    """
    torch.cuda.empty_cache()  # does nothing without CUDA
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6") if sys.platform == "linux" else None
        return libc if libc is not None and libc.mallopt and libc.malloc_trim else None
    except (OSError, AttributeError):
        return None
