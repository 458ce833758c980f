"""The poster of an explanation: every picture on one sheet, in rows with headings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from impasto import images
from impasto.explanations import bar_chart, illustrations
from impasto.explanations.results import Explanation
from impasto.geometry import Size
from impasto.images.sheet import Color, Sheet
from impasto.images.text_layout import Font, drawable_text, shorten, shown_name
from impasto.networks.vgg import STYLE_LAYERS

# Pixels.
_WIDTH, _MARGIN, _GAP = 2040, 48, 14
_TITLE, _HEADING, _LABEL = 114, 102, 54  # heights
_LONGEST_NAME = 600  # width of a file's name
_TITLE_FONT, _HEADING_FONT, _TEXT_FONT = Font(44), Font(31), Font(20)
_LABEL_FONT, _SMALL_FONT = Font(19), Font(16)
_COLUMNS, _MOST_UNITS = 7, 15
_PAPER: Color = (250 / 255, 248 / 255, 244 / 255)
_INK: Color = (27 / 255,) * 3
_FAINT: Color = (85 / 255,) * 3


@dataclass(frozen=True)
class _Row:
    """Labeled pictures side by side, below a heading if there is one.

    ``columns``: how many cells fill the width of the poster.
    """

    heading: str
    text: str
    columns: int
    cells: tuple[tuple[images.Pixels, str], ...]

    @property
    def cell_width(self) -> int:
        return (_WIDTH - 2 * _MARGIN - (self.columns - 1) * _GAP) // self.columns

    @property
    def picture_height(self) -> int:
        """The height of the tallest picture, at most 1.4 times its width."""
        width = self.cell_width
        shapes = [pixels.shape for pixels, _ in self.cells]
        return round(max(min(width * shape[0] / shape[1], 1.4 * width) for shape in shapes))

    @property
    def heading_height(self) -> int:
        return _HEADING if self.heading else 0

    @property
    def height(self) -> int:
        label = _LABEL if any(label for _, label in self.cells) else _GAP
        return self.heading_height + self.picture_height + label

    def left(self, column: int) -> int:
        return _MARGIN + column * (self.cell_width + _GAP)


def draw_poster(explanation: Explanation, pictures: Mapping[str, images.Pixels]) -> images.Pixels:
    """The poster as pixels (H, W, 3), 0..1; ``pictures`` are those of ``illustrations`` by name."""
    rows = list(_rows(explanation, pictures))
    height = _TITLE + sum(row.height for row in rows) + _MARGIN
    sheet = Sheet(Size(height, _WIDTH), _PAPER)
    _draw_title(sheet, explanation)
    top = _TITLE
    for row in rows:
        _draw_row(sheet, row, top)
        top += row.height
    if explanation.distances:
        _draw_chart(sheet, explanation, rows[-2:], height)
    return sheet.pixels()


def _draw_title(sheet: Sheet, explanation: Explanation) -> None:
    request = explanation.request
    sources = [("photo", request.photo), ("painting", request.painting)]
    names = [
        _source_name(Path(picture.source).name, f"the {role}")
        for role, picture in sources
        if picture is not None
    ]
    unfinished = (
        f"; {explanation.done} of {explanation.planned} pictures were finished"
        if explanation.done < explanation.planned
        else ""
    )
    text = (
        f"{' and '.join(names)}, seen by {explanation.network} at {request.size} px, "
        f"{request.iterations} iterations per picture{unfinished}"
    )
    sheet.write(["What the network sees"], _MARGIN, 24, _TITLE_FONT, color=_INK)
    sheet.write([text], _MARGIN, 76, _TEXT_FONT, color=_FAINT)


def _source_name(name: str, fallback: str) -> str:
    """A file's name as the poster can show it; ``fallback`` if no font has its letters."""
    return shorten(shown_name(name, fallback), _TEXT_FONT, _LONGEST_NAME)


