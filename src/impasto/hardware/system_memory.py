"""Free memory and disk, and the peak memory of this process."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import torch


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
    """Bytes of files in a container's cache that count as used and are given up when they are
    needed.
    """
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
        return max(
            int(line[1]) for line in lines if line[0] in ("inactive_file", "total_inactive_file")
        )
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
    """Bytes free where ``folder`` is or would be made; 0 where that cannot be said, and where
    nothing can be written.
    """
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        writable = nearest.is_dir() and os.access(nearest, os.W_OK)
        return shutil.disk_usage(nearest).free if writable else 0
    except (OSError, StopIteration):
        return 0


def peak_memory(where: torch.device) -> int:
    """The most bytes this process has held so far, on the device that computes; 0 where the system
    does not say.
    """
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
