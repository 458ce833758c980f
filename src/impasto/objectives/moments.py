"""The moments of feature maps: count, mean and second moment of the positions of each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from impasto.objectives.base import Stats, TileContext
from impasto.objectives.symmetric_eigen import eigh

RANK_TOLERANCE = 1e-6  # eigenvalues below this share of the largest are rounding errors
_FLOAT32_VALUES = 2**19  # values of a bfloat16 map that are converted to float32 at a time


@dataclass(frozen=True)
class Moments:
    """Moments of one layer.

    ``count``: number of positions. ``mean``: (C,). ``second``: the second moment (C, C), the mean
    of x x^T, which is the Gram matrix divided by the count.
    """

    count: Tensor
    mean: Tensor
    second: Tensor

    @property
    def channels(self) -> int:
        return self.mean.numel()

    @property
    def covariance(self) -> Tensor:
        """The covariance (C, C), divided by the count of positions."""
        return self.second - torch.outer(self.mean, self.mean)

    @property
    def mean_squared_norm(self) -> Tensor:
        """The mean of |x|^2 over positions (0-d); relative distances are divided by it."""
        return self.second.diagonal().sum().clamp_min(1e-12)  # a layer can be all zeros

    @cached_property
    def covariance_factor(self) -> Tensor:
        """A matrix R (C, r) with R R^T the covariance and r its rank; used for targets only.

        A small picture has fewer positions than channels, so r is often far below C.
        """
        if not self.covariance.isfinite().all():  # eigh would raise an error of its own
            return torch.full_like(self.mean[:, None], torch.nan)
        values, vectors = eigh(self.covariance)
        nonzero = values > values[-1].clamp_min(0) * RANK_TOLERANCE  # eigh returns rising values
        return vectors[:, nonzero] * values[nonzero].sqrt()


def moment_sums(
    features: Mapping[str, Tensor], strides: Mapping[str, int], context: TileContext
) -> Stats:
    """Count, sum and sum of outer products of each layer, over the tile's own positions."""
    stats: Stats = {}
    for name, stride in strides.items():
        own = context.own(features[name], stride)
        total, outer = sum_and_outer(own)
        stats[f"{name}.count"] = total.new_tensor(float(own.shape[-1] * own.shape[-2]))
        stats[f"{name}.sum"] = total
        stats[f"{name}.outer"] = outer
    return stats


def moments_from_sums(stats: Stats) -> dict[str, Moments]:
    """The moments of each layer in float64, from ``moment_sums`` of a whole picture.

    In float32 the gradient of the Wasserstein distance would be wrong in its fourth digit.
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


def mixture_moments(
    targets: Sequence[Mapping[str, Moments]], shares: Sequence[float]
) -> dict[str, Moments]:
    """The moments of a mixture of several paintings, each with its share of the positions."""
    total = sum(shares)
    weights = [share / total for share in shares]

    def mixed(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack([w * each for w, each in zip(weights, tensors, strict=True)]).sum(0)

    return {
        name: Moments(
            targets[0][name].count,
            mixed([target[name].mean for target in targets]),
            mixed([target[name].second for target in targets]),
        )
        for name in targets[0]
    }


def scaled_moments(moments: Mapping[str, Moments], gain: float) -> dict[str, Moments]:
    """Moments with Gram matrices times ``gain``, those of feature maps times its square root."""
    return {
        name: Moments(each.count, each.mean * gain**0.5, each.second * gain)
        for name, each in moments.items()
    }


def sum_and_outer(features: Tensor) -> tuple[Tensor, Tensor]:
    """The sum (C,) and the sum of outer products (C, C) over the positions of a map (1, C, h, w).

    Both are in float32 or better.
    """
    return _SumAndOuter.apply(features)


class _SumAndOuter(torch.autograd.Function):
    """``sum_and_outer`` with one matrix product in the backward pass, in the map's own type.

    torch's own gradient takes two products.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(features)
        x = _positions(features)  # (n, C)
        if x.dtype in (torch.float32, torch.float64):
            return x.sum(0), x.T @ x  # (C,), (C, C)
        # In chunks: a float32 copy of the whole map would be the largest tensor in memory.
        total = features.new_zeros(x.shape[1], dtype=torch.float32)
        outer = features.new_zeros((x.shape[1], x.shape[1]), dtype=torch.float32)
        for chunk in x.split(max(1, _FLOAT32_VALUES // x.shape[1])):
            wide = chunk.float()
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
        if features.is_contiguous():  # the gradient has the map's memory layout
            return torch.addmm(total[:, None], both, x.T).view(1, channels, height, width)
        return torch.addmm(total, x, both).view(height, width, channels).permute(2, 0, 1)[None]


def _positions(features: Tensor) -> Tensor:
    """(1, C, h, w) -> (h*w, C), without a copy if the map is contiguous or channels-last."""
    _, channels, height, width = features.shape
    if features.is_contiguous():
        return features.view(channels, height * width).T
    return features[0].permute(1, 2, 0).reshape(height * width, channels)
