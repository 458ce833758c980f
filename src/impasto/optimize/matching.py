"""Find the targets of the nearest-neighbor loss: for each place of the photo its match."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impasto.geometry import Grid, Region
from impasto.objectives.base import Stats, TileContext
from impasto.objectives.nearest import MOST_ROWS, Places, closest_rows
from impasto.optimize.tiling import Encoder, total_stats
from impasto.storage.tensors import StoredTensor, TensorStore


@dataclass(frozen=True)
class EncodedPicture:
    """A picture (1, 3, H, W), the network for its size, and its tiles."""

    pixels: Tensor
    encode: Encoder
    grid: Grid


def painting_bank(
    paintings: Sequence[EncodedPicture],
    strides: Mapping[str, int],
    weights: Mapping[str, float],
) -> tuple[Tensor, Places]:
    """The features at the places of some paintings, (rows, C of all layers), and the places.

    Each layer is multiplied by the root of its weight over the mean squared norm of the first
    painting's features. Large paintings give every second place, every third and so on, so that
    there are about ``MOST_ROWS`` in all.
    """
    first = paintings[0]

    def norms(features: Mapping[str, Tensor], context: TileContext) -> Stats:
        own = {name: context.own(features[name], stride) for name, stride in strides.items()}
        squares = {name: map_.double().square().sum((1, 2, 3)) for name, map_ in own.items()}
        positions = {f"{name}.count": map_[:, 0].numel() for name, map_ in own.items()}
        counts = {name: torch.tensor(float(count)) for name, count in positions.items()}
        return squares | counts

    sums = total_stats(first.pixels, first.encode, norms, first.grid)
    scales = {}
    for name, weight in weights.items():
        squared_norm = float(sums[name] / sums[f"{name}.count"])
        scales[name] = math.sqrt(weight / max(squared_norm, 1e-12))
    places = Places(dict(strides), scales)
    rows = [_rows(painting, places, MOST_ROWS // len(paintings)) for painting in paintings]
    return torch.cat(rows), places


def _rows(painting: EncodedPicture, places: Places, most: int) -> Tensor:
    """The features of a painting at a regular grid of at most about ``most`` places."""
    size = painting.grid.size
    step = max(1, math.ceil(math.sqrt(size.pixels / places.stride**2 / most)))
    found = []
    with torch.no_grad():
        for tile in painting.grid:
            context = TileContext(tile, size)
            features = painting.encode(painting.pixels[(..., *tile.outer.slices)])
            joined = places.joined(features, context)
            region = context.region(places.coarsest)
            factor = places.coarsest // places.stride
            height, width = (side * factor for side in region.size)
            grid = joined.view(height, width, -1)
            top, left = (-start * factor % step for start in (region.top, region.left))
            found.append(grid[top::step, left::step].flatten(0, 1))
    return torch.cat(found)


def match_places(
    photo: EncodedPicture, bank: Tensor, places: Places, store: TensorStore
) -> dict[Region, StoredTensor]:
    """Core of each tile -> (places,), the row of the bank that matches the photo at each place."""

    def total(features: Mapping[str, Tensor], context: TileContext) -> Stats:
        joined = places.joined(features, context)
        return {"sum": joined.double().sum(0), "count": joined.new_tensor(len(joined)).double()}

    stats = total_stats(photo.pixels, photo.encode, total, photo.grid)
    mean = (stats["sum"] / stats["count"].clamp_min(1)).to(bank)
    matches = {}
    with torch.no_grad():
        for tile in photo.grid:
            features = photo.encode(photo.pixels[(..., *tile.outer.slices)])
            queries = places.joined(features, TileContext(tile, photo.grid.size))
            matches[tile.core] = store.store(closest_rows(queries, mean, bank))
    return matches
