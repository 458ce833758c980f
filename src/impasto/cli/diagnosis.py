"""What is here and what is not: Python, torch, the device and why it is that one, memory, the
cache, extras.

It looks and changes nothing but the remembered timing of the kernels; what it finds is plain text
for a door to show.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass

from impasto.assets import catalogue
from impasto.recipe.values import bytes_text

EXTRAS = {"heif": ("pillow_heif", "reading HEIC photos"), "video": ("av", "films as MP4")}


@dataclass(frozen=True)
class Finding:
    """One line of the examination: ``remedy`` is the command that mends it, where something is to
    be mended.
    """

    subject: str
    text: str
    good: bool = True
    remedy: str = ""


def examine() -> list[Finding]:
    """Everything worth knowing, in the order in which it is needed."""
    return [*_python(), *_torch(), _memory(), *_cache(), *_extras()]


def _python() -> list[Finding]:
    good = (3, 10) <= sys.version_info < (3, 14)
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return [Finding("python", text, good, "" if good else "Install Python 3.10 to 3.13.")]


def _torch() -> list[Finding]:
    try:
        import torch
    except ImportError as error:
        return [
            Finding(
                "torch",
                f"cannot be imported: {error}",
                False,
                "pip install --force-reinstall 'torch>=2.8,<2.14'",
            )
        ]
    from impasto.hardware import devices, kernel_cache

    where, reason = devices.device("auto")
    found = [
        Finding("torch", torch.__version__),
        Finding("device", f"{devices.describe(where)}: {reason}"),
    ]
    if where.type == "cpu" and shutil.which("nvidia-smi") and torch.version.cuda is None:
        remedy = "pip install --force-reinstall 'torch>=2.8,<2.14' from the index of CUDA builds (pytorch.org)"
        found.append(
            Finding("gpu", "an NVIDIA driver is here, but this torch is a CPU build", False, remedy)
        )
    chosen, choice = kernel_cache.kernel("auto", where), kernel_cache.choice(where)
    times = sorted(choice.milliseconds.items(), key=lambda pair: pair[1])
    listed = ", ".join(f"{name} {time:.0f} ms" for name, time in times)
    where_kept = catalogue.cache_dir() / kernel_cache.KERNEL_FILE
    found.append(
        Finding(
            "kernel",
            f"{chosen.name} (convolutions of one evaluation at 512x512: {listed}; kept in "
            f"{where_kept})",
        )
    )
    for kernel in (choice.float32, *([chosen] if chosen != choice.float32 else [])):
        found.append(
            Finding("float32" if kernel is choice.float32 else kernel.name, kernel.summary())
        )
    found.append(
        Finding("cores", f"{os.cpu_count()} ({torch.get_num_threads()} threads used by torch)")
    )
    return found


def _memory() -> Finding:
    import torch

    from impasto.hardware import system_memory

    free, total = system_memory.free_memory(torch.device("cpu")), system_memory.total_memory()
    good = free > 2e9
    return Finding(
        "memory",
        f"{bytes_text(free)} free of {bytes_text(total)}",
        good,
        "" if good else "Close other programs, or use --size 256.",
    )


def _cache() -> list[Finding]:
    folder = catalogue.cache_dir()
    free = shutil.disk_usage(
        next(parent for parent in (folder, *folder.parents) if parent.exists())
    ).free
    found = [Finding("cache", f"{folder} ({bytes_text(free)} free on its disk)")]
    for name in catalogue.ASSETS:
        here = catalogue.is_fetched(name)
        found.append(
            Finding(
                name,
                "fetched" if here else "not fetched yet",
                here,
                "" if here else "impasto fetch",
            )
        )
    return found


def _extras() -> list[Finding]:
    return [
        Finding(
            extra,
            f"{purpose}: {'here' if here else 'not installed'}",
            here,
            "" if here else f"pip install 'impasto[{extra}]'",
        )
        for extra, (module, purpose) in EXTRAS.items()
        for here in [importlib.util.find_spec(module) is not None]
    ]
