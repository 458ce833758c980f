"""What became of a run, read from its folder: its plan, its evaluations one after another, its
record, what was said.

It knows the log's lines, and that a run which was killed and gone on with wrote some evaluations
twice. It refuses to know what any of it looks like.
"""

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
    """One evaluation of the whole run, counted from 1, of the picture before the move that
    followed. ``seconds`` are of the whole run too.
    """

    evaluations: int
    seconds: float
    stage: int
    loss: float
    terms: dict[str, float]
    layers: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Spent:
    """What one size took: evaluations made of those planned, seconds, the first and the last
    evaluation, the last loss.
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

    ``parts`` counts how often it was begun or gone on with. ``notes`` are what was said, each after
    so many evaluations. ``record`` is empty while it is not complete. ``recipe`` is None where it
    is not there any more. ``unreadable`` counts lines of the log that are none.
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
    unreadable: int = 0

    @property
    def evaluations(self) -> int:
        """Evaluations that were planned."""
        return sum(count for _, count in self.planned.stages)

    @property
    def made(self) -> int:
        """Evaluations that were made, without the last look at the finished picture."""
        return self.steps[-1].evaluations if self.steps else 0

    @property
    def seconds(self) -> float:
        return (
            self.finished.seconds
            if self.finished
            else self.steps[-1].seconds
            if self.steps
            else 0.0
        )

    def lowest(self, evaluations: int) -> float:
        """The loss of the picture that would be written after so many evaluations: the lowest of
        its size until then.
        """
        until = [step for step in self.steps if step.evaluations <= evaluations]
        return min((step.loss for step in until if step.stage == until[-1].stage), default=math.nan)

    @property
    def standing(self) -> str:
        """Where it stands, as the end of a sentence that begins with its name."""
        of = f"{self.made} of {self.evaluations} evaluations"
        if self.finished:
            return (
                f"finished after {of}"
                if self.made == self.evaluations
                else f"finished early, after {of}"
            )
        if self.record:
            return f"ended when its time was up, after {of}"
        return f"failed after {of}" if self.failed else f"stopped after {of}"

    @property
    def stages(self) -> tuple[Spent, ...]:
        """The sizes that were begun, coarsest first."""
        found, before = [], 0.0
        for index, (size, count) in enumerate(self.planned.stages):
            if steps := [step for step in self.steps if step.stage == index]:
                last = steps[-1]
                took, before = last.seconds - before, last.seconds
                found.append(
                    Spent(
                        size,
                        count,
                        len(steps),
                        took,
                        steps[0].evaluations,
                        last.evaluations,
                        last.loss,
                    )
                )
        return tuple(found)


def find(given: Path) -> Path:
    """The run folder that is meant: the one given, or the one beside a picture.

    Raises:
        BadRequest: there is none, or it holds no log.
    """
    folder = given
    if not given.is_dir() and runs.beside(given).is_dir():
        folder = runs.beside(given)
    if not folder.exists():
        raise BadRequest(
            f"{given} does not exist.", "Name the folder of a run, such as painted.png.run."
        )
    if not (folder / runs.EVENTS).is_file():
        hint = "Name the folder of a run, such as painted.png.run; --no-run keeps none."
        raise BadRequest(f"{given} holds no log of a run.", hint)
    return folder


def read(folder: Path) -> History:
    """The history of the run in a folder.

    Raises:
        BadRequest: there is no log of a run in it, or the log cannot be read.
    """
    folder = find(folder)
    try:
        lines = (folder / runs.EVENTS).read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise BadRequest(
            f"{folder / runs.EVENTS} cannot be read: {error.strerror}.", "Look at its permissions."
        ) from None
    happened = list(_events(lines))
    told = _Told()
    for event, _ in happened:
        told.take(event)
    if told.planned is None:
        raise BadRequest(
            f"The log in {folder} holds no plan of a run.",
            "The run may have been killed as it began.",
        )
    return History(
        folder,
        happened[0][1],
        told.planned,
        tuple(told.steps),
        told.parts,
        told.finished,
        told.failed,
        tuple(told.notes),
        runs.read_record(folder),
        _recipe(folder),
        sum(1 for line in lines if line.strip()) - len(happened),
    )


@dataclass
class _Told:
    """The log taken in, line after line; ``spent`` are the run's seconds before the part at hand."""

    planned: Planned | None = None
    steps: list[Step] = field(default_factory=list)
    parts: int = 0
    finished: Finished | None = None
    failed: Failed | None = None
    notes: list[tuple[int, str]] = field(default_factory=list)
    spent: float = 0.0
    fresh: bool = False

    def take(self, event: Event) -> None:
        if isinstance(event, Planned):
            self.planned, self.fresh, self.finished, self.failed = event, True, None, None
            self.parts += 1
        elif isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, Warned):
            self.notes.append((self.steps[-1].evaluations if self.steps else 0, event.message))
        elif isinstance(event, Finished):
            self.finished = Finished(
                event.evaluations, event.loss, event.terms, self.spent + event.seconds
            )
        elif isinstance(event, Failed):
            self.failed = event

    def _step(self, event: Stepped) -> None:
        """The later of two of the same number counts: the state that was gone on with was older
        than the log.
        """
        while self.steps and self.steps[-1].evaluations >= event.evaluations:
            self.steps.pop()
            self.fresh = True
        if self.fresh:
            self.spent, self.fresh = (self.steps[-1].seconds if self.steps else 0.0), False
        seconds = self.spent + event.seconds
        self.steps.append(
            Step(event.evaluations, seconds, event.stage, event.loss, event.terms, event.layers)
        )


def _events(lines: Sequence[str]) -> Iterator[tuple[Event, float]]:
    """The events that the lines tell, with their time; what a kill or a full disk has cut short is
    passed over.
    """
    for line in lines:
        # A line that was cut short has the next one, of the program that went on, at its end.
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
