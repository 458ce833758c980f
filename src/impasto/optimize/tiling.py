"""Compute the loss and its pixel gradient over a grid of tiles, exact to rounding.

There are two passes. The first measures every tile and adds up the stats. The loss is a function
of these sums alone, and its gradient with respect to them is a few small matrices. The second pass
runs every tile again and propagates the inner product of that gradient with the tile's own stats
back to the tile's pixels, halo included. The sum of these gradients is the gradient of the whole.
The feature maps of the last tiles stay in memory between the passes, at least those of one. The
whole picture is the grid of one tile.

Source of the idea: Galerne, Raad, Lezama, Morel, "Scaling Painting Style Transfer" (2022), with
cropped margins. Adding the overlaps instead is exact, with no larger halo than the network needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from impasto.geometry import Grid, Region, Tile
from impasto.objectives.base import Objective, Stats, TileContext, add
from impasto.storage.tensors import StoredTensor, TensorStore

Encoder = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class LossValue:
    """The loss of a picture.

    ``total``: the sum. ``terms``: the weighted value of each term by name. ``layers``: the share
    of each layer in a term; it is reported only, and is not part of a saved state.
    """

    total: float
    terms: dict[str, float]
    layers: dict[str, dict[str, float]] = field(default_factory=dict, compare=False)

    @property
    def finite(self) -> bool:
        return math.isfinite(self.total)


def value_and_gradient(
    picture: Tensor,
    encode: Encoder,
    objectives: Sequence[Objective],
    grid: Grid,
    tiles_in_memory: int = 1,
) -> tuple[LossValue, Tensor]:
    """Return the loss of a picture (1, 3, H, W) and its gradient, of the same shape and type.

    The feature maps of ``tiles_in_memory`` tiles stay in memory between the passes. That changes
    time and memory, and no byte of the result.
    """
    tiles = list(grid)

    def measure(tile: Tile, track: bool) -> tuple[list[Stats], Tensor]:
        pixels = picture.detach()[(..., *tile.outer.slices)].contiguous().requires_grad_(track)
        features, context = encode(pixels), TileContext(tile, grid.size)
        return [objective.measure(features, context) for objective in objectives], pixels

    totals: list[Stats] = [{} for _ in objectives]
    stored: list[tuple[list[Stats], Tensor]] = []
    for remaining, tile in zip(range(len(tiles), 0, -1), tiles, strict=True):
        stats, pixels = measure(tile, track=remaining <= tiles_in_memory)
        totals = [add(total, _detached(stat)) for total, stat in zip(totals, stats, strict=True)]
        if remaining <= tiles_in_memory:
            stored.append((stats, pixels))
        del stats, pixels  # free this tile's maps before those of the next are computed
    value, stat_gradients = _score(totals, objectives)
    gradient = torch.zeros_like(picture)
    for tile in reversed(tiles):
        stats, pixels = stored.pop() if stored else measure(tile, track=True)
        gradient[(..., *tile.outer.slices)] += _propagate(stats, stat_gradients, pixels)
        del stats, pixels
    return value, gradient


def total_stats(
    picture: Tensor,
    encode: Encoder,
    measure: Callable[[Mapping[str, Tensor], TileContext], Stats],
    grid: Grid,
) -> Stats:
    """Return the stats of a picture (1, 3, H, W), added up tile by tile, without gradients."""
    total: Stats = {}
    with torch.no_grad():
        for tile in grid:
            features = encode(picture[(..., *tile.outer.slices)])
            total = add(total, measure(features, TileContext(tile, grid.size)))
    return total


def store_features(
    picture: Tensor, encode: Encoder, strides: Mapping[str, int], grid: Grid, store: TensorStore
) -> dict[str, dict[Region, StoredTensor]]:
    """Store the feature maps of some layers of a picture (1, 3, H, W), without gradients.

    Returns, by layer and by the core of a tile, the positions that the tile owns.
    """
    stored: dict[str, dict[Region, StoredTensor]] = {name: {} for name in strides}
    with torch.no_grad():
        for tile in grid:
            context = TileContext(tile, grid.size)
            features = encode(picture[(..., *tile.outer.slices)])
            for name, stride in strides.items():
                own = context.own(features[name], stride)
                # A part is copied: a view would keep the whole map in memory.
                part = own if own.shape == features[name].shape else own.clone()
                stored[name][tile.core] = store.store(part)
    return stored


def _detached(stats: Stats) -> Stats:
    return {name: stat.detach() for name, stat in stats.items()}


def _score(
    totals: Sequence[Stats], objectives: Sequence[Objective]
) -> tuple[LossValue, list[Stats]]:
    """The loss, and its gradient with respect to every stat."""
    leaves = [
        {name: stat.detach().requires_grad_() for name, stat in stats.items()} for stats in totals
    ]
    terms: dict[str, Tensor] = {}
    layers: dict[str, dict[str, float]] = {}
    with torch.enable_grad():
        for objective, stats in zip(objectives, leaves, strict=True):
            name, parts = objective.name, objective.score(stats)
            term = objective.weight * torch.stack(list(parts.values())).sum()
            terms[name] = terms[name] + term if name in terms else term
            shares = layers.setdefault(name, {})
            for layer, part in parts.items():
                shares[layer] = shares.get(layer, 0.0) + objective.weight * float(part.detach())
        total = torch.stack([term.double() for term in terms.values()]).sum()
    flat = [stat for stats in leaves for stat in stats.values()]
    derivatives = iter(torch.autograd.grad(total, flat, allow_unused=True, materialize_grads=True))
    gradients = [{name: next(derivatives) for name in stats} for stats in leaves]
    values = {name: float(term.detach()) for name, term in terms.items()}
    return LossValue(float(total.detach()), values, layers), gradients


def _propagate(stats: Sequence[Stats], gradients: Sequence[Stats], pixels: Tensor) -> Tensor:
    """The gradient with respect to the pixels, from the gradient with respect to the stats."""
    pairs = [
        (stat, gradient[name])
        for stat_of, gradient in zip(stats, gradients, strict=True)
        for name, stat in stat_of.items()
        if stat.requires_grad
    ]
    outputs, grad_outputs = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, pixels, grad_outputs)[0]
