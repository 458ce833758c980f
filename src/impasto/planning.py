"""What it will cost: which device and kernel, how fast they are, how long a plan takes and how much memory it needs.

It knows the machine and measures it; it refuses to know pictures and what a loss is made of.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from impasto import assets
from impasto.errors import UnknownName
from impasto.geometry import Grid, Size
from impasto.networks.convolution import KERNELS, Kernel, fastest
from impasto.networks.features import Network
from impasto.recipe import Recipe
from impasto.schedule import Plan

_PROBE_SIDES = (128, 256)  # long sides at which the machine is timed


@dataclass(frozen=True)
class Cost:
    """What a plan is expected to take, ``seconds`` and ``memory_bytes`` at its peak, and the ``free_bytes`` there are."""

    seconds: float
    memory_bytes: int
    free_bytes: int


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
    """The way to convolve: bfloat16 where the processor has matrix units for it or where it is asked for, else the
    fastest of float32.

    The choice among the float32 kernels is a timing, which may come out differently another time, and other kernels
    round differently; so it is made once on a machine and kept in the cache, and the same recipe gives the same bytes.
    """
    if precision == "bfloat16" or (precision == "auto" and _has_matrix_units(where)):
        return KERNELS["bfloat16"]
    mark = {"torch": torch.__version__, "device": _processor(where), "threads": torch.get_num_threads()}
    file = assets.cache_dir() / "kernel.json"
    try:
        kept = json.loads(file.read_text())
        if kept["mark"] == mark:
            return KERNELS[kept["kernel"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not measured yet, or on another machine
    chosen, _ = fastest(where)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        try:
            part.write_text(json.dumps({"mark": mark, "kernel": chosen.name}))
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError:
        pass  # a cache that cannot be written costs a second at the next start, nothing else
    return chosen


def _has_matrix_units(where: torch.device) -> bool:
    if where.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return where.type == "cpu" and supported is not None and bool(supported())


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
        return next(int(line[1]) for line in lines if line[0] in ("inactive_file", "total_inactive_file"))
    except (OSError, ValueError, IndexError, StopIteration):
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


def peak_memory(where: torch.device) -> int:
    """The most bytes this process has held so far, on the device that computes; 0 where the system does not say."""
    if where.type == "cuda":
        return int(torch.cuda.max_memory_allocated(where))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cost(
    plan: Plan,
    recipe: Recipe,
    network: Network,
    where: torch.device,
    prepare: Callable[[Size], Callable[[], object]],
    tile: int = 0,
) -> Cost:
    """The time and memory that a plan will take.

    ``prepare(size)`` sets up a stage of that size and gives what one evaluation of it is. Both are timed at two small
    sizes, about a second in all; an evaluation's time is a constant and a part that grows with the pixels.
    """
    sizes = [plan.size.with_long_side(min(side, plan.size.long_side)) for side in _PROBE_SIDES]
    (small, setup_small, step_small), (large, setup_large, step_large) = [_timed(size, prepare, where) for size in sizes]
    seconds = 0.0
    for stage in plan.stages:
        seconds += _along(stage.size.pixels, small, setup_small, large, setup_large)
        step = _along(stage.size.pixels, small, step_small, large, step_large)
        seconds += step * stage.steps * _tiled(network.grid(stage.size, tile))
    # The finished picture is set up and evaluated once more.
    seconds += _along(plan.size.pixels, small, setup_small + step_small, large, setup_large + step_large)
    return Cost(seconds, memory(plan, recipe, network, tile), free_memory(where))


def _tiled(grid: Grid) -> float:
    """How much longer an evaluation takes in tiles: halos are computed as well, and the forward pass is made twice."""
    if len(grid) == 1:
        return 1.0
    return 1.5 * sum(tile.outer.size.pixels for tile in grid) / grid.size.pixels


def _timed(size: Size, prepare: Callable[[Size], Callable[[], object]], where: torch.device) -> tuple[int, float, float]:
    """Pixels, seconds to set up, and seconds of one evaluation: the better of two after a warm-up."""
    start = time.perf_counter()
    evaluate = prepare(size)
    setup = time.perf_counter() - start
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        evaluate()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        best = min(best, time.perf_counter() - start)
    return size.pixels, setup, best


def _along(pixels: int, small: int, at_small: float, large: int, at_large: float) -> float:
    """The line through two measurements, at ``pixels``; it neither falls nor starts below 0."""
    slope = max(0.0, (at_large - at_small) / (large - small)) if large > small else at_large / large
    constant = max(0.0, at_large - slope * large)
    return constant + slope * pixels


def tile(plan: Plan, recipe: Recipe, network: Network, free_bytes: int) -> int:
    """The tile side to paint with: what the recipe says; else 0 where the whole picture fits into four fifths of the free
    memory, else the largest of a few sides that does.
    """
    if recipe.compute.tile:
        return recipe.compute.tile
    fitting = (side for side in (0, *_TILE_SIDES) if memory(plan, recipe, network, side) <= 0.8 * free_bytes)
    return next(fitting, _TILE_SIDES[-1])


_TILE_SIDES = (3072, 2048, 1536, 1024, 768, 512, 384, 256)


def memory(plan: Plan, recipe: Recipe, network: Network, tile: int = 0) -> int:
    """Bytes at the peak of a plan: what the largest stage holds, on top of the program and the network."""
    width = 2 if network.kernel.dtype == torch.bfloat16 else 4
    # At once for a tile with its halo: the maps after each ReLU and pooling, and the index of each maximum.
    per_tile = 0.0
    for layer in network.layers:
        if layer.kind in ("relu", "pool"):
            per_tile += layer.channels * width / layer.stride**2
        if layer.kind == "pool" and network.pooling == "max":
            per_tile += layer.channels * 8 / layer.stride**2
    # On the way back: gradients, padded copies and what comes out of them, all at the widest maps, and the gaps that the
    # allocator leaves between them. Ten maps is what was measured, from 256 to 1024 px, in both types.
    per_tile += 10 * 64 * width
    if width == 2:
        per_tile += 2 * 64 * 4  # statistics read the maps in float32
    # For the whole picture: the content's target maps, and the vectors of the search.
    held = [layer for layer in network.layers if recipe.content.weight > 0 and layer.name in recipe.content.layers]
    per_picture = sum(layer.channels * width / layer.stride**2 for layer in held)
    per_picture += (8 + (2 * recipe.solver.history if recipe.solver.name == "lbfgs" else 2)) * 3 * 4
    weights = sum(layer.channels * layer.channels_in * 9 * 4 * 3 for layer in network.layers if layer.kind == "conv")
    largest = network.grid(plan.size, tile).largest
    return int(largest.pixels * per_tile + plan.size.pixels * per_picture) + weights + _PROGRAM_BYTES


_PROGRAM_BYTES = 450 * 2**20  # Python, torch and its libraries, measured before a picture is read


@contextmanager
def reused_memory() -> Iterator[None]:
    """Within it, freed memory is kept for the next step rather than handed back to the system; after it, handed back.

    With glibc every large tensor is otherwise mapped, filled with zeros and unmapped anew, which costs up to half of a
    step. Where the C library is another one, nothing happens.
    """
    trim_threshold, top_pad, mmap_threshold, mmap_max = -1, -2, -3, -4  # of malloc.h
    defaults = {trim_threshold: 128 * 1024, top_pad: 128 * 1024, mmap_threshold: 128 * 1024, mmap_max: 65_536}
    try:
        libc = ctypes.CDLL("libc.so.6") if sys.platform == "linux" else None
        mallopt = libc.mallopt if libc else None
    except (OSError, AttributeError):
        libc = mallopt = None
    if libc is None or mallopt is None:
        yield
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)
    try:
        yield
    finally:
        for option, value in defaults.items():
            mallopt(option, value)
        libc.malloc_trim(0)
