"""Estimate the memory of a schedule, and choose the fastest execution that fits.

The constants were measured; docs/findings.md, "Memory", has the tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from impasto.errors import DoesNotFit
from impasto.geometry import Grid, Size
from impasto.networks import convolution
from impasto.networks.features import Network
from impasto.objectives import nearest
from impasto.planning.schedule import Plan
from impasto.recipe.records import Recipe

_TILE_SIDES = (3072, 2560, 2048, 1792, 1536, 1280, 1024, 768, 512, 384, 256)
# Python, torch and its libraries, and the memory that these keep once they have computed.
_PROGRAM_BYTES = 440 * 2**20
# An evaluation takes 1.7 times as long when all its memory is mapped anew (measured 1.75 at 4
# megapixels).
FRESH_MEMORY_FACTOR = 1.7
_COARSER_SCALES = 200  # bytes per pixel of the picture that style at further scales adds (measured)
_STEP_PICTURES = 3  # additional pictures that a preconditioned step holds for a moment

# A part of the free memory is left to other programs; a part of a limit covers the model's errors.
_SHARE_OF_FREE, _SHARE_OF_LIMIT = 0.85, 0.9
_SHARE_OF_DISK = 0.9


@dataclass(frozen=True)
class ExecutionPlan:
    """How the evaluations of a schedule are carried out. It changes time and memory only.

    ``tile``: the largest side of a tile in pixels, 0 for the whole picture at once.
    ``reuse_memory``: keep freed memory for the next evaluation, which is faster and leaves gaps.
    ``targets_on_disk``: store the photo's feature maps on disk. ``history_on_disk``: store the
    solver's history there. ``tiles_in_memory``: the number of tiles whose feature maps stay in
    memory for the backward pass.
    """

    tile: int = 0
    reuse_memory: bool = True
    targets_on_disk: bool = False
    history_on_disk: bool = False
    tiles_in_memory: int = 1


WHOLE = ExecutionPlan()  # the whole picture at once, in memory


@dataclass(frozen=True)
class MemoryBudget:
    """What is available, in bytes.

    ``free``: free memory. ``limit``: the limit that the recipe sets, 0 for none. ``disk``: free
    disk for stored tensors. ``inputs``: the size of the pictures as read, which stay in memory.
    """

    free: int
    limit: int = 0
    disk: int = 0
    inputs: int = 0

    @property
    def usable(self) -> float:
        """How many bytes a schedule may be expected to take."""
        share = _SHARE_OF_FREE * self.free
        return min(share, _SHARE_OF_LIMIT * self.limit) if self.limit else share


def choose_execution(
    plan: Plan,
    recipe: Recipe,
    network: Network,
    budget: MemoryBudget,
    tile: int | None = None,
    tiling: bool = True,
) -> ExecutionPlan:
    """Choose the fastest execution that fits into the budget.

    Where none fits and the recipe sets no limit, the one with the smallest memory is returned.
    Executions in tiles of side ``tile`` are preferred to all others. Without ``tiling`` the
    picture is never cut, and the recipe must not ask for tiles.

    Raises:
        DoesNotFit: not even the smallest fits into the recipe's limit.
    """
    candidates = [
        _with_most_tiles(execution, plan, recipe, network, budget)
        for execution in _candidates(recipe, tile)
        if (tiling or execution.tile == 0)
        and _fits_on_disk(disk_bytes(plan, recipe, network, execution), budget)
    ]
    candidates.sort(key=lambda one: (one.tile != tile, _relative_time(one, network, plan.size)))
    for execution in candidates:
        if peak_bytes(plan, recipe, network, execution) + budget.inputs <= budget.usable:
            return execution
    smallest = min(candidates, key=lambda one: peak_bytes(plan, recipe, network, one))
    needed = peak_bytes(plan, recipe, network, smallest) + budget.inputs
    _check_limit(needed, plan, budget, tiling)
    return smallest


def _fits_on_disk(needed: int, budget: MemoryBudget) -> bool:
    return needed == 0 or needed <= _SHARE_OF_DISK * budget.disk


def _check_limit(needed: int, plan: Plan, budget: MemoryBudget, tiling: bool) -> None:
    """Raise DoesNotFit when the smallest execution needs more than the recipe's limit."""
    if not budget.limit or needed <= _SHARE_OF_LIMIT * budget.limit:
        return
    enough = math.ceil(needed / _SHARE_OF_LIMIT / 1e8) / 10
    tiles = ", even in the smallest tiles," if tiling else " and cannot be cut into tiles,"
    raise DoesNotFit(
        f"{plan.size} needs {enough:g} GB{tiles} and --memory allows {budget.limit / 1e9:.3g} GB.",
        f"Ask for a smaller --size, or for --memory {enough:g}GB.",
    )


