"""The loss and its pixel gradient over a grid of tiles, exact to rounding.

Two passes. First every tile is measured and the stats are added up; the loss is a function of these sums alone, and its
gradient with respect to them is a few small matrices. Then every tile is run again and the inner product of that small
gradient with the tile's own stats is propagated back to its pixels, halo included; the sum of the tiles' pixel gradients
is the gradient of the whole. The whole picture is the grid of one tile, whose maps of the first pass serve the second.

It knows grids and the measure/score contract; network and objectives are arguments. Source of the idea of localised
gradients: Texler et al. 2022 ("Scaling Painting Style Transfer" by Galerne et al., 2022) with a cropped margin; adding the
overlaps instead is exact with the halo that the network needs and no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impasto.geometry import Grid
from impasto.objectives.base import Objective, Stats, Where, add

Encoder = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Value:
    """The loss at a picture: its sum, and each term's weighted share by objective name."""

    total: float
    terms: dict[str, float]

    @property
    def finite(self) -> bool:
        return math.isfinite(self.total)


def value_and_gradient(
    picture: Tensor, encode: Encoder, objectives: Sequence[Objective], grid: Grid
) -> tuple[Value, Tensor]:
    """The loss of a picture (1, 3, H, W) and its gradient with respect to the pixels, of the same shape and type."""
    tiles = list(grid)
    if len(tiles) == 1:
        leaf = picture.detach().requires_grad_()
        stats = _measure(encode(leaf), objectives, Where.whole(grid.size))
        value, toward = _score(stats, objectives)
        return value, _propagate(stats, toward, leaf)

    totals: list[Stats] = [{} for _ in objectives]
    with torch.no_grad():
        for tile in tiles:
            part = picture.detach()[(..., *tile.outer.slices)]
            stats = _measure(encode(part), objectives, Where(tile, grid.size))
            totals = [add(total, stat) for total, stat in zip(totals, stats, strict=True)]
    value, toward = _score(totals, objectives)
    gradient = torch.zeros_like(picture)
    for tile in tiles:
        leaf = picture.detach()[(..., *tile.outer.slices)].contiguous().requires_grad_()
        stats = _measure(encode(leaf), objectives, Where(tile, grid.size))
        gradient[(..., *tile.outer.slices)] += _propagate(stats, toward, leaf)
    return value, gradient


def measured(
    picture: Tensor, encode: Encoder, measure: Callable[[Mapping[str, Tensor], Where], Stats], grid: Grid
) -> Stats:
    """The stats of a whole picture (1, 3, H, W) by one measure, tile by tile; no gradients."""
    total: Stats = {}
    with torch.no_grad():
        for tile in grid:
            total = add(total, measure(encode(picture[(..., *tile.outer.slices)]), Where(tile, grid.size)))
    return total


def assembled(picture: Tensor, encode: Encoder, strides: Mapping[str, int], grid: Grid) -> dict[str, Tensor]:
    """The maps of some layers of a whole picture (1, 3, H, W), put together from its tiles; no gradients."""
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for tile in grid:
            where = Where(tile, grid.size)
            maps = encode(picture[(..., *tile.outer.slices)])
            for name, stride in strides.items():
                own = where.own(maps[name], stride)
                if len(grid) == 1:
                    found[name] = own
                    continue
                if name not in found:
                    shape = (*own.shape[:2], grid.size.height // stride, grid.size.width // stride)
                    found[name] = own.new_empty(shape)
                found[name][(..., *where.region(stride).slices)] = own
    return found


def _measure(features: Mapping[str, Tensor], objectives: Sequence[Objective], where: Where) -> list[Stats]:
    return [objective.measure(features, where) for objective in objectives]


def _score(measurements: Sequence[Stats], objectives: Sequence[Objective]) -> tuple[Value, list[Stats]]:
    """The loss, and its gradient with respect to every stat."""
    leaves = [{name: stat.detach().requires_grad_() for name, stat in stats.items()} for stats in measurements]
    terms: dict[str, Tensor] = {}
    with torch.enable_grad():
        for objective, stats in zip(objectives, leaves, strict=True):
            term = objective.weight * objective.score(stats)
            terms[objective.name] = terms[objective.name] + term if objective.name in terms else term
        total = torch.stack([term.double() for term in terms.values()]).sum()
    flat = [stat for stats in leaves for stat in stats.values()]
    found = iter(torch.autograd.grad(total, flat, allow_unused=True, materialize_grads=True))
    gradients = [{name: next(found) for name in stats} for stats in leaves]
    return Value(float(total.detach()), {name: float(term.detach()) for name, term in terms.items()}), gradients


def _propagate(measurements: Sequence[Stats], toward: Sequence[Stats], leaf: Tensor) -> Tensor:
    """Back from the gradient with respect to the stats to the gradient with respect to the pixels that gave them."""
    pairs = [
        (stat, gradients[name])
        for stats, gradients in zip(measurements, toward, strict=True)
        for name, stat in stats.items()
        if stat.requires_grad
    ]
    outputs, inward = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, leaf, inward)[0]
