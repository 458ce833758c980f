"""Style: how far the statistics of the feature maps are from the painting's, wherever they occur in
the picture.

Sources: Gatys, Ecker, Bethge (2015), equations 3 to 5, for Gram matrices; Li, Wang, Liu, Hou,
"Demystifying Neural Style Transfer" (2017), for means and deviations; Dowson and Landau, "The
Frechet distance between multivariate normal distributions" (1982), for the Wasserstein distance of
Gaussians. It knows sums and their distances; it refuses to know where the maps came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from impasto.objectives.base import Stats, TileContext, moments
from impasto.recipe.choices import Statistic


@dataclass(frozen=True)
class Moments:
    """Statistics of one layer: ``count`` positions, ``mean`` (C,) and ``second`` (C, C), the mean
    of x x^T.
    """

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
        return self.second.diagonal().sum().clamp_min(1e-12)  # a layer that never fires has none

    @cached_property
    def factor(self) -> Tensor:
        """R (C, r) with R R^T the covariance and r its rank; asked of targets alone, once.

        A small picture has fewer positions than channels, so r is often far below C.
        """
        if not self.covariance.isfinite().all():  # which eigh would answer with an error of its own
            return torch.full_like(self.mean[:, None], torch.nan)
        values, vectors = _eigh(self.covariance)
        present = values > values[-1].clamp_min(0) * _RANK  # eigh gives them in rising order
        return vectors[:, present] * values[present].sqrt()

    @property
    def channels(self) -> int:
        return self.mean.numel()


def gram(found: Moments, target: Moments) -> Tensor:
    """Mean squared difference of the Gram matrices, each divided by its count: sum (G - A)^2 / (4
    C^2), G = X X^T / (h w).

    Gatys' equation 4 with the two counts kept apart, so that a painting of another size is compared
    fairly.
    """
    return (found.second - target.second).square().sum() / (4 * target.channels**2)


def gram_gatys(found: Moments, target: Moments) -> Tensor:
    """Equation 4 to the letter: sum (G - A)^2 / (4 N^2 M^2), with G and A the undivided sums and M
    the picture's count.
    """
    difference = found.second * found.count - target.second * target.count
    return difference.square().sum() / (4 * target.channels**2 * found.count**2)


def gram_mean(found: Moments, target: Moments) -> Tensor:
    """Mean squared difference of Gram matrices that are divided by all of C h w: sum (G - A)^2 /
    C^2, G = X X^T / (C h w).

    Johnson, Alahi, Li, "Perceptual Losses" (2016), section 3.2, but for their sum instead of the
    mean.
    """
    return (found.second - target.second).square().sum() / target.channels**4


def gram_root(found: Moments, target: Moments) -> Tensor:
    """The Gram matrices, each divided by the root of its count: sum (G - A)^2 / (4 C^2), G = X X^T
    / sqrt(h w).
    """
    difference = found.second * found.count.sqrt() - target.second * target.count.sqrt()
    return difference.square().sum() / (4 * target.channels**2)


def gram_relative(found: Moments, target: Moments) -> Tensor:
    """Squared distance of the Gram matrices over the target's squared length: 0 is the painting, 1
    is black.
    """
    return (found.second - target.second).square().sum() / target.second.square().sum().clamp_min(
        1e-24
    )


def mean_deviation(found: Moments, target: Moments) -> Tensor:
    """Squared differences of the means and of the standard deviations, over the target's power."""
    return _mean_deviation(found, target) / target.power


def mean_deviation_absolute(found: Moments, target: Moments) -> Tensor:
    """Mean squared differences of the means and of the standard deviations, over channels."""
    return _mean_deviation(found, target) / target.channels


def _mean_deviation(found: Moments, target: Moments) -> Tensor:
    spread = _deviation(found) - _deviation(target)
    return (found.mean - target.mean).square().sum() + spread.square().sum()


def wasserstein(found: Moments, target: Moments) -> Tensor:
    """Squared Wasserstein-2 distance between the Gaussians of these means and covariances, over the
    target's power.

    |m - n|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2. At 0 the two agree; the value means the same
    for every layer.
    """
    return _wasserstein(found, target) / target.power


def wasserstein_absolute(found: Moments, target: Moments) -> Tensor:
    """The squared Wasserstein-2 distance over the number of channels."""
    return _wasserstein(found, target) / target.channels


def _wasserstein(found: Moments, target: Moments) -> Tensor:
    apart = (found.mean - target.mean).square().sum()
    spread = found.covariance.diagonal().sum() + target.covariance.diagonal().sum()
    return apart + spread - 2 * _RootFidelity.apply(found.covariance, target.factor)


