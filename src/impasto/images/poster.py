"""Contact sheets and posters: labelled pictures in a grid, to be looked at side by side.

Layout and lettering only: what the pictures are is for others to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from impasto.geometry import Size
from impasto.images import lettering
from impasto.images.pixels import Pixels, resize

_GREY = 119 / 255  # the middle of perceived lightness (L* = 50), which flatters no picture
_LINES = 2
_ELLIPSIS = "..."


def contact_sheet(pictures: Sequence[tuple[Pixels, str]], columns: int, cell: int) -> Pixels:
    """The pictures (H, W, 3), 0..1, each fitted into ``cell`` pixels above its label, by rows, on
    grey.

    Shapes are kept; labels are wrapped to two lines and then cut with an ellipsis. Gives (H', W',
    3) float32, 0..1. Raises ValueError without pictures, for less than one column, or for cells
    under 16 pixels.
    """
    if not pictures or columns < 1 or cell < 16:
        raise ValueError(
            f"no sheet of {len(pictures)} pictures in {columns} columns of {cell} pixels"
        )
    columns = min(columns, len(pictures))
    gap = max(4, cell // 24)
    font = _Font(max(9, cell // 16))
    line = font.line
    row_height = gap + cell + _LINES * line
    rows = -(-len(pictures) // columns)
    size = Size(gap + rows * row_height, gap + columns * (cell + gap))
    sheet = np.full((*size, 3), _GREY, np.float32)
    ink = Image.new("L", (size.width, size.height), 0)
    draw = ImageDraw.Draw(ink)
    for index, (pixels, label) in enumerate(pictures):
        top = gap + index // columns * row_height
        left = gap + index % columns * (cell + gap)
        _place(sheet, pixels, top, left, Size(cell, cell))
        _write(draw, _wrapped(_plain(label), font, cell), left + cell / 2, top + cell, font, "m")
    return _inked(sheet, ink)


@dataclass(frozen=True)
class Heading:
    """What stands above a poster: a title, lines of text, and small labelled pictures."""

    title: str
    lines: tuple[str, ...] = ()
    pictures: tuple[tuple[Pixels, str], ...] = ()


def poster(
    cells: Sequence[Sequence[Pixels | str]],
    rows: Sequence[str],
    columns: Sequence[str],
    heading: Heading,
    cell: int,
) -> Pixels:
    """Pictures (H, W, 3), 0..1, in a table: ``rows`` are named at the left, ``columns`` above, on
    grey.

    Each picture is fitted into the same box, of the shape of the first one and with a long side of
    ``cell`` pixels; where there is none, a text says why. Names are wrapped, and cut with an
    ellipsis where they are too long. Gives (H', W', 3) float32, 0..1. Raises ValueError where cells
    and names do not agree in number, and for cells under 64 pixels.
    """
    if (
        not rows
        or not columns
        or len(cells) != len(rows)
        or {len(line) for line in cells} != {len(columns)}
        or cell < 64
    ):
        raise ValueError(
            f"no poster of {len(rows)} rows, {len(columns)} columns and cells of {cell} pixels"
        )
    first = next((each for line in cells for each in line if not isinstance(each, str)), None)
    box = Size(cell, cell) if first is None else Size(*first.shape[:2]).with_long_side(cell)
    gap, font, large = max(4, cell // 24), _Font(max(12, cell // 13)), _Font(max(16, cell // 9))
    line, title = font.line, large.line
    rows, columns = _told_apart(rows), _told_apart(columns)
    # For the names of the rows.
    margin = gap + round(max(min(cell, max(map(font.length, rows))), 1)) + gap
    width = max(margin + len(columns) * (box.width + gap), 3 * cell)
    thumb = cell // 2 if heading.pictures else 0
    words = gap + len(heading.pictures) * (thumb + gap)  # where the title begins
    lines = _wrapped(_plain(heading.title), large, width - words - gap, 3)
    texts = [
        part
        for each in heading.lines
        for part in _wrapped(_plain(each), font, width - words - gap, 3)
    ]
    head = gap + max(len(lines) * title + len(texts) * line, thumb + line if thumb else 0) + gap
    named = [_wrapped(each, font, box.width, 3) for each in columns]
    top = head + max(map(len, named)) * line + gap // 2
    sheet = np.full((top + len(rows) * (box.height + gap), width, 3), _GREY, np.float32)
    ink = Image.new("L", (width, sheet.shape[0]), 0)
    draw = ImageDraw.Draw(ink)
    for index, (pixels, label) in enumerate(heading.pictures):
        left = gap + index * (thumb + gap)
        _place(sheet, pixels, gap, left, Size(thumb, thumb))
        _write(
            draw, [_shortened(_plain(label), font, thumb)], left + thumb / 2, gap + thumb, font, "m"
        )
    _write(draw, lines, words, gap, large, "l")
    _write(draw, texts, words, gap + len(lines) * title, font, "l")
    for index, name in enumerate(named):
        centre = margin + index * (box.width + gap) + box.width / 2
        _write(draw, name, centre, top - gap // 2 - len(name) * line, font, "m")
    for index, label in enumerate(rows):
        down = top + index * (box.height + gap)
        name = _wrapped(label, font, margin - 2 * gap, 4)
        _write(draw, name, margin - gap, down + (box.height - len(name) * line) / 2, font, "r")
        for column, picture in enumerate(cells[index]):
            left = margin + column * (box.width + gap)
            if isinstance(picture, str):
                _write(
                    draw,
                    _wrapped(_plain(picture), font, box.width, 4),
                    left + box.width / 2,
                    down + gap,
                    font,
                    "m",
                )
            else:
                _place(sheet, picture, down, left, box)
    return _inked(sheet, ink)


def _place(sheet: Pixels, pixels: Pixels, top: int, left: int, box: Size) -> None:
    """A picture in the middle of a box, as large as fits."""
    own = Size(*pixels.shape[:2])
    factor = min(box.height / own.height, box.width / own.width)
    size = Size(
        max(1, min(box.height, round(own.height * factor))),
        max(1, min(box.width, round(own.width * factor))),
    )
    down, right = top + (box.height - size.height) // 2, left + (box.width - size.width) // 2
    sheet[down : down + size.height, right : right + size.width] = resize(pixels, size)


@dataclass(frozen=True)
class _Font:
    """Pillow's own font in a size, and where it has no glyphs other fonts of this machine."""

    size: int

    @property
    def line(self) -> int:
        """The height of a line: ascent and descent."""
        return sum(self._metrics)

    @property
    def _metrics(self) -> tuple[int, int]:
        own = _own(self.size)
        return own.getmetrics() if isinstance(own, ImageFont.FreeTypeFont) else (10, 2)

    def length(self, text: str) -> float:
        return sum(font.getlength(run) for font, run in self._runs(text))

    def write(self, draw: ImageDraw.ImageDraw, x: float, y: float, text: str, align: str) -> None:
        """A text whose top is at ``y`` and whose left end, middle or right end, by ``align`` l, m
        or r, is at ``x``.
        """
        runs = self._runs(text)
        if len(runs) == 1 and text.isascii():
            draw.text((x, y), text, fill=255, font=runs[0][0], anchor=f"{align}a")
            return
        x -= {"l": 0.0, "m": 0.5, "r": 1.0}[align] * self.length(text)
        for font, run in runs:
            draw.text((x, y + self._metrics[0]), run, fill=255, font=font, anchor="ls")
            x += font.getlength(run)

    def _runs(self, text: str) -> list[tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, str]]:
        if text.isascii():
            return [(_own(self.size), text)]
        runs = lettering.pillow().drawable(text, tidy=False).runs()
        return [
            (_own(self.size) if face is None else _other(face.file, self.size), run)
            for face, run in runs
        ]


