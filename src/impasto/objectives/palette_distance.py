"""The palette loss: pixels should have one of the few colors of the painting.

Statistics of feature maps let a woodcut's two colors mix in soft shades. Here each pixel is drawn
to the color that is closest to it, so colors stay flat and edges hard.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from impasto.objectives.base import Stats, TileContext


class PaletteLoss:
    """The mean over pixels of the squared distance to the closest color, over the colors' variance.

    Args:
        colors: (K, 3), RGB, 0..1, two or more.
    """

    name = "palette"
    layers: Mapping[str, int] = {"input": 1}
    additive = True

    def __init__(self, colors: Tensor, weight: float) -> None:
        self.weight = weight
        self._colors = colors
        self._variance = float(colors.double().var(0, correction=0).sum())

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        pixels = context.own(features["input"], 1)
        apart = pixels - self._closest(pixels.detach())
        return {
            "palette.sum": apart.square().sum(),
            "palette.count": pixels.new_tensor(float(pixels[0, 0].numel())),
        }

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {"input": stats["palette.sum"] / stats["palette.count"] / self._variance}

    def _closest(self, pixels: Tensor) -> Tensor:
        """The closest color of each pixel, (1, 3, h, w)."""
        closest, least = torch.zeros_like(pixels), torch.full_like(pixels[:, :1], torch.inf)
        for color in self._colors.to(pixels).view(-1, 1, 3, 1, 1):
            distance = (pixels - color).square().sum(1, keepdim=True)
            nearer = distance < least
            least = torch.where(nearer, distance, least)
            closest = torch.where(nearer, color, closest)
        return closest
