"""The fastest convolution methods of this machine, timed once and cached."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from impasto.assets import catalogue
from impasto.hardware.allocator import reused_memory
from impasto.hardware.contention import cores_are_busy
from impasto.hardware.devices import processor_name
from impasto.hardware.threads import use_threads
from impasto.networks.autotune import FastestKernels, time_kernels
from impasto.networks.convolution import KERNELS, Kernel
from impasto.storage.files import atomic_file
from impasto.storage.locks import locked

KERNEL_FILE = "kernel.json"  # in the cache
_LOCK_SECONDS = 60.0  # to wait for another program's timing
# What this process measured and could not write into the cache.
_unsaved: dict[tuple[Path, str], FastestKernels] = {}


def fastest_kernel(precision: str, device: torch.device) -> Kernel:
    """The fastest kernel for "float32", "bfloat16" or "auto".

    "auto" is bfloat16 where that is much faster: on GPUs with matrix units for it, and on
    processors by timing.
    """
    if device.type != "cpu" and precision != "float32":
        if precision == "bfloat16" or (
            device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        ):
            return KERNELS["bfloat16"]
        precision = "float32"
    kernels = fastest_kernels(device)
    by_precision = {"float32": kernels.float32, "bfloat16": kernels.bfloat16}
    return by_precision.get(precision, kernels.auto)


def fastest_kernels(device: torch.device) -> FastestKernels:
    """The fastest convolution method for every shape on this machine.

    Another timing might give another result, and other methods round differently. So each machine
    is timed once and the result is cached: the same recipe then gives the same bytes. If several
    programs start at once, one of them does the timing and the others wait.
    """
    file, key = catalogue.cache_dir() / KERNEL_FILE, machine_key(device)
    if (file, key) in _unsaved:
        return _unsaved[file, key]
    measured = _read_cache(file).get(key)
    if measured is not None:
        return measured
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.with_name(".kernel.lock"), timeout=_LOCK_SECONDS):
            cached = _read_cache(file)
            if key not in cached:
                cached[key] = measured = _time_kernels(device)
                _write_cache(file, cached)
            return cached[key]
    # A cache that cannot be written costs a few seconds at the next start, nothing else.
    except OSError:
        measured = _unsaved[file, key] = measured or _time_kernels(device)
        return measured


def _time_kernels(device: torch.device) -> FastestKernels:
    """Time the kernels with the memory settings of painting.

    If other programs use the cores, one thread is timed. Several would wait for each other, many
    times as long as any method takes.
    """
    busy = device.type == "cpu" and cores_are_busy()
    with reused_memory(), use_threads(1 if busy else 0):
        return time_kernels(device)


def machine_key(device: torch.device) -> str:
    """Everything that decides which method is the fastest: torch, processor, threads,
    instructions.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "all")
    instructions = f"{torch.backends.cpu.get_cpu_capability()} of {limit}"
    name, threads = processor_name(device), torch.get_num_threads()
    return f"torch {torch.__version__}, {name}, {threads} threads, {instructions}"


def _read_cache(file: Path) -> dict[str, FastestKernels]:
    """The cached timings by machine key; what cannot be read is left out."""
    cached: dict[str, FastestKernels] = {}
    try:
        rows = json.loads(file.read_text()).items()
    except (OSError, ValueError, AttributeError):
        return cached
    for key, row in rows:
        try:
            cached[key] = FastestKernels.from_dict(row)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return cached


def _write_cache(file: Path, timings: Mapping[str, FastestKernels]) -> None:
    rows = {key: kernels.to_dict() for key, kernels in timings.items()}
    with atomic_file(file) as new:
        new.write(json.dumps(rows, indent=1).encode())
