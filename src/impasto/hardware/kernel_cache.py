"""The fastest convolution methods of this machine, measured once and cached."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from impasto.assets import catalogue
from impasto.hardware.allocator import reused_memory
from impasto.hardware.devices import _processor
from impasto.networks.autotune import Choice, choose
from impasto.networks.convolution import KERNELS, Kernel
from impasto.storage.files import atomic_file
from impasto.storage.locks import locked

KERNEL_FILE = "kernel.json"  # in the cache
_PATIENCE = 60.0  # seconds to wait for another program's timing
_not_kept: dict[tuple[Path, str], Choice] = {}  # what this process found and could not write down


def kernel(precision: str, where: torch.device) -> Kernel:
    """How to convolve with "float32", "bfloat16", or with "auto" the latter where it is much
    faster.

    Graphics processors have matrix units for bfloat16 or have not; among processors it is timed.
    """
    if where.type != "cpu" and precision != "float32":
        if precision == "bfloat16" or (
            where.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        ):
            return KERNELS["bfloat16"]
        precision = "float32"
    found = choice(where)
    return {"float32": found.float32, "bfloat16": found.bfloat16}.get(precision, found.auto)


def choice(where: torch.device) -> Choice:
    """The fastest way to convolve every shape on this machine.

    It is a timing, which may come out differently another time, and other methods round
    differently; so it is made once for every machine and kept in the cache, and the same recipe
    gives the same bytes. Of programs that start at once one does it and the others wait.
    """
    file, key = catalogue.cache_dir() / KERNEL_FILE, mark(where)
    if (file, key) in _not_kept:
        return _not_kept[file, key]
    found = _kept(file).get(key)
    if found is not None:
        return found
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.with_name(".kernel.lock"), timeout=_PATIENCE):
            kept = _kept(file)
            if key not in kept:
                kept[key] = found = _choose(where)
                _keep(file, kept)
            return kept[key]
    # A cache that cannot be written costs a few seconds at the next start, nothing else.
    except OSError:
        found = _not_kept[file, key] = found or _choose(where)
        return found


def _choose(where: torch.device) -> Choice:
    with reused_memory():  # as it is while a picture is painted
        return choose(where)


def mark(where: torch.device) -> str:
    """All of this machine that decides how fast what is: torch, processor, threads and
    instructions.
    """
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
    with atomic_file(file) as new:
        new.write(json.dumps(rows, indent=1).encode())
