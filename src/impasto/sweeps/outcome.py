"""The outcome of a sweep: a result for each combination, the posters and the table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from impasto.comparisons.scores import Scores
from impasto.comparisons.scoring import Row
from impasto.geometry import Size
from impasto.sweeps.grid import Axis

NOT_PAINTED = "not painted"


@dataclass(frozen=True)
class Result:
    """One combination: its values by the axes' names, the picture, and how it was evaluated.

    ``file`` is None if there is no picture; ``note`` says why. ``record`` is that of the run, empty
    if its log is gone. ``judge`` is the network that evaluated the picture.
    """

    settings: dict[str, str]
    file: Path | None = None
    size: Size | None = None
    record: dict[str, Any] = field(default_factory=dict)
    judge: str = ""
    scores: Scores | None = None
    note: str = ""


@dataclass(frozen=True)
class Sweep:
    """A result for every combination, in order, the pages of the poster, and the table.

    ``ends`` are the scores of the photo itself and of the painting itself, by each network in each
    size.
    """

    axes: tuple[Axis, ...]
    results: tuple[Result, ...]
    ends: tuple[Row, ...]
    posters: tuple[Path, ...]
    table: Path

    @property
    def complete(self) -> bool:
        """Whether there is a picture for every combination."""
        return all(result.file is not None for result in self.results)
