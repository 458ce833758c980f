"""The interface of the loss's terms, and the part of a feature map that belongs to a tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from impasto.geometry import Region, Size, Tile

Stats = dict[str, Tensor]  # named sums, each additive over regions


@dataclass(frozen=True)
class TileContext:
    """A tile and the size of the picture that it is cut from: which positions belong to it."""

    tile: Tile
    size: Size

    @classmethod
    def whole(cls, size: Size) -> TileContext:
        """The context of the one tile that is the whole picture."""
        region = Region(0, 0, *size)
        return cls(Tile(region, region), size)

    def region(self, stride: int) -> Region:
        """The tile's own positions in the whole map of a layer with this stride."""
        return self.tile.core.divided(stride, self._map_size(stride))

    def own(self, features: Tensor, stride: int) -> Tensor:
        """The tile's own positions of its map (1, C, h, w), without the halo.

        This is a view, or the map itself if all of its positions belong to the tile.
        """
        outer = self.tile.outer.divided(stride, self._map_size(stride))
        region = self.region(stride)
        if region == outer:  # a view of everything would cost two copies in the backward pass
            return features
        return _Crop.apply(features, region.within(outer))

    def _map_size(self, stride: int) -> Size:
        return Size(self.size.height // stride, self.size.width // stride)


class _Crop(torch.autograd.Function):
    """A view of a region of a map, with a gradient in the map's own memory layout.

    torch's own gradient of a slice is always contiguous. Adding that to a channels-last gradient
    is 20x slower.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, region: Region) -> Tensor:
        ctx.shape, ctx.region = features.shape, region
        channels_last = not features.is_contiguous() and features.is_contiguous(
            memory_format=torch.channels_last
        )
        ctx.form = torch.channels_last if channels_last else torch.contiguous_format
        return features[(..., *region.slices)]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = torch.empty(
            ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=ctx.form
        ).zero_()
        whole[(..., *ctx.region.slices)] = gradient
        return whole, None


class Objective(Protocol):
    """A term of the loss.

    ``name``: its name in reports. ``weight``: its factor in the loss. ``layers``: the stride of
    each layer that it reads, by name; "input" is the picture itself.

    ``additive``: whether the stats of the whole picture are the sum of the stats of its tiles.
    Tiles are then exact to rounding. A term that needs the whole picture at once says False, and
    a picture with such a term is not cut into tiles.
    """

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> float: ...

    @property
    def layers(self) -> Mapping[str, int]: ...

    @property
    def additive(self) -> bool: ...

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        """Differentiable sums over the positions that belong to the tile of ``context``."""
        ...

    def score(self, stats: Stats) -> dict[str, Tensor]:
        """The unweighted loss (0-d) of each layer, from sums over the whole picture.

        The value of the term is the sum over the layers.
        """
        ...


def float32(features: Tensor) -> Tensor:
    """A map in float32 or better: sums over bfloat16 would be wrong."""
    return features.float() if features.dtype == torch.bfloat16 else features


def add(total: Stats, part: Stats) -> Stats:
    """The stats of two disjoint regions together; an empty ``total`` counts as zeros."""
    return {name: total[name] + value for name, value in part.items()} if total else dict(part)
