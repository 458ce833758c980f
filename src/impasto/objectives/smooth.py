"""The smoothness loss (total variation), which suppresses noise that the style loss cannot see.

Source: Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them" (2015),
equation 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from impasto.objectives import published_smoothness as published
from impasto.objectives.base import Stats, TileContext
from impasto.objectives.pixel_differences import squared_differences
from impasto.recipe.choices import SmoothnessMeasure, SmoothnessScaling

MEASURES: dict[SmoothnessMeasure, Callable[[Tensor, TileContext], Tensor]] = {
    "squared": squared_differences,
    "absolute": published.absolute,
    "nine-point": published.nine_point,
    "joint": published.joint,
    "blur": published.blur,
}


class Smooth:
    """A sum of differences between neighboring pixels (RGB, 0..1), over pixels and channels.

    A pixel owns the differences to its right and lower neighbors, so the sum is additive over
    tiles. A tile needs a halo of one pixel.

    Args:
        measure: a key of ``MEASURES``. "squared" is the sum of squared differences to the right
            and lower neighbors. The others are those of published systems.
        scaling: "mean" divides the sum by 3 h w, pixels times channels; "sum" does not.
    """

    name = "smooth"
    layers: Mapping[str, int] = {"input": 1}
    additive = True

    def __init__(
        self,
        weight: float,
        measure: SmoothnessMeasure = "squared",
        scaling: SmoothnessScaling = "mean",
    ) -> None:
        self.weight = weight
        self._measure, self._scaling = MEASURES[measure], scaling

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        pixels = features["input"]
        count = torch.tensor(
            float(3 * context.tile.core.size.pixels), dtype=pixels.dtype, device=pixels.device
        )
        return {"differences": self._measure(pixels, context), "count": count}

    def score(self, stats: Stats) -> dict[str, Tensor]:
        total = stats["differences"]
        return {"input": total / stats["count"] if self._scaling == "mean" else total}
