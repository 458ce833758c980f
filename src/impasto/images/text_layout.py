"""Measure, wrap, shorten and draw lines of text with Pillow, in any script that this machine has
fonts for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from PIL import ImageDraw, ImageFont

from impasto.images import lettering

Align = Literal["l", "m", "r"]  # left end, middle, right end
_ELLIPSIS = "..."
_PillowFont = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Font:
    """Pillow's default font at a size in pixels, with other fonts for glyphs that it lacks."""

    size: int

    @property
    def line_height(self) -> int:
        """Ascent plus descent, in pixels."""
        return sum(self._metrics)

    @property
    def _metrics(self) -> tuple[int, int]:
        font = _default_font(self.size)
        return font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (10, 2)

    def width(self, text: str) -> float:
        """The width of a line of text, in pixels."""
        return sum(font.getlength(run) for font, run in self._runs(text))

    def draw(self, draw: ImageDraw.ImageDraw, x: float, y: float, text: str, align: Align) -> None:
        """Draw one line with its top at ``y`` and the end or middle named by ``align`` at ``x``."""
        runs = self._runs(text)
        if len(runs) == 1 and text.isascii():
            draw.text((x, y), text, fill=255, font=runs[0][0], anchor=f"{align}a")
            return
        x -= {"l": 0.0, "m": 0.5, "r": 1.0}[align] * self.width(text)
        for font, run in runs:
            draw.text((x, y + self._metrics[0]), run, fill=255, font=font, anchor="ls")
            x += font.getlength(run)

    def _runs(self, text: str) -> list[tuple[_PillowFont, str]]:
        if text.isascii():
            return [(_default_font(self.size), text)]
        runs = lettering.pillow().drawable(text, tidy=False).runs()
        return [
            (_default_font(self.size) if face is None else _font_of(face.file, self.size), run)
            for face, run in runs
        ]


def shown_name(name: str, fallback: str) -> str:
    """A file's name as labels can show it; ``fallback`` if this machine has no font for it."""
    return lettering.pillow().name(name, fallback)


def drawable_text(text: str) -> str:
    """The text without letters that no font has, and with ASCII in place of accented letters.

    Pillow's default font has the glyphs of ASCII alone.
    """
    return lettering.pillow().drawable(text).text


def distinct_labels(labels: Sequence[str]) -> list[str]:
    """The labels as they can be drawn; one that loses letters gets its number appended."""
    drawable = [lettering.pillow().drawable(label) for label in labels]
    return [
        f"{each.text} ({number})" if each.incomplete else each.text
        for number, each in enumerate(drawable, 1)
    ]


def wrap(text: str, font: Font, width: int, max_lines: int) -> list[str]:
    """The text in at most ``max_lines`` lines, none wider than ``width`` pixels."""
    lines = [""]
    words = text.split()
    for index, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.width(longer) <= width:
            lines[-1] = longer
        elif len(lines) < max_lines:
            lines.append(word)
        else:
            lines[-1] = " ".join([lines[-1], *words[index:]])
            break
    return [shorten(line, font, width) for line in lines if line]


def shorten(text: str, font: Font, width: int) -> str:
    """The text cut to ``width`` pixels, with an ellipsis if something is cut off."""
    if font.width(text) <= width:
        return text
    while text and font.width(text + _ELLIPSIS) > width:
        text = text[:-1]
    return text.rstrip() + _ELLIPSIS


@lru_cache(maxsize=16)
def _default_font(size: int) -> _PillowFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=64)
def _font_of(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)