def _draw_row(sheet: Sheet, row: _Row, top: int) -> None:
    if row.heading:
        sheet.write([row.heading], _MARGIN, top + 22, _HEADING_FONT, color=_INK)
        sheet.write([row.text], _MARGIN, top + 64, _TEXT_FONT, color=_FAINT)
    top += row.heading_height
    font = _LABEL_FONT if row.columns <= 8 else _SMALL_FONT
    box = Size(row.picture_height, row.cell_width)
    for column, (pixels, label) in enumerate(row.cells):
        left = row.left(column)
        sheet.place(pixels.clip(0, 1), top, left, box)
        lines = [drawable_text(line) for line in label.splitlines()]
        sheet.write(lines, left + box.width / 2, top + box.height + 5, font, "m", _INK)


def _draw_chart(
    sheet: Sheet, explanation: Explanation, gram_rows: Sequence[_Row], height: int
) -> None:
    """Draw the bar chart to the right of the two rows of Gram matrices."""
    upper, lower = gram_rows
    left = lower.left(len(STYLE_LAYERS))
    size = Size(upper.height + lower.height - _HEADING, _WIDTH - _MARGIN - left)
    pixels = bar_chart.pixels(explanation, *size)
    sheet.place(pixels, height - _MARGIN - size.height, left, size)


def _rows(explanation: Explanation, pictures: Mapping[str, images.Pixels]) -> Iterator[_Row]:
    if explanation.content:
        yield _content_row(explanation, pictures)
    if explanation.style:
        yield _style_row(explanation, pictures)
    yield from _unit_rows(explanation, pictures)
    yield from _gram_rows(explanation, pictures)


def _content_row(explanation: Explanation, pictures: Mapping[str, images.Pixels]) -> _Row:
    cells = [
        (
            pictures[illustrations.content(each.deepest)],
            f"{each.deepest}\n{100 * each.pixel_error:.1f}% off",
        )
        for each in explanation.content
    ]
    return _Row(
        "What each layer remembers of the photo",
        "Optimized from noise until the layer's maps are those of the photo. Early layers keep "
        "every pixel, late ones keep what is where. Below: root mean square error of the pixels.",
        _COLUMNS,
        ((pictures["photo"], "the photo"), *cells),
    )


def _style_row(explanation: Explanation, pictures: Mapping[str, images.Pixels]) -> _Row:
    cells = [
        (
            pictures[illustrations.style(each.deepest)],
            f"{_layer_range(each.layers)}\npatches of {each.patch_size:.0f} px",
        )
        for each in explanation.style
    ]
    return _Row(
        "What more and more layers keep of the painting's style",
        "Optimized from noise until the Gram matrices are those of the painting: which features "
        "occur together, not where. Each layer adds larger forms.",
        _COLUMNS,
        ((pictures["painting"], "the painting"), *cells),
    )


def _layer_range(layers: Sequence[str]) -> str:
    return layers[0] if len(layers) == 1 else f"up to {layers[-1]}"


def _unit_rows(explanation: Explanation, pictures: Mapping[str, images.Pixels]) -> Iterator[_Row]:
    for first in range(0, len(explanation.activations), _MOST_UNITS):
        units = [each.unit for each in explanation.activations[first : first + _MOST_UNITS]]
        columns = max(8, len(units))
        heading = "What single channels look for, and where the photo has it" if not first else " "
        text = (
            "Above: the picture that activates a channel most. "
            "Below: the photo, bright where that channel activates."
        )
        above = tuple((pictures[illustrations.unit(unit)], str(unit)) for unit in units)
        below = tuple((pictures[illustrations.activation(unit)], "") for unit in units)
        yield _Row(heading, text if first == 0 else "", columns, above)
        yield _Row("", "", columns, below)


def _gram_rows(explanation: Explanation, pictures: Mapping[str, images.Pixels]) -> Iterator[_Row]:
    text = (
        "A row and a column for each channel, similar channels side by side. "
        "Bright: both activate, and in the same places."
    )
    if len(explanation.moments) > 1:
        text += " Style transfer makes the upper row like the lower."
    for number, role in enumerate(illustrations.ROLES[: len(explanation.moments)]):
        cells = tuple(
            (pictures[illustrations.gram(role, layer)], f"{role}, {layer}")
            for layer in STYLE_LAYERS
        )
        heading = "Gram matrices: which channels activate in the same places"
        yield _Row(heading if number == 0 else "", text, _COLUMNS, cells)
