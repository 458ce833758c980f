"""The colors of one picture brought nearer to those of others, in CIELAB under D65.

It knows color spaces. It refuses to know networks, files and whose colors are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.color import lab2rgb, rgb2lab

_BAND = 2**20  # pixels that are in CIELAB at a time
# Of lightness or a color axis: what is narrower is flat, and is moved without being spread.
_LEAST_SPREAD = 1e-3
Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of lightness, green to red and blue to yellow, over a picture:
    (3,) each, float64.
    """

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]


def spread(pixels: Pixels) -> Spread:
    """Those of (H, W, 3) sRGB-encoded pixels, 0..1."""
    sums = np.zeros((2, 3))
    for band in _bands(pixels):
        lab = rgb2lab(band).astype(np.float64)
        sums += lab.sum((0, 1)), (lab * lab).sum((0, 1))
    mean, square = sums / (pixels.shape[0] * pixels.shape[1])
    return Spread(mean, np.sqrt(np.maximum(square - mean * mean, 0)))


def mixed(spreads: Sequence[Spread], weights: Sequence[float]) -> Spread:
    """The weighted mean of several."""
    return Spread(
        np.average([one.mean for one in spreads], axis=0, weights=weights),
        np.average([one.deviation for one in spreads], axis=0, weights=weights),
    )


def towards(pixels: Pixels, wanted: Spread, share: float) -> Pixels:
    """A new picture whose colors have gone a ``share`` (0..1) of the way to the mean and deviation
    ``wanted``.

    Each axis by itself, as Reinhard et al. 2001 ("Color Transfer between Images", section 3) have
    it, who work in another space. (H, W, 3) sRGB-encoded, 0..1, float32; what no screen can show is
    cut off.
    """
    own = spread(pixels)
    factor = np.where(
        own.deviation > _LEAST_SPREAD,
        wanted.deviation / np.maximum(own.deviation, _LEAST_SPREAD),
        1.0,
    )
    painted = np.empty_like(pixels)
    for band, into in zip(_bands(pixels), _bands(painted), strict=True):
        lab = rgb2lab(band)
        aligned = (lab - own.mean) * factor + wanted.mean
        lab += share * (aligned - lab)
        np.clip(lab[..., 0], 0, 100, out=lab[..., 0])
        # The yellowest there can be at a lightness, beyond which CIE's Z would be negative.
        np.minimum(lab[..., 2], 200 / 116 * (lab[..., 0] + 16), out=lab[..., 2])
        into[:] = lab2rgb(lab).clip(0, 1)
    return painted


def _bands(pixels: Pixels) -> Iterator[Pixels]:
    """Rows at a time, as views."""
    rows = max(1, _BAND // pixels.shape[1])
    for top in range(0, pixels.shape[0], rows):
        yield pixels[top : top + rows]
