"""The loss and its pixel gradient over a grid of tiles, exact to rounding.

Two passes. First every tile is measured and the stats are added up; the loss is a function of these
sums alone, and its gradient with respect to them is a few small matrices. Then every tile is run
again and the inner product of that small gradient with the tile's own stats is propagated back to
its pixels, halo included; the sum of the tiles' pixel gradients is the gradient of the whole. The
last tiles of the first pass are the first of the second, and the maps of as many as there is memory
for, one at least, serve both; the whole picture is the grid of one tile.

It knows grids and the measure/score contract; network and objectives are arguments. Source of the
idea of localised gradients: Texler et al. 2022 ("Scaling Painting Style Transfer" by Galerne et
al., 2022) with a cropped margin; adding the overlaps instead is exact with the halo that the
network needs and no more.
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
class Value:
    """The loss at a picture: its sum, each term's weighted share by objective name, and each
    layer's share of a term.

    The layers' shares are to be told, and no part of a state: a value that was written down comes
    back without them.
    """

    total: float
    terms: dict[str, float]
    layers: dict[str, dict[str, float]] = field(default_factory=dict, compare=False)

    @property
    def finite(self) -> bool:
        return math.isfinite(self.total)


def value_and_gradient(
    picture: Tensor, encode: Encoder, objectives: Sequence[Objective], grid: Grid, kept: int = 1
) -> tuple[Value, Tensor]:
    """The loss of a picture (1, 3, H, W) and its gradient with respect to the pixels, of the same
    shape and type.

    The maps of ``kept`` tiles are held from the first pass to the second, which changes time and
    memory and not a byte of what is found.
    """
    tiles = list(grid)

    def run(tile: Tile, track: bool) -> tuple[list[Stats], Tensor]:
        leaf = picture.detach()[(..., *tile.outer.slices)].contiguous().requires_grad_(track)
        return _measure(encode(leaf), objectives, TileContext(tile, grid.size)), leaf

    totals: list[Stats] = [{} for _ in objectives]
    held: list[tuple[list[Stats], Tensor]] = []
    for left, tile in zip(range(len(tiles), 0, -1), tiles, strict=True):
        stats, leaf = run(tile, track=left <= kept)
        totals = [add(total, _detached(stat)) for total, stat in zip(totals, stats, strict=True)]
        if left <= kept:
            held.append((stats, leaf))
        del stats, leaf  # before the next tile's come
    value, toward = _score(totals, objectives)
    gradient = torch.zeros_like(picture)
    for tile in reversed(tiles):
        stats, leaf = held.pop() if held else run(tile, track=True)
        gradient[(..., *tile.outer.slices)] += _propagate(stats, toward, leaf)
        del stats, leaf
    return value, gradient


def measured(
    picture: Tensor,
    encode: Encoder,
    measure: Callable[[Mapping[str, Tensor], TileContext], Stats],
    grid: Grid,
) -> Stats:
    """The stats of a whole picture (1, 3, H, W) by one measure, tile by tile; no gradients."""
    total: Stats = {}
    with torch.no_grad():
        for tile in grid:
            total = add(
                total,
                measure(encode(picture[(..., *tile.outer.slices)]), TileContext(tile, grid.size)),
            )
    return total


def targets(
    picture: Tensor, encode: Encoder, strides: Mapping[str, int], grid: Grid, scratch: TensorStore
) -> dict[str, dict[Region, StoredTensor]]:
    """What each tile owns of the maps of some layers of a picture (1, 3, H, W), by layer and core;
    no gradients.
    """
    found: dict[str, dict[Region, StoredTensor]] = {name: {} for name in strides}
    with torch.no_grad():
        for tile in grid:
            where = TileContext(tile, grid.size)
            maps = encode(picture[(..., *tile.outer.slices)])
            for name, stride in strides.items():
                own = where.own(maps[name], stride)
                # A part is copied out of its map, which would be kept whole otherwise.
                found[name][tile.core] = scratch.keep(
                    own if own.shape == maps[name].shape else own.clone()
                )
    return found


def _detached(stats: Stats) -> Stats:
    return {name: stat.detach() for name, stat in stats.items()}


def _measure(
    features: Mapping[str, Tensor], objectives: Sequence[Objective], where: TileContext
) -> list[Stats]:
    return [objective.measure(features, where) for objective in objectives]


def _score(
    measurements: Sequence[Stats], objectives: Sequence[Objective]
) -> tuple[Value, list[Stats]]:
    """The loss, and its gradient with respect to every stat."""
    leaves = [
        {name: stat.detach().requires_grad_() for name, stat in stats.items()}
        for stats in measurements
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
    found = iter(torch.autograd.grad(total, flat, allow_unused=True, materialize_grads=True))
    gradients = [{name: next(found) for name in stats} for stats in leaves]
    return Value(
        float(total.detach()), {name: float(term.detach()) for name, term in terms.items()}, layers
    ), gradients


def _propagate(measurements: Sequence[Stats], toward: Sequence[Stats], leaf: Tensor) -> Tensor:
    """Back from the gradient with respect to the stats to the gradient with respect to the pixels
    that gave them.
    """
    pairs = [
        (stat, gradients[name])
        for stats, gradients in zip(measurements, toward, strict=True)
        for name, stat in stats.items()
        if stat.requires_grad
    ]
    outputs, inward = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, leaf, inward)[0]