def _candidates(recipe: Recipe, tile: int | None) -> Iterator[ExecutionPlan]:
    sides = {recipe.compute.tile} if recipe.compute.tile else {0, *_TILE_SIDES}
    for side in sorted(sides | ({tile} if tile is not None else set())):
        # Memory that is kept between tiles has gaps that the model does not predict: 24 megapixels
        # took 0.8 GB more. With a limit it is returned to the system.
        for reuse in (False,) if side and recipe.compute.memory else (True, False):
            for targets, history in ((False, False), (True, False), (True, True)):
                yield ExecutionPlan(side, reuse, targets, history)


def _with_most_tiles(
    execution: ExecutionPlan, plan: Plan, recipe: Recipe, network: Network, budget: MemoryBudget
) -> ExecutionPlan:
    """The same execution, with the feature maps of as many tiles in memory as fit."""
    grid = network.grid(plan.size, execution.tile)
    spare = budget.usable - budget.inputs - peak_bytes(plan, recipe, network, execution)
    tile_bytes = _stored_tile_bytes(recipe, network, execution) * grid.outer.pixels
    return replace(execution, tiles_in_memory=min(len(grid), 1 + max(0, int(spare // tile_bytes))))


def _relative_time(execution: ExecutionPlan, network: Network, size: Size) -> float:
    """The time of an evaluation, relative to one of the whole picture in memory.

    The shares for the disk are guesses.
    """
    return (
        evaluation_factor(execution, network.grid(size, execution.tile))
        + 0.05 * execution.targets_on_disk
        + 0.1 * execution.history_on_disk
    )


def evaluation_factor(execution: ExecutionPlan, grid: Grid) -> float:
    """How much longer an evaluation takes than one of the whole picture in reused memory."""
    memory = 1 if execution.reuse_memory else FRESH_MEMORY_FACTOR
    return tiling_factor(grid, execution.tiles_in_memory) * memory


def tiling_factor(grid: Grid, tiles_in_memory: int = 1) -> float:
    """How much longer an evaluation takes in tiles.

    Halos are computed as well, and all tiles but those in memory have two forward passes.
    """
    count = len(grid)
    passes = (3 * count - min(tiles_in_memory, count)) / 2
    return grid.outer.pixels / grid.size.pixels * passes


def peak_bytes(
    plan: Plan, recipe: Recipe, network: Network, execution: ExecutionPlan = WHOLE
) -> int:
    """The peak memory of a schedule in bytes: program, network and the largest stage.

    The pictures as read are not included.
    """
    grid = network.grid(plan.size, execution.tile)
    targets = 0 if execution.targets_on_disk else _target_bytes(recipe, network)
    per_pixel = 12 * _pictures(plan, recipe, execution) + targets
    tiled = len(grid) > 1
    maps = _backward_bytes(network, tiled)
    maps += _temporary_bytes(network, execution.reuse_memory, tiled)
    maps += (execution.tiles_in_memory - 1) * _stored_tile_bytes(recipe, network, execution)
    maps *= grid.outer.pixels
    if recipe.solver.name == "lbfgs" and recipe.solver.preconditioner == "learned":
        # The feature maps are gone when the step is made.
        maps = max(maps, plan.size.pixels * 12 * _STEP_PICTURES)
    maps += _nearest_bytes(plan, recipe, network, grid.outer)
    maps += _term_bytes(recipe, network) * grid.outer.pixels
    weights = sum(
        layer.channels * layer.channels_in * 9 * 4 * 3
        for layer in network.layers
        if layer.kind == "conv"
    )
    workspace = convolution.workspace_bytes(network.kernel, grid.outer.pixels)
    return int(maps + plan.size.pixels * per_pixel) + weights + workspace + _PROGRAM_BYTES


def disk_bytes(plan: Plan, recipe: Recipe, network: Network, execution: ExecutionPlan) -> int:
    """The bytes that are stored on disk."""
    per_pixel = _target_bytes(recipe, network) if execution.targets_on_disk else 0.0
    if execution.history_on_disk and recipe.solver.name == "lbfgs":
        per_pixel += 12 * 2 * _pairs(plan, recipe)
    return int(plan.size.pixels * per_pixel)


def _pictures(plan: Plan, recipe: Recipe, execution: ExecutionPlan) -> float:
    """The number of float32 pictures that the search holds."""
    # Pixels, the best pixels, gradient, direction, and two that are read or written.
    pictures = 6.0
    pictures += 0 < recipe.schedule.patience < plan.stages[-1].steps  # the reference
    pictures += recipe.solver.average > 0
    pictures += recipe.solver.uses_line_search  # the start of the line search
    if recipe.solver.name == "adam":
        pictures += 2
    elif recipe.solver.name == "lbfgs" and not execution.history_on_disk:
        pictures += 2 * _pairs(plan, recipe)
    return pictures


def _pairs(plan: Plan, recipe: Recipe) -> int:
    """The number of L-BFGS pairs in the largest stage."""
    return min(recipe.solver.history, plan.stages[-1].steps)


def _bytes_per_value(network: Network) -> int:
    return 2 if network.kernel.dtype == torch.bfloat16 else 4


def _target_bytes(recipe: Recipe, network: Network) -> float:
    """Bytes per pixel of the photo's feature maps."""
    if recipe.content.weight <= 0:
        return 0
    layers = [layer for layer in network.layers if layer.name in recipe.content.layers]
    width = _bytes_per_value(network)
    return sum(layer.channels * width / layer.stride**2 for layer in layers)


def _nearest_bytes(plan: Plan, recipe: Recipe, network: Network, tile: Size) -> float:
    """Bytes that the nearest-neighbor loss adds (measured).

    Two copies of the painting's features, what is computed from them for some places at a time,
    and four tensors of the widest layer at the places of a tile.
    """
    if recipe.nearest.weight <= 0:
        return 0
    layers = [layer for layer in network.layers if layer.name in recipe.nearest.layers]
    by_pixel = 1 / nearest.FINEST_STRIDE**2  # places of a pixel
    painting = plan.size.pixels * max(1.0, recipe.style.scale) ** 2
    rows = min(nearest.MOST_ROWS, painting * by_pixel)
    bank = rows * sum(layer.channels for layer in layers) * 4 * 2.5
    widest = max(layer.channels for layer in layers)
    return bank + 4 * 4 * widest * tile.pixels * by_pixel


def _term_bytes(recipe: Recipe, network: Network) -> float:
    """Bytes per pixel that some terms of the loss add to the maps (measured)."""
    found = _histogram_bytes(recipe, network)
    if recipe.content.weight > 0 and recipe.content.scaling == "normalized":
        # Products of the picture's and the photo's maps, before they are summed.
        layers = [layer for layer in network.layers if layer.name in recipe.content.layers]
        found += 3 * 4 * max(layer.channels / layer.stride**2 for layer in layers)
    if recipe.style.octaves > 1:
        found += _COARSER_SCALES
    return found


def _histogram_bytes(recipe: Recipe, network: Network) -> float:
    """Bytes per pixel that the histogram loss adds.

    The bin of each projection, and the gradient in the widest layer's projections; with random
    directions the projections too, and the gradient in the features.
    """
    if recipe.histogram.weight <= 0:
        return 0
    layers = [layer for layer in network.layers if layer.name in recipe.histogram.layers]
    projections = [layer.channels / layer.stride**2 for layer in layers]
    tensors = 3 if recipe.histogram.directions == "random" else 1
    return 2 * sum(projections) + tensors * 4 * max(projections)


def _backward_bytes(network: Network, tiled: bool) -> float:
    """Bytes per pixel that the backward pass needs from each layer, for a tile or the whole."""
    width = _bytes_per_value(network)
    total = 0.0
    for layer, following in zip(network.layers, (*network.layers[1:], None), strict=True):
        pooled = following is not None and following.kind == "pool" and network.pooling == "max"
        # Also a map before its ReLU, and a map that would otherwise be reduced to its maxima.
        measured = layer.name in network.outputs
        kept_relu = layer.kind == "relu" and (measured or not pooled)
        if layer.kind == "pool" or kept_relu or (layer.kind == "conv" and measured):
            total += layer.channels * width / layer.stride**2
        if layer.kind == "pool" and network.pooling == "max":
            # The index of each maximum: a byte, or torch's own eight.
            index = 8 if network.kernel.channels_last and not tiled else 1
            total += layer.channels * index / layer.stride**2
    return total


def _stored_tile_bytes(recipe: Recipe, network: Network, execution: ExecutionPlan) -> float:
    """Bytes per pixel of a tile whose maps stay in memory, with the targets it is compared to."""
    targets = _target_bytes(recipe, network) if execution.targets_on_disk else 0.0
    return _backward_bytes(network, tiled=True) + targets


def _temporary_bytes(network: Network, reuse_memory: bool, tiled: bool) -> float:
    """Bytes per pixel of temporary tensors, for a tile with its halo or the whole.

    Measured from 512 to 2048 px, in units of the widest feature map: gradients, padded copies and
    results, and the gaps in memory that is reused.
    """
    width = _bytes_per_value(network)
    maps = 9.0 + 4.0 * tiled if reuse_memory else 4.0
    if width == 2:
        maps += 3.5 if reuse_memory else 2.5  # statistics are computed in float32
    return maps * 64 * width
