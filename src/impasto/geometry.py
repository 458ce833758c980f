"""Sizes, regions and grids of tiles, in integers: which part owns what, and its border.

Strides and halos are given as numbers; networks are not known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

_Span = tuple[int, int]  # the end excluded


class Size(NamedTuple):
    """Height before width, always, in pixels. ``WxH`` exists only as text for people
    (``str(size)``).
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
        """The "long" or "short" side, "height" or "width"."""
        return {"long": max(self), "short": min(self), "height": self.height, "width": self.width}[
            which
        ]

    def with_side(self, which: str, length: int) -> Size:
        """The size of the same shape of which one side (see ``side``) is exactly ``length``; none
        becomes less than 1.
        """
        upright = self.height >= self.width
        if which == "height" or which == ("long" if upright else "short"):
            return Size(length, max(1, round(self.width * length / self.height)))
        return Size(max(1, round(self.height * length / self.width)), length)

    def with_long_side(self, long_side: int) -> Size:
        """The size of the same shape whose longer side is exactly ``long_side``; no side becomes
        less than 1.
        """
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
        return Region(
            self.top - outer.top,
            self.left - outer.left,
            self.bottom - outer.top,
            self.right - outer.left,
        )

    def divided(self, stride: int, map_size: Size) -> Region:
        """The part of a feature map that belongs to this region of the picture.

        A position of the map belongs to the region that holds the first pixel of its ``stride`` x
        ``stride`` cell. Pooling rounds down, so the last row or column of cells may be missing from
        the map: ``map_size`` is the size of the whole map, and the answer never leaves it.
        """
        return Region(
            min(-(-self.top // stride), map_size.height),
            min(-(-self.left // stride), map_size.width),
            min(-(-self.bottom // stride), map_size.height),
            min(-(-self.right // stride), map_size.width),
        )


@dataclass(frozen=True)
class Tile:
    """One part of a grid: ``core`` is what it owns; ``outer`` is the core with the neighbours that
    it needs to see.
    """

    core: Region
    outer: Region


@dataclass(frozen=True)
class Grid:
    """A picture of ``size`` cut into tiles whose cores cover it exactly once.

    ``halo`` pixels of true neighbours, or what there is of them up to the picture's border,
    surround each core. There are as many tiles as cores of side ``tile`` are needed for the picture
    (0: one), or fewer where the halo alone would overlap all. With their halos all tiles are of the
    same size, so that what one frees fits the next and no memory is lost in gaps: cores at the
    border are larger than others. Tiles and cores start on multiples of ``stride``, so that
    features are aligned to them; ``tile`` and ``halo`` are taken in whole strides, the one rounded
    down (one at least), the other up.
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
        """Row by row, left to right."""
        across = self._cuts(self.size.width)
        for rows, outer_rows in self._cuts(self.size.height):
            for columns, outer_columns in across:
                yield Tile(_region(rows, columns), _region(outer_rows, outer_columns))

    def __len__(self) -> int:
        return len(self._cuts(self.size.height)) * len(self._cuts(self.size.width))

    def _cuts(self, length: int) -> list[tuple[_Span, _Span]]:
        """The cores and outers along one side of the picture."""
        strides, rest = divmod(length, self.stride)
        core, halo = max(1, self.tile // self.stride), -(-self.halo // self.stride)
        # Tiles besides the first.
        more = min(-(-length // (core * self.stride)), strides - 2 * halo) - 1
        if self.tile == 0 or self.tile >= length or more < 1:
            return [((0, length), (0, length))]
        # The least that so many need, the rest of the length besides.
        side = -(-(strides + 2 * halo * more) // (more + 1))
        starts = [self.stride * (number * (strides - side) // more) for number in range(more + 1)]
        borders = [0, *(start + self.stride * halo for start in starts[1:]), length]
        outers = [(start, start + self.stride * side + rest) for start in starts]
        return list(zip(pairwise(borders), outers, strict=True))

    @property
    def outer(self) -> Size:
        """The size of a tile, halo included: all are alike."""
        return next(iter(self)).outer.size


def _region(rows: _Span, columns: _Span) -> Region:
    return Region(rows[0], columns[0], rows[1], columns[1])
