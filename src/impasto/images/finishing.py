"""Turn decoded samples into a Picture strip by strip: color, reduction, rotation, alpha."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.images.decoding import Decoded, Task
from impasto.images.pixels import Picture, Pixels, fill_transparent
from impasto.images.profiles import Conversion, Samples, to_unit_range

STRIP = 1 << 17
"""Pixels that are converted at a time."""


def to_picture(decoded: Decoded, task: Task, *, source: str, sha256: str = "") -> Picture:
    """Convert decoded samples to a Picture, reduced by whole squares where ``task`` allows it.

    The only arrays of the full size are the decoded samples and the result.
    """
    box = task.box(decoded.size)
    conversion = Conversion(decoded.space, decoded.icc, decoded.numbers)
    digest = None if sha256 or box == 1 else hashlib.sha256()
    pixels, alpha = _convert_all(decoded, conversion, box, digest)
    if alpha is not None and alpha.min() >= 1:
        alpha = None  # opaque: no alpha
    if alpha is not None:
        if alpha.max() <= 0:
            raise BadPicture(
                f"{task.label} is transparent everywhere, so there is nothing to see in it."
            )
        pixels = fill_transparent(pixels, alpha)
    if not sha256:
        sha256 = _digest(pixels, alpha) if digest is None else digest.hexdigest()
    notes = (*decoded.notes, *conversion.notes)
    stored = decoded.full_size or decoded.size
    full = Size(*reversed(stored)) if decoded.orientation >= 5 else stored
    return Picture(pixels, alpha, decoded.exif, conversion.profile, source, sha256, notes, full)


def _convert_all(
    decoded: Decoded, conversion: Conversion, box: int, digest: Any
) -> tuple[Pixels, Pixels | None]:
    """Upright pixels and alpha, filled strip by strip."""
    height, width = decoded.size
    reduced_size = Size(-(-height // box), -(-width // box))
    shape = (
        (reduced_size.width, reduced_size.height)
        if decoded.orientation >= 5
        else tuple(reduced_size)
    )
    pixels = np.empty((*shape, 3), np.float32)
    alpha: Pixels | None = None
    step = max(box, STRIP // width // box * box)
    for top in range(0, height, step):
        bottom = min(height, top + step)
        color, strip_alpha = _convert_strip(decoded, conversion, top, bottom)
        if digest is not None:
            digest.update(color.astype("<f4", copy=False).tobytes())
        rows = slice(top // box, -(-bottom // box))
        if strip_alpha is None:
            _file_order_view(pixels, decoded.orientation)[rows] = _mean(color, box)
            continue
        if alpha is None:
            alpha = np.empty(shape, np.float32)
        if digest is not None:
            digest.update(strip_alpha.astype("<f4", copy=False).tobytes())
        weight: Pixels = _mean(strip_alpha, box)
        if box > 1:  # the mean color is weighted by alpha
            color = _mean(color * strip_alpha[..., None], box)
            color /= np.maximum(weight, np.float32(1e-12))[..., None]
        _file_order_view(pixels, decoded.orientation)[rows] = np.clip(color, 0, 1)
        _file_order_view(alpha, decoded.orientation)[rows] = weight
    return pixels, alpha


def _convert_strip(
    decoded: Decoded, conversion: Conversion, top: int, bottom: int
) -> tuple[Pixels, Pixels | None]:
    samples, opacity = decoded.rows(top, bottom)
    alpha = None if opacity is None else to_unit_range(opacity)
    if alpha is not None and decoded.premultiplied:
        samples = np.clip(to_unit_range(samples) / np.maximum(alpha, 1e-6)[..., None], 0, 1)
    return conversion(samples), alpha


def _mean(values: Samples, box: int) -> Pixels:
    """The mean of every ``box`` x ``box`` square of (h, w) or (h, w, C).

    Squares at the far edges may be cut.
    """
    if box == 1:
        return values
    height, width = values.shape[:2]
    rows, columns = np.arange(0, height, box), np.arange(0, width, box)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    counts = np.minimum(height - rows, box)[:, None] * np.minimum(width - columns, box)
    sums /= counts.astype(np.float32).reshape(counts.shape + (1,) * (values.ndim - 2))
    return sums


def _file_order_view(upright: Pixels, orientation: int) -> Pixels:
    """A view of upright pixels whose rows and columns are those of the file.

    ``orientation`` is EXIF's 1..8.
    """
    if orientation in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    if orientation in (3, 4, 7, 8):
        upright = upright[::-1]
    return upright.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else upright


def _digest(pixels: Pixels, alpha: Pixels | None) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(pixels, "<f4").data)
    digest.update(b"" if alpha is None else np.ascontiguousarray(alpha, "<f4").data)
    return digest.hexdigest()
