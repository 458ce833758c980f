"""How evaluations are carried out: tiles, and where tensors are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from impasto.assets import catalogue
from impasto.geometry import Grid, Size
from impasto.hardware import allocator
from impasto.networks.features import Network
from impasto.planning.memory import ExecutionPlan
from impasto.storage.tensors import DiskStore, MemoryStore, TensorStore

LEAST_TILE = 128  # pixels; tiles are not made smaller when memory runs out


@dataclass(frozen=True)
class Execution:
    """How evaluations are carried out. It changes time and memory, and pixels only by rounding.

    ``tile``: the largest side of a tile in pixels, 0 for the whole picture at once.
    ``tiles_in_memory``: the number of tiles whose feature maps stay in memory for the backward
    pass. ``reuse_memory``: whether freed memory is kept for the next evaluation. ``targets`` and
    ``history``: where the photo's feature maps and the solver's history are stored.
    ``make_disk_store``: makes a store on disk for either when memory runs out, None if both are on
    disk or no disk may be used.
    """

    tile: int = 0
    tiles_in_memory: int = 1
    reuse_memory: bool = True
    targets: TensorStore = field(default_factory=MemoryStore)
    history: TensorStore = field(default_factory=MemoryStore)
    make_disk_store: Callable[[], TensorStore] | None = None

    def grid(self, network: Network, size: Size) -> Grid:
        """The tiles of a picture of this size."""
        return network.grid(size, self.tile)

    def release_memory(self) -> None:
        """Return freed memory to the system, unless it is kept for the next evaluation."""
        if not self.reuse_memory:
            allocator.give_back_memory()

    def reduced(
        self, network: Network, size: Size, disk_first: bool = False, tiling: bool = True
    ) -> tuple[Execution, str] | None:
        """An execution that needs less memory, and what changes, in words.

        The first of these that is possible: keep the maps of one tile only, smaller tiles (unless
        ``tiling`` is False), store tensors on disk. ``disk_first`` swaps the last two. Returns
        None when nothing is left.
        """
        allocator.give_back_memory()
        changes = [self._one_tile_in_memory, self._smaller_tiles, self._stored_on_disk]
        if disk_first:
            changes = [changes[0], changes[2], changes[1]]
        for change in changes:
            if change == self._smaller_tiles and not tiling:
                continue
            if (changed := change(network, size)) is not None:
                return changed
        return None

    def _one_tile_in_memory(self, network: Network, size: Size) -> tuple[Execution, str] | None:
        if self.tiles_in_memory == 1 or len(self.grid(network, size)) == 1:
            return None
        return replace(self, tiles_in_memory=1), "with the feature maps of one tile at a time"

    def _smaller_tiles(self, network: Network, size: Size) -> tuple[Execution, str] | None:
        side = min(self.tile or size.long_side, size.long_side) // 2
        if side < LEAST_TILE:
            return None
        message = f"in tiles of {side} px, which give the same picture to rounding"
        return replace(self, tile=side), message

    def _stored_on_disk(self, network: Network, size: Size) -> tuple[Execution, str] | None:
        if self.make_disk_store is None:
            return None
        try:
            targets, history = self.make_disk_store(), self.make_disk_store()
        except OSError:  # the cache cannot be written
            return None
        changed = replace(self, targets=targets, history=history, make_disk_store=None)
        return changed, "with tensors stored on disk"


def make_execution(plan: ExecutionPlan) -> Execution:
    """The execution of a plan, with its stores in memory or on disk."""
    all_on_disk = plan.targets_on_disk and plan.history_on_disk
    return Execution(
        tile=plan.tile,
        tiles_in_memory=plan.tiles_in_memory,
        reuse_memory=plan.reuse_memory,
        targets=_store(plan.targets_on_disk),
        history=_store(plan.history_on_disk),
        make_disk_store=None if all_on_disk else partial(_store, True),
    )


def disk_folder() -> Path:
    """The folder in the cache where tensors are stored."""
    return catalogue.cache_dir() / "scratch"


def _store(on_disk: bool) -> TensorStore:
    return DiskStore(disk_folder()) if on_disk else MemoryStore()
