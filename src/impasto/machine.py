"""This machine: its devices, its fastest kernel, what memory is free, and how its allocator behaves.

It looks and measures, and remembers one choice in the cache. It refuses to know what the machine is to be used for.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from impasto import assets
from impasto.errors import UnknownName
from impasto.networks.convolution import KERNELS, Kernel
from impasto.networks.timing import Choice, choose

KERNEL_FILE = "kernel.json"  # in the cache
_PATIENCE = 60.0  # seconds to wait for another program's timing
_not_kept: dict[tuple[Path, str], Choice] = {}  # what this process found and could not write down


def device(choice: str) -> tuple[torch.device, str]:
    """The device for "auto", "cpu", "cuda" or "mps", and a few words why it is that one.

    Raises:
        UnknownName: a device that torch does not see here.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if choice == "auto":
        chosen = next(name for name in ("cuda", "mps", "cpu") if there[name])
        return torch.device(chosen), f"the first of cuda, mps, cpu that torch {torch.__version__} can use here"
    if not there[choice]:
        raise UnknownName(f"There is no device {choice!r} that torch can use here.", _why_not(choice))
    return torch.device(choice), "asked for"


def _why_not(choice: str) -> str:
    if choice == "cuda" and torch.version.cuda is None:
        return "This torch is built without CUDA: use --device cpu, or install a CUDA build of torch."
    return "Use --device auto, which takes what is there."


def kernel(precision: str, where: torch.device) -> Kernel:
    """How to convolve with "float32", "bfloat16", or with "auto" the latter where it is much faster.

    Graphics processors have matrix units for bfloat16 or have not; among processors it is timed.
    """
    if where.type != "cpu" and precision != "float32":
        if precision == "bfloat16" or (where.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)):
            return KERNELS["bfloat16"]
        precision = "float32"
    found = choice(where)
    return {"float32": found.float32, "bfloat16": found.bfloat16}.get(precision, found.auto)


def choice(where: torch.device) -> Choice:
    """The fastest way to convolve every shape on this machine.

    It is a timing, which may come out differently another time, and other methods round differently; so it is made once for
    every machine and kept in the cache, and the same recipe gives the same bytes. Of programs that start at once one does
    it and the others wait.
    """
    file, key = assets.cache_dir() / KERNEL_FILE, mark(where)
    if (file, key) in _not_kept:
        return _not_kept[file, key]
    found = _kept(file).get(key)
    if found is not None:
        return found
    try:
        from filelock import FileLock

        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(".kernel.lock"), timeout=_PATIENCE):
            kept = _kept(file)
            if key not in kept:
                kept[key] = found = _choose(where)
                _keep(file, kept)
            return kept[key]
    except OSError:  # a cache that cannot be written costs a few seconds at the next start, nothing else
        found = _not_kept[file, key] = found or _choose(where)
        return found


def _choose(where: torch.device) -> Choice:
    with reused_memory():  # as it is while a picture is painted
        return choose(where)


def mark(where: torch.device) -> str:
    """All of this machine that decides how fast what is: torch, processor, threads and instructions."""
    held = os.environ.get("ONEDNN_MAX_CPU_ISA", "all")
    instructions = f"{torch.backends.cpu.get_cpu_capability()} of {held}"
    return f"torch {torch.__version__}, {_processor(where)}, {torch.get_num_threads()} threads, {instructions}"


def _kept(file: Path) -> dict[str, Choice]:
    """The choices in the cache by mark; what cannot be read is as good as not there."""
    found: dict[str, Choice] = {}
    try:
        rows = json.loads(file.read_text()).items()
    except (OSError, ValueError, AttributeError):
        return found
    for mark, row in rows:
        try:
            found[mark] = Choice.of(row)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _keep(file: Path, choices: Mapping[str, Choice]) -> None:
    rows = {mark: found.plain for mark, found in choices.items()}
    part = file.with_suffix(f".{os.getpid()}")
    try:
        part.write_text(json.dumps(rows, indent=1))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _processor(where: torch.device) -> str:
    """The name of the processor that computes."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def describe(where: torch.device) -> str:
    """The device for people: "cpu (2 threads, Intel ...)"."""
    name = _processor(where)
    return f"cpu, {torch.get_num_threads()} threads ({name})" if where.type == "cpu" else f"{where.type} ({name})"


def free_memory(where: torch.device) -> int:
    """Bytes that can still be had on a device, a container's limit included."""
    if where.type == "cuda":
        return int(torch.cuda.mem_get_info(where)[0])
    found = [_available_here()]
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            room = int(Path(folder, limit).read_text()) - int(Path(folder, used).read_text())
            found.append(room + _reclaimable(Path(folder, "memory.stat")))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return max(0, min(found))


def _reclaimable(stat: Path) -> int:
    """Bytes of files in a container's cache that count as used and are given up when they are needed."""
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
        return max(int(line[1]) for line in lines if line[0] in ("inactive_file", "total_inactive_file"))
    except (OSError, ValueError, IndexError):
        return 0


def _available_here() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 2**63 - 1


def free_disk(folder: Path) -> int:
    """Bytes free where ``folder`` is or would be made; 0 where that cannot be said, and where nothing can be written."""
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        writable = nearest.is_dir() and os.access(nearest, os.W_OK)
        return shutil.disk_usage(nearest).free if writable else 0
    except (OSError, StopIteration):
        return 0


def peak_memory(where: torch.device) -> int:
    """The most bytes this process has held so far, on the device that computes; 0 where the system does not say."""
    if where.type == "cuda":
        return int(torch.cuda.max_memory_allocated(where))
    try:
        # Not what getrusage says, which a program that was started by a large one inherits.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass  # not Linux
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# What malloc.h of glibc calls TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD and MMAP_MAX.
_OPTIONS = (-1, -2, -3, -4)
_Options = tuple[int, int, int, int]
_KEPT = (-1, 64 * 2**20, 128 * 2**10, 0)  # never trimmed: the largest threshold is 2 GiB, which a picture frees at once
_RETURNED = (128 * 2**10, 128 * 2**10, 128 * 2**10, 65_536)
# As far as the library raises its thresholds by itself as blocks are freed, until it is told any: from then on it raises
# none, and left at 128 KiB every array of a program that has painted once would be mapped anew, 3 to 5 times as slow.
_USUAL = (64 * 2**20, 128 * 2**10, 32 * 2**20, 65_536)
_allocation = [_USUAL]  # that of every context entered and not left yet, the innermost last


@contextmanager
def reused_memory(reuse: bool = True) -> Iterator[None]:
    """Within it, freed memory is kept for the next step rather than handed back to the system; after it, handed back.

    With glibc every large tensor may otherwise be mapped, filled with zeros and unmapped anew, which costs up to half of a
    step. Not to ``reuse`` it is just that: no gaps are left where a limit has to be kept. Where the C library is another
    one, nothing happens.
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
    """Hand back what was freed and is kept: what one part of the work leaves is not cut to the measure of the next."""
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
