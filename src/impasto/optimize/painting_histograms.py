"""Measure the targets of the histogram loss: the distributions of the paintings' features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from impasto.objectives.base import TileContext
from impasto.objectives.histogram import Projection, bins_of, project
from impasto.optimize.matching import EncodedPicture
from impasto.recipe.choices import Directions


def directions_of(kind: Directions, channels: int, seed: int) -> Tensor | None:
    """The directions of a layer: None for the channels themselves, or as many random ones (C, C).

    They are drawn on the CPU, so that they are the same on every device.
    """
    if kind == "channels":
        return None
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn((channels, channels), generator=generator)
    return torch.nn.functional.normalize(drawn, dim=1)


def painting_projections(
    paintings: Sequence[EncodedPicture],
    strides: Mapping[str, int],
    directions: Mapping[str, Tensor | None],
) -> dict[str, Projection]:
    """Directions and bins of each layer: the bins cover the features of all paintings."""
    lowest: dict[str, Tensor] = {}
    highest: dict[str, Tensor] = {}
    for painting in paintings:
        for name, features in _own_features(painting, strides):
            projected = project(features, directions[name])
            low, high = projected.aminmax(dim=1)
            lowest[name] = torch.minimum(low, lowest.get(name, low))
            highest[name] = torch.maximum(high, highest.get(name, high))
    return {
        name: Projection(directions[name], *bins_of(lowest[name], highest[name]))
        for name in strides
    }


def mixture_histograms(
    paintings: Sequence[EncodedPicture],
    shares: Sequence[float],
    strides: Mapping[str, int],
    projections: Mapping[str, Projection],
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Histograms (K, BINS) of sum 1 and mean squared norms of several paintings, by share."""
    mixture: dict[str, Tensor] = {}
    norms = dict.fromkeys(strides, 0.0)
    for painting, share in zip(paintings, shares, strict=True):
        masses: dict[str, Tensor] = {}
        squares, counts = dict.fromkeys(strides, 0.0), dict.fromkeys(strides, 0)
        for name, features in _own_features(painting, strides):
            found = projections[name].masses(features)
            masses[name] = masses[name] + found if name in masses else found
            squares[name] += float(features.double().square().sum())
            counts[name] += features.shape[2] * features.shape[3]
        for name in strides:
            part = share / sum(shares) / counts[name]
            mixture[name] = mixture.get(name, 0) + masses[name] * part
            norms[name] += squares[name] * part
    return mixture, norms


def _own_features(
    picture: EncodedPicture, strides: Mapping[str, int]
) -> Iterator[tuple[str, Tensor]]:
    """Layer and features (1, C, h, w) of each tile of a picture, without the halo."""
    for tile in picture.grid:
        context = TileContext(tile, picture.grid.size)
        with torch.no_grad():
            features = picture.encode(picture.pixels[(..., *tile.outer.slices)])
        for name, stride in strides.items():
            yield name, context.own(features[name], stride)
