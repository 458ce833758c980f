"""This machine: its devices, its fastest kernel, what memory is free, and how its allocator
behaves.

It looks and measures, and remembers one choice in the cache. It refuses to know what the machine is
to be used for.
"""

from __future__ import annotations

from pathlib import Path

import torch

from impasto.errors import UnknownName


def device(choice: str) -> tuple[torch.device, str]:
    """The device for "auto", "cpu", "cuda" or "mps", and a few words why it is that one.

    Raises:
        UnknownName: a device that torch does not see here.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if choice == "auto":
        chosen = next(name for name in ("cuda", "mps", "cpu") if there[name])
        return torch.device(
            chosen
        ), f"the first of cuda, mps, cpu that torch {torch.__version__} can use here"
    if not there[choice]:
        raise UnknownName(
            f"There is no device {choice!r} that torch can use here.", _why_not(choice)
        )
    return torch.device(choice), "asked for"


def _why_not(choice: str) -> str:
    if choice == "cuda" and torch.version.cuda is None:
        return (
            "This torch is built without CUDA: use --device cpu, or install a CUDA build of torch."
        )
    return "Use --device auto, which takes what is there."


def _processor(where: torch.device) -> str:
    """The name of the processor that computes."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def describe(where: torch.device) -> str:
    """The device for people: "cpu (2 threads, Intel ...)"."""
    name = _processor(where)
    return (
        f"cpu, {torch.get_num_threads()} threads ({name})"
        if where.type == "cpu"
        else f"{where.type} ({name})"
    )
