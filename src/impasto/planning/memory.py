"""What it will cost: how fast this machine is, how a plan fits into its memory, and what can be
done in a given time.

It knows sizes, layer tables and timings it is given. It refuses to know pictures and what a loss is
made of.
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
from impasto.planning.schedule import Plan
from impasto.recipe.records import Recipe

_TILE_SIDES = (3072, 2560, 2048, 1792, 1536, 1280, 1024, 768, 512, 384, 256)
# Python, torch and its libraries, and what those keep for themselves once they have computed.
_PROGRAM_BYTES = 440 * 2**20
# Times as long an evaluation takes where all its memory is asked for anew (1.75 at 4 megapixels).
FRESH_MEMORY_FACTOR = 1.7
_WAVES = 3  # pictures more that a preconditioned move takes for a moment

# Of the memory that is free a part is left to others; of a limit that is kept a part is left for
# what the model misses.
_SHARE_OF_FREE, _SHARE_OF_LIMIT = 0.85, 0.9


@dataclass(frozen=True)
class ExecutionPlan:
    """How a plan is held: the largest side of a tile (0: whole), whether freed memory is kept for
    the next step, which is quicker and leaves gaps, what waits on disk between its uses, and how
    many tiles' maps wait for the way back.
    """

    tile: int = 0
    reuse: bool = True
    targets_on_disk: bool = False
    history_on_disk: bool = False
    kept: int = 1


WHOLE = ExecutionPlan()  # the whole picture at once, in memory


@dataclass(frozen=True)
class MemoryBudget:
    """What there is to work with, in bytes: free memory, a limit on it (0: none), and free disk for
    what waits there.

    ``inputs`` are the pictures as read, which lie in memory all the while.
    """

    free: int
    limit: int = 0
    disk: int = 0
    inputs: int = 0

    @property
    def usable(self) -> float:
        """How much a plan may be expected to take."""
        share = _SHARE_OF_FREE * self.free
        return min(share, _SHARE_OF_LIMIT * self.limit) if self.limit else share


def holding(
    plan: Plan, recipe: Recipe, network: Network, room: MemoryBudget, first: int | None = None
) -> ExecutionPlan:
    """The quickest way to hold a plan within the room there is; the least one where none fits and
    no limit was given.

    A way with tiles of side ``first`` comes before all others.

    Raises:
        DoesNotFit: not even the least fits into the limit.
    """
    possible = [
        _fullest(way, plan, recipe, network, room)
        for way in _ways(recipe, first)
        if disk(plan, recipe, network, way) <= 0.9 * room.disk
        or disk(plan, recipe, network, way) == 0
    ]
    ways = sorted(possible, key=lambda way: (way.tile != first, _overhead(way, network, plan.size)))
    for way in ways:
        if memory(plan, recipe, network, way) + room.inputs <= room.usable:
            return way
    least = min(ways, key=lambda way: memory(plan, recipe, network, way))
    needed = memory(plan, recipe, network, least) + room.inputs
    if room.limit and needed > _SHARE_OF_LIMIT * room.limit:
        enough = math.ceil(needed / _SHARE_OF_LIMIT / 1e8) / 10
        raise DoesNotFit(
            f"{plan.size} needs {enough:g} GB, even in the smallest tiles, and --memory allows "
            f"{room.limit / 1e9:.3g} GB.",
            f"Ask for a smaller --size, or for --memory {enough:g}GB.",
        )
    return least


def _ways(recipe: Recipe, first: int | None) -> Iterator[ExecutionPlan]:
    tiles = {recipe.compute.tile} if recipe.compute.tile else {0, *_TILE_SIDES}
    for tile in sorted(tiles | ({first} if first is not None else set())):
        # What is kept between tiles has gaps that no model foresees: 24 megapixels took 0.8 GB
        # more. A limit is kept to.
        for reuse in (False,) if tile and recipe.compute.memory else (True, False):
            for targets, history in ((False, False), (True, False), (True, True)):
                yield ExecutionPlan(tile, reuse, targets, history)


def _fullest(
    way: ExecutionPlan, plan: Plan, recipe: Recipe, network: Network, room: MemoryBudget
) -> ExecutionPlan:
    """The same way with the maps of as many tiles kept as there is room for."""
    grid = network.grid(plan.size, way.tile)
    spare = room.usable - room.inputs - memory(plan, recipe, network, way)
    more = int(spare // (_waiting(recipe, network, way) * grid.outer.pixels))
    return replace(way, kept=min(len(grid), 1 + max(0, more)))


def _overhead(way: ExecutionPlan, network: Network, size: Size) -> float:
    """How much longer an evaluation takes than one of the whole picture in memory; what a disk adds
    is a guess.
    """
    return (
        tiled(network.grid(size, way.tile), way.kept) * (1 if way.reuse else FRESH_MEMORY_FACTOR)
        + 0.05 * way.targets_on_disk
        + 0.1 * way.history_on_disk
    )


def memory(plan: Plan, recipe: Recipe, network: Network, way: ExecutionPlan = WHOLE) -> int:
    """Bytes at the peak of a plan: what its largest stage holds, on top of the program and the
    network.

    The pictures as read come on top of it.
    """
    grid = network.grid(plan.size, way.tile)
    # Pixels, the best of them, gradient, direction, and two on their way in or out; those last
    # looked at; their average; where a line search sets out from.
    vectors = 6.0 + (0 < recipe.schedule.patience < plan.stages[-1].steps)
    vectors += (recipe.solver.average > 0) + recipe.solver.uses_line_search
    if recipe.solver.name == "adam":
        vectors += 2
    elif recipe.solver.name == "lbfgs" and not way.history_on_disk:
        vectors += 2 * _pairs(plan, recipe)
    per_picture = 12 * vectors + (0 if way.targets_on_disk else _targets(recipe, network))
    weights = sum(
        layer.channels * layer.channels_in * 9 * 4 * 3
        for layer in network.layers
        if layer.kind == "conv"
    )
    workspace = convolution.workspace(network.kernel, grid.outer.pixels)
    parts = len(grid) > 1
    maps = (
        _held(network, parts)
        + _coming(network, way.reuse, parts)
        + (way.kept - 1) * _waiting(recipe, network, way)
    )
    maps *= grid.outer.pixels
    if recipe.solver.name == "lbfgs" and recipe.solver.preconditioner == "learned":
        maps = max(maps, plan.size.pixels * 12 * _WAVES)  # of which a move has no need
    return int(maps + plan.size.pixels * per_picture) + weights + workspace + _PROGRAM_BYTES


def disk(plan: Plan, recipe: Recipe, network: Network, way: ExecutionPlan) -> int:
    """Bytes that wait on disk."""
    held = _targets(recipe, network) if way.targets_on_disk else 0.0
    if way.history_on_disk and recipe.solver.name == "lbfgs":
        held += 12 * 2 * _pairs(plan, recipe)
    return int(plan.size.pixels * held)


def _pairs(plan: Plan, recipe: Recipe) -> int:
    """How many pairs the search comes to remember in the largest stage."""
    return min(recipe.solver.history, plan.stages[-1].steps)


def _width(network: Network) -> int:
    return 2 if network.kernel.dtype == torch.bfloat16 else 4


def _targets(recipe: Recipe, network: Network) -> float:
    """Bytes a pixel of the photo's feature maps."""
    held = [
        layer
        for layer in network.layers
        if recipe.content.weight > 0 and layer.name in recipe.content.layers
    ]
    return sum(layer.channels * _width(network) / layer.stride**2 for layer in held)


