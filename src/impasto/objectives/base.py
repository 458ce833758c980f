"""The two verbs that every objective speaks: measure a region, score the whole.

The law: the stats of the whole are the sum of the stats of the parts. Everything exact about tiles,
several styles and several machines follows from it. This room knows how a region owns positions of
a map; it refuses to know any objective.
"""

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
    """Which positions of a tile's maps are its own: the tile, and the size of the picture it is cut
    from.
    """

    tile: Tile
    size: Size

    @classmethod
    def whole(cls, size: Size) -> TileContext:
        """The one tile that is the whole picture."""
        region = Region(0, 0, *size)
        return cls(Tile(region, region), size)

    def region(self, stride: int) -> Region:
        """What the tile owns of the whole map of a layer of this stride."""
        return self.tile.core.divided(stride, self._map_size(stride))

    def own(self, features: Tensor, stride: int) -> Tensor:
        """The tile's own positions of its map (1, C, h, w): a view, or the map itself where all are
        its own.
        """
        outer = self.tile.outer.divided(stride, self._map_size(stride))
        region = self.region(stride)
        if region == outer:  # a view of everything would cost two copies on the way back
            return features
        return _Part.apply(features, region.within(outer))

    def _map_size(self, stride: int) -> Size:
        return Size(self.size.height // stride, self.size.width // stride)


class _Part(torch.autograd.Function):
    """A view of a region of a map, whose gradient lies in memory as the map does; torch's own has
    rows before channels whatever the map has, and is added to others at a twentieth of the speed.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, region: Region) -> Tensor:
        ctx.shape, ctx.region = features.shape, region
        plain = features.is_contiguous() or not features.is_contiguous(
            memory_format=torch.channels_last
        )
        ctx.form = torch.contiguous_format if plain else torch.channels_last
        return features[(..., *region.slices)]

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None]:
        whole = torch.empty(
            ctx.shape, dtype=given.dtype, device=given.device, memory_format=ctx.form
        ).zero_()
        whole[(..., *ctx.region.slices)] = given
        return whole, None


class Objective(Protocol):
    """A term of the loss.

    ``name``: what it is called in reports. ``weight``: its factor in the total. ``layers``: stride
    by name of the maps that it reads. ``additive``: whether ``measure`` obeys the law; an objective
    that does not cannot be tiled.
    """

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> float: ...

    @property
    def layers(self) -> Mapping[str, int]: ...

    @property
    def additive(self) -> bool: ...

    def measure(self, features: Mapping[str, Tensor], where: TileContext) -> Stats:
        """Differentiable sums over the positions that ``where`` owns."""
        ...

    def score(self, stats: Stats) -> dict[str, Tensor]:
        """From sums over the whole picture to a number (0-d) for each layer, before ``weight``; the
        term is their sum.
        """
        ...


def add(total: Stats, part: Stats) -> Stats:
    """The stats of two disjoint regions together."""
    return {name: total[name] + value for name, value in part.items()} if total else dict(part)


_WIDENED = 2**19  # values of a map that are in float32 at a time


class _Moments(torch.autograd.Function):
    """Sum and sum of outer products over the positions of a map, in float32 or better.

    Its backward pass is one matrix product where the general rule would do two, and is done in the
    map's own type.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(features)
        x = _positions(features)  # (n, C)
        if x.dtype in (torch.float32, torch.float64):
            return x.sum(0), x.T @ x  # (C,), (C, C)
        # Some positions at a time: a copy of the whole map in float32 would be the largest thing
        # there is.
        total = features.new_zeros(x.shape[1], dtype=torch.float32)
        outer = features.new_zeros((x.shape[1], x.shape[1]), dtype=torch.float32)
        for part in x.split(max(1, _WIDENED // x.shape[1])):
            wide = part.float()
            total += wide.sum(0)
            outer.addmm_(wide.T, wide)
        return total, outer

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, sum_gradient: Tensor, outer_gradient: Tensor
    ) -> Tensor:
        (features,) = ctx.saved_tensors  # type: ignore[attr-defined]
        x = _positions(features)
        both = (outer_gradient + outer_gradient.T).to(x.dtype)  # d sum(x x^T) = dx x^T + x dx^T
        total = sum_gradient.to(x.dtype)
        _, channels, height, width = features.shape
        if features.is_contiguous():  # the gradient lies in memory as the map does
            return torch.addmm(total[:, None], both, x.T).view(1, channels, height, width)
        return torch.addmm(total, x, both).view(height, width, channels).permute(2, 0, 1)[None]


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Sum (C,) and sum of outer products (C, C) over all positions of a map (1, C, h, w)."""
    return _Moments.apply(features)


def _positions(features: Tensor) -> Tensor:
    """(1, C, h, w) -> (h*w, C); no copy where the map is channels-last or a whole plain one."""
    _, channels, height, width = features.shape
    if features.is_contiguous():
        return features.view(channels, height * width).T
    return features[0].permute(1, 2, 0).reshape(height * width, channels)
