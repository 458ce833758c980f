"""Everything on one sheet: what each layer keeps, what its channels look for, and how the two
pictures differ.

It knows rows, headings and bars. It refuses to know files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from impasto import images
from impasto.explain import illustrations
from impasto.explain.results import DISTANCES, STYLE_LAYERS, Explanation
from impasto.images import lettering

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_DPI = 120
_WIDTH, _MARGIN, _GAP = 17.0, 0.4, 0.12  # inches
_TITLE, _HEADING, _LABEL = 0.95, 0.85, 0.45
_COLUMNS, _MOST_UNITS = 7, 15  # side by side
_LONGEST = 48  # letters of a file's name
_INK, _FAINT, _PAPER = "#1b1b1b", "#555555", "#faf8f4"
_BARS = dict(
    zip(
        DISTANCES,
        (("Gram matrices", "#3b6ea5"), ("Wasserstein, Impasto's own", "#d98032")),
        strict=True,
    )
)
Cell = tuple[images.Pixels | None, str]  # a picture, and the words below it


@dataclass(frozen=True)
class _Row:
    """Pictures side by side, ``columns`` to the width of the sheet, below a heading if there is
    one.
    """

    heading: str
    words: str
    columns: int
    cells: tuple[Cell, ...]

    @property
    def cell(self) -> float:
        """Inches of a cell's width."""
        return (_WIDTH - 2 * _MARGIN - (self.columns - 1) * _GAP) / self.columns

    @property
    def tallest(self) -> float:
        """Inches of the tallest picture."""
        shapes = [pixels.shape for pixels, _ in self.cells if pixels is not None]
        return max(min(self.cell * shape[0] / shape[1], 1.4 * self.cell) for shape in shapes)

    @property
    def height(self) -> float:
        label = _LABEL if any(words for _, words in self.cells) else _GAP
        return (_HEADING if self.heading else 0.0) + self.tallest + label


def drawn(found: Explanation, shown: Mapping[str, images.Pixels]) -> images.Pixels:
    """The poster as pixels (H, W, 3), 0..1; ``shown`` are the pictures by name."""
    from matplotlib.figure import Figure

    rows = list(_rows(found, shown))
    height = _TITLE + sum(row.height for row in rows) + _MARGIN
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor=_PAPER)
    _title(figure, found)
    top = _TITLE
    for row in rows:
        _hang(figure, row, top)
        top += row.height
    if found.distances:
        last = rows[-1]
        left = _MARGIN + 5 * (last.cell + _GAP) + 0.55
        tall = rows[-2].height + last.height - _HEADING - 2 * _LABEL
        _bar_chart(
            _axes(figure, left, height - _MARGIN - _LABEL - tall, _WIDTH - _MARGIN - left, tall),
            found,
        )
    return _pixels(figure)


def bars(found: Explanation) -> bytes | None:
    """The bar chart by itself as a PNG file: each layer's share of the distance; None where there
    is no painting.
    """
    from matplotlib.figure import Figure

    if not found.distances:
        return None
    figure = Figure(figsize=(7.5, 3.4), dpi=_DPI, facecolor=_PAPER, layout="tight")
    _bar_chart(figure.add_subplot(), found)
    return _png(figure)


def _rows(found: Explanation, shown: Mapping[str, images.Pixels]) -> Iterator[_Row]:
    photo: Cell = (shown["photo"], "the photo")
    cells = [
        (
            shown[illustrations.content(each.layers[-1])],
            f"{each.layers[-1]}\n{_percent(each.figure)} off",
        )
        for each in found.content
    ]
    if cells:
        yield _Row(
            "What each layer remembers of the photo",
            "Found from noise, so that the layer's maps are the photo's. Early layers keep every "
            "pixel, late ones what "
            "is where. Below: root mean square error of the pixels.",
            _COLUMNS,
            (photo, *cells),
        )
    if found.style and found.painting is not None:
        own = (shown["painting"], "the painting")
        cells = [
            (
                shown[illustrations.style(each.layers[-1])],
                f"{_upto(each.layers)}\npieces of {each.figure:.0f} px",
            )
            for each in found.style
        ]
        yield _Row(
            "What more and more layers keep of the painting's style",
            "Found from noise, so that the Gram matrices are the painting's: which features occur "
            "together, not where. "
            "Each layer adds larger forms.",
            _COLUMNS,
            (own, *cells),
        )
    yield from _units(found, shown)
    yield from _grams(found, shown)


def _units(found: Explanation, shown: Mapping[str, images.Pixels]) -> Iterator[_Row]:
    for first in range(0, len(found.answers), _MOST_UNITS):
        part = found.answers[first : first + _MOST_UNITS]
        columns = max(8, len(part))
        yield _Row(
            "What single channels look for, and where the photo has it" if first == 0 else " ",
            "Above: the picture that a channel answers to most. Below: the photo, lit where that "
            "channel answers."
            if first == 0
            else "",
            columns,
            tuple((shown[illustrations.unit(one.unit)], str(one.unit)) for one in part),
        )
        yield _Row(
            "", "", columns, tuple((shown[illustrations.answer(one.unit)], "") for one in part)
        )


