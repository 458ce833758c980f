"""Sizes, regions and grids of tiles: where a picture is cut, which part owns what, and how much border each part needs.

It knows integers only. It refuses to know pixels, networks and memory: reach and stride are given to it as numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Size(NamedTuple):
    """Height before width, always, in pixels. ``WxH`` exists only as text for people (``str(size)``)."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def long_side(self) -> int:
        return max(self)

    @property
    def short_side(self) -> int:
        return min(self)

    def side(self, which: str) -> int:
        """The "long" or "short" side, "height" or "width"."""
        return {"long": max(self), "short": min(self), "height": self.height, "width": self.width}[which]

    def with_side(self, which: str, length: int) -> Size:
        """The size of the same shape of which one side (see ``side``) is exactly ``length``; none becomes less than 1."""
        upright = self.height >= self.width
        if which == "height" or which == ("long" if upright else "short"):
            return Size(length, max(1, round(self.width * length / self.height)))
        return Size(max(1, round(self.height * length / self.width)), length)

    def with_long_side(self, long_side: int) -> Size:
        """The size of the same shape whose longer side is exactly ``long_side``; no side becomes less than 1."""
        return self.with_side("long", long_side)


@dataclass(frozen=True)
class Region:
    """A rectangle of rows ``top..bottom`` and columns ``left..right``, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        return Size(self.bottom - self.top, self.right - self.left)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Indices of the last two axes of a (..., H, W) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, outer: Region) -> Region:
        """This region in the coordinates of ``outer``, which contains it."""
        return Region(self.top - outer.top, self.left - outer.left, self.bottom - outer.top, self.right - outer.left)

    def divided(self, stride: int, map_size: Size) -> Region:
        """The part of a feature map that belongs to this region of the picture.

        A position of the map belongs to the region that holds the first pixel of its ``stride`` x ``stride`` cell.
        Pooling rounds down, so the last row or column of cells may be missing from the map: ``map_size`` is the size
        of the whole map, and the answer never leaves it.
        """
        return Region(
            min(-(-self.top // stride), map_size.height),
            min(-(-self.left // stride), map_size.width),
            min(-(-self.bottom // stride), map_size.height),
            min(-(-self.right // stride), map_size.width),
        )


@dataclass(frozen=True)
class Tile:
    """One part of a grid: ``core`` is what it owns; ``outer`` is the core with its halo, cut at the picture's border."""

    core: Region
    outer: Region


@dataclass(frozen=True)
class Grid:
    """A picture of ``size`` cut into tiles whose cores start on multiples of ``stride`` and cover it exactly once.

    ``tile`` is the largest side of a core in pixels, in whole strides (one at least); 0 means one tile, the whole picture.
    ``halo`` pixels of true neighbours, rounded up to whole strides, surround each core: features are aligned to them.
    """

    size: Size
    tile: int = 0
    halo: int = 0
    stride: int = 16

    def __post_init__(self) -> None:
        if self.size.short_side < 1 or self.tile < 0 or self.halo < 0 or self.stride < 1:
            raise ValueError(f"not a grid: {self.size=}, {self.tile=}, {self.halo=}, {self.stride=}")

    def __iter__(self) -> Iterator[Tile]:
        """Row by row, left to right."""
        halo = round_up(self.halo, self.stride)
        for top, bottom in _cuts(self.size.height, self.tile, self.stride):
            for left, right in _cuts(self.size.width, self.tile, self.stride):
                outer = Region(
                    max(0, top - halo),
                    max(0, left - halo),
                    min(self.size.height, bottom + halo),
                    min(self.size.width, right + halo),
                )
                yield Tile(Region(top, left, bottom, right), outer)

    def __len__(self) -> int:
        rows = len(_cuts(self.size.height, self.tile, self.stride))
        return rows * len(_cuts(self.size.width, self.tile, self.stride))

    @property
    def largest(self) -> Size:
        """The size of the tile that needs most memory, halo included."""
        return max((tile.outer.size for tile in self), key=lambda size: size.pixels)


def round_up(value: int, step: int) -> int:
    """The smallest multiple of ``step`` that is not below ``value``."""
    return -(-value // step) * step


def _cuts(length: int, tile: int, stride: int) -> list[tuple[int, int]]:
    """Cut ``length`` into the fewest nearly equal parts of at most ``tile``, each starting on a multiple of ``stride``."""
    if tile == 0 or tile >= length:
        return [(0, length)]
    longest = max(1, tile // stride)  # in strides
    parts = -(-length // (longest * stride))
    step = round_up(-(-length // parts), stride)
    return [(start, min(start + step, length)) for start in range(0, length, step)]
