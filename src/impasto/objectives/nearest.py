"""The nearest-neighbor loss: each place of the picture should look like some place of the painting.

Which place that is, its match, is found once for each size: the position of the painting whose
features are the most similar to those of the photo there. Statistics ask for the painting's average
everywhere. Matches ask each place for features that exist in the painting, and similar things for
similar features.

Source: Kolkin, Kucera, Paris, Sykora, Shechtman, Shakhnarovich, "Neural Neighbor Style Transfer"
(2022), section 3. Here the queries are the photo's features alone, and the maps keep their strides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Region
from impasto.objectives.base import Stats, TileContext, float32
from impasto.storage.tensors import StoredTensor

MOST_ROWS = 16_384  # positions of the painting that are searched
FINEST_STRIDE = 4  # px between the places that are matched
_QUERIES = 512  # places that are compared with the whole bank at a time


@dataclass(frozen=True)
class Places:
    """The common grid of places for maps of several strides, and the scale of each map.

    ``layers``: stride by layer. ``scales``: factor by layer, which gives all layers the same weight
    in a similarity.
    """

    layers: Mapping[str, int]
    scales: Mapping[str, float]

    @property
    def coarsest(self) -> int:
        """The largest stride, px. The places of a tile are those below its coarsest map."""
        return max(self.layers.values())

    @property
    def stride(self) -> int:
        """The distance between places, px."""
        return min(FINEST_STRIDE, self.coarsest)

    def parts(self, features: Mapping[str, Tensor], context: TileContext) -> dict[str, Tensor]:
        """The tile's own part of each map (1, C, h, w), cut to whole places."""
        own = {name: context.own(features[name], stride) for name, stride in self.layers.items()}
        rows, columns = context.region(self.coarsest).size
        return {
            name: own[name][
                ..., : rows * (self.coarsest // stride), : columns * (self.coarsest // stride)
            ]
            for name, stride in self.layers.items()
        }

    def at_places(self, part: Tensor, layer: str) -> Tensor:
        """A layer's features at the places, scaled: (1, C, h, w) -> (places, C), float32 or better.

        Finer maps are averaged, coarser ones repeated.
        """
        pooled = _pooled(float32(part), self.layers[layer], self.stride) * self.scales[layer]
        return pooled[0].flatten(1).T

    def spread(self, gradient: Tensor, part: Tensor, layer: str) -> Tensor:
        """The gradient in a part from that in ``at_places``: the adjoint of that function."""
        stride = self.layers[layer]
        height, width = (side * stride // self.stride for side in part.shape[-2:])
        grid = gradient.T.reshape(1, -1, height, width) * self.scales[layer]
        if stride > self.stride:
            grid = functional.avg_pool2d(grid, stride // self.stride, divisor_override=1)
        elif stride < self.stride:
            grid = _repeated(grid, self.stride // stride) / (self.stride // stride) ** 2
        return grid.to(part.dtype)

    def joined(self, features: Mapping[str, Tensor], context: TileContext) -> Tensor:
        """The features of all layers at the places of a tile: (places, C of all layers)."""
        parts = self.parts(features, context)
        return torch.cat([self.at_places(parts[name], name) for name in self.layers], 1)


class Nearest:
    """The mean over places of 1 - the cosine similarity to the matched features of the painting.

    Args:
        bank: (rows, C of all layers), features of the painting, each of length 1.
        matches: core of each tile -> (places,), the row of the bank for each place.
        places: the grid of places.
    """

    name = "nearest"
    additive = True

    def __init__(
        self,
        bank: Tensor,
        matches: Mapping[Region, StoredTensor],
        places: Places,
        weight: float,
    ) -> None:
        self.bank = bank
        self.matches = matches
        self.places = places
        self.layers = dict(places.layers)
        self.weight = weight

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        parts = self.places.parts(features, context)
        match = self.matches[context.tile.core].load()
        similarity = _Similarity.apply(self.bank, match, self.places, *parts.values())
        return {"nearest.sum": similarity, "nearest.count": similarity.new_tensor(len(match))}

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {"nearest": 1 - stats["nearest.sum"] / stats["nearest.count"].clamp_min(1)}


class _Similarity(torch.autograd.Function):
    """The sum over places of the cosine similarity of features and their matches.

    With h the features of a place, e = h / |h| and t the match, of length 1, the gradient of
    <e, t> in h is (t - <e, t> e) / |h|. Layers are handled one after the other: the features of
    all layers at the places would be the largest tensor in memory.
    """

    @staticmethod
    def forward(ctx: Any, bank: Tensor, match: Tensor, places: Places, *parts: Tensor) -> Tensor:
        products, squares = bank.new_zeros(len(match)), bank.new_zeros(len(match))
        for layer, part, target in _by_layer(bank, match, places, parts):
            h = places.at_places(part, layer)
            products += (h * target).sum(1)
            squares += h.square().sum(1)
        length = squares.clamp_min(1e-24).sqrt()
        cosine = products / length
        ctx.places = places
        ctx.save_for_backward(bank, match, length, cosine, *parts)
        return cosine.sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        bank, match, length, cosine, *parts = ctx.saved_tensors
        gradients = []
        for layer, part, target in _by_layer(bank, match, ctx.places, parts):
            h = ctx.places.at_places(part, layer)
            in_h = (target - h * (cosine / length)[:, None]) * (gradient / length)[:, None]
            gradients.append(ctx.places.spread(in_h, part, layer))
        return None, None, None, *gradients


def _by_layer(
    bank: Tensor, match: Tensor, places: Places, parts: Sequence[Tensor]
) -> Iterable[tuple[str, Tensor, Tensor]]:
    """Layer, part and matched rows (places, C) of each layer."""
    columns = bank.split([part.shape[1] for part in parts], 1)
    for layer, part, own in zip(places.layers, parts, columns, strict=True):
        yield layer, part, own[match]


def closest_rows(queries: Tensor, mean: Tensor, bank: Tensor) -> Tensor:
    """For each query (n, C) the row of the bank (rows, C) with the largest cosine similarity.

    Both are centered first: the queries at ``mean``, the bank at its own mean. Returns int32 (n,).
    Where two rows are equally close to rounding, either may be found.
    """
    centered = bank - bank.mean(0)
    centered /= centered.norm(dim=1, keepdim=True).clamp_min(1e-12)
    # The length of a query does not change which row is the closest.
    found = [((chunk - mean) @ centered.T).argmax(1).int() for chunk in queries.split(_QUERIES)]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int32)


def _pooled(part: Tensor, stride: int, to: int) -> Tensor:
    """A map (1, C, h, w) of one stride at another: averaged or repeated."""
    if stride < to:
        return functional.avg_pool2d(part, to // stride)
    return _repeated(part, stride // to) if stride > to else part


def _repeated(part: Tensor, factor: int) -> Tensor:
    return part.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
