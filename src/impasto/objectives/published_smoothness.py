"""Measures of smoothness that only the recipes of published systems use.

Each takes pixels (1, 3, h, w) and returns a sum (0-d) over the tile's own pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Region
from impasto.objectives.base import TileContext
from impasto.objectives.pixel_differences import pixel_differences, squared_differences


def absolute(pixels: Tensor, context: TileContext) -> Tensor:
    """The sum of absolute differences to the lower and right neighbors."""
    down = pixel_differences(pixels, context, 1, 0).abs().sum()
    return down + pixel_differences(pixels, context, 0, 1).abs().sum()


def nine_point(pixels: Tensor, context: TileContext) -> Tensor:
    """2/3 of the squared differences, and 1/6 of those along both diagonals.

    To second order no direction is preferred.
    """
    diagonals = (
        pixel_differences(pixels, context, 1, 1).square().sum()
        + pixel_differences(pixels, context, 1, -1).square().sum()
    )
    return 2 / 3 * squared_differences(pixels, context) + 1 / 6 * diagonals


def joint(pixels: Tensor, context: TileContext) -> Tensor:
    """The sum of (right^2 + down^2)^1.25, where a pixel has both neighbors.

    Mahendran and Vedaldi (2015), equation 4, with an exponent of 2.5 / 2.
    """
    down, right = pixel_differences(pixels, context, 1, 0), pixel_differences(pixels, context, 0, 1)
    height, width = min(down.shape[-2], right.shape[-2]), min(down.shape[-1], right.shape[-1])
    down, right = down[..., :height, :width], right[..., :height, :width]
    return (down.square() + right.square()).pow(1.25).sum()


def blur(pixels: Tensor, context: TileContext) -> Tensor:
    """The squared distance to a blurred picture, of the channel with the largest distance.

    The blur is a 3x3 Gaussian with a deviation of 1 px; the border is replicated.
    """
    core, outer = context.tile.core, context.tile.outer
    height, width = context.size
    around = Region(
        max(core.top - 1, 0),
        max(core.left - 1, 0),
        min(core.bottom + 1, height),
        min(core.right + 1, width),
    )
    x = pixels[(..., *around.within(outer).slices)]
    # One pixel more on each side: from the halo, or at the picture's border the edge once more.
    at_border = (core.left == 0, core.right == width, core.top == 0, core.bottom == height)
    padded = functional.pad(x, [int(each) for each in at_border], mode="replicate")
    blurred = functional.conv2d(padded.movedim(1, 0), _gaussian(x)[None, None]).movedim(0, 1)
    distance = blurred - context.own(pixels, 1)
    return distance.abs().amax(1).square().sum()


def _gaussian(like: Tensor) -> Tensor:
    """A Gaussian window (3, 3) with a deviation of 1 and a sum of 1, in the type of ``like``."""
    offsets = torch.tensor([-1.0, 0.0, 1.0], dtype=like.dtype, device=like.device)
    side = offsets.square().div(-2).exp()
    return torch.outer(side, side) / side.sum() ** 2
