"""Content: how far the feature maps have moved from the photo's.

Source: Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style" (2015), equations 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Region
from impasto.objectives.base import Stats, TileContext
from impasto.recipe.choices import ContentScaling
from impasto.storage.tensors import StoredTensor


class Content:
    """Squared difference to the target maps, at the positions where they are.

    Args:
        targets: layer name -> core of each tile -> (1, C, h, w), what the tile owns of the photo's
            map at the size at hand.
        strides: layer name -> picture pixels between positions of its map.
        weights: layer name -> factor of its share.
        scaling: "sum" is sum (F - P)^2, "gatys" half of it (equation 1); "mean" is the mean over
            positions and channels, "root" the sum over the root of their number; "relative" is the
            sum over the sum of (P - mean of P)^2: 0 is the photo, 1 a map that knows nothing of it.
            It means the same for every photo, network and size, so it is what the house recipes
            use.
    """

    name = "content"
    additive = True

    def __init__(
        self,
        targets: Mapping[str, Mapping[Region, StoredTensor]],
        strides: Mapping[str, int],
        weights: Mapping[str, float],
        scaling: ContentScaling,
        weight: float,
    ) -> None:
        self.targets = {name: targets[name] for name in weights}
        self.layers = {name: strides[name] for name in weights}
        self.weights = dict(weights)
        self.weight = weight
        self._factors = {
            name: _factor(list(target.values()), scaling) for name, target in self.targets.items()
        }

    def measure(self, features: Mapping[str, Tensor], where: TileContext) -> Stats:
        stats: Stats = {}
        for name, stride in self.layers.items():
            own, target = (
                where.own(features[name], stride),
                self.targets[name][where.tile.core].load(),
            )
            stats[name] = _Apart.apply(own, target)
        return stats

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {
            name: weight * self._factors[name] * stats[name]
            for name, weight in self.weights.items()
        }


class _Apart(torch.autograd.Function):
    """The sum of (X - P)^2 of two maps, in float32 at least.

    The way back keeps the maps themselves, which are kept for other reasons too, and neither their
    differences nor their copies in float32: those of several tiles may wait side by side.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(own, target)
        return functional.mse_loss(_wide(own), _wide(target), reduction="sum")

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None]:
        own, target = ctx.saved_tensors
        return (_wide(own) - _wide(target)).mul_(2 * given).to(own.dtype), None


def _wide(maps: Tensor) -> Tensor:
    return maps.float() if maps.dtype == torch.bfloat16 else maps


def _factor(parts: Sequence[StoredTensor], scaling: ContentScaling) -> float:
    """What the sum of squared differences is multiplied by; ``parts`` are the target map, tile by
    tile.
    """
    count = max(sum(part.shape.numel() for part in parts), 1)
    plain = {"sum": 1.0, "gatys": 0.5, "mean": 1.0 / count, "root": count**-0.5}
    if scaling in plain:
        return plain[scaling]
    total, squares = torch.zeros(1), 0.0
    for part in parts:
        wide = part.load().double()
        total = total.to(wide) + wide.sum((0, 2, 3))  # (C,)
        squares += float(wide.square().sum())
    spread = squares - float(total.square().sum()) * total.numel() / count
    # A photo of one flat colour has no spread beyond rounding; the mean square stands in so that
    # the term stays finite.
    return 1.0 / ((spread if spread > 1e-12 * squares else squares) or 1.0)
