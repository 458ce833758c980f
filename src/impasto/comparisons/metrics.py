"""Single figures of a picture: distances of colours and features, artefacts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto.images.pixels import Pixels
from impasto.objectives.moments import Moments


def artefacts(pixels: Pixels) -> dict[str, float]:
    """The scores that need neither photo nor painting, by their names in ``Scores``."""
    return {"clipped": clipped(pixels), "border": border(pixels), "periodic": periodic(pixels)}


def unit_directions(count: int, channels: int, generator: torch.Generator) -> Tensor:
    """Random directions of unit length, (count, channels), uniform over the sphere."""
    drawn = torch.randn((count, channels), generator=generator)
    return drawn / drawn.norm(dim=1, keepdim=True)


def projected(features: Tensor, directions: Tensor) -> NDArray[np.float32]:
    """The features (1, C, h, w) less their mean along each direction (D, C), sorted: (D, h*w)."""
    along = directions @ features[0].flatten(1)
    along -= along.mean(1, keepdim=True)
    return np.sort(along.numpy(), axis=1)  # several times faster than torch's


def ranked(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Sorted ``values`` (D, n) as (D, count): their quantiles at the middles of ``count`` equal
    parts.
    """
    n = values.shape[1]
    return values if n == count else values[:, (2 * np.arange(count) + 1) * n // (2 * count)]


def sliced_wasserstein(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The squared Wasserstein-2 distance along a direction, mean over directions: sorted values (D,
    n) of the same ones.
    """
    return float(np.square(ours - theirs).mean(axis=1).mean(dtype=np.float64))


def _sliced_relative(found: Moments, target: Moments, along_directions: float) -> float:
    """The sliced distance over the painting's power, so that it means the same for every layer.

    The mean over all directions of the squared distance is that of the means, |m - n|^2 / C, and
    that of what is left when they are taken off. The first is known exactly; directions are drawn
    for the second alone, which at 64 of them leaves a spread of 2% between seeds instead of 5.
    """
    apart = float((found.mean - target.mean).square().sum())
    return (apart + target.channels * along_directions) / float(target.mean_squared_norm)


def colours(pixels: Pixels) -> NDArray[np.float32]:
    """L*, a* and b* (D65) of every pixel, each sorted: (3, H*W)."""
    from skimage.color import rgb2lab

    return np.sort(rgb2lab(pixels).reshape(-1, 3).T.astype(np.float32), axis=1)


def colour_distance(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The Wasserstein-1 distance of two ``colours``, mean of the three channels, in CIELAB units.

    How far the values of a channel must move on average to have the other's histogram; 2 or 3 units
    can just be seen.
    """
    return float(np.abs(ours - ranked(theirs, ours.shape[1])).mean(axis=1).mean(dtype=np.float64))


_RING = 8  # px
# Px: the strides of the network's maps, and of the coarse sizes that were grown.
_PERIODS = (2, 4, 8, 16)
_ROUNDING = 1 / 255**2 / 12  # the variance that 8 bits leave; what is weaker is not seen


def luminance(pixels: Pixels) -> NDArray[np.float32]:
    """(H, W, 3) -> (H, W): the luma of the encoded values by the weights of Rec. 709."""
    return pixels @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """SSIM of two luminances (H, W), with the Gaussian window of 1.5 px of the paper."""
    from skimage.metrics import structural_similarity

    found = structural_similarity(
        one, other, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(found)


def clipped(pixels: Pixels) -> float:
    """The share of pixels with a channel at exactly 0 or 1."""
    return float(((pixels <= 0) | (pixels >= 1)).any(axis=2).mean())


def border(pixels: Pixels) -> float:
    """The strongest edge along the border over the edges of the rest: about 1 where the border is
    like the rest.

    The mean squared slope of the luminance across each of the outer 8 lines that run around the
    picture, the largest of them, over that of everything further in. A frame or a rim is a step at
    one depth all the way round, so it is far above 1 whatever is painted beside it; near 0, nothing
    was painted there.
    """
    light = luminance(pixels).astype(np.float64)
    depth = min(_RING, min(light.shape) // 2 - 1)
    lines, rest = np.zeros((depth, 2)), np.zeros(2)  # sums and counts
    for across in (light, light.T):
        slopes = np.square(np.diff(across, axis=0))
        # Both sides, by depth.
        ends = np.concatenate([slopes[:depth], slopes[::-1][:depth]], axis=1)
        lines += np.stack([ends.sum(1), np.full(depth, ends.shape[1])], axis=1)
        inner = slopes[depth:-depth]
        rest += inner.sum(), inner.size
    strongest, inside = (lines[:, 0] / lines[:, 1]).max(), rest[0] / max(rest[1], 1)
    return float((strongest + _ROUNDING) / (inside + _ROUNDING))


def periodic(pixels: Pixels) -> float:
    """How far periods of 2, 4, 8 and 16 px stand out of the luminance's spectrum, in decibels: 0 is
    not at all.

    For rows and for columns: the power spectrum of each line under a Hann window, mean over the
    lines. A straight line through the logarithms of the neighbouring frequencies, 3 to 10 steps
    away, says how much power is to be expected at each of the four; the figure is the mean of the
    eight excesses, those below 0 counted as 0. What is weaker than the rounding to 8 bits counts as
    nothing. JPEG files, whose blocks are 8 px wide, have some of it too.
    """
    light = luminance(pixels).astype(np.float64)
    found = [_excess(lines, period) for lines in (light, light.T) for period in _PERIODS]
    return float(np.mean(found))


def _excess(lines: NDArray[np.float64], period: int) -> float:
    """The same for one direction and one period; ``lines`` are (count, length)."""
    # So that each period falls on a step of the spectrum.
    length = lines.shape[1] // _PERIODS[-1] * _PERIODS[-1]
    window = np.hanning(length + 1)[:-1]
    centred = lines[:, :length] - lines[:, :length].mean(1, keepdims=True)
    power = (
        np.square(np.abs(np.fft.rfft(centred * window, axis=1))).mean(0)
        + _ROUNDING * np.square(window).sum()
    )
    at = length // period
    steps = np.array([at + side * away for away in range(3, 11) for side in (-1, 1)])
    steps = steps[(steps >= 1) & (steps <= length // 2)]
    slope, level = np.polyfit(np.log(steps), np.log(power[steps]), 1)
    return max(0.0, float(np.log(power[at]) - (slope * np.log(at) + level)) * 10 / np.log(10))
