"""Free and total memory, free disk space, and the peak memory of this process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import torch


class _Cgroup(NamedTuple):
    """The files in which a version of Linux control groups states a container's memory."""

    folder: str
    limit: str
    used: str
    reclaimable: str  # the row of memory.stat


_CGROUPS = (
    _Cgroup("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    _Cgroup(
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device, within a container's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return max(0, min([_available_memory(), *_container_free()]))


def total_memory() -> int:
    """Return the bytes of main memory, or of the container's limit where that is lower."""
    limits = [_read_integer(Path(group.folder, group.limit)) for group in _CGROUPS]
    return min([_physical_memory(), *(limit for limit in limits if limit is not None)])


def _available_memory() -> int:
    try:
        return int(psutil.virtual_memory().available)
    except OSError:  # a container that hides /proc
        return _physical_memory()


def _physical_memory() -> int:
    try:
        return int(psutil.virtual_memory().total)
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container_free() -> Iterator[int]:
    """Yield the bytes left of each limit that a container sets."""
    for group in _CGROUPS:
        limit = _read_integer(Path(group.folder, group.limit))
        used = _read_integer(Path(group.folder, group.used))
        if limit is not None and used is not None:
            yield limit - used + _reclaimable(group)


def _read_integer(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _reclaimable(group: _Cgroup) -> int:
    """Return the bytes of cached files, which count as used but are released on demand."""
    try:
        rows = [line.split() for line in Path(group.folder, "memory.stat").read_text().splitlines()]
        return next(int(row[1]) for row in rows if row[0] == group.reclaimable)
    except (OSError, ValueError, IndexError, StopIteration):
        return 0


def free_disk(folder: Path) -> int:
    """Return the bytes free on the disk where ``folder`` is or would be made.

    0 if that is unknown or if nothing can be written there.
    """
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        writable = existing.is_dir() and os.access(existing, os.W_OK)
        return shutil.disk_usage(existing).free if writable else 0
    except (OSError, StopIteration):
        return 0


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process on a device in bytes; 0 if unknown.

    On a GPU these are torch's tensors, otherwise the resident set of the process.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    try:
        # Not from getrusage: on Linux a process inherits its parent's peak there.
        rows = Path("/proc/self/status").read_text().splitlines()
        return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("VmHWM:"))
    except (OSError, StopIteration):  # not Linux, or a container that hides /proc
        return _peak_from_getrusage()


def _peak_from_getrusage() -> int:
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, else KiB
