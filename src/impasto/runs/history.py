"""Read the history of a run from its folder: plan, evaluations, notes and record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from impasto import events
from impasto.errors import BadRequest
from impasto.events import Event, Failed, Finished, Planned, Stepped, Warned
from impasto.geometry import Size
from impasto.recipe import loading
from impasto.recipe.records import Recipe
from impasto.runs import folder as runs


@dataclass(frozen=True)
class Step:
    """One evaluation of the loss.

    ``evaluations`` is its number in the whole run, counted from 1, and ``seconds`` the time since
    the run began. The loss is that of the picture before the move that followed.
    """

    evaluations: int
    seconds: float
    stage: int
    loss: float
    terms: dict[str, float]
    layers: dict[str, dict[str, float]]


@dataclass(frozen=True)
class StageSummary:
    """What one size took: evaluations planned and made, seconds, first and last evaluation, and the
    last loss.
    """

    size: Size
    planned: int
    made: int
    seconds: float
    first: int
    last: int
    loss: float


@dataclass(frozen=True)
class History:
    """A run from its beginning to now.

    ``parts`` counts how often it was started or continued. ``notes`` are warnings, each with the
    number of evaluations before it. ``record`` is empty if the run is not complete. ``recipe`` is
    None if its file is gone. ``unreadable_lines`` counts lines of the log that hold no event.
    """

    folder: Path
    begun: float
    planned: Planned
    steps: tuple[Step, ...]
    parts: int
    finished: Finished | None
    failed: Failed | None
    notes: tuple[tuple[int, str], ...]
    record: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = None
    unreadable_lines: int = 0

    @property
    def evaluations_planned(self) -> int:
        return sum(count for _, count in self.planned.stages)

    @property
    def evaluations_made(self) -> int:
        """Evaluations so far, without the final evaluation of the finished picture."""
        return self.steps[-1].evaluations if self.steps else 0

    @property
    def seconds(self) -> float:
        if self.finished:
            return self.finished.seconds
        return self.steps[-1].seconds if self.steps else 0.0

    def lowest_loss(self, evaluations: int) -> float:
        """The loss of the picture that would be written after so many evaluations.

        It is the lowest of the current size until then; NaN before the first evaluation.
        """
        until = [step for step in self.steps if step.evaluations <= evaluations]
        return min((step.loss for step in until if step.stage == until[-1].stage), default=math.nan)

    @property
    def status(self) -> str:
        """How far the run came, such as "stopped after 5 of 9 evaluations"."""
        progress = f"{self.evaluations_made} of {self.evaluations_planned} evaluations"
        if self.finished:
            complete = self.evaluations_made == self.evaluations_planned
            return f"finished {'' if complete else 'early, '}after {progress}"
        if self.record:
            return f"ended when its time was up, after {progress}"
        return f"failed after {progress}" if self.failed else f"stopped after {progress}"

    @property
    def stages(self) -> tuple[StageSummary, ...]:
        """The sizes that were begun, coarsest first."""
        summaries, before = [], 0.0
        for index, (size, count) in enumerate(self.planned.stages):
            steps = [step for step in self.steps if step.stage == index]
            if not steps:
                continue
            first, last = steps[0], steps[-1]
            seconds, before = last.seconds - before, last.seconds
            numbers = first.evaluations, last.evaluations
            summaries.append(StageSummary(size, count, len(steps), seconds, *numbers, last.loss))
        return tuple(summaries)


def find_folder(path: Path) -> Path:
    """The run folder at a path, or the one beside the picture at that path.

    Raises:
        BadRequest: there is none, or it holds no log.
    """
    folder = path
    if not path.is_dir() and runs.beside(path).is_dir():
        folder = runs.beside(path)
    if not folder.exists():
        raise BadRequest(
            f"{path} does not exist.", "Name the folder of a run, such as painted.png.run."
        )
    if not (folder / runs.EVENTS).is_file():
        hint = "Name the folder of a run, such as painted.png.run; --no-run keeps none."
        raise BadRequest(f"{path} holds no log of a run.", hint)
    return folder


def read(path: Path) -> History:
    """The history of the run at a path (see ``find_folder``).

    Raises:
        BadRequest: there is no log of a run, or it cannot be read.
    """
    folder = find_folder(path)
    lines = _log_lines(folder)
    logged = list(_parsed(lines))
    reducer = LogReducer()
    for event, _ in logged:
        reducer.add(event)
    if reducer.planned is None:
        raise BadRequest(
            f"The log in {folder} holds no plan of a run.",
            "The run may have been killed as it began.",
        )
    return History(
        folder,
        logged[0][1],
        reducer.planned,
        tuple(reducer.steps),
        reducer.parts,
        reducer.finished,
        reducer.failed,
        tuple(reducer.notes),
        runs.read_record(folder),
        _recipe(folder),
        sum(1 for line in lines if line.strip()) - len(logged),
    )


@dataclass
class LogReducer:
    """Combines the events of a log, in order, into the state of a run.

    ``earlier_seconds`` is the time that earlier parts of the run took.
    """

    planned: Planned | None = None
    steps: list[Step] = field(default_factory=list)
    parts: int = 0
    finished: Finished | None = None
    failed: Failed | None = None
    notes: list[tuple[int, str]] = field(default_factory=list)
    earlier_seconds: float = 0.0
    _part_begins: bool = False

    def add(self, event: Event) -> None:
        if isinstance(event, Planned):
            self.planned, self.finished, self.failed = event, None, None
            self._part_begins = True
            self.parts += 1
        elif isinstance(event, Stepped):
            self._add_step(event)
        elif isinstance(event, Warned):
            self.notes.append((self.steps[-1].evaluations if self.steps else 0, event.message))
        elif isinstance(event, Finished):
            seconds = self.earlier_seconds + event.seconds
            self.finished = Finished(event.evaluations, event.loss, event.terms, seconds)
        elif isinstance(event, Failed):
            self.failed = event

    def _add_step(self, event: Stepped) -> None:
        # A run that was killed may continue from a state that is older than its log. It then logs
        # some evaluations again: the later ones count.
        while self.steps and self.steps[-1].evaluations >= event.evaluations:
            self.steps.pop()
            self._part_begins = True
        if self._part_begins:
            self.earlier_seconds = self.steps[-1].seconds if self.steps else 0.0
            self._part_begins = False
        seconds = self.earlier_seconds + event.seconds
        self.steps.append(
            Step(event.evaluations, seconds, event.stage, event.loss, event.terms, event.layers)
        )


def _log_lines(folder: Path) -> list[str]:
    file = folder / runs.EVENTS
    try:
        return file.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}."
        raise BadRequest(message, "Check its permissions.") from None


def _parsed(lines: Sequence[str]) -> Iterator[tuple[Event, float]]:
    """The events in the lines with their times, without lines that a kill or a full disk cut."""
    for line in lines:
        # A line that was cut may have a whole one, of the program that continued, at its end.
        for text in (line, line[max(line.rfind('{"event"'), 0) :]):
            try:
                values = json.loads(text)
                when = float(values.pop("time", 0.0))
                event = events.from_dict(values)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue
            yield event, when
            break


def _recipe(folder: Path) -> Recipe | None:
    try:
        return loading.load(str(folder.absolute() / runs.RECIPE))
    except BadRequest:
        return None
