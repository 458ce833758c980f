"""Smoothness: how much neighbouring pixels differ, which holds back noise that no layer sees; and
pixels kept in range.

Source: Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them" (2015),
equation 4, for squared differences and their joint power; the other measures are those of published
style transfer programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Region
from impasto.objectives.base import Stats, TileContext
from impasto.recipe.choices import SmoothnessMeasure, SmoothnessScaling


class Smooth:
    """Differences d of pixels x (RGB, 0..1) to their neighbours, added up over pixels and channels.

    Args:
        measure: "squared" is d^2 to the right and to the lower neighbour; "absolute" is |d| of the
            same; "nine-point" is 2/3 of the squares and 1/6 of those along both diagonals, which no
            direction is better off by (its third and twelfth twice); "joint" is (right^2 +
            down^2)^1.25, where there are both; "blur" is the square of the largest channel's
            distance to what a 3x3 Gaussian of deviation 1 makes of the picture, its edge repeated
            outwards.
        scaling: "sum" as it is; "mean" over 3 h w, pixels and channels.

    A pixel owns the differences to its right and lower neighbours, so tiles add up; a tile needs a
    halo of one pixel.
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

    def measure(self, features: Mapping[str, Tensor], where: TileContext) -> Stats:
        pixels = features["input"]
        count = torch.tensor(
            float(3 * where.tile.core.size.pixels), dtype=pixels.dtype, device=pixels.device
        )
        return {"differences": self._measure(pixels, where), "count": count}

    def score(self, stats: Stats) -> dict[str, Tensor]:
        total = stats["differences"]
        return {"input": total / stats["count"] if self._scaling == "mean" else total}


class Bounds:
    """How far pixels lie outside 0..1: the mean of max(0, -x) + max(0, x - 1) over pixels and
    channels.
    """

    name = "bounds"
    layers: Mapping[str, int] = {"input": 1}
    additive = True

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def measure(self, features: Mapping[str, Tensor], where: TileContext) -> Stats:
        own = where.own(features["input"], 1)
        outside = functional.relu(-own).sum() + functional.relu(own - 1).sum()
        return {"outside": outside, "count": outside.new_tensor(float(own.numel()))}

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {"input": stats["outside"] / stats["count"]}


def _differences(pixels: Tensor, where: TileContext, down: int, right: int) -> Tensor:
    """x(row + down, column + right) - x(row, column) for the pixels that the tile owns and that
    have such a neighbour.
    """
    core, outer = where.tile.core, where.tile.outer
    bottom, last = (
        min(core.bottom, outer.bottom - down),
        min(core.right, outer.right - max(right, 0)),
    )
    here = Region(core.top, max(core.left, outer.left - min(right, 0)), bottom, last)
    there = Region(here.top + down, here.left + right, here.bottom + down, here.right + right)
    return pixels[(..., *there.within(outer).slices)] - pixels[(..., *here.within(outer).slices)]


def _squared(pixels: Tensor, where: TileContext) -> Tensor:
    return (
        _differences(pixels, where, 1, 0).square().sum()
        + _differences(pixels, where, 0, 1).square().sum()
    )


def _absolute(pixels: Tensor, where: TileContext) -> Tensor:
    return (
        _differences(pixels, where, 1, 0).abs().sum()
        + _differences(pixels, where, 0, 1).abs().sum()
    )


def _nine_point(pixels: Tensor, where: TileContext) -> Tensor:
    diagonals = (
        _differences(pixels, where, 1, 1).square().sum()
        + _differences(pixels, where, 1, -1).square().sum()
    )
    return 2 / 3 * _squared(pixels, where) + 1 / 6 * diagonals


def _joint(pixels: Tensor, where: TileContext) -> Tensor:
    down, right = _differences(pixels, where, 1, 0), _differences(pixels, where, 0, 1)
    height, width = min(down.shape[-2], right.shape[-2]), min(down.shape[-1], right.shape[-1])
    return (
        (down[..., :height, :width].square() + right[..., :height, :width].square()).pow(1.25).sum()
    )


def _blur(pixels: Tensor, where: TileContext) -> Tensor:
    core, outer = where.tile.core, where.tile.outer
    height, width = where.size
    around = Region(
        max(core.top - 1, 0),
        max(core.left - 1, 0),
        min(core.bottom + 1, height),
        min(core.right + 1, width),
    )
    x = pixels[(..., *around.within(outer).slices)]
    # One pixel more on each side: a true neighbour, or at the picture's border the edge once more.
    beyond = (core.left == 0, core.right == width, core.top == 0, core.bottom == height)
    padded = functional.pad(x, [int(each) for each in beyond], mode="replicate")
    side = torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype, device=x.device).square().div(-2).exp()
    kernel = torch.outer(side, side) / side.sum() ** 2
    blurred = functional.conv2d(padded.movedim(1, 0), kernel[None, None]).movedim(0, 1)
    apart = blurred - where.own(pixels, 1)
    return apart.abs().amax(1).square().sum()


MEASURES: dict[SmoothnessMeasure, Callable[[Tensor, TileContext], Tensor]] = {
    "squared": _squared,
    "absolute": _absolute,
    "nine-point": _nine_point,
    "joint": _joint,
    "blur": _blur,
}
