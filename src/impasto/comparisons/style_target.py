"""The style of a picture as one network sees it, and distances to a painting's style.

Sources:
    Sliced Wasserstein distance: Heitz, Vanhoey, Chambon, Belcour, "A Sliced Wasserstein Loss for
    Neural Texture Synthesis" (2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from impasto.comparisons.metrics import (
    projections,
    quantiles,
    sliced_wasserstein,
    sliced_wasserstein_relative,
    unit_directions,
)
from impasto.geometry import Size
from impasto.networks.features import Features, Network
from impasto.networks.vgg import STYLE_LAYERS
from impasto.objectives.base import TileContext
from impasto.objectives.moments import Moments, moment_sums, moments_from_sums
from impasto.objectives.style import gram_relative, wasserstein


@dataclass(frozen=True)
class StyleFeatures:
    """The maps of a picture in the layers of a network, and the moments of the style layers."""

    maps: Features
    moments: dict[str, Moments]

    @classmethod
    def of(cls, network: Network, picture: Tensor) -> StyleFeatures:
        """The features of a picture (1, 3, H, W)."""
        strides = {name: network.layer(name).stride for name in STYLE_LAYERS}
        context = TileContext.whole(Size(*picture.shape[-2:]))
        with torch.no_grad():
            maps = network(picture)
            return cls(maps, moments_from_sums(moment_sums(maps, strides, context)))


class StyleTarget:
    """Distances of pictures to a painting in one network, each the mean over ``STYLE_LAYERS``.

    Args:
        painting: its features.
        pictures: features of a picture of the size that will be compared, for its counts.
        directions: random directions of the sliced Wasserstein distance in each layer. They are
            drawn on the CPU from ``seed`` and are the same for every picture.
    """

    def __init__(
        self, painting: StyleFeatures, pictures: StyleFeatures, directions: int, seed: int
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        # The maps are large: only what is computed from them is kept.
        self.moments = painting.moments
        self._directions = {
            name: unit_directions(directions, painting.maps[name].shape[1], generator)
            for name in STYLE_LAYERS
        }
        self._projections = {
            name: quantiles(
                projections(painting.maps[name], self._directions[name]),
                pictures.maps[name][0, 0].numel(),
            )
            for name in STYLE_LAYERS
        }

    def wasserstein(self, picture: StyleFeatures) -> float:
        """The Wasserstein-2 distance of Gaussians."""
        # Rounding can make it negative.
        return _mean(
            wasserstein(picture.moments[name], target).clamp_min(0)
            for name, target in self.moments.items()
        )

    def sliced(self, picture: StyleFeatures) -> float:
        """The sliced Wasserstein distance."""

        def distance(name: str) -> float:
            current = projections(picture.maps[name], self._directions[name])
            centered = sliced_wasserstein(current, self._projections[name])
            moments = picture.moments[name], self.moments[name]
            return sliced_wasserstein_relative(*moments, centered)

        return _mean(distance(name) for name in STYLE_LAYERS)


def gram_distance(picture: Mapping[str, Moments], painting: Mapping[str, Moments]) -> float:
    """The relative distance of Gram matrices, mean of the style layers."""
    return _mean(gram_relative(picture[name], target) for name, target in painting.items())


def _mean(values: Iterable[Tensor | float]) -> float:
    return float(np.mean([float(value) for value in values]))
