"""The histogram loss: projections of the features should have the painting's distribution.

Means and covariances do not tell a few strong responses from many weak ones; a histogram does. The
distributions of one dimension are compared by their squared Wasserstein-2 distance.

Sources: Heitz, Vanhoey, Chambon, Belcour, "A Sliced Wasserstein Loss for Neural Texture Synthesis"
(2021), equation 4: random directions. Risser, Wilmot, Barnes, "Stable and Controllable Neural
Texture Synthesis and Style Transfer Using Histogram Losses" (2017), section 4: each channel. Both
sort or match whole maps. Here distributions are histograms, which are sums over positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from impasto.objectives.base import Stats, TileContext, float32

BINS = 512  # half of them within the range of the painting
_VALUES = 1 << 20  # that are sorted into bins at a time


@dataclass(frozen=True)
class Projection:
    """Directions in the feature space of a layer, and the bins along each.

    ``directions`` (K, C), of length 1; None is each channel, K = C. ``low`` (K, 1) is the center of
    the first of ``BINS`` bins, ``width`` (K, 1) the distance between centers.
    """

    directions: Tensor | None
    low: Tensor
    width: Tensor

    def masses(self, features: Tensor) -> Tensor:
        """The histogram (K, BINS) of features (1, C, h, w): a sum over positions, differentiable.

        A position is shared between the two nearest bins.
        """
        projected = project(features, self.directions)
        masses: Tensor = _Masses.apply(projected, self.low, self.width)
        return masses


def project(features: Tensor, directions: Tensor | None) -> Tensor:
    """(1, C, h, w) -> (K, h w), float32 or better."""
    flat = float32(features)[0].flatten(1)
    return flat if directions is None else directions.to(flat) @ flat


def bins_of(lowest: Tensor, highest: Tensor) -> tuple[Tensor, Tensor]:
    """``low`` and ``width`` (K, 1) of bins for values from ``lowest`` to ``highest`` (K).

    Half of the range is left free on both sides, for a picture that goes beyond the painting.
    """
    span = (highest - lowest).clamp_min(1e-12)
    return (lowest - span / 2)[:, None], (2 * span / (BINS - 1))[:, None]


def squared_distance(masses: Tensor, target: Tensor) -> Tensor:
    """(K): the squared Wasserstein-2 distances of histograms (K, BINS) of sum 1, in bins squared.

    It is the integral over u in 0..1 of (P(u) - Q(u))^2 with P and Q the quantile functions.
    """
    distance: Tensor = _SquaredDistance.apply(masses, target)
    return distance


class Histogram:
    """The weighted sum over layers of mean squared distances of projections.

    A layer's value is C times the mean over directions of the squared distance, over the painting's
    mean squared norm (``relative``), or the mean itself. The first does not depend on the number of
    channels and means the same for every layer, as in ``style``.

    Args:
        projections: layer name -> directions and bins.
        target: layer name -> the painting's histograms (K, BINS), of sum 1 each.
        norms: layer name -> C over the painting's mean squared norm, or 1.
        strides: layer name -> picture pixels between positions of its map.
        weights: layer name -> factor.
    """

    name = "histogram"
    additive = True

    def __init__(
        self,
        projections: Mapping[str, Projection],
        target: Mapping[str, Tensor],
        norms: Mapping[str, float],
        strides: Mapping[str, int],
        weights: Mapping[str, float],
        weight: float,
    ) -> None:
        self.layers = {name: strides[name] for name in weights}
        self.weights = dict(weights)
        self.weight = weight
        self._projections, self._target, self._norms = dict(projections), dict(target), dict(norms)

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        own = {name: context.own(features[name], stride) for name, stride in self.layers.items()}
        return {name: self._projections[name].masses(own[name]) for name in self.layers}

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {name: self._layer(name, masses) for name, masses in stats.items()}

    def _layer(self, name: str, masses: Tensor) -> Tensor:
        shares = masses.double() / masses.sum(1, keepdim=True).clamp_min(1)
        distances = squared_distance(shares, self._target[name])
        width = self._projections[name].width[:, 0].to(distances)
        return self.weights[name] * self._norms[name] * (distances * width.square()).mean()


class _SquaredDistance(torch.autograd.Function):
    """The integral of (P - Q)^2 from one step of the two cumulative histograms to the next.

    With c_b the mass up to bin b, more of it moves mass at the level c_b from bin b + 1 to bin b.
    So the derivative in c_b is (b - Q(c_b))^2 - (b + 1 - Q(c_b))^2, also where bins are empty.
    """

    @staticmethod
    def forward(ctx: Any, masses: Tensor, target: Tensor) -> Tensor:
        ends = [each.cumsum(1).clamp(0, 1) for each in (masses, target)]
        levels = torch.cat(ends, 1).sort(1).values
        middles = (levels[:, 1:] + levels[:, :-1]) / 2
        first, second = (_quantiles(end, middles) for end in ends)
        ctx.save_for_backward(*ends)
        return (levels.diff(dim=1) * (first - second).square()).sum(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ends, target_ends = ctx.saved_tensors
        below = torch.arange(BINS, device=ends.device) - _quantiles(target_ends, ends)
        in_ends = (below.square() - (below + 1).square()).to(gradient)
        in_ends[:, -1] = 0  # the whole mass, always 1
        return gradient[:, None] * in_ends.flip(1).cumsum(1).flip(1), None


def _quantiles(ends: Tensor, levels: Tensor) -> Tensor:
    """The bin at which each cumulative histogram (K, BINS) reaches the levels (K, n)."""
    return torch.searchsorted(ends, levels).clamp_max(BINS - 1)


class _Masses(torch.autograd.Function):
    """Histograms (K, BINS) of values (K, n), each shared between its two nearest bins.

    Beyond the bins a value counts in the last one, and its gradient is that of the last two. So it
    is drawn back.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: Tensor, width: Tensor) -> Tensor:
        masses = values.new_zeros((len(values), BINS), dtype=torch.float64)
        bins = values.new_empty(values.shape, dtype=torch.int16)
        for rows in _chunks(values):
            place = (values[rows] - low[rows].to(values)) / width[rows].to(values)
            place.clamp_(0, BINS - 1)
            below = place.floor().clamp_max_(BINS - 2)
            upper, index = place.sub_(below).double(), below.long()
            masses[rows] = (
                masses[rows].scatter_add(1, index, 1 - upper).scatter_add(1, index + 1, upper)
            )
            bins[rows] = below.short()
        ctx.save_for_backward(bins, width)
        ctx.dtype = values.dtype
        return masses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        bins, width = ctx.saved_tensors
        slopes = (gradient.diff(dim=1) / width.to(gradient)).to(ctx.dtype)
        found = slopes.new_empty(bins.shape)
        for rows in _chunks(bins):
            found[rows] = slopes[rows].gather(1, bins[rows].long())
        return found, None, None


def _chunks(values: Tensor) -> Iterable[slice]:
    """Slices of rows with about ``_VALUES`` values each: indices need eight bytes a value."""
    step = max(1, _VALUES // max(1, values.shape[1]))
    return (slice(start, start + step) for start in range(0, len(values), step))
