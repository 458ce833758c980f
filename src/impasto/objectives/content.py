"""The content loss: the squared difference between the feature maps and the photo's.

Source: Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style" (2015), equations 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Region
from impasto.objectives.base import Stats, TileContext, float32
from impasto.objectives.published_content import PublishedScaling, published_factor
from impasto.storage.tensors import StoredTensor

ContentScaling = Literal["relative"] | PublishedScaling


class PhotoTerm:
    """A term that compares feature maps with the photo's.

    Args:
        targets: layer name -> core of each tile -> (1, C, h, w), the tile's own part of the
            photo's map.
        strides: layer name -> picture pixels between positions of its map.
        weights: layer name -> factor of its share.
    """

    name = "content"
    additive = True

    def __init__(
        self,
        targets: Mapping[str, Mapping[Region, StoredTensor]],
        strides: Mapping[str, int],
        weights: Mapping[str, float],
        weight: float,
    ) -> None:
        self.targets = {name: targets[name] for name in weights}
        self.layers = {name: strides[name] for name in weights}
        self.weights = dict(weights)
        self.weight = weight

    def pairs(
        self, features: Mapping[str, Tensor], context: TileContext
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Layer, the tile's own part of its map, and the photo's part, each (1, C, h, w)."""
        for name, stride in self.layers.items():
            own = context.own(features[name], stride)
            yield name, own, self.targets[name][context.tile.core].load()


class Content(PhotoTerm):
    """The weighted sum over layers of the scaled squared difference to the target maps.

    Args:
        targets, strides, weights: as for ``PhotoTerm``.
        scaling: "relative" divides the sum of (F - P)^2 by the sum of (P - mean of P)^2, the mean
            taken per channel: 0 is the photo, 1 is a constant map. It means the same for every
            photo, network and size, so Impasto's own recipes use it. The others are those of
            published systems (see ``published_content``). For maps normalized by channel see
            ``NormalizedContent``.
    """

    def __init__(
        self,
        targets: Mapping[str, Mapping[Region, StoredTensor]],
        strides: Mapping[str, int],
        weights: Mapping[str, float],
        scaling: ContentScaling,
        weight: float,
    ) -> None:
        super().__init__(targets, strides, weights, weight)
        self._factors = {
            name: _factor(list(target.values()), scaling) for name, target in self.targets.items()
        }

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        return {
            name: _SquaredDistance.apply(own, target)
            for name, own, target in self.pairs(features, context)
        }

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {
            name: weight * self._factors[name] * stats[name]
            for name, weight in self.weights.items()
        }


class _SquaredDistance(torch.autograd.Function):
    """The sum of (F - P)^2 over two maps, in float32 or better.

    The backward pass keeps the maps, which are in memory anyway. It keeps neither their difference
    nor float32 copies: those of several tiles could be in memory at once.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(features, target)
        return functional.mse_loss(float32(features), float32(target), reduction="sum")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        features, target = ctx.saved_tensors
        difference = float32(features) - float32(target)
        return difference.mul_(2 * gradient).to(features.dtype), None


def _factor(parts: Sequence[StoredTensor], scaling: ContentScaling) -> float:
    """The factor on the sum of squared differences; ``parts`` are the target map's tiles."""
    count = max(sum(part.shape.numel() for part in parts), 1)
    if scaling != "relative":
        return published_factor(scaling, count)
    total, squares = torch.zeros(1), 0.0
    for part in parts:
        wide = part.load().double()
        total = total.to(wide) + wide.sum((0, 2, 3))  # (C,)
        squares += float(wide.square().sum())
    variation = squares - float(total.square().sum()) * total.numel() / count
    # A photo of one flat color has no variation beyond rounding. The sum of squares stands in, so
    # that the term stays finite.
    return 1.0 / ((variation if variation > 1e-12 * squares else squares) or 1.0)
