"""Labeled pictures in a grid: contact sheets, and posters with named rows and columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from impasto.geometry import Size
from impasto.images.pixels import Pixels
from impasto.images.sheet import Sheet
from impasto.images.text_layout import Font, distinct_labels, drawable_text, shorten, wrap

_LABEL_LINES = 2
_NAME_LINES, _ROW_LINES = 3, 4
_LEAST_SHEET_CELL, _LEAST_POSTER_CELL = 16, 64


def contact_sheet(pictures: Sequence[tuple[Pixels, str]], columns: int, cell: int) -> Pixels:
    """Pictures row by row on grey, each fitted into a square above its label.

    ``pictures`` are (H, W, 3), 0..1, and their labels; ``cell`` is the side of a square in pixels.
    Shapes are kept. Labels are wrapped to two lines and cut with an ellipsis.

    Returns (H', W', 3) float32, 0..1. Raises ValueError without pictures, for less than one column,
    or for cells under 16 pixels.
    """
    if not pictures or columns < 1 or cell < _LEAST_SHEET_CELL:
        raise ValueError(
            f"no sheet of {len(pictures)} pictures in {columns} columns of {cell} pixels"
        )
    columns = min(columns, len(pictures))
    gap, font = max(4, cell // 24), Font(max(9, cell // 16))
    row_height = gap + cell + _LABEL_LINES * font.line_height
    rows = -(-len(pictures) // columns)
    sheet = Sheet(Size(gap + rows * row_height, gap + columns * (cell + gap)))
    for index, (pixels, label) in enumerate(pictures):
        top = gap + index // columns * row_height
        left = gap + index % columns * (cell + gap)
        sheet.place(pixels, top, left, Size(cell, cell))
        lines = wrap(drawable_text(label), font, cell, _LABEL_LINES)
        sheet.write(lines, left + cell / 2, top + cell, font, "m")
    return sheet.pixels()


@dataclass(frozen=True)
class Heading:
    """The head of a poster: a title, lines of text, and small labeled pictures."""

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
    """A table of pictures on grey, with row names at the left and column names above.

    ``cells`` are pictures (H, W, 3), 0..1, or a text that says why there is none. Each picture is
    fitted into the same box. The box has the shape of the first picture and a long side of ``cell``
    pixels. Names are wrapped, and cut with an ellipsis where they are too long.

    Returns (H', W', 3) float32, 0..1. Raises ValueError if cells and names do not agree in number,
    and for cells under 64 pixels.
    """
    if (
        not rows
        or not columns
        or len(cells) != len(rows)
        or {len(line) for line in cells} != {len(columns)}
        or cell < _LEAST_POSTER_CELL
    ):
        raise ValueError(
            f"no poster of {len(rows)} rows, {len(columns)} columns and cells of {cell} pixels"
        )
    layout = _PosterLayout(cells, distinct_labels(rows), distinct_labels(columns), heading, cell)
    sheet = Sheet(layout.size)
    layout.draw_heading(sheet)
    layout.draw_columns(sheet)
    for row in range(len(rows)):
        layout.draw_row(sheet, row)
    return sheet.pixels()


class _PosterLayout:
    """Where everything on a poster goes, in pixels, and how it is drawn."""

    def __init__(
        self,
        cells: Sequence[Sequence[Pixels | str]],
        rows: Sequence[str],
        columns: Sequence[str],
        heading: Heading,
        cell: int,
    ) -> None:
        self.cells, self.rows, self.heading = cells, rows, heading
        self.gap = gap = max(4, cell // 24)
        self.font, self.title_font = Font(max(12, cell // 13)), Font(max(16, cell // 9))
        self.box = _box(cells, cell)
        name_width = round(max(min(cell, max(map(self.font.width, rows))), 1))
        self.margin = gap + name_width + gap
        width = max(self.margin + len(columns) * (self.box.width + gap), 3 * cell)
        self.thumbnail = cell // 2 if heading.pictures else 0
        self.text_left = gap + len(heading.pictures) * (self.thumbnail + gap)
        self.column_names = [wrap(name, self.font, self.box.width, _NAME_LINES) for name in columns]
        text_width = width - self.text_left - gap
        self.title = wrap(drawable_text(heading.title), self.title_font, text_width, _NAME_LINES)
        lines = (
            wrap(drawable_text(line), self.font, text_width, _NAME_LINES) for line in heading.lines
        )
        self.text = list(itertools.chain(*lines))
        self.top = (
            self._heading_height()
            + max(map(len, self.column_names)) * self.font.line_height
            + gap // 2
        )
        self.size = Size(self.top + len(rows) * (self.box.height + gap), width)

    def _heading_height(self) -> int:
        line = self.font.line_height
        text = len(self.title) * self.title_font.line_height + len(self.text) * line
        pictures = self.thumbnail + line if self.thumbnail else 0
        return self.gap + max(text, pictures) + self.gap

    def draw_heading(self, sheet: Sheet) -> None:
        side = self.thumbnail
        for index, (pixels, label) in enumerate(self.heading.pictures):
            left = self.gap + index * (side + self.gap)
            sheet.place(pixels, self.gap, left, Size(side, side))
            name = shorten(drawable_text(label), self.font, side)
            sheet.write([name], left + side / 2, self.gap + side, self.font, "m")
        sheet.write(self.title, self.text_left, self.gap, self.title_font)
        below = self.gap + len(self.title) * self.title_font.line_height
        sheet.write(self.text, self.text_left, below, self.font)

    def draw_columns(self, sheet: Sheet) -> None:
        for index, name in enumerate(self.column_names):
            center = self._left(index) + self.box.width / 2
            y = self.top - self.gap // 2 - len(name) * self.font.line_height
            sheet.write(name, center, y, self.font, "m")

    def draw_row(self, sheet: Sheet, row: int) -> None:
        top = self.top + row * (self.box.height + self.gap)
        name = wrap(self.rows[row], self.font, self.margin - 2 * self.gap, _ROW_LINES)
        y = top + (self.box.height - len(name) * self.font.line_height) / 2
        sheet.write(name, self.margin - self.gap, y, self.font, "r")
        for column, cell in enumerate(self.cells[row]):
            left = self._left(column)
            if isinstance(cell, str):
                lines = wrap(drawable_text(cell), self.font, self.box.width, _ROW_LINES)
                center = left + self.box.width / 2
                sheet.write(lines, center, top + self.gap, self.font, "m")
            else:
                sheet.place(cell, top, left, self.box)

    def _left(self, column: int) -> int:
        return self.margin + column * (self.box.width + self.gap)


def _box(cells: Sequence[Sequence[Pixels | str]], cell: int) -> Size:
    """The size of every picture: the shape of the first, and a square where there is none."""
    pictures = (each for line in cells for each in line if not isinstance(each, str))
    first = next(pictures, None)
    return Size(cell, cell) if first is None else Size(*first.shape[:2]).with_long_side(cell)