def _grams(found: Explanation, shown: Mapping[str, images.Pixels]) -> Iterator[_Row]:
    words = "A row and a column for each channel, alike ones side by side. Bright: both answer, and together."
    if len(found.moments) > 1:
        words += " Style transfer makes the upper row like the lower."
    for number, of in enumerate(("photo", "painting")[: len(found.moments)]):
        yield _Row(
            "Gram matrices: which channels answer in the same places" if number == 0 else "",
            words,
            _COLUMNS,
            tuple(
                (shown[illustrations.gram(of, layer)], f"{of}, {layer}") for layer in STYLE_LAYERS
            ),
        )


def _upto(layers: Sequence[str]) -> str:
    return layers[0] if len(layers) == 1 else f"up to {layers[-1]}"


def _percent(error: float) -> str:
    return f"{100 * error:.1f}%"


def _title(figure: Figure, found: Explanation) -> None:
    asked = found.asked
    drawn = (("photo", asked.photo), ("painting", asked.painting))
    names = [
        _name(Path(picture.source).name, f"the {role}")
        for role, picture in drawn
        if picture is not None
    ]
    network = asked.recipe.network.name.upper().replace("VGG", "VGG-")
    missing = (
        f"; {found.done} of {found.planned} pictures were finished"
        if found.done < found.planned
        else ""
    )
    _write(figure, _MARGIN, 0.5, "What the network sees", 24, weight="bold")
    words = f"{' and '.join(names)}, seen by {network} at {asked.size} px, {asked.iterations} iterations a picture{missing}"
    _write(figure, _MARGIN, 0.8, words, 12, colour=_FAINT)


def _name(name: str, instead: str) -> str:
    """A file's name as the poster can show it, cut where it is long, ``instead`` where no font has
    its letters.
    """
    shown = lettering.figures().name(name, instead)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 3] + "..."


def _hang(figure: Figure, row: _Row, top: float) -> None:
    if row.heading:
        _write(figure, _MARGIN, top + 0.42, row.heading, 16, weight="bold")
        _write(figure, _MARGIN, top + 0.68, row.words, 11, colour=_FAINT)
        top += _HEADING
    size = 11 if row.columns <= 8 else 9
    for column, (pixels, label) in enumerate(row.cells):
        left = _MARGIN + column * (row.cell + _GAP)
        if pixels is not None:
            wide = min(row.cell, row.tallest * pixels.shape[1] / pixels.shape[0])
            tall = wide * pixels.shape[0] / pixels.shape[1]
            axes = _axes(figure, left + (row.cell - wide) / 2, top + row.tallest - tall, wide, tall)
            axes.imshow(pixels.clip(0, 1), interpolation="antialiased", aspect="auto")
            axes.set_axis_off()
        place = {"ha": "center", "va": "top", "fontsize": size, "color": _INK, "linespacing": 1.25}
        x, y = left + row.cell / 2, top + row.tallest + 0.05
        figure.text(x / _WIDTH, 1 - y / figure.get_figheight(), label, **place)  # type: ignore[arg-type]


def _bar_chart(axes: Axes, found: Explanation) -> None:
    places = np.arange(len(STYLE_LAYERS))
    for number, name in enumerate(DISTANCES):
        label, colour = _BARS[name]
        shares = [100 * found.shares[name][layer] for layer in STYLE_LAYERS]
        drawn = axes.bar(places + 0.4 * number - 0.2, shares, 0.38, label=label, color=colour)
        axes.bar_label(drawn, fmt="%.0f", fontsize=9, color=_INK)
    axes.set_xticks(places, STYLE_LAYERS)
    axes.set_ylabel("percent")
    axes.set_title("Which layer carries the style distance", fontsize=12, color=_INK)
    axes.legend(loc="upper right", frameon=False, fontsize=9)
    axes.margins(y=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_facecolor(_PAPER)


def _write(
    figure: Figure,
    left: float,
    base: float,
    text: str,
    size: float,
    weight: str = "normal",
    colour: str = _INK,
) -> None:
    at = left / _WIDTH, 1 - base / figure.get_figheight()
    shown, how = lettering.for_figure(text, weight)
    figure.text(*at, shown, fontsize=size, color=colour, **how)


def _axes(figure: Figure, left: float, top: float, wide: float, tall: float) -> Axes:
    """Axes at so many inches from the left and from the top."""
    height = figure.get_figheight()
    return figure.add_axes((left / _WIDTH, 1 - (top + tall) / height, wide / _WIDTH, tall / height))


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, facecolor=_PAPER)
    return file.getvalue()


def _pixels(figure: Figure) -> images.Pixels:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(np.asarray(canvas.buffer_rgba())[..., :3], np.float32) / np.float32(255)
