"""Differences between neighboring pixels of a tile."""

from __future__ import annotations

from torch import Tensor

from impasto.geometry import Region
from impasto.objectives.base import TileContext


def pixel_differences(pixels: Tensor, context: TileContext, down: int, right: int) -> Tensor:
    """x(row + down, column + right) - x(row, column) for the tile's own pixels (1, C, h, w).

    Pixels without such a neighbor are left out. ``right`` may be negative.
    """
    core, outer = context.tile.core, context.tile.outer
    bottom = min(core.bottom, outer.bottom - down)
    last = min(core.right, outer.right - max(right, 0))
    here = Region(core.top, max(core.left, outer.left - min(right, 0)), bottom, last)
    there = Region(here.top + down, here.left + right, here.bottom + down, here.right + right)
    return pixels[(..., *there.within(outer).slices)] - pixels[(..., *here.within(outer).slices)]


def squared_differences(pixels: Tensor, context: TileContext) -> Tensor:
    """The sum of squared differences to the lower and right neighbors (0-d)."""
    down = pixel_differences(pixels, context, 1, 0).square().sum()
    return down + pixel_differences(pixels, context, 0, 1).square().sum()
