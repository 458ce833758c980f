"""Single scores: distances of colors and features, structural similarity, artifacts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto.images.pixels import Pixels
from impasto.objectives.moments import Moments

_BORDER_LINES = 8  # px
_SQUARE = 16  # px
# px: the strides of VGG's maps, and the factors from the coarse sizes to the final one
_PERIODS = (2, 4, 8, 16)
_ROUNDING = 1 / 255**2 / 12  # the variance of rounding to 8 bits


# ---- distances to the painting -------------------------------------------------------------------


def unit_directions(count: int, channels: int, generator: torch.Generator) -> Tensor:
    """Random unit vectors (count, channels), uniform over the sphere."""
    directions = torch.randn((count, channels), generator=generator)
    return directions / directions.norm(dim=1, keepdim=True)


def projections(features: Tensor, directions: Tensor) -> NDArray[np.float32]:
    """The centered features (1, C, h, w) along each direction (D, C), sorted: (D, h*w)."""
    along = directions @ features[0].flatten(1)
    along -= along.mean(1, keepdim=True)
    return np.sort(along.numpy(), axis=1)  # several times faster than torch's


def quantiles(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Sorted ``values`` (D, n) as (D, count): quantiles at the middles of ``count`` equal parts."""
    n = values.shape[1]
    return values if n == count else values[:, (2 * np.arange(count) + 1) * n // (2 * count)]


def sliced_wasserstein(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The squared Wasserstein-2 distance along each direction, averaged over directions.

    Both are sorted values (D, n) along the same directions.
    """
    return float(np.square(first - second).mean(axis=1).mean(dtype=np.float64))


def sliced_wasserstein_relative(current: Moments, target: Moments, centered: float) -> float:
    """The squared sliced Wasserstein distance over the target's mean squared norm.

    ``centered``: that of the centered features. The distance of the means, |m - n|^2 / C averaged
    over all directions, is known exactly and is added. So random directions are needed for the
    rest only: with 64 of them the standard deviation over seeds is 2% instead of 5%.
    """
    means = float((current.mean - target.mean).square().sum())
    return (means + target.channels * centered) / float(target.mean_squared_norm)


def lab_values(pixels: Pixels) -> NDArray[np.float32]:
    """L*, a* and b* (D65) of every pixel, each channel sorted: (3, H*W)."""
    from skimage.color import rgb2lab

    return np.sort(rgb2lab(pixels).reshape(-1, 3).T.astype(np.float32), axis=1)


def color_distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The Wasserstein-1 distance of two ``lab_values``, mean of the three channels.

    It is the mean distance that a channel's values must move to have the other's histogram, in
    CIELAB units. 2 to 3 units are just visible.
    """
    return float(np.abs(first - quantiles(second, first.shape[1])).mean(axis=1).mean(dtype="f8"))


# ---- distance to the photo -----------------------------------------------------------------------


def luminance(pixels: Pixels) -> NDArray[np.float32]:
    """(H, W, 3) -> (H, W): the luma of the encoded values with the weights of Rec. 709."""
    return pixels @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def ssim(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """SSIM of two luminances (H, W), with the paper's Gaussian window of 1.5 px."""
    from skimage.metrics import structural_similarity

    similarity = structural_similarity(
        first, second, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(similarity)


# ---- detail that the painting does not have ------------------------------------------------------


def fine_detail(pixels: Pixels) -> float:
    """The variance of detail finer than about 3 px in the flat parts of a picture (H, W, 3).

    Detail is the luminance minus its Gaussian average of 1 px. The flat parts are the quarter of
    the squares of 16 px that vary the least without that detail.
    """
    from scipy.ndimage import gaussian_filter

    light = luminance(pixels).astype(np.float64)
    smooth = gaussian_filter(light, 1.0)
    flatness, energy = (_by_square(each) for each in (smooth, light - smooth))
    flat = flatness <= np.quantile(flatness, 0.25)
    return float(energy[flat].mean())


def _by_square(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variance of each square of 16 px; pixels beyond the last whole square do not count."""
    side = min(_SQUARE, *values.shape)
    rows, columns = values.shape[0] // side, values.shape[1] // side
    squares = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return squares.var(axis=(1, 3))


def grain(picture: float, painting: float) -> float:
    """Decibels by which a picture's ``fine_detail`` exceeds the painting's, at least 0."""
    return max(0.0, 10 * float(np.log10((picture + _ROUNDING) / (painting + _ROUNDING))))


# ---- artifacts -----------------------------------------------------------------------------------


def artifacts(pixels: Pixels) -> dict[str, float]:
    """The scores that need neither photo nor painting, by their names in ``Scores``."""
    return {"clipped": clipped(pixels), "border": border(pixels), "periodic": periodic(pixels)}


def clipped(pixels: Pixels) -> float:
    """The share of pixels with a channel at exactly 0 or 1."""
    return float(((pixels <= 0) | (pixels >= 1)).any(axis=2).mean())


def border(pixels: Pixels) -> float:
    """The strongest edge along the border over the edges of the rest; about 1 without an artifact.

    The mean squared gradient of the luminance is taken across each of the outer 8 lines around the
    picture. The largest is divided by that of everything further inside. A frame is an edge at the
    same depth all around, so it scores far above 1. A border that was not painted scores near 0.
    """
    light = luminance(pixels).astype(np.float64)
    depth = min(_BORDER_LINES, min(light.shape) // 2 - 1)
    lines, rest = np.zeros((depth, 2)), np.zeros(2)  # sums and counts
    for across in (light, light.T):
        squares = np.square(np.diff(across, axis=0))
        # Both sides, by depth.
        ends = np.concatenate([squares[:depth], squares[::-1][:depth]], axis=1)
        lines += np.stack([ends.sum(1), np.full(depth, ends.shape[1])], axis=1)
        inner = squares[depth:-depth]
        rest += inner.sum(), inner.size
    strongest, inside = (lines[:, 0] / lines[:, 1]).max(), rest[0] / max(rest[1], 1)
    return float((strongest + _ROUNDING) / (inside + _ROUNDING))


def periodic(pixels: Pixels) -> float:
    """The excess of periods of 2, 4, 8 and 16 px in the luminance's spectrum, in decibels.

    Rows and columns each have a power spectrum: that of every line under a Hann window, averaged
    over lines. A line is fitted to the logarithms of the frequencies 3 to 10 bins away from each
    period and gives the expected power. The score is the mean of the eight excesses, negative ones
    counted as 0. Power below the rounding to 8 bits does not count. JPEG files, with their blocks
    of 8 px, have some excess too.
    """
    light = luminance(pixels).astype(np.float64)
    excesses = [_excess(lines, period) for lines in (light, light.T) for period in _PERIODS]
    return float(np.mean(excesses))


def _excess(lines: NDArray[np.float64], period: int) -> float:
    """The excess of one period in decibels; ``lines`` are (count, length)."""
    # Cropped so that each period falls on a bin of the spectrum.
    length = lines.shape[1] // _PERIODS[-1] * _PERIODS[-1]
    window = np.hanning(length + 1)[:-1]
    centered = lines[:, :length] - lines[:, :length].mean(1, keepdims=True)
    power = (
        np.square(np.abs(np.fft.rfft(centered * window, axis=1))).mean(0)
        + _ROUNDING * np.square(window).sum()
    )
    center = length // period
    bins = np.array([center + side * away for away in range(3, 11) for side in (-1, 1)])
    bins = bins[(bins >= 1) & (bins <= length // 2)]
    slope, level = np.polyfit(np.log(bins), np.log(power[bins]), 1)
    expected = slope * np.log(center) + level
    return max(0.0, float(np.log(power[center]) - expected) * 10 / np.log(10))
