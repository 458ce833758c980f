"""Choose and describe the device that computes."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from impasto.errors import UnknownName


def choose_device(choice: str) -> tuple[torch.device, str]:
    """The device for "auto", "cpu", "cuda" or "mps", and the reason in a few words.

    Raises:
        UnknownName: torch cannot use this device here.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if choice == "auto":
        chosen = next(name for name in ("cuda", "mps", "cpu") if available[name])
        reason = f"the first of cuda, mps, cpu that torch {torch.__version__} can use here"
        return torch.device(chosen), reason
    if not available[choice]:
        raise UnknownName(
            f"There is no device {choice!r} that torch can use here.", _unavailable_hint(choice)
        )
    return torch.device(choice), "asked for"


def _unavailable_hint(choice: str) -> str:
    if choice == "cuda" and torch.version.cuda is None:
        return (
            "This torch is built without CUDA: use --device cpu, or install a CUDA build of torch."
        )
    return "Use --device auto, which takes what is available."


def describe(device: torch.device) -> str:
    """The device for people: "cpu, 2 threads (Intel ...)"."""
    name = processor_name(device)
    if device.type == "cpu":
        return f"cpu, {torch.get_num_threads()} threads ({name})"
    return f"{device.type} ({name})"


def processor_name(device: torch.device) -> str:
    """The name of the processor that computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
