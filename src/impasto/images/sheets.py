"""Contact sheets: labelled pictures in a grid, to be looked at side by side.

It knows layout and lettering. It refuses to know what the pictures are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from impasto.geometry import Size
from impasto.images.pixels import Pixels, resize

_GREY = 119 / 255  # the middle of perceived lightness (L* = 50), which flatters no picture
_LINES = 2
_ELLIPSIS = "..."
_SIGNS = str.maketrans({"–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "ø": "o", "ł": "l", "ß": "ss"})
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(pictures: Sequence[tuple[Pixels, str]], columns: int, cell: int) -> Pixels:
    """The pictures (H, W, 3), 0..1, each fitted into ``cell`` pixels above its label, by rows, on grey.

    Shapes are kept; labels are wrapped to two lines and then cut with an ellipsis. Gives (H', W', 3)
    float32, 0..1. Raises ValueError without pictures, for less than one column, or for cells under 16
    pixels.
    """
    if not pictures or columns < 1 or cell < 16:
        raise ValueError(f"no sheet of {len(pictures)} pictures in {columns} columns of {cell} pixels")
    columns = min(columns, len(pictures))
    gap = max(4, cell // 24)
    font = ImageFont.load_default(max(9, cell // 16))
    line = sum(font.getmetrics()) if isinstance(font, ImageFont.FreeTypeFont) else 12  # ascent + descent
    row_height = gap + cell + _LINES * line
    rows = -(-len(pictures) // columns)
    size = Size(gap + rows * row_height, gap + columns * (cell + gap))
    sheet = np.full((*size, 3), _GREY, np.float32)
    ink = Image.new("L", (size.width, size.height), 0)
    draw = ImageDraw.Draw(ink)
    for index, (pixels, label) in enumerate(pictures):
        top = gap + index // columns * row_height
        left = gap + index % columns * (cell + gap)
        fitted = resize(pixels, Size(*pixels.shape[:2]).with_long_side(cell))
        height, width = fitted.shape[:2]
        down, right = top + (cell - height) // 2, left + (cell - width) // 2
        sheet[down : down + height, right : right + width] = fitted
        for number, words in enumerate(_wrapped(_plain(label), font, cell)):
            draw.text((left + cell / 2, top + cell + number * line), words, fill=255, font=font, anchor="ma")
    opacity = np.asarray(ink, np.float32)[..., None] / 255  # (H', W', 1)
    return np.asarray(sheet * (1 - opacity) + opacity, np.float32)  # white letters


def _plain(label: str) -> str:
    """The label without accents and typographic signs, which Pillow's own font has no glyphs for."""
    text = unicodedata.normalize("NFKD", label.translate(_SIGNS))
    return "".join(letter for letter in text if not unicodedata.combining(letter))


def _wrapped(label: str, font: _Font, width: int) -> list[str]:
    """The label in at most ``_LINES`` lines, none wider than ``width`` pixels."""
    lines = [""]
    words = label.split()
    for index, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        elif len(lines) < _LINES:
            lines.append(word)
        else:
            lines[-1] = " ".join([lines[-1], *words[index:]])
            break
    return [_shortened(text, font, width) for text in lines if text]


def _shortened(text: str, font: _Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + _ELLIPSIS) > width:
        text = text[:-1]
    return text.rstrip() + _ELLIPSIS
