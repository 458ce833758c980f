"""The palette of a picture of few colors: a woodcut, a poster, a drawing in ink on white paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from impasto.images.pixels import Pixels

NEAR = 8 / 255  # the largest difference of a channel to a color of the palette
_APART = 32 / 255  # the least such difference of two colors; closer ones are shades of one
_MOST_COLORS = 8
_LEAST_SHARE = 0.02  # of the flat places, that a color of a palette has
_FEW_COLORS_SHARE = 0.75  # of the flat places, that the palette of a picture of few colors covers
_MIXED_SHARE = 0.9  # of all pixels, that are then a color or a mixture of two, as edges are
_SAMPLING = 7  # every seventh pixel stands for all when mixtures are counted
_OVERSHOOT = 0.2  # of a reduced edge beyond its two colors, as a share of their difference
_LEAST_FLAT = 0.03  # of the pixels, that are in flat places in a picture of few colors


@dataclass(frozen=True)
class Palette:
    """The colors (K, 3) of a picture, sRGB, 0..1, the most frequent first.

    ``share``: of its pixels, those that are near one of the colors.
    """

    colors: NDArray[np.float32]
    share: float


def palette_of(pixels: Pixels) -> Palette | None:
    """The palette of a picture (H, W, 3); None if it has more than a few colors.

    Only flat places count, where a pixel is like its neighbors: a reduced woodcut is full of shades
    along its lines. The first color is the one that has the most of them near it, the next the one
    that has the most of those that are far from the first. So a smooth shading has no palette.
    """
    rest = _flat_places(pixels)
    colors: list[NDArray[np.float32]] = []
    count, covered = len(rest), 0
    if count < _LEAST_FLAT * pixels[..., 0].size:
        return None
    while len(colors) < _MOST_COLORS and len(rest):
        near = _near_most_frequent(rest)
        if near.sum() < _LEAST_SHARE * count:
            break
        colors.append(rest[near].mean(0))
        covered += int(near.sum())
        rest = rest[np.abs(rest - colors[-1]).max(1) > _APART]
    if len(colors) < 2 or covered < _FEW_COLORS_SHARE * count:
        return None
    palette = np.array(colors, np.float32)
    if _mixed_share(pixels.reshape(-1, 3)[::_SAMPLING], palette) < _MIXED_SHARE:
        return None
    return Palette(palette, palette_share(pixels, palette))


def _mixed_share(flat: NDArray[np.float32], colors: NDArray[np.float32]) -> float:
    """The share of pixels (n, 3) that are near a mixture of two of the colors, as edges are."""
    found = np.zeros(len(flat), bool)
    for one, other in combinations(colors, 2):
        across = other - one
        place = (flat - one) @ across / (across @ across)
        place = place.clip(-_OVERSHOOT, 1 + _OVERSHOOT)
        found |= np.abs(flat - one - place[:, None] * across).max(1) <= 2 * NEAR
    return float(found.mean())


def _flat_places(pixels: Pixels) -> NDArray[np.float32]:
    """The pixels (n, 3) that differ by twice ``NEAR`` at most from those around them."""
    highest, lowest = (each(pixels, size=(3, 3, 1)) for each in (maximum_filter, minimum_filter))
    flat: NDArray[np.float32] = pixels[(highest - lowest).max(2) <= 2 * NEAR]
    return flat


def joint_palette(paintings: Sequence[Pixels]) -> NDArray[np.float32] | None:
    """The colors (K, 3) of some paintings; None without any, or if one has more than a few."""
    found = [palette_of(painting) for painting in paintings]
    if not found or any(palette is None for palette in found):
        return None
    return np.concatenate([palette.colors for palette in found if palette is not None])


def palette_share(pixels: Pixels, colors: NDArray[np.float32]) -> float:
    """The share of the pixels (H, W, 3) that are near one of the colors (K, 3)."""
    flat = pixels.reshape(-1, 3)
    nearest = np.full(len(flat), np.inf, np.float32)
    for color in colors:
        nearest = np.minimum(nearest, np.abs(flat - color).max(1))
    return float((nearest <= NEAR + 1e-6).mean())


def _near_most_frequent(flat: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of the pixels (n, 3) are near the most frequent color."""
    cells = (flat / NEAR).astype(np.int64).clip(0)
    keys = (cells[:, 0] << 20) + (cells[:, 1] << 10) + cells[:, 2]
    values, counts = np.unique(keys, return_counts=True)
    color = flat[keys == values[counts.argmax()]].mean(0)
    for _ in range(3):  # a cell may hold the edge of the color's cloud
        color = flat[np.abs(flat - color).max(1) <= NEAR].mean(0)
    near: NDArray[np.bool_] = np.abs(flat - color).max(1) <= NEAR
    return near