def _held(network: Network, parts: bool) -> float:
    """Bytes a pixel of what the way back needs of each layer; ``parts``: of one tile among several."""
    width = _width(network)
    held = 0.0
    for layer, following in zip(network.layers, (*network.layers[1:], None), strict=True):
        pooled = following is not None and following.kind == "pool" and network.pooling == "max"
        # Also a map before its ReLU, or one whose maxima alone would be kept.
        seen = layer.name in network.wanted
        if (
            layer.kind == "pool"
            or (layer.kind == "relu" and (seen or not pooled))
            or (layer.kind == "conv" and seen)
        ):
            held += layer.channels * width / layer.stride**2
        if layer.kind == "pool" and network.pooling == "max":
            # Which one each maximum was: a byte, or torch's own index.
            held += (
                layer.channels
                * (8 if network.kernel.channels_last and not parts else 1)
                / layer.stride**2
            )
    return held


def _waiting(recipe: Recipe, network: Network, way: ExecutionPlan) -> float:
    """Bytes a pixel of a tile whose maps wait for the way back, and with them what they were
    compared with.
    """
    return _held(network, parts=True) + (_targets(recipe, network) if way.targets_on_disk else 0.0)


def _coming(network: Network, reuse: bool, parts: bool) -> float:
    """Bytes a pixel of what comes and goes, of a tile with its halo; ``parts``: of one tile among
    several.

    It was measured, in widest maps, from 512 to 2048 px: gradients, padded copies and what comes
    out of them, and where freed memory is kept the gaps that it is left with.
    """
    width = _width(network)
    coming = 9.0 + 4.0 * parts if reuse else 4.0
    if width == 2:
        coming += 3.5 if reuse else 2.5  # statistics read the maps in float32
    return coming * 64 * width


def tiled(grid: Grid, kept: int = 1) -> float:
    """How much longer an evaluation takes in tiles: halos are computed as well, and all tiles but
    those whose maps are kept go forward twice.
    """
    count = len(grid)
    return grid.outer.pixels / grid.size.pixels * (3 * count - min(kept, count)) / 2
