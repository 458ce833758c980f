"""Free and total memory, free disk space, and the peak memory of this process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

# Of a container: its folder, and the names of the files with its limit and what it uses.
_CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current"),  # version 2
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),  # version 1
)


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on a device without swapping, within a container's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    return max(0, min([available, *(limit - used for limit, used in _container_limits())]))


def total_memory(device: torch.device) -> int:
    """Bytes of memory of a device, or a container's limit if that is lower."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    total = int(psutil.virtual_memory().total)
    return min([total, *(limit for limit, _ in _container_limits())])


def _container_limits() -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of each control group with a limit; cached files count as free."""
    for folder, limit_file, used_file in _CGROUPS:
        try:
            limit = int(Path(folder, limit_file).read_text())
            used = int(Path(folder, used_file).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        yield limit, used - _reclaimable(Path(folder, "memory.stat"))


def _reclaimable(stat: Path) -> int:
    """Bytes of cached files that a container counts as used but gives up when memory is needed."""
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
        return max(
            int(line[1]) for line in lines if line[0] in ("inactive_file", "total_inactive_file")
        )
    except (OSError, ValueError, IndexError):
        return 0


def free_disk(folder: Path) -> int:
    """Free bytes on the disk of ``folder``, which need not exist yet.

    0 if that is unknown or the folder cannot be written.
    """
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        writable = nearest.is_dir() and os.access(nearest, os.W_OK)
        return shutil.disk_usage(nearest).free if writable else 0
    except (OSError, StopIteration):
        return 0


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has used so far, on the device that computes.

    0 if the system does not say.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    for source in (_linux_peak, _windows_peak, _resource_peak):
        if peak := source():
            return peak
    return 0


def _linux_peak() -> int:
    try:
        # Not ru_maxrss: a program that a large one started inherits the large one's.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 0


def _windows_peak() -> int:
    return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))


def _resource_peak() -> int:
    """ru_maxrss, which macOS counts in bytes and other systems in KiB."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
