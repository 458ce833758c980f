"""Check the installation: Python, torch, device, memory, cache and optional packages."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass

from impasto.assets import catalogue
from impasto.recipe.values import bytes_text

_LEAST_MEMORY = 2e9  # bytes; below it, painting at the default size may swap
EXTRAS = {"heif": ("pillow_heif", "reading HEIC photos"), "video": ("av", "films as MP4")}


@dataclass(frozen=True)
class Finding:
    """The result of one check; ``remedy`` is what to do about it if it is not ``good``."""

    subject: str
    text: str
    good: bool = True
    remedy: str = ""


def examine() -> list[Finding]:
    """Run all checks. Only the cached timing of convolutions is written."""
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
    return [Finding("torch", torch.__version__), *_device(), *_kernels(), _cores()]


def _device() -> list[Finding]:
    import torch

    from impasto.hardware import devices

    device, reason = devices.choose_device("auto")
    findings = [Finding("device", f"{devices.describe(device)}: {reason}")]
    if device.type == "cpu" and shutil.which("nvidia-smi") and torch.version.cuda is None:
        remedy = (
            "pip install --force-reinstall 'torch>=2.8,<2.14' from the index of CUDA builds "
            "(pytorch.org)"
        )
        text = "an NVIDIA driver is here, but this torch is a CPU build"
        findings.append(Finding("gpu", text, False, remedy))
    return findings


def _kernels() -> list[Finding]:
    """The convolution methods, timed now if they are not cached."""
    from impasto.hardware import devices, kernel_cache

    device, _ = devices.choose_device("auto")
    kernels = kernel_cache.fastest_kernels(device)
    chosen = kernel_cache.fastest_kernel("auto", device)
    times = sorted(kernels.milliseconds.items(), key=lambda pair: pair[1])
    listed = ", ".join(f"{name} {time:.0f} ms" for name, time in times)
    file = catalogue.cache_dir() / kernel_cache.KERNEL_FILE
    text = f"{chosen.name} (convolutions of one evaluation at 512x512: {listed}; cached in {file})"
    findings = [
        Finding("kernel", text),
        Finding("float32", kernels.float32.summary()),
    ]
    if chosen != kernels.float32:
        findings.append(Finding(chosen.name, chosen.summary()))
    return findings


def _cores() -> Finding:
    import torch

    return Finding("cores", f"{os.cpu_count()} ({torch.get_num_threads()} threads used by torch)")


def _memory() -> Finding:
    import torch

    from impasto.hardware import system_memory

    free, total = system_memory.free_memory(torch.device("cpu")), system_memory.total_memory()
    good = free > _LEAST_MEMORY
    remedy = "" if good else "Close other programs, or use --size 256."
    return Finding("memory", f"{bytes_text(free)} free of {bytes_text(total)}", good, remedy)


def _cache() -> list[Finding]:
    folder = catalogue.cache_dir()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    findings = [Finding("cache", f"{folder} ({bytes_text(free)} free on its disk)")]
    for name in catalogue.ASSETS:
        fetched = catalogue.is_fetched(name)
        text, remedy = ("fetched", "") if fetched else ("not fetched yet", "impasto fetch")
        findings.append(Finding(name, text, fetched, remedy))
    return findings


def _extras() -> list[Finding]:
    findings = []
    for extra, (module, purpose) in EXTRAS.items():
        installed = importlib.util.find_spec(module) is not None
        text = f"{purpose}: {'installed' if installed else 'not installed'}"
        remedy = "" if installed else f"pip install 'impasto[{extra}]'"
        findings.append(Finding(extra, text, installed, remedy))
    return findings
