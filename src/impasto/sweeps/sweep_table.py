"""Write the table of a sweep as CSV: settings, losses and scores of each picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from impasto.comparisons.scores import FIGURES, Scores
from impasto.comparisons.scoring import Row
from impasto.geometry import Size
from impasto.recipe.choices import NetworkName
from impasto.sweeps.grid import Axis
from impasto.sweeps.outcome import Result

Ends = Mapping[tuple[NetworkName, Size], Sequence[Row]]
"""The scores of the photo and the painting themselves, by network and size."""


def table_text(axes: Sequence[Axis], results: Sequence[Result], ends: Ends) -> str:
    """A row for each result, then rows for the photo and the painting themselves."""
    terms = list(dict.fromkeys(term for each in results for term in each.record.get("loss", {})))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_header(axes, terms))
    writer.writerows(_result_row(result, terms) for result in results)
    writer.writerows(_end_rows(ends, len(axes), len(terms)))
    return text.getvalue()


def _header(axes: Sequence[Axis], terms: Sequence[str]) -> list[str]:
    return [
        *(axis.name for axis in axes),
        "width",
        "height",
        *("loss" if term == "total" else f"{term} loss" for term in terms),
        "evaluations",
        "seconds",
        "judge",
        *(f"{name} ({figure.better})" for name, figure in FIGURES.items()),
        "file",
        "note",
    ]


def _result_row(result: Result, terms: Sequence[str]) -> list[object]:
    losses = result.record.get("loss", {})
    return [
        *result.settings.values(),
        *([result.size.width, result.size.height] if result.size else ["", ""]),
        *(losses.get(term, "") for term in terms),
        *(result.record.get(name, "") for name in ("evaluations", "seconds")),
        result.judge,
        *_scores(result.scores),
        result.file.name if result.file else "",
        result.note,
    ]


def _end_rows(ends: Ends, axes: int, terms: int) -> Iterable[list[object]]:
    for (judge, size), rows in ends.items():
        before = [*[""] * axes, size.width, size.height, *[""] * (terms + 2), judge]
        for row in rows:
            yield [*before, *_scores(row.scores), row.picture, ""]


def _scores(scores: Scores | None) -> list[float | str | None]:
    return list(asdict(scores).values()) if scores else [""] * len(FIGURES)
