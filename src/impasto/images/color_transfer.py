"""Transfer the mean and deviation of colors from one picture to another, in CIELAB (D65)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.color import lab2rgb, rgb2lab

from impasto.images.pixels import Pixels

_BAND = 2**20  # pixels that are converted at a time
# Of an axis. Below this deviation the axis is flat: its values are moved but not scaled.
_MIN_DEVIATION = 1e-3


@dataclass(frozen=True)
class ColorStatistics:
    """Mean and standard deviation of a picture's L*, a* and b*: (3,) float64 each."""

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]


def color_statistics(pixels: Pixels) -> ColorStatistics:
    """The color statistics of (H, W, 3) sRGB-encoded pixels, 0..1."""
    sums = np.zeros((2, 3))
    for band in _bands(pixels):
        lab = rgb2lab(band).astype(np.float64)
        sums += lab.sum((0, 1)), (lab * lab).sum((0, 1))
    mean, square = sums / (pixels.shape[0] * pixels.shape[1])
    return ColorStatistics(mean, np.sqrt(np.maximum(square - mean * mean, 0)))


def mixture(statistics: Sequence[ColorStatistics], weights: Sequence[float]) -> ColorStatistics:
    """The weighted mean of several color statistics."""
    return ColorStatistics(
        np.average([each.mean for each in statistics], axis=0, weights=weights),
        np.average([each.deviation for each in statistics], axis=0, weights=weights),
    )


def transfer(pixels: Pixels, target: ColorStatistics, share: float) -> Pixels:
    """A picture with colors moved towards the mean and deviation ``target``.

    ``share`` (0..1) is the fraction of the way. Each axis is transformed separately, as in Reinhard
    et al. 2001 ("Color Transfer between Images", section 3), who use another color space. Pixels
    are (H, W, 3) float32, sRGB-encoded, 0..1. Colors outside the sRGB gamut are clipped.
    """
    source = color_statistics(pixels)
    factor = np.where(
        source.deviation > _MIN_DEVIATION,
        target.deviation / np.maximum(source.deviation, _MIN_DEVIATION),
        1.0,
    )
    result = np.empty_like(pixels)
    for band, output in zip(_bands(pixels), _bands(result), strict=True):
        lab = rgb2lab(band)
        aligned = (lab - source.mean) * factor + target.mean
        lab += share * (aligned - lab)
        np.clip(lab[..., 0], 0, 100, out=lab[..., 0])
        # The largest b* at a lightness. Beyond it Z would be negative.
        np.minimum(lab[..., 2], 200 / 116 * (lab[..., 0] + 16), out=lab[..., 2])
        output[:] = lab2rgb(lab).clip(0, 1)
    return result


def _bands(pixels: Pixels) -> Iterator[Pixels]:
    """Views of some rows at a time."""
    rows = max(1, _BAND // pixels.shape[1])
    for top in range(0, pixels.shape[0], rows):
        yield pixels[top : top + rows]
