"""Random pictures, files of them, and reading back what was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from impasto.assets import museum


def random_pixels(
    height: int, width: int, channels: int = 3, seed: int = 0
) -> np.ndarray[Any, Any]:
    """8-bit noise in blocks of 4 px, so that it survives resizing."""
    blocks = np.random.default_rng(seed).integers(
        0, 256, (-(-height // 4), -(-width // 4), channels), dtype=np.uint8
    )
    return blocks.repeat(4, 0).repeat(4, 1)[:height, :width]


def save_random(path: str | Path, height: int = 75, width: int = 100, seed: int = 0) -> str:
    """Save a random picture; returns the path as text."""
    Image.fromarray(random_pixels(height, width, seed=seed)).save(path)
    return str(path)


def read_pixels(path: str | Path) -> np.ndarray[Any, Any]:
    """The pixels of a file as Pillow reads them."""
    with Image.open(path) as image:
        return np.asarray(image)


def stub_museum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every painting of the museum the same noise, without a download."""
    pixels = random_pixels(80, 60, seed=9).astype(np.float32) / 255
    monkeypatch.setattr(museum.Work, "read", lambda self, *, progress=None: pixels)
    monkeypatch.setattr(
        museum.Work,
        "read_bytes",
        lambda self, *, progress=None: b"the file of " + self.slug.encode(),
    )
