"""A comparison as a table for the terminal, as CSV and as JSON values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from impasto.comparisons.scores import FIGURES
from impasto.comparisons.scoring import Comparison, Row, Scale

_ARROWS = {"lower": "↓", "higher": "↑", "near 1": "→1"}
_LEGEND = (
    "↓ lower is better, ↑ higher is better, →1 best near 1. Distances to the painting: {painting}. "
    "To the photo: {photo}. Artifacts of the method: {method}. gram own is by the network that "
    "painted, which minimized it. No figure is quality by itself: a picture that is closer to the "
    "painting is farther from the photo. The last two rows are the ends of that scale."
)


def table(comparison: Comparison) -> RenderableType:
    """A table for each scale, a legend and the notes."""
    parts: list[RenderableType] = []
    for scale in comparison.scales:
        parts += [_Table(scale), ""]
    parts.append(
        _LEGEND.format(**{key: ", ".join(_headings(names)) for key, names in _groups().items()})
    )
    parts += [Text(f"note: {note}") for note in comparison.notes]
    return Group(*parts)


@dataclass(frozen=True)
class _Table:
    """A scale as one table if it fits the terminal, otherwise as one for each group of scores."""

    scale: Scale

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(
            f"Evaluated at {self.scale.size} px. Independent network for style and content: "
            f"{_display_name(self.scale.judge)}."
        )
        groups = list(_groups().values())
        whole = list(FIGURES)
        fits = self._width(whole, console, options) <= options.max_width
        for number, names in enumerate([whole] if fits else groups):
            if number or not fits:
                yield ""
            yield from self._fitting(names, console, options)

    def _fitting(
        self, names: Sequence[str], console: Console, options: ConsoleOptions
    ) -> Iterator[Table]:
        """A table of these scores, or several that are not wider than the terminal."""
        if len(names) == 1 or self._width(names, console, options) <= options.max_width:
            yield self._table(names)
            return
        middle = (len(names) + 1) // 2
        yield from self._fitting(names[:middle], console, options)
        yield from self._fitting(names[middle:], console, options)

    def _width(self, names: Sequence[str], console: Console, options: ConsoleOptions) -> int:
        unlimited = options.update(max_width=10_000)
        return Measurement.get(console, unlimited, self._table(names)).maximum

    def _table(self, names: Sequence[str]) -> Table:
        headings = [
            f"{heading} {_ARROWS[FIGURES[name].better]}".replace(" ", "\n")
            for heading, name in zip(_headings(names), names, strict=True)
        ]
        columns = [Column(heading, justify="right", no_wrap=True) for heading in headings]
        table = Table(
            Column("picture", overflow="fold"),
            *columns,
            box=None,
            pad_edge=False,
            header_style="bold",
        )
        for row in self.scale.rows:
            scores = asdict(row.scores)
            style = None if row.role == "result" else "dim"
            table.add_row(
                Text(row.picture), *(_as_text(scores[name]) for name in names), style=style
            )
        return table


def _as_text(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _groups() -> dict[str, list[str]]:
    """The names of the scores, grouped by target."""
    targets = dict.fromkeys(figure.target for figure in FIGURES.values())
    return {
        target: [name for name, figure in FIGURES.items() if figure.target == target]
        for target in targets
    }


def _headings(names: Sequence[str]) -> list[str]:
    return [FIGURES[name].heading for name in names]


def _display_name(network: str) -> str:
    return network.upper().replace("VGG", "VGG-")


def as_csv(comparison: Comparison) -> str:
    """A row for each picture; the headings are the names of ``Scores`` with what is better."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scores = [f"{name} ({figure.better})" for name, figure in FIGURES.items()]
    writer.writerow(
        ["picture", "width", "height", "judge", "judged width", "judged height", *scores]
    )
    for scale, row in _rows(comparison):
        sizes = [row.size.width, row.size.height, scale.judge, scale.size.width, scale.size.height]
        writer.writerow([row.picture, *sizes, *asdict(row.scores).values()])
    return text.getvalue()


def as_values(comparison: Comparison) -> dict[str, Any]:
    """Everything as JSON values.

    Sizes are [width, height]; "figures" says what each score means.
    """
    return {
        "photo": comparison.photo,
        "painting": comparison.painting,
        "pictures": [
            {
                "picture": row.picture,
                "role": row.role,
                "size": [row.size.width, row.size.height],
                "judge": scale.judge,
                "judged_size": [scale.size.width, scale.size.height],
                "scores": asdict(row.scores),
            }
            for scale, row in _rows(comparison)
        ],
        "figures": {
            name: {"of": figure.target, "better": figure.better, "says": figure.meaning}
            for name, figure in FIGURES.items()
        },
        "notes": list(comparison.notes),
    }


def _rows(comparison: Comparison) -> Iterator[tuple[Scale, Row]]:
    return ((scale, row) for scale in comparison.scales for row in scale.rows)
