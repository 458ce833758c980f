"""A surface with a plain background on which pictures and text are placed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from impasto.geometry import Size
from impasto.images.pixels import Pixels, resize
from impasto.images.text_layout import Align, Font

Color = tuple[float, float, float]  # sRGB-encoded, 0..1
WHITE: Color = (1.0, 1.0, 1.0)
GREY: Color = (119 / 255,) * 3  # middle lightness (L* = 50), which favors no picture


class Sheet:
    """Pictures and text on a background of one color; ``size`` is in pixels."""

    def __init__(self, size: Size, background: Color = GREY) -> None:
        self._size = size
        self._pixels = np.empty((*size, 3), np.float32)
        self._pixels[:] = background
        # Text of one color is drawn as opacity and blended at the end, over every picture.
        self._text: dict[Color, Image.Image] = {}

    def place(self, picture: Pixels, top: int, left: int, box: Size) -> None:
        """Draw a picture (H, W, 3) in the middle of a box, as large as fits, keeping its shape."""
        original = Size(*picture.shape[:2])
        factor = min(box.height / original.height, box.width / original.width)
        size = Size(
            max(1, min(box.height, round(original.height * factor))),
            max(1, min(box.width, round(original.width * factor))),
        )
        y, x = top + (box.height - size.height) // 2, left + (box.width - size.width) // 2
        self._pixels[y : y + size.height, x : x + size.width] = resize(picture, size)

    def write(
        self,
        lines: Sequence[str],
        x: float,
        y: float,
        font: Font,
        align: Align = "l",
        color: Color = WHITE,
    ) -> None:
        """Draw lines of text below each other, the top of the first at ``y``."""
        layer = self._text.setdefault(color, Image.new("L", (self._size.width, self._size.height)))
        draw = ImageDraw.Draw(layer)
        for number, line in enumerate(lines):
            font.draw(draw, x, y + number * font.line_height, line, align)

    def pixels(self) -> Pixels:
        """The finished sheet: (H, W, 3) float32, 0..1."""
        pixels = self._pixels
        for color, layer in self._text.items():
            opacity = np.asarray(layer, np.float32)[..., None] / 255  # (H, W, 1)
            ink = opacity * np.asarray(color, np.float32)
            pixels = np.asarray(pixels * (1 - opacity) + ink, np.float32)
        return pixels
