"""Style: how far the statistics of the feature maps are from the painting's, wherever they occur in the picture.

Sources: Gatys, Ecker, Bethge (2015), equations 3 to 5, for Gram matrices; Li, Wang, Liu, Hou, "Demystifying Neural Style
Transfer" (2017), for means and deviations; Dowson and Landau, "The Frechet distance between multivariate normal
distributions" (1982), for the Wasserstein distance of Gaussians.
It knows sums and their distances; it refuses to know where the maps came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from impasto.objectives.base import Stats, Where, moments
from impasto.recipe import Statistic as StatisticName


@dataclass(frozen=True)
class Moments:
    """Statistics of one layer: ``count`` positions, ``mean`` (C,) and ``second`` (C, C), the mean of x x^T."""

    count: Tensor
    mean: Tensor
    second: Tensor

    @property
    def covariance(self) -> Tensor:
        """(C, C), of the whole set of positions (divided by their count)."""
        return self.second - torch.outer(self.mean, self.mean)

    @property
    def power(self) -> Tensor:
        """The mean squared length of x (0-d): what makes a distance relative."""
        return self.second.diagonal().sum()

    @cached_property
    def root(self) -> Tensor:
        """The symmetric square root of the covariance (C, C); asked of targets alone, once."""
        if not self.covariance.isfinite().all():  # which eigh would answer with an error of its own
            return torch.full_like(self.second, torch.nan)
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp_min(0).sqrt()) @ vectors.T

    @property
    def channels(self) -> int:
        return self.mean.numel()


def gram(found: Moments, target: Moments) -> Tensor:
    """Mean squared difference of the Gram matrices, each divided by its count: sum (G - A)^2 / (4 C^2), G = X X^T / (h w).

    Gatys' equation 4 with the two counts kept apart, so that a painting of another size is compared fairly.
    """
    return (found.second - target.second).square().sum() / (4 * target.channels**2)


def gram_gatys(found: Moments, target: Moments) -> Tensor:
    """Equation 4 to the letter: sum (G - A)^2 / (4 N^2 M^2), with G and A the undivided sums and M the picture's count."""
    difference = found.second * found.count - target.second * target.count
    return difference.square().sum() / (4 * target.channels**2 * found.count**2)


def gram_relative(found: Moments, target: Moments) -> Tensor:
    """Squared distance of the Gram matrices over the target's squared length: 0 is the painting, 1 is black."""
    return (found.second - target.second).square().sum() / target.second.square().sum()


def mean_deviation(found: Moments, target: Moments) -> Tensor:
    """Squared differences of the means and of the standard deviations, over the target's power."""
    spread = _deviation(found) - _deviation(target)
    return ((found.mean - target.mean).square().sum() + spread.square().sum()) / target.power


def wasserstein(found: Moments, target: Moments) -> Tensor:
    """Squared Wasserstein-2 distance between the Gaussians of these means and covariances, over the target's power.

    |m - n|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2. At 0 the two agree; the value means the same for every layer.
    """
    apart = (found.mean - target.mean).square().sum()
    spread = found.covariance.diagonal().sum() + target.covariance.diagonal().sum()
    return (apart + spread - 2 * _RootFidelity.apply(found.covariance, target.root)) / target.power


Distance = Callable[[Moments, Moments], Tensor]

STATISTICS: dict[StatisticName, Distance] = {
    "gram": gram,
    "gram-gatys": gram_gatys,
    "gram-relative": gram_relative,
    "mean-deviation": mean_deviation,
    "wasserstein": wasserstein,
}


class Style:
    """Weighted distances of layer statistics to a target's.

    Args:
        target: layer name -> Moments of the painting (see ``target_of``).
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
        statistics: Mapping[StatisticName, float],
        weight: float,
    ) -> None:
        self.target = {name: target[name] for name in weights}
        self.layers = {name: strides[name] for name in weights}
        self.weights = dict(weights)
        self.statistics = dict(statistics)
        self.weight = weight

    def measure(self, features: Mapping[str, Tensor], where: Where) -> Stats:
        return measure(features, self.layers, where)

    def score(self, stats: Stats) -> Tensor:
        found = summarise(stats)
        parts = [
            factor * self.weights[layer] * STATISTICS[statistic](found[layer], target)
            for statistic, factor in self.statistics.items()
            for layer, target in self.target.items()
        ]
        return torch.stack(parts).sum()


def measure(features: Mapping[str, Tensor], strides: Mapping[str, int], where: Where) -> Stats:
    """Count, sum and sum of outer products of each layer, over the positions that ``where`` owns."""
    stats: Stats = {}
    for name, stride in strides.items():
        own = where.own(features[name], stride)
        total, outer = moments(own)
        stats[f"{name}.count"] = total.new_tensor(float(own.shape[-1] * own.shape[-2]))
        stats[f"{name}.sum"] = total
        stats[f"{name}.outer"] = outer
    return stats


def summarise(stats: Stats) -> dict[str, Moments]:
    """From the sums over a whole picture to the moments of each layer."""
    names = [key.removesuffix(".count") for key in stats if key.endswith(".count")]
    return {
        name: Moments(
            stats[f"{name}.count"],
            stats[f"{name}.sum"] / stats[f"{name}.count"],
            stats[f"{name}.outer"] / stats[f"{name}.count"],
        )
        for name in names
    }


def blend(targets: Sequence[Mapping[str, Moments]], shares: Sequence[float]) -> dict[str, Moments]:
    """Several paintings as one: the moments of a mixture that takes its positions from each by its share."""
    total = sum(shares)
    parts = [share / total for share in shares]
    return {
        name: Moments(
            targets[0][name].count,
            torch.stack([part * each[name].mean for part, each in zip(parts, targets, strict=True)]).sum(0),
            torch.stack([part * each[name].second for part, each in zip(parts, targets, strict=True)]).sum(0),
        )
        for name in targets[0]
    }


def _deviation(found: Moments) -> Tensor:
    # The square root has no derivative at 0, where a channel never fires: a floor keeps it finite.
    return (found.second.diagonal() - found.mean.square()).clamp_min(1e-8).sqrt()


class _RootFidelity(torch.autograd.Function):
    """tr (R B R)^1/2 for a covariance B (C, C) and the root R of another, with its closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, found: Tensor, root: Tensor) -> Tensor:
        product = root @ found @ root
        if not product.isfinite().all():  # the loss is to say so, not eigh
            product = torch.full_like(product, torch.nan)
            ctx.save_for_backward(root, product[0], product)
            return product.sum()
        values, vectors = torch.linalg.eigh(product)
        values = values.clamp_min(0)
        ctx.save_for_backward(root, values, vectors)
        return values.sqrt().sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        root, values, vectors = ctx.saved_tensors
        # 1/2 R (R B R)^-1/2 R; directions that the painting or the picture lacks carry nothing.
        inverse = torch.where(values > values.max() * _RANK, values.rsqrt(), torch.zeros_like(values))
        side = root @ vectors
        return gradient * 0.5 * (side * inverse) @ side.T, None


_RANK = 1e-7  # eigenvalues below this share of the largest are rounding
