"""Eigenvalues and eigenvectors of symmetric matrices, computed by one thread."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues in rising order, and eigenvectors, of a symmetric matrix (n, n).

    On the CPU one thread computes them. Matrices this small gain nothing from more. If another
    program occupies a core, each of the many parallel regions of the algorithm waits for it:
    512 x 512 took 7 s instead of 0.05 s. The number of threads also changes the rounding.
    """
    if matrix.device.type != "cpu" or torch.get_num_threads() == 1:
        values, vectors = torch.linalg.eigh(matrix)
    else:
        with _one_thread():
            values, vectors = torch.linalg.eigh(matrix)
    return values, vectors


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch and LAPACK use one thread inside the context, in the calling thread only.

    ``torch.set_num_threads`` would not do: it also sets the number for every thread that computes
    for the first time meanwhile.
    """
    setters = _thread_setters()
    before = [set_threads(1) for set_threads in setters]
    try:
        yield
    finally:
        for set_threads, number in zip(setters, before, strict=True):
            set_threads(number)


@cache
def _thread_setters() -> tuple[Callable[[int], int], ...]:
    """Functions that set a number of threads for the calling thread and return the one before.

    They are those of OpenMP, which torch uses, and of MKL, as far as torch's library has them.
    """
    library = _torch_library()
    mkl = getattr(library, "MKL_Set_Num_Threads_Local", None)
    openmp = getattr(library, "omp_set_num_threads", None)
    setters = [] if openmp is None else [_returning_number_before(openmp)]
    return tuple(setters if mkl is None else [*setters, mkl])


def _returning_number_before(openmp: Callable[[int], object]) -> Callable[[int], int]:
    def set_threads(number: int) -> int:
        before = torch.get_num_threads()
        openmp(number)
        return before

    return set_threads


def _torch_library() -> ctypes.CDLL | None:
    """The library through which torch calls LAPACK, and those that it is linked to."""
    names = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}
    file = Path(torch.__file__).parent / "lib" / names.get(sys.platform, "libtorch_cpu.so")
    try:
        return ctypes.CDLL(str(file))
    except OSError:
        return None
