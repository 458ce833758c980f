"""Smoothness: how much neighbouring pixels differ (total variation), which holds back noise that no layer sees.

Source: Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them" (2015), equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from impasto.geometry import Region
from impasto.objectives.base import Stats, Where


class Smooth:
    """Mean over pixels and channels of the squared differences to the right and to the lower neighbour (beta = 2).

    A pixel owns the differences to its right and lower neighbour, so tiles add up; a tile needs a halo of one pixel.
    """

    name = "smooth"
    layers: Mapping[str, int] = {"input": 1}
    additive = True

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def measure(self, features: Mapping[str, Tensor], where: Where) -> Stats:
        pixels = features["input"]
        core, outer = where.tile.core, where.tile.outer
        # One more row and column than owned, where the picture goes on.
        bottom, right = min(core.bottom + 1, outer.bottom), min(core.right + 1, outer.right)
        tall = pixels[(..., *Region(core.top, core.left, bottom, core.right).within(outer).slices)]
        wide = pixels[(..., *Region(core.top, core.left, core.bottom, right).within(outer).slices)]
        down = (tall[..., 1:, :] - tall[..., :-1, :]).square().sum()
        across = (wide[..., 1:] - wide[..., :-1]).square().sum()
        count = torch.tensor(float(3 * core.size.pixels), dtype=pixels.dtype, device=pixels.device)
        return {"differences": down + across, "count": count}

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {"input": stats["differences"] / stats["count"]}