Distance = Callable[[Moments, Moments], Tensor]
STATISTICS: dict[Statistic, Distance] = {
    "gram": gram,
    "gram-gatys": gram_gatys,
    "gram-mean": gram_mean,
    "gram-relative": gram_relative,
    "gram-root": gram_root,
    "mean-deviation": mean_deviation,
    "mean-deviation-absolute": mean_deviation_absolute,
    "wasserstein": wasserstein,
    "wasserstein-absolute": wasserstein_absolute,
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
        statistics: Mapping[Statistic, float],
        weight: float,
    ) -> None:
        self.target = {name: target[name] for name in weights}
        self.layers = {name: strides[name] for name in weights}
        self.weights = dict(weights)
        self.statistics = dict(statistics)
        self.weight = weight

    def measure(self, features: Mapping[str, Tensor], where: TileContext) -> Stats:
        return measure(features, self.layers, where)

    def score(self, stats: Stats) -> dict[str, Tensor]:
        found = summarise(stats)
        return {
            layer: self.weights[layer] * self._distance(found[layer], target)
            for layer, target in self.target.items()
        }

    def _distance(self, found: Moments, target: Moments) -> Tensor:
        parts = [
            factor * STATISTICS[name](found, target) for name, factor in self.statistics.items()
        ]
        return torch.stack(parts).sum()


def measure(
    features: Mapping[str, Tensor], strides: Mapping[str, int], where: TileContext
) -> Stats:
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
    """From the sums over a whole picture to the moments of each layer, in float64.

    Differences and eigenvalues of sums that were rounded once must not be rounded again: in float32
    the gradient of the Wasserstein distance is wrong in its fourth digit.
    """
    names = [key.removesuffix(".count") for key in stats if key.endswith(".count")]
    wide = {name: stat.double() for name, stat in stats.items()}
    return {
        name: Moments(
            wide[f"{name}.count"],
            wide[f"{name}.sum"] / wide[f"{name}.count"],
            wide[f"{name}.outer"] / wide[f"{name}.count"],
        )
        for name in names
    }


def blend(targets: Sequence[Mapping[str, Moments]], shares: Sequence[float]) -> dict[str, Moments]:
    """Several paintings as one: the moments of a mixture that takes its positions from each by its
    share.
    """
    total = sum(shares)
    parts = [share / total for share in shares]
    return {
        name: Moments(
            targets[0][name].count,
            torch.stack(
                [part * each[name].mean for part, each in zip(parts, targets, strict=True)]
            ).sum(0),
            torch.stack(
                [part * each[name].second for part, each in zip(parts, targets, strict=True)]
            ).sum(0),
        )
        for name in targets[0]
    }


def exaggerated(target: Mapping[str, Moments], gain: float) -> dict[str, Moments]:
    """The target with its Gram matrices times ``gain``, as if every map were times the root of it."""
    return {
        name: Moments(each.count, each.mean * gain**0.5, each.second * gain)
        for name, each in target.items()
    }


def _deviation(found: Moments) -> Tensor:
    # The square root has no derivative at 0, where a channel never fires: a floor keeps it finite.
    return (found.second.diagonal() - found.mean.square()).clamp_min(1e-8).sqrt()


class _RootFidelity(torch.autograd.Function):
    """tr (A^1/2 B A^1/2)^1/2 for covariances B (C, C) and A = R R^T, R (C, r), with its closed-form
    gradient in B.

    R^T B R has the same eigenvalues other than 0 as A^1/2 B A^1/2.
    """

    @staticmethod
    def forward(ctx: Any, found: Tensor, factor: Tensor) -> Tensor:
        product = factor.T @ found @ factor  # (r, r)
        if product.isfinite().all():
            values, vectors = _eigh(product)
        else:  # the loss is to say so, not eigh
            values, vectors = torch.full_like(product[0], torch.nan), product
        # What is below the rounding of sums in float32 is nothing, here as in the gradient.
        # Eigh gives them in rising order; there are none where the target is flat.
        largest = values[-1:].clamp_min(0)
        values = torch.where(values <= largest * _RANK, torch.zeros_like(values), values)
        ctx.save_for_backward(factor, values, vectors)
        return values.sqrt().sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        factor, values, vectors = ctx.saved_tensors
        inverse = torch.where(values > 0, values.rsqrt(), values)
        side = factor @ vectors  # (C, r)
        return gradient * 0.5 * (side * inverse) @ side.T, None


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues in rising order, and eigenvectors, of a symmetric matrix.

    On the CPU by one thread: a matrix this small gains nothing by more, and where another program
    holds a core each of its many steps waits for it; 512 x 512 took 7 s instead of 0.05.
    """
    if matrix.device.type != "cpu" or (threads := torch.get_num_threads()) == 1:
        values, vectors = torch.linalg.eigh(matrix)
        return values, vectors
    torch.set_num_threads(1)
    try:
        values, vectors = torch.linalg.eigh(matrix)
    finally:
        torch.set_num_threads(threads)
    return values, vectors


_RANK = 1e-6  # eigenvalues below this share of the largest are rounding
