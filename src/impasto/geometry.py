"""Sizes, regions and grids of tiles: which part of a picture a tile owns, and its halo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

_Span = tuple[int, int]  # start and end; the end is excluded


class Size(NamedTuple):
    """Height and width in pixels.

    As text (``str(size)``) the width comes first: ``WxH``.
    """

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
        """The length of a side: "long", "short", "height" or "width".

        "area" is the side of the square with as many pixels.
        """
        sides = {"long": max(self), "short": min(self), "height": self.height, "width": self.width}
        return round(self.pixels**0.5) if which == "area" else sides[which]

    def with_side(self, which: str, length: int) -> Size:
        """The size of the same shape whose side ``which`` (see ``side``) is ``length``.

        No side becomes less than 1.
        """
        if which == "area":
            which, length = "height", max(1, round(length * (self.height / self.width) ** 0.5))
        upright = self.height >= self.width
        if which == "height" or which == ("long" if upright else "short"):
            return Size(length, max(1, round(self.width * length / self.height)))
        return Size(max(1, round(self.height * length / self.width)), length)

    def with_long_side(self, long_side: int) -> Size:
        """The size of the same shape whose longer side is ``long_side``.

        No side becomes less than 1.
        """
        return self.with_side("long", long_side)


@dataclass(frozen=True)
class Region:
    """A rectangle: rows ``top`` to ``bottom``, columns ``left`` to ``right``, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        return Size(self.bottom - self.top, self.right - self.left)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Indices of the last two axes of an array (..., H, W)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, outer: Region) -> Region:
        """This region in the coordinates of ``outer``, which contains it."""
        return Region(
            self.top - outer.top,
            self.left - outer.left,
            self.bottom - outer.top,
            self.right - outer.left,
        )

    def divided(self, stride: int, map_size: Size) -> Region:
        """The part of a feature map that belongs to this region of the picture.

        A position of the map belongs to the region that holds the first pixel of its ``stride`` x
        ``stride`` cell. ``map_size`` is the size of the whole map, and the result lies in it. It
        matters because pooling rounds down: the map may lack the last row or column of cells.
        """
        return Region(
            min(-(-self.top // stride), map_size.height),
            min(-(-self.left // stride), map_size.width),
            min(-(-self.bottom // stride), map_size.height),
            min(-(-self.right // stride), map_size.width),
        )


@dataclass(frozen=True)
class Tile:
    """A part of a grid: ``core`` is the region that it owns.

    ``outer`` is the core with its halo.
    """

    core: Region
    outer: Region


@dataclass(frozen=True)
class Grid:
    """A picture of ``size`` cut into tiles whose cores cover it exactly once.

    Each core is surrounded by a ``halo`` of pixels of its neighbors, up to the picture's border.
    There are as many tiles as cores of side ``tile`` are needed for the picture (0: one). There are
    fewer if the halo alone would overlap all of them.

    With their halos all tiles have the same size. So memory that one tile frees fits the next, and
    no memory is lost in gaps. Cores at the border are therefore larger than others.

    Tiles and cores start at multiples of ``stride``, so that feature maps are aligned. ``tile`` is
    rounded down to whole strides (at least one), and ``halo`` is rounded up.
    """

    size: Size
    tile: int = 0
    halo: int = 0
    stride: int = 16

    def __post_init__(self) -> None:
        if self.size.short_side < 1 or self.tile < 0 or self.halo < 0 or self.stride < 1:
            raise ValueError(
                f"not a grid: {self.size=}, {self.tile=}, {self.halo=}, {self.stride=}"
            )

    def __iter__(self) -> Iterator[Tile]:
        """The tiles, row by row and left to right."""
        across = self._cuts(self.size.width)
        for rows, outer_rows in self._cuts(self.size.height):
            for columns, outer_columns in across:
                yield Tile(_region(rows, columns), _region(outer_rows, outer_columns))

    def __len__(self) -> int:
        return len(self._cuts(self.size.height)) * len(self._cuts(self.size.width))

    def _cuts(self, length: int) -> list[tuple[_Span, _Span]]:
        """The spans of cores and of whole tiles along one side of the picture."""
        strides, remainder = divmod(length, self.stride)
        core, halo = max(1, self.tile // self.stride), -(-self.halo // self.stride)
        # The number of tiles besides the first.
        further = min(-(-length // (core * self.stride)), strides - 2 * halo) - 1
        if self.tile == 0 or self.tile >= length or further < 1:
            return [((0, length), (0, length))]
        # The least side, in strides, with which that many tiles cover the length.
        side = -(-(strides + 2 * halo * further) // (further + 1))
        starts = [
            self.stride * (number * (strides - side) // further) for number in range(further + 1)
        ]
        borders = [0, *(start + self.stride * halo for start in starts[1:]), length]
        outers = [(start, start + self.stride * side + remainder) for start in starts]
        return list(zip(pairwise(borders), outers, strict=True))

    @property
    def outer(self) -> Size:
        """The size of a tile with its halo; all have the same."""
        return next(iter(self)).outer.size


def _region(rows: _Span, columns: _Span) -> Region:
    return Region(rows[0], columns[0], rows[1], columns[1])
