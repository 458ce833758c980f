"""The content loss on normalized maps: how well each channel still correlates with the photo's.

With every channel of both maps brought to mean 0 and deviation 1, the mean squared difference is
2 (1 - r), where r is the correlation of the channel with the photo's. So the loss keeps where
things are. It leaves to the style how bright and how varied each channel is.

With a mask, means, deviations and correlations are those of the masked positions: each counts as
much as the mask says there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from impasto.geometry import Region
from impasto.objectives.base import Stats, TileContext, float32
from impasto.objectives.content import PhotoTerm
from impasto.storage.tensors import StoredTensor

# Added to the variance of a channel, as a share of the mean square of the photo's map. A channel
# that is 0 everywhere then has no correlation and a finite gradient.
_LEAST_VARIANCE = 1e-5
_KINDS = ("sum", "squares", "products")


@dataclass(frozen=True)
class _Channels:
    """The channels of the photo's map of one layer, float64.

    ``count``: positions, or the sum of the mask. ``mean`` and ``deviation``: (C,). ``floor``: what
    is added to a variance.
    """

    count: float
    mean: Tensor
    deviation: Tensor
    floor: Tensor

    @classmethod
    def of(cls, parts: Sequence[StoredTensor], masks: Sequence[Tensor | None]) -> _Channels:
        """Measure a map whose tiles are ``parts``, each (1, C, h, w), with masks (h, w)."""
        count, sums = 0.0, []
        for part, mask in zip(parts, masks, strict=True):
            x = part.load().double()
            weighted = x if mask is None else x * mask.to(x)
            sums.append((weighted.sum((0, 2, 3)), (weighted * x).sum((0, 2, 3))))
            count += x[0, 0].numel() if mask is None else float(mask.double().sum())
        mean, square = (torch.stack(each).sum(0) / count for each in zip(*sums, strict=True))
        floor = (_LEAST_VARIANCE * square.mean()).clamp_min(1e-24)
        variance = square - mean.square()
        # A channel without variation beyond rounding has nothing that could be kept.
        varied = variance > 1e-9 * square + 1e-3 * floor
        deviation = torch.where(varied, (variance.clamp_min(0) + floor).sqrt(), torch.inf)
        return cls(count, mean, deviation, floor)


class NormalizedContent(PhotoTerm):
    """The weighted sum over layers of the mean over channels of 2 (1 - correlation).

    0 is the photo, 2 a picture without any relation to it.

    Args:
        targets, strides, weights, weight: as for ``PhotoTerm``.
        masks: layer name -> core of each tile -> (h, w), the mask at the tile's own positions,
            0..1 and not 0 everywhere. None: every position counts.
    """

    def __init__(
        self,
        targets: Mapping[str, Mapping[Region, StoredTensor]],
        strides: Mapping[str, int],
        weights: Mapping[str, float],
        weight: float,
        masks: Mapping[str, Mapping[Region, Tensor]] | None = None,
    ) -> None:
        super().__init__(targets, strides, weights, weight)
        self._masks = masks
        self._photo = {
            name: _Channels.of(list(target.values()), [self._mask(name, core) for core in target])
            for name, target in self.targets.items()
        }

    def _mask(self, name: str, core: Region) -> Tensor | None:
        return None if self._masks is None else self._masks[name][core]

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        stats: Stats = {}
        for name, own, target in self.pairs(features, context):
            mask = self._mask(name, context.tile.core)
            sums = _Sums.apply(own, target, self._photo[name].mean, mask)
            for kind, value in zip(_KINDS, sums, strict=True):
                stats[f"{name}.{kind}"] = value
        return stats

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {name: weight * self._distance(name, stats) for name, weight in self.weights.items()}

    def _distance(self, name: str, stats: Stats) -> Tensor:
        photo = self._photo[name]
        mean, square, covariance = (
            stats[f"{name}.{kind}"].double() / photo.count for kind in _KINDS
        )
        variance = (square - mean.square()).clamp_min(0) + photo.floor
        correlation = covariance / variance.sqrt() / photo.deviation
        varied = photo.deviation.isfinite()
        return 2 * (1 - correlation[varied]).sum() / varied.sum().clamp_min(1)


class Protected(NormalizedContent):
    """The same within parts of the photo, such as faces: eyes and mouths stay where they are."""

    name = "protected"


class _Sums(torch.autograd.Function):
    """Per channel: the sums of F, of F^2, and of F (P - mean of P), each (C,), float32 or better.

    One pass over the maps in each direction, and no copy of them stays in memory.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, target: Tensor, mean: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.mask = mask
        ctx.save_for_backward(features, target, mean)
        x = float32(features)
        weighted = x if mask is None else x * mask.to(x)
        return (
            weighted.sum((0, 2, 3)),
            (weighted * x).sum((0, 2, 3)),
            (weighted * _centered(target, mean)).sum((0, 2, 3)),
        )

    @staticmethod
    def backward(
        ctx: Any, in_sum: Tensor, in_squares: Tensor, in_products: Tensor
    ) -> tuple[Tensor, None, None, None]:
        features, target, mean = ctx.saved_tensors
        gradient = _centered(target, mean).mul_(_by_channel(in_products))
        gradient.addcmul_(float32(features), _by_channel(2 * in_squares))
        gradient.add_(_by_channel(in_sum))
        if ctx.mask is not None:
            gradient.mul_(ctx.mask.to(gradient))
        return gradient.to(features.dtype), None, None, None


def _centered(target: Tensor, mean: Tensor) -> Tensor:
    wide = float32(target)
    return wide - _by_channel(mean.to(wide))


def _by_channel(values: Tensor) -> Tensor:
    return values[:, None, None]