@lru_cache(maxsize=16)
def _own(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=64)
def _other(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


def _write(
    draw: ImageDraw.ImageDraw, lines: Sequence[str], x: float, y: float, font: _Font, align: str
) -> None:
    """Lines of text below each other, the first one's top at ``y``."""
    for number, words in enumerate(lines):
        font.write(draw, x, y + number * font.line, words, align)


def _inked(sheet: Pixels, ink: Image.Image) -> Pixels:
    """White letters on a sheet (H, W, 3)."""
    opacity = np.asarray(ink, np.float32)[..., None] / 255  # (H, W, 1)
    return np.asarray(sheet * (1 - opacity) + opacity, np.float32)


def shown_name(name: str, instead: str) -> str:
    """A file's name as labels can show it; ``instead`` where no font of this machine has its
    letters.
    """
    return lettering.pillow().name(name, instead)


def _plain(label: str) -> str:
    """The label without what no font has, and without accents and signs, which Pillow's own font
    has no glyphs for.
    """
    return lettering.pillow().drawable(label).text


def _told_apart(labels: Sequence[str]) -> list[str]:
    """The labels as they can be drawn; those that letters are left out of have their number behind
    them.
    """
    found = [lettering.pillow().drawable(label) for label in labels]
    return [
        f"{each.text} ({number})" if each.lost else each.text
        for number, each in enumerate(found, 1)
    ]


def _wrapped(label: str, font: _Font, width: int, most: int = _LINES) -> list[str]:
    """The label in at most ``most`` lines, none wider than ``width`` pixels."""
    lines = [""]
    words = label.split()
    for index, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.length(longer) <= width:
            lines[-1] = longer
        elif len(lines) < most:
            lines.append(word)
        else:
            lines[-1] = " ".join([lines[-1], *words[index:]])
            break
    return [_shortened(text, font, width) for text in lines if text]


def _shortened(text: str, font: _Font, width: int) -> str:
    if font.length(text) <= width:
        return text
    while text and font.length(text + _ELLIPSIS) > width:
        text = text[:-1]
    return text.rstrip() + _ELLIPSIS
