"""Paint inputs into files: a session, its recorder, and the destination of the picture."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from impasto.errors import BadRecipe, CannotWrite, Diverged, OutOfMemory, memory_for
from impasto.events import Callbacks, Event, Failed, InputsChecked, Stepped, Warned
from impasto.inputs import Inputs
from impasto.planning.time_budget import TimeBudget
from impasto.recipe.records import Recipe
from impasto.result import Painting, painting_from_file
from impasto.runs import CHECKPOINT_SECONDS
from impasto.runs import folder as runs
from impasto.runs.destination import (
    Destination,
    Target,
    check_paths,
    choose_destination,
    request_key,
)
from impasto.runs.recorder import Recorder, continue_hint
from impasto.runs.snapshots import Snapshots
from impasto.runs.writer import RunWriter
from impasto.storage.files import replace_file

if TYPE_CHECKING:
    from impasto.optimize.state import State
    from impasto.session import Session

_LAST_STEPS = 1.5  # a step is not started with less time left than this many steps take


def paint(
    inputs: Inputs,
    target: Target | None = None,
    budget: TimeBudget | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    callbacks: Callbacks | None = None,
    reuse: Session | None = None,
) -> Painting:
    """Paint inputs that have been read, and write picture and run as ``target`` says.

    A request that is finished there already is not painted again: its picture is returned. An
    unfinished run of the same request is continued, and ends with the bytes of an undisturbed one.
    States are saved every ``checkpoint_seconds``, less often where that would take more than 1 %
    of the time, and after each stage. ``reuse``: a session whose network and speed are used again
    where they are the same.

    Raises:
        CannotWrite: another picture is there, or a folder that is not a run's.
        DoesNotFit: the recipe's limit on memory is too low.
        Diverged, OutOfMemory: the search could not be finished. The best picture so far is written.
    """
    target, callbacks = target or Target(), callbacks or Callbacks()
    if not checkpoint_seconds >= 0:
        message = f"checkpoint is {checkpoint_seconds:g}, but it must be 0 or more seconds."
        raise BadRecipe(message, "0 saves each step.")
    started = _start(inputs, target, budget, callbacks, reuse)
    if isinstance(started, Painting):  # it was finished before
        return started
    session, steps = started.session, started.steps
    recorder = Recorder(
        session,
        started.destination,
        started.run,
        started.key,
        target.snapshots,
        checkpoint_seconds,
        callbacks.on_event,
    )
    deadline = budget.started + budget.seconds - recorder.seconds if budget else math.inf
    failed, stopped = None, False
    with closing(started.run) if started.run is not None else nullcontext():
        # Closing the steps frees their memory before the picture is written.
        with closing(steps):  # type: ignore[type-var]
            for event, state in itertools.chain(started.first, steps):
                recorder(event, state)
                callbacks.on_event(event)
                failed = event if isinstance(event, Failed) else None
                if not isinstance(event, Stepped):
                    continue
                if stopped := callbacks.cancel():
                    state = _stop(event, state, recorder)
                    break
                if _is_time_up(event, recorder, deadline):
                    recorder.note(f"The time is up {_progress(event, session.inputs)}.", state)
                    state = state.at_best()
                    break
        painting = recorder.finish(state, failed, stopped)
        if failed is not None:
            raise _failure(failed, painting, continue_hint(started.run))
    return painting


# ---- the start -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Started:
    """A run whose plan is made: from here on something may be written.

    ``first``: the events before the first step, with the first state.
    """

    session: Session
    destination: Destination
    run: RunWriter | None
    key: str
    first: list[tuple[Event, State]]
    steps: Iterator[tuple[Event, State]]


def _start(
    inputs: Inputs,
    target: Target,
    budget: TimeBudget | None,
    callbacks: Callbacks,
    reuse: Session | None,
) -> _Started | Painting:
    """Check the destination, open the session, and open the run; or return a finished picture."""
    key = request_key(inputs.recipe, budget)
    destination = choose_destination(target, inputs.recipe, key)
    size = inputs.plan.size if budget is None else None
    destination = check_paths(destination, inputs, size)
    if destination.record is not None:
        return _finished_before(destination, inputs, callbacks)
    callbacks.on_event(InputsChecked())
    with memory_for("begin"):
        session = _open_session(inputs, destination, budget, callbacks, reuse)
        steps = session.run()
        first = next(steps)
    checkpoint = destination.checkpoint
    # Again: another program may have begun or finished the same picture meanwhile.
    destination = choose_destination(target, inputs.recipe, key)
    destination = check_paths(destination, session.inputs, session.inputs.plan.size)
    if destination.record is not None:
        return _finished_before(destination, session.inputs, callbacks)
    if (destination.checkpoint is None) != (checkpoint is None):
        raise CannotWrite(
            f"Another impasto has begun or ended the same picture, {destination.output}.",
            "Give the command again.",
        )
    run, notes = _open_run(destination, session.inputs)
    notes += _missed_snapshots(target.snapshots, session.inputs.plan.evaluations)
    if checkpoint is not None:
        key = checkpoint.values["request"]
    events = [first, *((Warned(note), first[1]) for note in notes)]
    return _Started(session, destination, run, key, events, steps)


def _open_session(
    inputs: Inputs,
    destination: Destination,
    budget: TimeBudget | None,
    callbacks: Callbacks,
    reuse: Session | None,
) -> Session:
    """The session, with the size and iterations of the time budget or of the run to continue."""
    from impasto.session import Session

    checkpoint = destination.checkpoint
    if checkpoint is not None and budget is not None:
        inputs = _with_chosen_settings(inputs, runs.read_recipe(checkpoint.folder))
    session = Session.open(inputs, callbacks.progress, checkpoint=checkpoint, reuse=reuse)
    return session.for_time(budget) if budget is not None and checkpoint is None else session


def _with_chosen_settings(inputs: Inputs, stored: Recipe) -> Inputs:
    """The inputs with the size and iterations that a time budget chose for an unfinished run.

    Settings that do not decide the pixels, such as the limit on memory, stay as they are given now.
    """
    recipe = inputs.recipe
    schedule = recipe.schedule.model_copy(update={"iterations": stored.schedule.iterations})
    chosen = {"size": stored.size, "side": stored.side, "schedule": schedule}
    return inputs.with_recipe(recipe.model_copy(update=chosen))


def _open_run(destination: Destination, inputs: Inputs) -> tuple[RunWriter | None, list[str]]:
    """Make or open the run folder; return it and what the user should know."""
    if destination.run is None:
        return None, []
    notes = []
    if destination.move_aside:
        kept = runs.move_aside(destination.run)
        notes.append(
            f"{destination.run} held the run of another request: it is kept as {kept.name}."
        )
    begin = RunWriter.resume if destination.checkpoint is not None else RunWriter.start
    return begin(destination.run, inputs.recipe), notes


def _finished_before(destination: Destination, inputs: Inputs, callbacks: Callbacks) -> Painting:
    """The finished picture of the same request, copied from its run if it was removed."""
    assert destination.run is not None and destination.record is not None
    result, output = runs.result_file(destination.run), destination.output
    if output is not None and not output.exists():
        assert result is not None
        replace_file(output, result.read_bytes())
        note = f"It was painted before: the picture is put back from {destination.run}."
    else:
        where = f", in {output}" if output else ""
        note = f"It was painted before{where}; --fresh paints it again."
    callbacks.on_event(Warned(note))
    record = {**destination.record, "output": str(output) if output else None}
    picture = output or result
    assert picture is not None
    return painting_from_file(picture, inputs, record)


def _missed_snapshots(shots: Snapshots, evaluations: int) -> list[str]:
    """What the user should know of snapshots that the run never reaches."""
    beyond = shots.beyond(evaluations)
    if not beyond:
        return []
    return [f"The run has {evaluations} evaluations: there will be no snapshot for {beyond}."]


def _progress(event: Stepped, inputs: Inputs) -> str:
    return f"after {event.evaluations} of {inputs.plan.evaluations} evaluations"


def _stop(event: Stepped, state: State, recorder: Recorder) -> State:
    """Save the state of a run that is cancelled; return the state with its best picture.

    The pixels after the last move have not been evaluated.
    """
    recorder.save_state(state)
    again = " The same command continues from here." if recorder.run is not None else ""
    recorder.note(f"Stopped {_progress(event, recorder.session.inputs)}.{again}", state)
    return state.at_best()


def _is_time_up(event: Stepped, recorder: Recorder, deadline: float) -> bool:
    """Whether there is no time for another step, in the last stage."""
    last = event.stage == len(recorder.session.inputs.plan.stages) - 1
    return last and deadline - time.monotonic() < _LAST_STEPS * recorder.step_seconds


def _failure(failed: Failed, painting: Painting, again: str) -> Diverged | OutOfMemory:
    """The error of a search that could not be finished."""
    output = painting.record["output"]
    where = f"The last good picture is in {output}. " if output is not None else ""
    if failed.memory:
        hint = f"{where}Close other programs, or ask for a smaller --size. {again}".strip()
        return OutOfMemory(failed.message, hint)
    hint = f"{where}Try a smaller --solver-rate, or --solver adam --solver-rate 0.02."
    return Diverged(failed.message, hint)
