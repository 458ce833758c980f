"""The style loss: distances between the statistics of feature maps and the painting's.

Source: Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style" (2015), equations 3 to 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from impasto.objectives import published_statistics as published
from impasto.objectives.base import Stats, TileContext
from impasto.objectives.moments import Moments, moment_sums, moments_from_sums
from impasto.objectives.wasserstein_distance import squared_wasserstein
from impasto.recipe.choices import Statistic


def gram_relative(current: Moments, target: Moments) -> Tensor:
    """The squared Frobenius distance of the Gram matrices over the target's squared norm.

    G = X X^T / (h w). 0 is the painting, 1 is black.
    """
    difference = (current.second - target.second).square().sum()
    return difference / target.second.square().sum().clamp_min(1e-24)


def wasserstein(current: Moments, target: Moments) -> Tensor:
    """The squared Wasserstein-2 distance of Gaussians over the target's mean squared norm.

    0 is the painting. The value means the same for every layer.
    """
    return squared_wasserstein(current, target) / target.mean_squared_norm


Distance = Callable[[Moments, Moments], Tensor]
STATISTICS: dict[Statistic, Distance] = {
    "gram": published.gram,
    "gram-gatys": published.gram_gatys,
    "gram-mean": published.gram_mean,
    "gram-relative": gram_relative,
    "gram-root": published.gram_root,
    "mean-deviation": published.mean_deviation,
    "mean-deviation-absolute": published.mean_deviation_absolute,
    "wasserstein": wasserstein,
    "wasserstein-absolute": published.wasserstein_absolute,
}


class Style:
    """The weighted sum over layers of distances between moments and the target's.

    Args:
        target: layer name -> moments of the painting.
        strides: layer name -> picture pixels between positions of its map.
        weights: layer name -> factor w_l.
        statistics: name from ``STATISTICS`` -> factor; several are added.
    """

    name = "style"
    additive = True

    def __init__(
        self,
        target: Mapping[str, Moments],
        strides: Mapping[str, int],
        weights: Mapping[str, float],
        statistics: Mapping[Statistic, float],
        weight: float,
    ) -> None:
        self.target = {name: target[name] for name in weights}
        self.layers = {name: strides[name] for name in weights}
        self.weights = dict(weights)
        self.statistics = dict(statistics)
        self.weight = weight

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        return moment_sums(features, self.layers, context)

    def score(self, stats: Stats) -> dict[str, Tensor]:
        current = moments_from_sums(stats)
        return {
            layer: self.weights[layer] * self._distance(current[layer], target)
            for layer, target in self.target.items()
        }

    def _distance(self, current: Moments, target: Moments) -> Tensor:
        parts = [
            factor * STATISTICS[name](current, target) for name, factor in self.statistics.items()
        ]
        return torch.stack(parts).sum()
