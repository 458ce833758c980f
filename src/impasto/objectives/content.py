"""Content: how far the feature maps have moved from the photo's.

Source: Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style" (2015), equations 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from impasto.objectives.base import Stats, Where

Scaling = Literal["relative", "mean", "gatys"]


class Content:
    """Squared difference to the target maps, at the positions where they are.

    Args:
        targets: layer name -> (1, C, h, w), the photo's maps at the size at hand.
        strides: layer name -> picture pixels between positions of its map.
        weights: layer name -> factor of its share.
        scaling: "gatys" is half the sum, 1/2 sum (F - P)^2 (equation 1); "mean" is the mean over positions and channels;
            "relative" is the sum over the sum of (P - mean of P)^2: 0 is the photo, 1 a map that knows nothing of it.
            Relative means the same for every photo, network and size, so it is what the house recipes use.
    """

    name = "content"
    additive = True

    def __init__(
        self,
        targets: Mapping[str, Tensor],
        strides: Mapping[str, int],
        weights: Mapping[str, float],
        scaling: Scaling,
        weight: float,
    ) -> None:
        self.targets = {name: targets[name].detach() for name in weights}
        self.layers = {name: strides[name] for name in weights}
        self.weights = dict(weights)
        self.weight = weight
        self._factors = {name: _factor(target, scaling) for name, target in self.targets.items()}

    def measure(self, features: Mapping[str, Tensor], where: Where) -> Stats:
        stats: Stats = {}
        for name, stride in self.layers.items():
            rows, columns = where.region(stride).slices
            own = where.own(features[name], stride)
            error = own - self.targets[name][..., rows, columns]
            wide = error if error.dtype == torch.float64 else error.float()
            stats[name] = (wide * wide).sum()
        return stats

    def score(self, stats: Stats) -> Tensor:
        parts = [weight * self._factors[name] * stats[name] for name, weight in self.weights.items()]
        return torch.stack(parts).sum()


def _factor(target: Tensor, scaling: Scaling) -> float:
    if scaling == "gatys":
        return 0.5
    if scaling == "mean":
        return 1.0 / target.numel()
    wide = target.double()
    spread = float(((wide - wide.mean((-2, -1), keepdim=True)) ** 2).sum())
    # A photo of one flat colour has no spread; the mean square stands in so that the term stays a finite number.
    return 1.0 / (spread or float((wide**2).sum()) or 1.0)
